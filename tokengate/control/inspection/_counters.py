"""Counts of what single actors and operations do, for those whose statistics are switched on."""

from __future__ import annotations

import threading
from typing import Any

from actors import ActorSystem, Observer, Token, TokenState
from actors.lowlevel import Place, place_of
from tokengate.control.messages import ActorStatistics


class _Count:
    """What one place has done since `since`; guarded by the lock of the counts."""

    __slots__ = ("busy", "failed", "handled", "longest", "since", "waited")

    def __init__(self, since: float) -> None:
        self.since = since
        self.handled = self.failed = 0
        self.waited = self.busy = self.longest = 0.0


class Counts(Observer):
    """Listens to a system for as long as the statistics of any place in it are on; else it costs nothing.

    Args:
        system: it.
    """

    def __init__(self, system: ActorSystem) -> None:
        self._system = system
        self._lock = threading.Lock()
        self._counts: dict[Place, _Count] = {}

    def switch_on(self, place: Place) -> None:
        """Count from nothing, from now on."""
        self._forget_those_that_are_gone()
        with self._lock:
            self._counts[place] = _Count(self._system.clock())
        self._system.add_observer(self)

    def switch_off(self, place: Place) -> None:
        """Count no more, and forget the figures."""
        with self._lock:
            self._counts.pop(place, None)
        self._forget_those_that_are_gone()

    def _forget_those_that_are_gone(self) -> None:
        with self._lock:
            if self._counts:
                there = set(self._system.places())
                self._counts = {place: count for place, count in self._counts.items() if place in there}
            nobody = not self._counts
        if nobody:
            self._system.remove_observer(self)

    def close(self) -> None:
        """Count nothing any more."""
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
            running = [
                token for token in in_hand if not token.done()
            ]  # else it has been counted, or is just about to be
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
