"""Throttles for all tokens of a selector, found by the place and the tags that the selector fixes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Final, Protocol, TypeAlias

import attrs

from actors import Token
from tokengate.policy._policy import Throttle
from tokengate.policy._rules import ThrottleRule
from tokengate.policy._states import States
from tokengate.policy._throttle import ThrottleState
from tokengate.policy._values import Key

Test: TypeAlias = Callable[[Token[Any]], bool]

OPERATOR: Final = "operator"
"""The source of throttles that operators have set; they win over those of other sources with the same selector."""


@attrs.frozen
class Selection:
    """Which tokens a throttle is for: what a selector says, taken apart.

    Attributes:
        text: the selector in its normal form; the name of the throttle.
        tags: {name: value} that a token must have.
        concerns: tells whether tokens of a place can match, by the name of its operation or class, whether that is a
            class, its path, and its affinity; None: those of each place can.
        operation: the name that the operation of tokens must have; None: any, or `tests_of_operation` says.
        tests_of_operation: what the operation of a token must match; asked for tokens of actors.
        tests: what else a token must match. They are quick and run no user code.
    """

    text: str
    tags: Mapping[str, str] = attrs.field(factory=dict)
    concerns: Callable[[str, bool, str, str], bool] | None = None
    operation: str | None = None
    tests_of_operation: tuple[Test, ...] = ()
    tests: tuple[Test, ...] = ()


Limits: TypeAlias = Mapping[str, tuple[Throttle, Mapping[str, Throttle]]]
"""{source: a throttle, with the limits of single keys by their text}."""


class _Reader(Protocol):
    """What reads the keys of tokens."""

    def value_of(self, token: Token[Any], name: Key, /) -> str | int | None: ...


class SelectedThrottle:
    """A throttle for the tokens of a selection, with a state for each key.

    Attributes:
        selection: its tokens.
        limits: what each source says; an operator wins.
        states: what is used, by key.
    """

    def __init__(self, selection: Selection, limits: Limits) -> None:
        self.selection = selection
        self.limits = limits
        self.states: States[ThrottleRule] = States(self._make)
        self._is_open = False

    @property
    def name(self) -> str:
        """Its selector."""
        return self.selection.text

    @property
    def is_of_operator(self) -> bool:
        """Whether an operator has set it."""
        return OPERATOR in self.limits

    @property
    def source(self) -> str:
        """Where its limits come from."""
        return OPERATOR if OPERATOR in self.limits else next(iter(self.limits))

    @property
    def throttle(self) -> Throttle:
        """Its limits."""
        return self.limits[self.source][0]

    @property
    def rules(self) -> list[ThrottleRule]:
        """What is used, by key."""
        return [rule for _, rule in self.states.items()]

    def rule_of(self, token: Token[Any], reader: _Reader, now: float) -> ThrottleRule | None:
        """Return what a token may use; None if it has no key."""
        key = self.throttle.key
        value = None if key is None else reader.value_of(token, key)
        if value is None and key is not None:
            self.states.no_key += 1
            return None
        return self.states.get(value, now)

    def change(self, now: float) -> None:
        """Set the limits to those that hold now; levels stay."""
        for rule in self.rules:
            rule.state.change(self._limit_of(rule.key), now)

    def open(self) -> None:
        """Let tokens go."""
        self._is_open = True
        for rule in self.rules:
            rule.is_open = True

    def _limit_of(self, key: str | int | None) -> Throttle:
        throttle, keys = self.limits[self.source]
        return keys.get(str(key), throttle)

    def _make(self, key: str | int | None) -> ThrottleRule:
        rule = ThrottleRule(ThrottleState(self._limit_of(key)), key)
        rule.is_open = self._is_open
        return rule


_Left: TypeAlias = dict[SelectedThrottle, tuple[Test, ...]]
"""{throttle: what is left to be tested}."""


class ThrottleIndex:
    """Throttles that can concern the tokens of a place, or of each place; found by what their selectors fix.

    Args:
        of_actor: whether it is for the tokens of an actor, which call several methods.
    """

    __slots__ = ("_fixed", "_of_actor", "_others")

    def __init__(self, *, of_actor: bool = False) -> None:
        self._of_actor = of_actor
        self._fixed: dict[tuple[str, str] | str, _Left] = {}  # by a tag, or by the operation
        self._others: _Left = {}

    def __bool__(self) -> bool:
        """Tell whether there are any."""
        return bool(self._fixed or self._others)

    def add(self, throttle: SelectedThrottle) -> None:
        """Add a throttle."""
        selection = throttle.selection
        more: list[Test] = [partial(_has_tag, *tag) for tag in tuple(selection.tags.items())[1:]]
        tests = (*more, *(selection.tests_of_operation if self._of_actor else ()), *selection.tests)
        fixed = self._fixed_by(selection)
        (self._others if fixed is None else self._fixed.setdefault(fixed, {}))[throttle] = tests

    def discard(self, throttle: SelectedThrottle) -> None:
        """Remove a throttle, if it is here."""
        fixed = self._fixed_by(throttle.selection)
        if fixed is None:
            self._others.pop(throttle, None)
        elif fixed in self._fixed:
            self._fixed[fixed].pop(throttle, None)
            if not self._fixed[fixed]:
                del self._fixed[fixed]

    def _fixed_by(self, selection: Selection) -> tuple[str, str] | str | None:
        return next(iter(selection.tags.items()), selection.operation if self._of_actor else None)

    def find(self, token: Token[Any]) -> list[SelectedThrottle]:
        """Return the throttles that are for a token."""
        found = _matching(self._others, token) if self._others else []
        fixed = self._fixed
        if fixed:
            if token.tags:
                for tag in token.tags.items():
                    if tag in fixed:
                        found += _matching(fixed[tag], token)
            if self._of_actor and token.operation in fixed:
                found += _matching(fixed[token.operation], token)
        return found


def _matching(left: _Left, token: Token[Any]) -> list[SelectedThrottle]:
    return [throttle for throttle, tests in left.items() if not tests or all(test(token) for test in tests)]


def _has_tag(name: str, value: str, token: Token[Any]) -> bool:
    return token.tags.get(name) == value
