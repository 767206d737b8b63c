"""Calls that a thread makes later: it asks when the next one is due, and makes those that are."""

from __future__ import annotations

import time
from collections.abc import Callable
from heapq import heapify, heappop, heappush
from itertools import count
from typing import Final

# Cancelled calls stay in the heap until their time, or until this many have gathered.
_STALE_LIMIT: Final = 256


class Deadline:
    """One call that is to be made.

    Args:
        deadlines: all that the thread has.
        call: what is called.
    """

    __slots__ = ("_deadlines", "call")

    def __init__(self, deadlines: Deadlines, call: Callable[[], object]) -> None:
        self._deadlines = deadlines
        self.call: Callable[[], object] | None = call  # None once it is made, or is not to be

    def cancel(self) -> None:
        """Let it not be made; only on the thread."""
        if self.call is not None:
            self.call = None
            self._deadlines.note_cancelled()


class Deadlines:
    """All calls that one thread has still to make; for that thread only."""

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, Deadline]] = []  # (when, serial number, call)
        self._serials = count()
        self._stale = 0  # entries that were cancelled

    def add(self, seconds: float, call: Callable[[], object]) -> Deadline:
        """Have something called in so many seconds of time.monotonic."""
        deadline = Deadline(self, call)
        heappush(self._heap, (time.monotonic() + seconds, next(self._serials), deadline))
        return deadline

    def next_at(self) -> float | None:
        """Return when the next call is due, in seconds of time.monotonic."""
        heap = self._heap
        while heap and heap[0][2].call is None:
            heappop(heap)
            self._stale -= 1
        return heap[0][0] if heap else None

    def pop_due(self, now: float) -> Callable[[], object] | None:
        """Return a call that is due, and is made now."""
        at = self.next_at()
        if at is None or at > now:
            return None
        _, _, deadline = heappop(self._heap)
        call, deadline.call = deadline.call, None
        return call

    def note_cancelled(self) -> None:
        """Take note that one more is not to be made."""
        self._stale += 1
        if self._stale > _STALE_LIMIT and 2 * self._stale > len(self._heap):
            self._heap = [entry for entry in self._heap if entry[2].call is not None]
            heapify(self._heap)
            self._stale = 0

    def __len__(self) -> int:
        return len(self._heap) - self._stale
