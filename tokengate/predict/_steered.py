"""The live tokens that rules have changed at submit, until that is undone."""

from __future__ import annotations

import heapq
from collections import defaultdict
from typing import Final

import attrs

from tokengate.predict._arguments import Values
from tokengate.predict._intervention import RuleState
from tokengate.predict._rule_verbs import Target

_SPARE: Final = 1_000  # tokens that have ended, and still have a place in the order of ends


@attrs.frozen
class Steered:
    """What a rule has done to a token at submit.

    Attributes:
        one: the rule.
        operation: of the token.
        target: the token.
        before: the values before.
        set: those that it has set.
        ends: when that is undone, by the gate's clock.
    """

    one: RuleState
    operation: str
    target: Target
    before: Values
    set: Values
    ends: float


class SteeredTokens:
    """The live tokens that rules have changed at submit; what changes it holds a lock."""

    def __init__(self) -> None:
        self._all: dict[int, Steered] = {}  # {token id: what was done to it}
        self._due: list[tuple[float, int]] = []  # a heap of (when it is undone, token id)
        self._touched: defaultdict[str, set[int]] = defaultdict(set)  # {operation: ids of live tokens, as changed}

    def __len__(self) -> int:
        return len(self._all)

    def add(self, steered: Steered) -> None:
        """Add a token that is changed now."""
        id = steered.target.id
        self._all[id] = steered
        heapq.heappush(self._due, (steered.ends, id))
        if len(self._due) > 2 * len(self._all) + _SPARE:  # most of these tokens have ended
            self._due = [(one.ends, id) for id, one in self._all.items()]
            heapq.heapify(self._due)
        self._touched[steered.operation].add(id)

    def remove(self, id: int) -> Steered | None:
        """Take a token out, if it is there, and return what was done to it."""
        steered = self._all.pop(id, None)
        if steered is not None:
            self._touched[steered.operation].discard(id)
        return steered

    def take_due(self, now: float) -> list[Steered]:
        """Take those out whose time is over, and return them."""
        found: list[Steered] = []
        while self._due and self._due[0][0] <= now:
            steered = self.remove(heapq.heappop(self._due)[1])
            if steered is not None:
                found.append(steered)
        return found

    def has(self, id: int, verb: str) -> bool:
        """Tell whether a token is as a rule has changed it, by a verb."""
        steered = self._all.get(id)
        return steered is not None and steered.one.rule.action.verb == verb

    def touched(self, operation: str) -> int:
        """Return how many live tokens of an operation are as rules have changed them."""
        return len(self._touched[operation])
