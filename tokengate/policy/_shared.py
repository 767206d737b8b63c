"""The throttles with selectors of a gate: which hold, and which places ask for them."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType
from typing import Any, Protocol

from actors import ActorSystem, Token
from actors.lowlevel import ActorPlace, Place, Throttles, place_of
from tokengate.policy._governor import PlaceGovernor
from tokengate.policy._policy import Throttle
from tokengate.policy._rules import ThrottleRule
from tokengate.policy._selected import OPERATOR, Limits, SelectedThrottle, Selection, ThrottleIndex


class _Policies(Protocol):
    """The policies of a gate, as its throttles use them."""

    @property
    def system(self) -> ActorSystem: ...

    @property
    def clock(self) -> Callable[[], float]: ...

    @property
    def throttles(self) -> Throttles: ...

    def governor_of(self, place: Place, /) -> PlaceGovernor: ...


class SelectedThrottles:
    """The throttles with selectors of a gate.

    Only places that one can concern have a governor for that, and leave the lock-free lane; tokens of which nothing may
    change (`guard="never"`) are held to none.

    Args:
        policies: of the gate.

    Attributes:
        has_at_once: whether there are some for which tokens do not wait.
    """

    def __init__(self, policies: _Policies) -> None:
        self._policies = policies
        self._throttles = policies.throttles
        self._lock = threading.RLock()  # held while throttles come and go
        self._all: dict[str, SelectedThrottle] = {}
        self._everywhere = ThrottleIndex()
        self._of_places: dict[SelectedThrottle, None] = {}  # those that concern some places only
        self.has_at_once = False

    def all(self) -> tuple[SelectedThrottle, ...]:
        """Return the throttles, in the order in which they were set."""
        return tuple(self._all.values())

    def set(
        self,
        selection: Selection,
        throttle: Throttle,
        source: str = OPERATOR,
        keys: Mapping[str, Throttle] = MappingProxyType({}),
    ) -> SelectedThrottle:
        """Let a throttle hold from now on; tokens that have begun count for it.

        One with the same selection and source is replaced; what is used of it stays, unless its keys are other ones.

        Args:
            selection: which tokens it is for.
            throttle: its limits.
            source: where they come from.
            keys: {value of its key as text: its own limits}.
        """
        with self._lock:
            before = self._all.get(selection.text)
            limits = {**(before.limits if before is not None else {}), source: (throttle, keys)}
            return self._hold(selection, limits)

    def lift(self, name: str, source: str = OPERATOR) -> SelectedThrottle | None:
        """End what a source says of a throttle; another source goes on. Return the throttle, if it said anything."""
        with self._lock:
            found = self._all.get(name)
            if found is None or source not in found.limits:
                return None
            limits = dict(found.limits)
            del limits[source]
            if limits:
                self._hold(found.selection, limits)
            else:
                del self._all[name]
                self._end(found)
            return found

    def reset(self, rules: Iterable[ThrottleRule]) -> None:
        """Forget what was learned of throttles and when attempts began; those that run count on."""
        rules = tuple(rules)
        with self._throttles.lock:
            for rule in rules:
                rule.state.reset()
        self._throttles.limits_changed(rules)

    def entered(self, place: Place) -> None:
        """Hold the tokens of a new place, or of one with a new governor, to the throttles that concern it."""
        if self._all:
            with self._lock:
                self._share(place, self._own_index(place))

    # Under the lock

    def _hold(self, selection: Selection, limits: Limits) -> SelectedThrottle:
        """Have a throttle with these limits hold."""
        before, new = self._all.get(selection.text), SelectedThrottle(selection, limits)
        if before is not None and before.throttle.key == new.throttle.key:
            with self._throttles.lock:
                before.limits = limits
                before.change(self._policies.clock())
                rules = before.rules
            self._throttles.limits_changed(rules)
            new = before
        else:
            self._all[selection.text] = new
            self._begin(new)
            if before is not None:
                self._end(before)
        self._note_at_once()
        return new

    def _begin(self, throttle: SelectedThrottle) -> None:
        """Let a throttle hold; it lets no token go before those are counted that have begun."""
        everywhere = throttle.selection.concerns is None
        with self._throttles.lock:
            if everywhere:
                self._everywhere.add(throttle)
            else:
                self._of_places[throttle] = None
        places = [place for place in self._policies.system.places() if _concerns(throttle, place)]
        for place in places:
            own = None if everywhere and place.governor is not None else self._own_index(place)
            self._share(place, own)
        self._note_at_once()
        self._throttles.rules_changed()
        # Tokens that begin from now on ask; those that have begun, or were taken in order to begin, count. So do those
        # that have passed the door, where tokens are judged there.
        running = {token for place in places for token in place.drain.running()}
        concerned = set(places)
        for token in list(self._policies.system.live.values()):
            begins = token.started_at is not None or token in running
            if (begins or throttle.throttle.over != "wait") and place_of(token) in concerned:
                self._count(token, throttle, begins)
        throttle.open()
        self._throttles.limits_changed(throttle.rules)

    def _count(self, token: Token[Any], throttle: SelectedThrottle, begins: bool) -> None:
        governor = self._policies.governor_of(place_of(token))
        if throttle not in governor.shared_for(token):
            return
        now = self._policies.clock()
        with self._throttles.lock:
            rule = throttle.rule_of(token, governor, now)
            if rule is None:
                return
            if begins:
                self._throttles.count(token, rule, now)
            else:
                if token._extras.policy is None:
                    governor.throttled(token)
                self._throttles.grant(token, self._throttles.lacking(token, (rule,)), now)
        token.add_done_callback(self._throttles.end)

    def _end(self, throttle: SelectedThrottle) -> None:
        """Let a throttle hold no longer, and the tokens go on that wait for no other."""
        places = [place for place in self._policies.system.places() if place.governor is not None]
        indexes = [self._everywhere, *(self._policies.governor_of(place).own_index for place in places)]
        with self._throttles.lock:
            self._of_places.pop(throttle, None)
            for index in indexes:
                index.discard(throttle)
        self._throttles.remove(frozenset(throttle.rules))
        self._throttles.rules_changed()
        for place in places:
            self._share(place, None)
        self._note_at_once()

    def _note_at_once(self) -> None:
        self.has_at_once = any(one.throttle.over != "wait" for one in self._all.values())

    def _own_index(self, place: Place) -> ThrottleIndex:
        """Return those that concern this place, but not each one."""
        index = ThrottleIndex(of_actor=isinstance(place, ActorPlace))
        for throttle in self._of_places:
            if _concerns(throttle, place):
                index.add(throttle)
        return index

    def _share(self, place: Place, own: ThrottleIndex | None) -> None:
        """Have a place ask for the throttles that can concern its tokens, or no longer."""
        if place.properties.guard == "never":
            return
        if place.governor is None and not own and not self._everywhere:
            return
        governor = self._policies.governor_of(place)
        with self._throttles.lock:
            if own is not None:
                governor.own_index = own
            shared = tuple(index for index in (self._everywhere, governor.own_index) if index)
        governor.hold_to(shared)
        if governor.is_idle:
            place.governor = None


def _concerns(throttle: SelectedThrottle, place: Place) -> bool:
    """Tell whether a throttle can be for tokens of a place."""
    concerns = throttle.selection.concerns
    if place.properties.guard == "never":
        return False
    if concerns is None:
        return True
    is_class = isinstance(place, ActorPlace)
    name = place.actor_class.__name__ if isinstance(place, ActorPlace) else place.path.rpartition("/")[2]
    return concerns(name, is_class, place.path, place.affinity)
