"""Counts of what single actors and operations do, for those whose statistics are switched on."""

from __future__ import annotations

import threading
from typing import Any

from actors import ActorSystem, Observer, Place, Token, TokenState
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
        with self._lock:
            self._counts[place] = _Count(self._system.clock())
        self._system.add_observer(self)

    def switch_off(self, place: Place) -> None:
        """Count no more, and forget the figures."""
        with self._lock:
            self._counts.pop(place, None)
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
        now = self._system.clock()
        running = [token for token in place.drain.running() if token.started_at is not None]
        with self._lock:
            count = self._counts.get(place)
            if count is None:
                return None
            seconds = max(now - count.since, 1e-9)
            busy = count.busy + sum(now - max(token.started_at or now, count.since) for token in running)
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
        count = self._counts.get(token._place)
        started, finished = token.started_at, token.finished_at
        if count is None or started is None or finished is None:
            return
        took = finished - max(started, count.since)
        with self._lock:
            count.handled += 1
            count.failed += token.state is TokenState.FAILED
            count.busy += took
            count.longest = max(count.longest, finished - started)
            count.waited += started - (token.created_at if token.queued_at is None else token.queued_at)
