"""The times at which limits of tokens are over: one heap, and an alarm on the system loop."""

from __future__ import annotations

import logging
import math
import threading
from collections.abc import Callable
from heapq import heapify, heappop, heappush
from itertools import count
from typing import Final, Protocol, TypeAlias

from actors.lowlevel import Alarm, TrioHost

_logger = logging.getLogger("tokengate.policy")

_BATCH: Final = 64  # tokens whose time is over before other tasks of the loop run
_STALE: Final = 1_000  # entries more than at the last look, twice, after which those out of date are removed


class Timed(Protocol):
    """What has a time; `Deadlines` writes `alarm_at`, in seconds of the clock, inf while it has none."""

    alarm_at: float

    def time_is_over(self, now: float, /) -> None:
        """Do what follows; on the system loop, without a lock."""


_Entry: TypeAlias = tuple[float, int, Timed]
"""An entry of the heap: the time, a serial number, and what has it. It is current if `alarm_at` is that time."""


class Deadlines:
    """The times of the tokens of a gate.

    Args:
        host: the system loop.
        clock: the system's.
    """

    def __init__(self, host: TrioHost, clock: Callable[[], float]) -> None:
        self._host, self._clock = host, clock
        self._alarm = Alarm("deadlines", host, clock, self._next, self._ring)
        self._lock = threading.RLock()  # a finalizer that runs here may end a token
        self._heap: list[_Entry] = []
        self._serials = count()
        self._most = _STALE  # entries before those that are out of date are removed

    def set(self, timed: Timed, at: float) -> None:
        """Set the time of something in the place of the one it had; inf: it has none any more."""
        if at == timed.alarm_at:
            return
        if at == math.inf:
            timed.alarm_at = at  # as it may itself; its entry is out of date
            return
        with self._lock:
            timed.alarm_at = at
            entry = (at, next(self._serials), timed)
            heappush(self._heap, entry)
            is_first = self._heap[0] is entry
            if len(self._heap) > self._most:
                self._heap = list(filter(_is_current, self._heap))
                heapify(self._heap)
                self._most = 2 * len(self._heap) + _STALE
        if is_first:
            self._host.call_soon(self._alarm.look)

    def _next(self) -> float:
        with self._lock:
            return self._heap[0][0] if self._heap else math.inf

    def _ring(self) -> None:
        now = self._clock()
        for _ in range(_BATCH):
            timed = self._pop(now)
            if timed is None:
                return
            try:
                timed.time_is_over(now)
            except Exception:  # nothing may escape: it would cancel the whole loop
                _logger.exception("the time of %r is over, and it could not be ended", timed)

    def _pop(self, now: float) -> Timed | None:
        """Take out what is first, if its time is over."""
        with self._lock:
            entry = self._first()
            if entry is None or entry[0] > now:
                return None
            heappop(self._heap)
            entry[2].alarm_at = math.inf
            return entry[2]

    def _first(self) -> _Entry | None:
        """Return the first entry that is current, and remove those before it; under the lock."""
        while self._heap and not _is_current(self._heap[0]):
            heappop(self._heap)
        return self._heap[0] if self._heap else None


class _Member(Timed, Protocol):
    id: int


class Lane:
    """The times of tokens that come in the order in which they are due: all have equally long to their first one.

    A token that ends soon costs two changes of a dict here. `alarm_at` of a token tells when it is due.

    Args:
        deadlines: of the gate.

    Attributes:
        discard: takes a token out, by its id and None.
    """

    def __init__(self, deadlines: Deadlines) -> None:
        self._deadlines = deadlines
        self._members: dict[int, _Member] = {}
        self._last = -math.inf  # when the last one is due
        self.alarm_at = math.inf
        self.discard = self._members.pop

    def add(self, member: _Member, at: float) -> bool:
        """Add a token, unless one is here that is due later."""
        if at < self._last:
            return False
        self._last = member.alarm_at = at
        self._members[member.id] = member
        if at < self._last:  # another thread was faster
            del self._members[member.id]
            member.alarm_at = math.inf
            return False
        if at < self.alarm_at:  # after the token is here: a ring that comes before this sets no alarm
            self._deadlines.set(self, at)
        return True

    def time_is_over(self, now: float) -> None:
        """Do what follows for those that are due."""
        for _ in range(_BATCH):
            member = self._first()
            if member is None:
                return
            if member.alarm_at > now:
                self._deadlines.set(self, member.alarm_at)
                return
            if self.discard(member.id, None) is not None:
                member.alarm_at = math.inf
                member.time_is_over(now)
        self._deadlines.set(self, now)

    def _first(self) -> _Member | None:
        while True:
            try:
                return next(iter(self._members.values()), None)
            except RuntimeError:  # another thread has added or removed one in between
                continue


def _is_current(entry: _Entry) -> bool:
    return entry[2].alarm_at == entry[0]
