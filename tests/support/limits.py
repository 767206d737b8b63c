"""Limits of tokens for the tests of the floor of actors, which knows rules and no policies."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any
from weakref import WeakKeyDictionary

from actors import ActorSystem, Token
from actors.lowlevel import Place, Rule
from tokengate.policy._throttled import Throttled

# Seconds by which a rate may lag and catch up.
CATCH_UP = 0.1


class Throttle(Rule):
    """A limit for the tokens that `matches` selects.

    Args:
        name: of the limit.
        matches: tells whether it is for a token.
        rate: tokens that may begin in a second; None sets no limit.
        concurrency: tokens that may run at once; None sets no limit.

    Attributes:
        is_open: whether it lets tokens go; False while the tokens that began before it are counted.
        let: tokens that have its grant and have not ended, except those that wait for another token.
    """

    def __init__(
        self, name: str, matches: Callable[[Token[Any]], bool], rate: float | None, concurrency: int | None
    ) -> None:
        super().__init__()
        self.name, self.matches, self.rate, self.concurrency = name, matches, rate, concurrency
        self.is_open = True
        self.let: set[Token[Any]] = set()
        self._next_at = -math.inf  # when the next token may begin, by the rate

    def due_at(self, _token: Token[Any], _now: float) -> float:
        if not self.is_open or (self.concurrency is not None and len(self.let) >= self.concurrency):
            return math.inf
        return self._next_at

    def grant(self, token: Token[Any], now: float) -> None:
        self.let.add(token)
        if self.rate is not None:
            self._next_at = max(self._next_at, now - CATCH_UP) + 1 / self.rate

    def count(self, token: Token[Any], _now: float) -> None:
        self.let.add(token)

    def give_back(self, token: Token[Any], _now: float) -> None:
        self.let.discard(token)
        if self.rate is not None:
            self._next_at -= 1 / self.rate

    def note_waits(self, token: Token[Any], waits: bool) -> None:
        (self.let.discard if waits else self.let.add)(token)

    def end(self, token: Token[Any], _now: float) -> None:
        self.let.discard(token)


class Governor:
    """Holds the tokens of all places of a system to some limits.

    Attributes:
        all: the limits.
    """

    def __init__(self, system: ActorSystem) -> None:
        self._system = system
        self.all: tuple[Throttle, ...] = ()

    @property
    def shared(self) -> tuple[Throttle, ...]:
        return self.all

    def entered(self, place: Place) -> None:
        if self.all and place.properties.guard != "never":
            place.governor = self  # type: ignore[assignment]  # no flags
            place.mailbox.set_throttles(self._system.throttles)
        else:
            place.governor = None
            place.mailbox.set_throttles(None)

    def at_door(self, token: Token[Any]) -> Token[Any]:
        return token

    def elsewhere(self, _token: Token[Any], _error: BaseException) -> None:
        """Return None: there is no other place."""

    def may_run_here(self, _token: Token[Any]) -> bool:
        return False

    def found(self, token: Token[Any]) -> Throttled | None:
        if not self.shared_rules(token, 0.0):
            return None
        policy = token._own_extras().policy = Throttled()
        return policy

    def shared_rules(self, token: Token[Any], _now: float) -> tuple[Throttle, ...]:
        return tuple(throttle for throttle in self.all if throttle.matches(token))


_governors: WeakKeyDictionary[ActorSystem, Governor] = WeakKeyDictionary()


def limits_of(system: ActorSystem) -> tuple[Throttle, ...]:
    """Return the limits of a system."""
    return _governors[system].all if system in _governors else ()


def hold(system: ActorSystem, throttle: Throttle, began: Iterable[Token[Any]] | None = None) -> None:
    """Let a limit hold from now on; tokens that have begun count, by default all that have.

    Args:
        system: the owner of the places.
        throttle: the limit.
        began: tokens that have begun.
    """
    throttles = system.throttles
    governor = _governors.setdefault(system, Governor(system))
    throttle.is_open = False
    governor.all = (*governor.all, throttle)
    system.policies = governor
    places = system.places()
    for place in places:
        governor.entered(place)
    throttles.rules_changed()
    if began is None:
        live = {token for token in list(system.live.values()) if token.started_at is not None}
        began = live.union(token for place in places for token in place.drain.running())
    for token in began:
        if token._place.properties.guard != "never" and throttle.matches(token):
            with throttles.lock:
                throttles.count(token, throttle, system.clock())
            token.add_done_callback(throttles.end)
    throttle.is_open = True
    throttles.limits_changed((throttle,))


def let_loose(system: ActorSystem, throttle: Throttle) -> None:
    """Let a limit hold no longer."""
    governor, throttles = _governors[system], system.throttles
    governor.all = tuple(one for one in governor.all if one is not throttle)
    throttles.remove({throttle})
    throttle.let.clear()
    throttles.rules_changed()
    for place in system.places():
        governor.entered(place)
