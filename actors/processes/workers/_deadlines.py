"""Timers of one thread: the thread asks when the next one is due, and makes the calls that are due."""

from __future__ import annotations

import time
from collections.abc import Callable
from heapq import heapify, heappop, heappush
from itertools import count
from typing import Final

# Cancelled calls stay in the heap until their time, or until this many have gathered.
_STALE_LIMIT: Final = 256


class Deadline:
    """One call that is made later.

    Args:
        deadlines: those of the thread.
        call: the function.
    """

    __slots__ = ("_deadlines", "call")

    def __init__(self, deadlines: Deadlines, call: Callable[[], object]) -> None:
        self._deadlines = deadlines
        self.call: Callable[[], object] | None = call  # None once it was made, or cancelled

    def cancel(self) -> None:
        """Make the call no more; only on the thread."""
        if self.call is not None:
            self.call = None
            self._deadlines.note_cancelled()


class Deadlines:
    """The calls that one thread is to make later; only that thread may use it."""

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, Deadline]] = []  # (when, serial number, call)
        self._serials = count()
        self._stale = 0  # entries that were cancelled

    def add(self, seconds: float, call: Callable[[], object]) -> Deadline:
        """Call a function after some seconds of time.monotonic."""
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
        """Remove and return a call that is due; None if none is."""
        at = self.next_at()
        if at is None or at > now:
            return None
        _, _, deadline = heappop(self._heap)
        call, deadline.call = deadline.call, None
        return call

    def note_cancelled(self) -> None:
        """Count one more cancelled call; clean up when there are many."""
        self._stale += 1
        if self._stale > _STALE_LIMIT and 2 * self._stale > len(self._heap):
            self._heap = [entry for entry in self._heap if entry[2].call is not None]
            heapify(self._heap)
            self._stale = 0

    def __len__(self) -> int:
        return len(self._heap) - self._stale
