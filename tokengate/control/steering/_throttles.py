"""The verbs for throttles: how many tokens of a selector may begin in a time, or run at once."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import TYPE_CHECKING, Any, Final, cast

import attrs

from actors import ActorSystem, Token
from actors.lowlevel import ActorPlace
from tokengate._exceptions import BadPolicy
from tokengate.control import messages as m
from tokengate.control._admission import admission
from tokengate.control._exceptions import BadRequest, Refused
from tokengate.control.inspection._selector import Selector, Term, parse, parse_for

if TYPE_CHECKING:
    from tokengate.policy._governor import PlaceGovernor
    from tokengate.policy._policy import Throttle
    from tokengate.policy._rules import ThrottleRule
    from tokengate.policy._selected import SelectedThrottle, Selection
    from tokengate.policy._shared import SelectedThrottles
    from tokengate.policy._states import States

_LIMITS: Final = ("rate", "burst", "concurrency", "slow", "key", "over")
_OF_PLACES: Final = ("operation", "actor", "affinity")


class ThrottleVerbs:
    """The verbs for the throttles of a system, including those that an earlier control actor has set.

    Args:
        system: the system.
    """

    def __init__(self, system: ActorSystem) -> None:
        self._system = system

    @property
    def _selected(self) -> SelectedThrottles:
        from tokengate.policy._policies import policies_in  # here, so that a gate without throttles opens faster

        return policies_in(self._system).selected

    async def throttle(self, message: m.SetThrottle) -> m.ThrottleRow:
        from tokengate.policy._policy import Throttle

        selector = self._selector(message.select)
        if not admission().covers(selector.text):
            raise Refused(f"your grants do not reach all tokens of '{selector.text}' any more")
        if message.rate is None and message.concurrency is None:
            raise BadRequest("a throttle needs a rate (tokens per second) or a concurrency; 'lift' ends one")
        try:
            throttle = Throttle(**{field: getattr(message, field) for field in _LIMITS})
        except BadPolicy as error:
            raise BadRequest(str(error)) from None
        return self._row(self._selected.set(selection_of(selector, self._system.clock), throttle))

    async def lift(self, message: m.Lift) -> tuple[m.ThrottleRow, ...]:
        every = message.select.strip() == "*"
        text, covers = "" if every else self._selector(message.select).text, admission().covers
        found = [one for one in self._all() if one.is_of_operator and (every or one.name == text)]
        found = [one for one in found if covers(one.name)]
        rows = tuple(self._row(throttle) for throttle in found)
        for throttle in found:
            self._selected.lift(throttle.name)
        return rows

    async def throttles(self, _message: m.Throttles) -> tuple[m.ThrottleRow, ...]:
        return tuple(row for limit in self._limits() for row in self._rows(*limit))

    async def reset_throttle(self, message: m.ResetThrottle) -> tuple[m.ThrottleRow, ...]:
        text = self._selector(message.select).text
        found = [limit for limit in self._limits() if limit[0] == text]
        if not found:
            raise BadRequest(f"no throttle has the name '{text}'; 'tokengate throttles' lists them")
        self._selected.reset(rule for *_, states in found for _, rule in states.items())
        return tuple(self._rows(*limit)[0] for limit in found)

    def _selector(self, text: str) -> Selector:
        if not text.strip():
            raise BadRequest("a throttle needs a selector; '*' selects all tokens")
        return parse_for(self._system.predictor, text)

    def _all(self) -> tuple[SelectedThrottle, ...]:
        return () if self._system.policies is None else self._selected.all()

    def _limits(self) -> Iterator[tuple[str, str, Throttle, States[ThrottleRule]]]:
        """Yield name, source, limits and states of each throttle that the caller may see: first those of policies."""
        here = admission()
        for place in self._system.places():
            if place.governor is not None and here.sees_place(place):
                field = "actor" if isinstance(place, ActorPlace) else "operation"
                name = place.path if isinstance(place, ActorPlace) else place.path.rpartition("/")[2]
                text = parse(f"{field}='{name}'").text
                for throttle, states in cast("PlaceGovernor", place.governor).throttles_of_policy():
                    yield text, "code", throttle, states
        for one in self._all():
            if not here.covers(one.name):
                continue
            yield one.name, one.source, one.throttle, one.states

    def _row(self, throttle: SelectedThrottle) -> m.ThrottleRow:
        return self._rows(throttle.name, throttle.source, throttle.throttle, throttle.states)[0]

    def _rows(self, name: str, source: str, throttle: Throttle, states: States[ThrottleRule]) -> list[m.ThrottleRow]:
        """Return the row of a throttle, with the sums of its keys; then one for each key, if it has keys."""
        by = throttle.key if throttle.key is None or isinstance(throttle.key, str) else throttle.key.__name__
        row = partial(
            m.ThrottleRow, name, throttle.rate, throttle.concurrency, source=source, by=by, over=throttle.over,
            burst=None if throttle.rate is None else throttle.burst_size, slow=throttle.slow, no_key=states.no_key,
        )  # fmt: skip
        with self._system.throttles.lock:
            of_keys = [(rule.key, rule.state, len(rule.waiting)) for _, rule in states.items()]
        rows = [
            row(
                running=sum(state.running for _, state, _ in of_keys),
                waiting=sum(waiting for *_, waiting in of_keys),
                refused=sum(state.refused for _, state, _ in of_keys),
            )
        ]
        if by is None:
            return [attrs.evolve(rows[0], limit=_shown(state.limit)) for _, state, _ in of_keys[:1]] or rows
        for key, state, waiting in of_keys:
            own = _shown(state.limit)
            rows.append(row(running=state.running, waiting=waiting, refused=state.refused, key=key, limit=own))
        return rows


def _shown(limit: float) -> float | None:
    return None if limit == math.inf else limit


def selection_of(selector: Selector, clock: Callable[[], float]) -> Selection:
    """Return which tokens a throttle with a selector is for.

    Args:
        selector: the selector.
        clock: the system's, for terms about ages.
    """
    from tokengate.policy._selected import Selection

    tags: dict[str, str] = {}
    tests, operations, places = list[Term](), list[Term](), list[Term]()
    for term in selector.parts:
        if term.is_tag and term.is_exact and term.name not in tags:
            tags[term.name] = term.value
        elif term.is_tag or term.name not in _OF_PLACES:
            tests.append(term)
        else:
            (operations if term.name == "operation" else places).append(term)
    fixed = operations[0].value if len(operations) == 1 and operations[0].is_exact else None
    return Selection(
        selector.text,
        tags,
        partial(_concerns, operations, places) if operations or places else None,
        fixed,
        tuple(_test(term, clock) for term in operations if fixed is None or tags),
        tuple(_test(term, clock) for term in tests),
    )


def _test(term: Term, clock: Callable[[], float]) -> Callable[[Token[Any]], bool]:
    return lambda token: term.test(token, clock())


def _concerns(
    operations: Iterable[Term], places: Iterable[Term], name: str, is_class: bool, path: str, affinity: str
) -> bool:
    """Tell whether terms about operation, actor and affinity can be true of the tokens of a place."""
    if not all(term.fits(path if term.name == "actor" else affinity) for term in places):
        return False
    return all(_can_be_of(term, f"{name}.") if is_class else term.fits(name) for term in operations)


def _can_be_of(term: Term, prefix: str) -> bool:
    """Tell whether a term about operations can be true of one with this prefix."""
    start, *more = term.value.split("*", 1)
    return term.op == "!=" or start.startswith(prefix) or (bool(more) and prefix.startswith(start))
