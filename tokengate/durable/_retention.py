"""Rows of tokens that have ended are removed after a while, in small steps."""

from __future__ import annotations

import sqlite3
from collections import deque
from typing import Any, Final

from tokengate._exceptions import JournalFailed
from tokengate.durable._ports import TimedJournal

SECONDS: Final = 10.0
"""Between two looks."""

_AT_ONCE: Final = 500  # rows that are removed in one transaction
_FIRST: Final = 600.0  # seconds of an opening in which nothing is removed, so that relays find their keys
_SAMPLES: Final = 100  # of the wall clock, over the retention

_OLD: Final = "SELECT uid FROM tokens WHERE ended IS NOT NULL AND dead IS NULL AND ended < ? ORDER BY ended LIMIT ?"


class Retention:
    """Removes rows some time after their end, by the time that has passed, however the wall clock was set meanwhile.

    Rows have the wall time of their end. Those that have ended in the last `seconds` have a wall time that the clock
    showed in these seconds; so what is older than each of these times has ended before.

    Args:
        journal: the open journal.
        seconds: for which rows are kept.
    """

    def __init__(self, journal: TimedJournal, seconds: float) -> None:
        self._journal = journal
        self._seconds = seconds
        self._opened = journal.boot_clock()
        self._wall = journal.wall()  # when it was opened
        # (time, the least wall time until that of the next one), the first of which began before the last `seconds`
        self._samples: deque[tuple[float, float]] = deque()
        self._removes = False

    def before(self) -> float:
        """Return the wall time before which what has ended is older than the retention."""
        now, wall, samples = self._journal.boot_clock(), self._journal.wall(), self._samples
        if not samples or now - samples[-1][0] >= self._seconds / _SAMPLES:
            samples.append((now, wall))
        samples[-1] = samples[-1][0], min(wall, samples[-1][1])
        while len(samples) > 1 and samples[1][0] <= now - self._seconds:
            samples.popleft()
        earlier = self._opened + self._seconds - now  # of the last `seconds`, those before the journal was opened
        return min(wall, *(wall for _, wall in samples), self._wall - earlier if earlier > 0 else wall)

    def look(self) -> None:
        """Remove rows, if it is time to; this does not wait."""
        before = self.before()
        if self._journal.boot_clock() - self._opened >= _FIRST and not self._removes:
            self._removes = True
            self._remove(before)

    def _remove(self, before: float) -> None:
        def removed(reply: Any) -> None:
            if reply._error is None and reply._value == _AT_ONCE:
                self._remove(before)
            else:
                self._removes = False

        try:
            self._journal.call(lambda db: remove(db, before)).add_done_callback(removed)
        except JournalFailed:
            self._removes = False  # and nothing is any more


def remove(db: sqlite3.Connection, before: float, most: int = _AT_ONCE) -> int:
    """Remove rows of tokens that have ended before a wall time, and are no dead letters; return how many."""
    uids = db.execute(_OLD, (before, most)).fetchall()
    db.executemany("DELETE FROM steps WHERE uid = ?", uids)
    db.executemany("DELETE FROM tokens WHERE uid = ?", uids)
    return len(uids)
