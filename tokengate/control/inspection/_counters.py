"""Statistics of single actors and operations, while they are switched on."""

from __future__ import annotations

import threading
from typing import Any

from actors import ActorSystem, Observer, Token, TokenState
from actors.lowlevel import Place, place_of
from tokengate.control.messages import ActorStatistics


class _Count:
    """The figures of one place since `since`; guarded by the lock of `Counts`."""

    __slots__ = ("busy", "failed", "handled", "longest", "since", "waited")

    def __init__(self, since: float) -> None:
        self.since = since
        self.handled = self.failed = 0
        self.waited = self.busy = self.longest = 0.0


class Counts(Observer):
    """Observes a system while the statistics of any place in it are on.

    Args:
        system: the system.
    """

    def __init__(self, system: ActorSystem) -> None:
        self._system = system
        self._lock = threading.Lock()
        self._counts: dict[Place, _Count] = {}

    def switch_on(self, place: Place) -> None:
        """Count from zero, from now on."""
        self._drop_closed_places()
        with self._lock:
            self._counts[place] = _Count(self._system.clock())
        self._system.add_observer(self)

    def switch_off(self, place: Place) -> None:
        """Stop counting, and drop the figures."""
        with self._lock:
            self._counts.pop(place, None)
        self._drop_closed_places()

    def _drop_closed_places(self) -> None:
        with self._lock:
            if self._counts:
                there = set(self._system.places())
                self._counts = {place: self._counts[place] for place in there.intersection(self._counts)}
            unused = not self._counts
        if unused:
            self._system.remove_observer(self)

    def close(self) -> None:
        """Stop counting everywhere."""
        with self._lock:
            self._counts.clear()
        self._system.remove_observer(self)

    def of(self, place: Place) -> ActorStatistics | None:
        """Return the figures of a place; None if they are off."""
        in_hand = place.drain.running()
        now = self._system.clock()
        with self._lock:
            count = self._counts.get(place)
            if count is None:
                return None
            seconds = max(now - count.since, 1e-9)
            # A token that is done has been counted, or is about to be.
            running = tuple(token for token in in_hand if not token.done())
            busy = count.busy + sum(max(0.0, now - max(token.started_at or now, count.since)) for token in running)
            handled = max(count.handled, 1)
            return ActorStatistics(
                seconds=now - count.since,
                handled=count.handled,
                failed=count.failed,
                waited=count.waited / handled,
                took=count.busy / handled,
                longest=count.longest,
                busy_share=busy / seconds,
            )

    def token_finished(self, token: Token[Any], /) -> None:
        count = self._counts.get(place_of(token))
        started, finished = token.started_at, token.finished_at
        if count is None or started is None or finished is None:
            return
        took = max(0.0, finished - max(started, count.since))
        with self._lock:
            count.handled += 1
            count.failed += token.state is TokenState.FAILED
            count.busy += took
            count.longest = max(count.longest, finished - started)
            count.waited += started - (token.created_at if token.queued_at is None else token.queued_at)
