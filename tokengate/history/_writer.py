"""What writes a file of history: rows of records, exact counts of each minute, and what is missing.

All of it runs on the thread of its queue, but for the opening. What it does not get to disk is a gap, and never an
error of a token.
"""

from __future__ import annotations

import contextlib
import ctypes
import logging
import math
import os
import sqlite3
import threading
import weakref
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import chain
from operator import itemgetter
from pathlib import Path
from typing import Any, Final, NamedTuple

import msgspec

from tokengate._exceptions import BadStateDirectory
from tokengate.control.stream._collector import OTHER, Tally
from tokengate.control.stream._queued import Queued
from tokengate.control.stream._record import FINISHED, RETRIED, Raw
from tokengate.control.stream._stream import Stream
from tokengate.history import _files
from tokengate.history._kinds import Opening
from tokengate.history._rows import (
    AT_ONCE,
    INDEXES,
    PLAIN,
    PUT,
    PUT_ALL,
    PUT_EVENT,
    PUT_SEVERAL,
    Names,
    event_row,
    row_of,
    whole,
)
from tokengate.telemetry._samples import LONG, Sample

_logger = logging.getLogger("tokengate.history")

COMMIT: Final = 0.1
"""Seconds between two commits."""
_CUT: Final = 0.7  # seconds between two writes of counts: with what is on its way, a second
_TRIES: Final = 8  # to read all counts while nothing is recorded
_LATE: Final = 1.0  # seconds after which counts are written, though records that they count have not come
_CHECK: Final = 10.0  # seconds between two looks at the file, and between two tries while the disk fails
LARGEST: Final = 64 * 2**20
"""Bytes of a file."""
_EXPONENT: Final = itemgetter(1)  # of what `frexp` returns
_INDEXED_AT_END: Final = 2**24  # bytes of a file that is indexed while the gate closes, which takes 0.2 s
_BOUND: Final = 20  # histograms have bounds 2^k seconds, for k from -20 to 20


class Measured:
    """What was read of the attempts of an operation that ended in one state, in this minute."""

    __slots__ = (
        "due",
        "pending",
        "run",
        "run_hist",
        "runs",
        "sampled",
        "skipped",
        "tally",
        "wait",
        "wait_hist",
        "waits",
    )

    def __init__(self, tally: Tally) -> None:
        self.tally = tally
        self.waits: list[float] = []  # those of weight 1, until they are added
        self.runs: list[float] = []
        self.pending = 0  # attempts since the last row, which the next one stands for
        self.skipped: Raw | None = None  # the last of these
        self.due = -math.inf  # time from which the next one has a row in any case
        self.clear()

    def clear(self) -> None:
        """Begin a minute."""
        self.sampled, self.wait, self.run = 0, 0.0, 0.0
        self.wait_hist: Counter[int] = Counter()
        self.run_hist: Counter[int] = Counter()

    def add(self, wait: float, run: float | None, weight: int) -> None:
        """Add an attempt that stands for several."""
        self.sampled += 1
        self.wait += wait * weight
        self.wait_hist[_bound(wait)] += weight
        if run is not None:
            self.run += run * weight
            self.run_hist[_bound(run)] += weight

    def settle(self) -> None:
        """Add those of weight 1."""
        self.sampled += len(self.waits)
        self.wait += sum(self.waits)
        self.run += sum(self.runs)
        _count(self.waits, self.wait_hist)
        _count(self.runs, self.run_hist)
        self.waits.clear()
        self.runs.clear()


def _bound(seconds: float) -> int:
    """Return the k for which 2^k is the next bound."""
    return min(_BOUND, max(-_BOUND, math.frexp(seconds)[1])) if seconds > 0 else -_BOUND


def _count(times: list[float], hist: Counter[int]) -> None:
    """Add times to a histogram, without a call for each of them."""
    for exponent, n in Counter(map(_EXPONENT, map(math.frexp, times))).items():
        hist[min(_BOUND, max(-_BOUND, exponent))] += n
    if zeros := times.count(0.0):  # whose exponent is 0
        hist[0] -= zeros
        hist[-_BOUND] += zeros


class _Cut(NamedTuple):
    """The exact counts of a moment, which are written when the records that they count have come."""

    at: float
    made: int  # records until then
    counts: Mapping[tuple[str, str], int]


class Writer(Queued):
    """Writes the history of one opening of a gate, to one file after the other; a sink of the stream.

    Args:
        folder: of the files.
        stream: of the gate.
        clock: of the gate.
        retention: seconds.
        most: bytes of all files.
        a_second: rows of ordinary records, at most.
        samples_of: returns the samples of a token.
        closed: called with each file that is closed.
        opening: what each file says of the gate.

    Attributes:
        failing: why nothing can be written now; empty: it can.

    Raises:
        BadStateDirectory: the first file cannot be made.
    """

    def __init__(
        self,
        folder: Path,
        stream: Stream,
        clock: Callable[[], float],
        *,
        retention: float,
        most: int,
        a_second: int,
        samples_of: Callable[[int], Sequence[Sample]],
        closed: Callable[[Path], object],
        opening: Opening,
    ) -> None:
        self.failing = self._told = ""
        self._is_damaged = False
        self._folder = folder
        self._stream = stream
        self._collector = stream.collector
        self._clock = clock
        self._retention, self._most, self._a_second = retention, most, a_second
        self._largest = min(LARGEST, max(2**20, most // 8))
        self._samples_of = samples_of
        self._closed = closed
        self._opening = msgspec.json.encode(opening).decode()
        self._rows: list[tuple[Raw, int]] = []  # with their weights
        self._events: list[tuple[Any, ...]] = []
        self._samples: list[tuple[Any, ...]] = []
        self._gaps: dict[str, list[Any]] = {}  # {why: [since, until, lost]}
        self._names = Names()
        self._measured: dict[tuple[str, str], Measured] = {}
        self._base: dict[tuple[str, str], int] = {}  # counts when this minute began
        self._written: dict[tuple[str, str], tuple[int, int]] = {}  # what the file has of this minute
        self._cut: _Cut | None = None
        self._every = 1  # of so many ordinary records one has a row
        self._room = a_second  # rows of ordinary ones in this second
        self._seen_ordinary = 0
        self._top = self._numbered = self._collector.latest - len(self._collector.pending)
        self._missing = self._lost_here = self._lost_in_queue = 0
        now = clock()
        self._minute = self._minute_of(now)
        self._second = self._commit_at = self._cut_at = self._check_at = self._looked_at = self._failed_at = now
        self._db: sqlite3.Connection | None = None
        try:
            self._begin(now)
        except (OSError, sqlite3.Error) as error:
            raise BadStateDirectory(str(folder), str(error), "make room, or name another directory") from error
        _writers.add(self)
        super().__init__("history", self._accept, self._finish, raw=True, idle=COMMIT)

    # --- Reading what comes -------------------------------------------------------------------------------------------

    def _accept(self, items: Sequence[Any]) -> None:
        """Read items of the stream, and write what is due."""
        now, cut = self._clock(), self._cut
        if cut is not None:
            before = [item for item in items if item[0] <= cut.made]
            items = [item for item in items if item[0] > cut.made]
            self._read(before, now)
            if items or self._top >= cut.made or now - cut.at > _LATE:
                self._cut = None
                self._write(now, cut)
        self._read(items, now)
        if self._cut is None and (now - self._cut_at >= _CUT or self._minute_of(now) != self._minute):
            self._look_for_loss(now)
            self._cut, self._cut_at = self._counts(now), now
        if now - self._commit_at >= COMMIT and (self._rows or self._events):
            self._write(now, None)
        if now - self._check_at >= _CHECK:
            self._check(now)

    def _finish(self) -> None:
        """Write what is left, and close the file."""
        now = self._clock()
        self._missing = self._top = max(self._top, self._collector.latest - len(self._collector.pending))
        self._look_for_loss(now)
        self._rows += self._left_over()
        if self.failing:
            self._check(now)
        self._write(now, self._counts(now))
        self._close(now, _INDEXED_AT_END)
        _writers.discard(self)

    def _counts(self, now: float) -> _Cut:
        """Return the counts of now; of a moment at which no other thread records anything, if there is one."""
        collector, counts, made = self._collector, dict[tuple[str, str], int](), -1
        for _ in range(_TRIES):
            if made == collector.latest:
                break
            made = collector.latest
            found = {name: collector.tallies[name].counts() for name in list(collector.tallies)}
            counts = {(name, state): n for name, each in found.items() for state, n in each.items() if n}
        return _Cut(now, made, counts)

    def _read(self, items: Sequence[Any], now: float) -> None:
        if not items:
            return
        self._pace(now)
        self._numbered += len(items)
        self._top = max(self._top, items[-1][0])
        measured, rows, every, room, seen = self._measured, self._rows, self._every, self._room, 0
        for raw in items:
            if type(raw) is not tuple:
                self._events.append(event_row(raw, self._stream.utc(0.0)))
                continue
            (
                _, token, operation, _, _, _, _, _, _, attempt, state, created, queued, started, ended, _, weight, kind,
                more,
            ) = raw  # fmt: skip
            if kind != FINISHED:
                if kind != RETRIED:
                    continue
                state = "retried"
            try:
                one = measured[operation, state]
            except KeyError:
                one = self._measure(operation, state)
            since = created if queued is None else queued
            if more is None and attempt == 1:
                run, wait = ended - started, started - since
                if weight == 1:
                    one.waits.append(wait)
                    one.runs.append(run)
                else:
                    one.add(wait, run, weight)
                is_ordinary = state == "completed" and run < one.tally.slow
            else:
                kept, parked = (0.0, 0.0) if more is None else (more.kept, more.parked)
                run = None if started is None else ended - started - parked
                one.add((ended if started is None else started) - since - kept, run, weight)
                is_plain = attempt == 1 and (more is None or not more.steered)
                is_ordinary = is_plain and state == "completed" and run is not None and run < one.tally.slow
            if run is not None and run >= LONG:
                at = self._stream.utc(started or 0.0)
                self._samples += [
                    (token, int((at + sample.age) * 1e6), *sample[1:]) for sample in self._samples_of(token)
                ]
            if not is_ordinary:
                rows.append((raw, weight))
                continue
            seen += 1
            one.pending += weight
            if room > 0 and (one.pending >= every or ended >= one.due):
                rows.append((raw, one.pending))
                one.pending, one.skipped, one.due = 0, None, ended + 1.0
                room -= 1
            else:
                one.skipped = raw
        self._room = room
        self._seen_ordinary += seen

    def _pace(self, now: float) -> None:
        """Have rows of ordinary records stay below the bound in this second, by how many there were in the last."""
        if now - self._second >= 1.0:
            a_second = self._seen_ordinary / (now - self._second)
            self._every = max(1, math.ceil(a_second / max(1, self._a_second)))
            self._second, self._seen_ordinary, self._room = now, 0, self._a_second

    def _measure(self, operation: str, state: str) -> Measured:
        name = operation if operation in self._collector.tallies else OTHER
        return self._measured.setdefault((name, state), Measured(self._collector.tally(operation)))

    def _left_over(self) -> list[tuple[Raw, int]]:
        """Return the last records that rows are to stand for, so that the weights add up."""
        left = [one for one in self._measured.values() if one.pending and one.skipped is not None]
        found = [(one.skipped, one.pending) for one in left if one.skipped is not None and self._a_second]
        for one in left:
            one.pending, one.skipped = 0, None
        return found

    # --- What is missing ----------------------------------------------------------------------------------------------

    def _look_for_loss(self, now: float) -> None:
        """Have what did not come since the last time be gaps.

        Numbers are taken before records are appended, so that one that is missing may still come: it counts if it is
        missing twice in a row.
        """
        missing = self._top - self._numbered
        lost = max(0, min(missing, self._missing))
        in_queue = min(lost, self.lost - self._lost_here - self._lost_in_queue)
        self._gap("the queue of history was full", in_queue, self._looked_at, now)
        self._gap("the deque of the collector was full", lost - in_queue, self._looked_at, now)
        self._lost_in_queue += in_queue
        self._numbered += lost
        self._missing, self._looked_at = missing - lost, now

    def _gap(self, why: str, lost: int, since: float, until: float) -> None:
        if lost:
            gap = self._gaps.setdefault(why, [self._stream.utc(since), 0.0, 0])
            gap[1:] = self._stream.utc(until), gap[2] + lost

    # --- Writing ------------------------------------------------------------------------------------------------------

    def _write(self, now: float, cut: _Cut | None) -> None:
        """Write what was read, or what is missing of it; with counts, begin what follows."""
        amount = sum(weight for _, weight in self._rows) + len(self._events)
        for one in self._measured.values():
            one.settle()
        if not self.failing:
            with self._failures(now):
                self._put(cut)
        if self.failing:
            self._gap(self.failing, amount, self._failed_at, now)
            self._lost_here += amount
            self.lose(amount)
        else:
            self._in_file += amount
            self._names.fresh.clear()
            self._gaps.clear()
            self._told = ""
        self._rows.clear()
        self._events.clear()
        self._samples.clear()
        self._commit_at = now
        if cut is not None and not self.failing:
            self._go_on(now, cut)

    def _go_on(self, now: float, cut: _Cut) -> None:
        """Begin another minute, and another file, when it is time."""
        minute = self._minute_of(now)
        is_full = _files.size_of(self._path) > self._largest
        if minute == self._minute and not is_full:
            return
        is_other_day = minute // 1440 != self._minute // 1440 or minute < self._minute
        self._minute, self._base = minute, dict(cut.counts)
        self._written.clear()
        for one in self._measured.values():
            one.clear()
        if is_full or is_other_day:
            why = self._difference()
            with self._failures(now):
                if why:
                    self._give_up(why, now)
                else:
                    self._close(now)
                self._begin(now)

    def _put(self, cut: _Cut | None) -> None:
        assert self._db is not None
        offset, names = self._stream.utc(0.0), self._names
        workers = {thread.ident: thread.name for thread in threading.enumerate() if thread.ident is not None}
        rows = [row_of(raw, weight, offset, names, workers) for raw, weight in self._rows]
        plain = [row for row in rows if len(row) == PLAIN]
        several = len(plain) // AT_ONCE * AT_ONCE
        gaps = [(*gap, why) for why, gap in self._gaps.items()]
        counted = [] if cut is None else list(self._changed(cut))
        with self._transaction(self._db) as db:
            for first in range(0, several, AT_ONCE):
                db.execute(PUT_SEVERAL, tuple(chain.from_iterable(plain[first : first + AT_ONCE])))
            db.executemany(PUT, plain[several:])
            db.executemany(PUT_ALL, [row for row in rows if len(row) > PLAIN])
            db.executemany(PUT_EVENT, self._events)
            db.executemany("INSERT INTO samples VALUES (?, ?, ?, ?, ?)", self._samples)
            db.executemany("INSERT OR REPLACE INTO names VALUES (?, ?)", names.fresh)
            db.executemany("INSERT INTO gaps VALUES (?, ?, ?, ?)", gaps)
            db.executemany("INSERT OR REPLACE INTO minutes VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", counted)
            if cut is not None:
                db.execute("INSERT OR REPLACE INTO meta VALUES ('written', ?)", (self._stream.utc(cut.at),))

    def _changed(self, cut: _Cut) -> Iterator[tuple[Any, ...]]:
        """Yield what the file is to have of this minute, where it has changed."""
        for key, count in cut.counts.items():
            n = count - self._base.get(key, 0)
            one = self._measured.get(key) or Measured(Tally())
            if n and self._written.get(key) != (n, one.sampled):
                self._written[key] = n, one.sampled
                yield (
                    self._minute, whole(key[0]), key[1], n, one.sampled, one.wait, one.run, _text(one.wait_hist),
                    _text(one.run_hist),
                )  # fmt: skip

    @contextlib.contextmanager
    def _transaction(self, db: sqlite3.Connection) -> Iterator[sqlite3.Connection]:
        try:
            db.execute("BEGIN IMMEDIATE")
            yield db
            db.execute("COMMIT")
        except BaseException:
            self._written.clear()
            with contextlib.suppress(sqlite3.Error):
                db.execute("ROLLBACK")
            raise

    @contextlib.contextmanager
    def _failures(self, now: float) -> Iterator[None]:
        """Note whether a block cannot write."""
        try:
            yield
            self.failing = ""
        except Exception as error:
            self._fail(now, error)

    def _fail(self, now: float, error: Exception) -> None:
        if not self._told:
            _logger.error("history of gate '%s' writes nothing to %s: %s", self._stream.gate, self._path, error)
            self._failed_at = now
        self._told = self.failing = f"it could not be written: {error}"
        self._check_at = now
        self._is_damaged = isinstance(error, sqlite3.DatabaseError) and not isinstance(error, sqlite3.OperationalError)
        if self._difference():
            self._check_at = -math.inf  # a new file at once

    # --- Files --------------------------------------------------------------------------------------------------------

    def _begin(self, now: float) -> None:
        """Begin a file; this minute goes on in it."""
        at = self._stream.utc(now)
        _files.prepare(self._folder.parent)  # which may be gone
        self._path, self._db = _files.begin(self._folder, self._stream.run, at)
        self._inode = os.lstat(self._path).st_ino
        meta = {"v": 1, "gate": self._stream.gate, "run": self._stream.run, "pid": os.getpid(), "began": at}
        rows = [*meta.items(), ("written", at), ("opening", self._opening)]
        self._db.executemany("INSERT INTO meta VALUES (?, ?)", rows)
        self._names = Names()
        self._written.clear()
        self._in_file, self._began, self._is_damaged = 0, now, False
        _files.retire(self._folder, self._path, self._retention, self._most)

    def _close(self, now: float, indexed: int = 2 * LARGEST) -> None:
        """Close the file, which is a plain one from then on unless another process reads it just now.

        Args:
            now: the time.
            indexed: bytes of the largest file that gets indexes.
        """
        if self._db is None:
            return
        with contextlib.suppress(sqlite3.Error):
            if not self.failing:
                if _files.size_of(self._path) <= indexed:
                    self._db.executescript(f"BEGIN; {INDEXES} COMMIT;")
                self._db.execute("INSERT OR REPLACE INTO meta VALUES ('closed', ?)", (self._stream.utc(now),))
                self._db.execute("PRAGMA busy_timeout=0")
                self._db.execute("PRAGMA journal_mode=DELETE")
        with contextlib.suppress(sqlite3.Error):
            self._db.close()
        self._db = None
        if not self.failing and not os.path.exists(f"{self._path}-wal"):
            self._closed(self._path)

    def _check(self, now: float) -> None:
        """Begin a new file if this one cannot be used any more; try again if the disk failed."""
        self._check_at = now
        why = self._difference()
        with self._failures(now):
            if why:
                self._give_up(why, now)
            if self._db is None:
                self._begin(now)
            _files.retire(self._folder, self._path, self._retention, self._most)
        if self._told and self._db is not None:
            self.failing = ""
            self._write(now, None)

    def _give_up(self, why: str, now: float) -> None:
        """Leave the file, which cannot be used any more; what it had is a gap."""
        _logger.error("history of gate '%s': %s %s; a new file begins", self._stream.gate, self._path, why)
        self._gap(f"a file {why}", self._in_file, self._began, now)
        with contextlib.suppress(sqlite3.Error):
            if self._db is not None:
                self._db.close()
        self._db, self._in_file = None, 0
        if why != "is gone":
            _files.put_aside(self._path)

    def _difference(self) -> str:
        """Return what happened to the file; empty: nothing."""
        if self._db is None:
            return ""
        if self._is_damaged:
            return "is damaged"
        try:
            if os.lstat(self._path).st_ino != self._inode:
                return "is another one"
        except FileNotFoundError:
            return "is gone"
        except OSError:
            return ""
        try:
            with contextlib.closing(_files.opened(self._path)) as db:
                found = dict(db.execute("SELECT * FROM meta"))
                db.execute("SELECT max(number) FROM records").fetchone()
            return "" if found.get("run") == self._stream.run else "is another one"
        except sqlite3.OperationalError:
            return ""
        except sqlite3.DatabaseError:
            return "is damaged"

    def _minute_of(self, now: float) -> int:
        return int(self._stream.utc(now) // 60)

    def disown(self) -> None:
        """Leave the file to the parent, in a forked child: SQLite must not close a connection there."""
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(self._db))


def _text(hist: Counter[int]) -> str:
    return msgspec.json.encode(dict(sorted(hist.items()))).decode()


_writers: weakref.WeakSet[Writer] = weakref.WeakSet()


def _disown() -> None:
    for writer in list(_writers):
        writer.disown()
    _writers.clear()


os.register_at_fork(after_in_child=_disown)
