"""What is read back: records, gaps and figures of all runs and gates of a directory, also while they are written."""

from __future__ import annotations

import contextlib
import heapq
import math
import sqlite3
import time
from collections import Counter
from collections.abc import Callable, Generator, Iterator, Sequence
from datetime import datetime
from fnmatch import fnmatchcase
from itertools import islice
from pathlib import Path
from typing import Any, Final

import msgspec

from tokengate.control._exceptions import BadRequest
from tokengate.control._uids import is_uid, uid_in
from tokengate.control._units import seconds_in
from tokengate.control.inspection._selector import RECORD_FIELDS, Selector, parse
from tokengate.control.messages import Event
from tokengate.control.stream._events import event_at
from tokengate.control.stream._record import ENDS, LOST, Entry, Record, as_record
from tokengate.history import _files
from tokengate.history._kinds import Opening
from tokengate.history._rows import happening_of, record_of
from tokengate.telemetry._kinds import OperationRow

Sees = Callable[[Entry], bool]
"""Tells whether a caller may see an entry."""

_SILENT: Final = 10.0  # seconds without a write after which a run counts as killed
_BEING_MADE: Final = 5.0  # seconds within which a new file has its tables and says what it is of
_LONG: Final = 1e10  # seconds, 300 years; as many to come count, too, since a clock may have been ahead
_MOST_RECORDS: Final = 10_000_000  # of an answer
_MOST_IDS: Final = 500  # names that SQLite compares; more are left to the selector


def moment(text: float | str | None, now: float) -> float | None:
    """Return a time as seconds since the epoch.

    Args:
        text: how long ago, in seconds or as text (`2h`); or a date and time (`2026-11-30T08:00`), that of this machine
            unless it says its zone.
        now: seconds since the epoch.

    Raises:
        BadRequest: it is neither.
    """
    if text is None or text == "":
        return None
    with contextlib.suppress(ValueError, TypeError, OverflowError):
        ago = seconds_in(text) if isinstance(text, str) else float(text)
        if not math.isnan(ago):
            return now - max(-_LONG, min(ago, _LONG))
    with contextlib.suppress(ValueError, OverflowError):
        return datetime.fromisoformat(str(text)).timestamp()
    raise BadRequest(f"{text!r} is no time; write how long ago, such as 90s, 2h or 7d, or 2026-11-30T08:00")


class _File:
    """A file of history, open for reading, with what it says of itself."""

    def __init__(self, path: Path) -> None:
        self.db = _files.opened(path)
        try:
            self.db.execute("BEGIN")  # so that the names are those of the rows
            meta = dict(self.db.execute("SELECT name, value FROM meta"))
            self.run: str = meta["run"]
            self.gate: str = meta["gate"]
            self.began: float = meta["began"]
            self.written: float = meta["written"]
            self.closed: float | None = meta.get("closed")
            self.opening: str = meta["opening"]
            self.names: dict[int, str] = dict(self.db.execute("SELECT id, name FROM names"))
        except BaseException:
            self.db.close()
            raise

    def gap(self, number: int, since: float, until: float | None, lost: int | None, why: str) -> Event:
        told = {"since": since, "until": until, "lost": lost, "why": why}
        many = "records" if lost is None else f"{lost:,} records"
        return Event(
            seq=number, kind=LOST, at=since, gate=self.gate, gate_run=self.run, text=f"{many} are missing: {why}",
            details={name: value for name, value in told.items() if value is not None},
        )  # fmt: skip


class Reader:
    """Reads a directory of history.

    Args:
        folder: of the files.
        told: called before each file with how many are left; a long reading shows its progress by it.
    """

    def __init__(self, folder: Path, told: Callable[[int], object] = lambda _left: None) -> None:
        self._folder = folder
        self._told = told

    @property
    def directory(self) -> Path:
        """That of the gate's state, in which its folder is."""
        return self._folder.parent

    def records(
        self,
        select: str = "*",
        *,
        since: float | str | None = None,
        until: float | str | None = None,
        limit: int = 1_000,
        sees: Sees | None = None,
    ) -> list[Event]:
        """Return records that match, in order of time, and what is missing between them.

        Without a selector, and with terms about `kind`, what else has happened is among them.

        Args:
            select: a selector of records.
            since: see `moment`.
            until: the same.
            limit: the newest ones, at most.
            sees: tells which the caller may see; None: all.

        Raises:
            BadSelector, BadRequest: an argument cannot work.
        """
        if isinstance(limit, bool) or not isinstance(limit, int) or not 0 < limit <= _MOST_RECORDS:
            raise BadRequest(f"limit is {limit!r}; it must be a number of records, 1 to {_MOST_RECORDS:,}")
        now, selector = time.time(), parse(select, RECORD_FIELDS)
        begin, end = moment(since, now) or 0.0, moment(until, now) or now + _LONG
        found: list[tuple[float, Event]] = []
        gaps: list[Event] = []
        for file in self._opened(begin, end, gaps):
            gaps += _gaps(file, begin, end, now, sees)
            matching = _matching(file, selector, begin, end, now, sees)
            newest = [(one.ended, event_at(one, one.ended, file.gate)) for one in islice(matching, limit)]
            found = heapq.nlargest(limit, [*found, *newest], key=lambda one: one[0])
        first = found[-1][0] if len(found) == limit else begin
        events = [event for _, event in found] + [gap for gap in _in_order(gaps) if _until(gap) >= first]
        return sorted(events, key=lambda event: event.at)

    def show(self, name: str, *, sees: Sees | None = None) -> list[Event]:
        """Return what is known of a token, in order of time: attempts, samples, events, what is missing beside them.

        Args:
            name: its uid (`7f3a91c2.4242`; of a durable one `17.4242`), or its id, which may be of several runs.
            sees: as above.

        Raises:
            BadRequest: it is neither, or nothing is known of it.
        """
        run, _, number = name.rpartition(".")
        if not number.isdecimal() or len(number) > 18:
            raise BadRequest(f"{name!r} is no token; write its uid, such as 7f3a91c2.4242, or its id")
        now, events, gaps = time.time(), list[Event](), list[Event]()
        uid = uid_in(name)
        if uid is None:
            uid = int(number)
        else:  # of a durable token, which may have been in several runs of gates
            run = ""
        for file in self._opened(0.0, now + _LONG, []):
            if run not in ("", file.run):
                continue
            rows = file.db.execute("SELECT * FROM records WHERE uid = ? OR token = ?", (uid, uid))
            found = list(_seen((record_of(row, file.names, file.run) for row in rows), sees))
            events += [event_at(one, one.ended, file.gate) for one in found]
            seen = {one.token for one in found}
            # Not of the tokens that it ran for.
            for id in seen if is_uid(uid) else {uid} if sees is None else {uid} & seen:
                rows = file.db.execute("SELECT * FROM events WHERE token = ?", (id,))
                events += [event_at(happening_of(row, file.run), row[2] / 1e6, file.gate) for row in rows]
                rows = file.db.execute("SELECT * FROM samples WHERE uid = ?", (id,))
                events += [_sample(row, file) for row in rows]
            if found:
                gaps += _gaps(file, file.began, now, now, sees)
        if not events:
            raise BadRequest(f"history knows no token {name}: it is not recorded, too old, or has not ended")
        first = min(event.at - (event.age or 0.0) for event in events)
        last = max(event.at for event in events)
        beside = [gap for gap in _in_order(gaps) if gap.at <= last + 1.0 and _until(gap) >= first]
        return sorted([*events, *beside], key=lambda event: (event.at, event.seq))

    def operations(self, name: str = "", since: float | str | None = None) -> tuple[OperationRow, ...]:
        """Return the figures of operations over whole minutes, the busiest first; counts are exact, but for gaps.

        Args:
            name: of one, or a pattern; empty for all.
            since: see `moment`.

        Raises:
            BadRequest: `since` cannot be read.
        """
        now = time.time()
        begin = moment(since, now) or 0.0
        found: dict[str, _Figures] = {}
        gaps: list[Event] = []
        first, last = now, 0.0
        for file in self._opened(begin, now + _LONG, gaps):
            gaps += _gaps(file, begin, now, now)
            first = min(first, file.began)
            for row in file.db.execute("SELECT * FROM minutes WHERE minute >= ?", (int(begin // 60),)):
                last = max(last, file.closed or (row[0] + 1) * 60.0)
                if not name or fnmatchcase(row[1], name):
                    found.setdefault(row[1], _Figures()).add(row)
        missing = "; ".join(dict.fromkeys(gap.text for gap in _in_order(gaps)))
        seconds = min(now, last) - max(begin // 60 * 60, first)  # of the minutes that are counted
        rows = [one.row(operation, seconds, missing) for operation, one in found.items()]
        return tuple(sorted(rows, key=lambda row: (-row.completed - row.failed, row.name)))

    def events(self, since: float | str | None = None) -> Generator[Event]:
        """Yield all that is known of a time, nearly in order, a row at a time, however long it is.

        Args:
            since: see `moment`.

        Raises:
            BadRequest: `since` cannot be read.
        """
        now = time.time()
        begin = moment(since, now) or 0.0
        with contextlib.ExitStack() as closing:
            yield from heapq.merge(*self._sources(closing, begin, now), key=lambda event: event.at)

    def _sources(self, closing: contextlib.ExitStack, begin: float, now: float) -> list[Iterator[Event]]:
        """Return what each file has from a moment on, and the gaps, each in order; open files are closed at the end."""
        gaps: list[Event] = []
        sources: list[Iterator[Event]] = []
        for path in _files.files_in(self._folder):
            try:
                file = _File(path)
            except (sqlite3.Error, KeyError) as error:
                gaps += _unreadable(path, error)
                continue
            closing.callback(file.db.close)
            if (file.closed or now) >= begin:
                sources.append(_all_of(file, begin))
                gaps += _gaps(file, begin, now, now)
        return [*sources, iter(_in_order(gaps))]

    def opening(self, run: str) -> Opening:
        """Return what a gate was opened with.

        Raises:
            BadRequest: no file has this opening.
        """
        for file in self._opened(0.0, time.time() + _LONG, []):
            if file.run == run:
                return msgspec.json.decode(file.opening, type=Opening)
        raise BadRequest(f"history has no opening {run}")

    def _opened(self, begin: float, end: float, gaps: list[Event]) -> Iterator[_File]:
        """Yield the files of a period, the newest first; those that cannot be read are gaps."""
        paths = _files.files_in(self._folder)
        for left, path in zip(range(len(paths), 0, -1), reversed(paths), strict=True):
            self._told(left)
            try:
                file = _File(path)
            except (sqlite3.Error, KeyError) as error:
                gaps += _unreadable(path, error)
                continue
            try:
                if file.began <= end and (file.closed or time.time()) >= begin:
                    yield file
            finally:
                file.db.close()


def _unreadable(path: Path, error: Exception) -> list[Event]:
    """Return the gap that a file is which cannot be read; none if it has been removed, or is being made."""
    try:
        at = path.stat().st_mtime
    except FileNotFoundError:
        return []
    is_empty = isinstance(error, KeyError) or "no such table" in str(error)
    if is_empty and abs(time.time() - at) < _BEING_MADE:
        return []
    run = path.name.split(".")[1]
    text = f"records are missing: {path.name} cannot be read: {error}"
    return [Event(seq=0, kind=LOST, at=at, gate="", gate_run=run, text=text)]


def _all_of(file: _File, begin: float) -> Iterator[Event]:
    """Return all events of a file from a time on, in order."""
    query, since = "SELECT * FROM {} WHERE at >= ? ORDER BY number", (int(begin * 1e6),)
    records = (record_of(row, file.names, file.run) for row in file.db.execute(query.format("records"), since))
    others = (happening_of(row, file.run) for row in file.db.execute(query.format("events"), since))
    entries: Iterator[Entry] = heapq.merge(records, others, key=lambda one: one.number)
    return (event_at(one, one.ended, file.gate) for one in entries)


def _matching(
    file: _File, selector: Selector, begin: float, end: float, now: float, sees: Sees | None
) -> Iterator[Entry]:
    """Yield what matches, the newest first."""
    period = (int(begin * 1e6), int(end * 1e6))
    wanted = ["at >= ? AND at <= ?"]
    for part in selector.parts:
        if part.name in ("operation", "state", "kind") and not part.is_tag:
            ids = [id for id, name in file.names.items() if part.fits(name)]
            if len(ids) <= _MOST_IDS:
                wanted.append(f"{part.name} IN ({', '.join(map(str, ids))})")
    query = "SELECT * FROM {} WHERE {} ORDER BY number DESC"
    rows = file.db.execute(query.format("records", " AND ".join(wanted)), period)
    names, run = file.names, file.run
    records = _seen((record_of(row, names, run) for row in rows), sees)
    found: Iterator[Entry] = (one for one in records if _fits(selector, one, now))
    if selector.all or any(part.name == "kind" for part in selector.parts):
        rows = file.db.execute(query.format("events", "at >= ? AND at <= ?"), period)
        others = (happening_of(row, run) for row in rows)
        chosen = (one for one in others if _fits(selector, as_record(one), now) and (sees is None or sees(one)))
        found = heapq.merge(found, chosen, key=lambda one: -one.number)
    return found


def _seen(records: Iterator[Record], sees: Sees | None) -> Iterator[Record]:
    """Return the records that the caller may see; without parents, which it may not see, unless it sees all."""
    return records if sees is None else (one._replace(parent=None) for one in records if sees(one))


def _fits(selector: Selector, record: Any, now: float) -> bool:
    return selector.matches(record, now)  # which is declared for tokens


def _sample(row: Sequence[Any], file: _File) -> Event:
    uid, at, cpu, memory, steps = row
    return Event(
        seq=0, kind="token.sampled", at=at / 1e6, gate=file.gate, gate_run=file.run, text=f"token {uid} runs",
        token=uid, uid=f"{file.run}.{uid}", cpu=cpu, memory=memory, steps=steps,
    )  # fmt: skip


# --- What is missing ------------------------------------------------------------------------------------------------


def _gaps(file: _File, begin: float, end: float, now: float, sees: Sees | None = None) -> list[Event]:
    """Return the gaps of a period; without numbers, which count what others did, unless the caller sees all."""
    rows = file.db.execute("SELECT rowid, * FROM gaps WHERE until >= ? AND since <= ?", (begin, end))
    found = [
        file.gap(number, since, until, lost if sees is None else None, why) for number, since, until, lost, why in rows
    ]
    if file.closed is None and now - file.written > _SILENT and begin <= now and file.written <= end:
        found.append(file.gap(0, file.written, None, None, "the process ended without closing this file, or hangs"))
    return found


def _until(gap: Event) -> float:
    until = (gap.details or {}).get("until", float("inf"))
    return float(until)


def _in_order(gaps: list[Event]) -> list[Event]:
    return sorted(gaps, key=lambda gap: gap.at)


# --- Figures --------------------------------------------------------------------------------------------------------


class _Figures:
    """The sums of an operation."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.sampled = 0
        self.hists: tuple[Counter[int], Counter[int]] = Counter(), Counter()

    def add(self, row: Sequence[Any]) -> None:
        _, _, state, n, sampled, _, _, *hists = row
        self.counts[state] += n
        self.sampled += sampled
        for hist, text in zip(self.hists, hists, strict=True):
            hist.update(msgspec.json.decode(text, type=dict[int, int]))

    def row(self, operation: str, seconds: float, missing: str) -> OperationRow:
        counts = {state: self.counts[state] for state in (*ENDS, "retried")}
        waits, runs = self.hists
        return OperationRow(
            operation, **counts, rate=sum(counts[state] for state in ENDS) / max(seconds, 1.0),
            wait_p95=_quantile(waits, 0.95), run_p50=_quantile(runs, 0.5), run_p95=_quantile(runs, 0.95),
            estimated=self.sampled < self.counts.total(), missing=missing,
        )  # fmt: skip


def _quantile(hist: Counter[int], share: float) -> float | None:
    """Return an estimate of a quantile, in seconds: its place among those between two bounds."""
    rank = share * hist.total()
    for bound in sorted(hist):
        if 0 < rank <= hist[bound]:
            return float(2.0 ** (bound - 1 + rank / hist[bound]))
        rank -= hist[bound]
    return None
