"""The schedules of an open journal: looked at each second; what is due becomes tokens. And the answers about them."""

from __future__ import annotations

import logging
import math
import sqlite3
from collections.abc import Callable, Iterable
from fnmatch import fnmatchcase
from functools import partial
from queue import SimpleQueue
from typing import Final, TypeVar

import attrs

from actors import Reply
from actors.lowlevel import Place
from tokengate._exceptions import BadPolicy, JournalFailed
from tokengate.control._admission import admission
from tokengate.control._exceptions import BadRequest
from tokengate.control._uids import text_of
from tokengate.control._units import seconds_in
from tokengate.durable import _kinds as k
from tokengate.durable import _states as states
from tokengate.durable._checksums import whole
from tokengate.durable._journal import OpenJournal
from tokengate.durable._new_rows import submit_row
from tokengate.durable._row import Row, rows_of
from tokengate.durable._schedule import Schedule
from tokengate.durable._schedule_times import decide, stamp
from tokengate.operations._operation import operation_named
from tokengate.policy._policies import PlaceName

T = TypeVar("T")

_logger = logging.getLogger("tokengate.durable")

_LATE: Final = 60.0  # seconds without a look, after which what was due meanwhile has been missed
_COLUMNS: Final = ("last_due", "last_uid", "skipped", "paused", '"by"', "reason")
_WRITE: Final = f"INSERT OR REPLACE INTO schedules(name, spec, {', '.join(_COLUMNS)}) VALUES(?, ?, ?, ?, ?, ?, ?, ?)"


@attrs.frozen
class _State:
    """A schedule, what is on disk of it, and when it is looked at.

    Attributes:
        last: the due time up to which all is decided.
        uid: of the newest firing.
        skipped: firings that were left out since the one before had not ended.
        paused: wall time until which it is paused; None: it is not.
        by, reason: who has paused or resumed it last, and why.
        look: when to look at it.
        missed: firings due until then were missed.
    """

    schedule: Schedule
    last: float
    uid: int | None = None
    skipped: int = 0
    paused: float | None = None
    by: str | None = None
    reason: str | None = None
    look: float = 0.0
    missed: float = math.inf

    @property
    def saved(self) -> tuple[object, ...]:
        return self.last, self.uid, self.skipped, self.paused, self.by, self.reason


def checked(schedules: Iterable[Schedule]) -> tuple[Schedule, ...]:
    """Return schedules, or raise `ValueError` if their names are not unique."""
    found: dict[str, Schedule] = {}
    for one in schedules:
        if not isinstance(one, Schedule) or found.setdefault(one.name, one) is not one:
            raise BadPolicy("Journal", "schedules", one, "give objects of Schedule, each with a name of its own")
    return tuple(found.values())


class Schedules:
    """Looks at the clock each second, on the thread of the ticker, which also answers what is asked; see `_kinds`.

    Args:
        journal: the open journal.
    """

    def __init__(self, journal: OpenJournal) -> None:
        self._journal = journal
        self._states: dict[str, _State] = {}
        self._looked = -math.inf
        self._asked: SimpleQueue[Callable[[], object]] = SimpleQueue()
        self._now: Callable[[], None] = lambda: None  # has the thread look at once

    def open(self, schedules: Iterable[Schedule]) -> None:
        """Submit what was missed, and begin to look."""
        self._take(schedules)
        self._look()
        self._now = self._journal.ticker.every(1.0, self._tick)

    def take(self, schedules: Iterable[Schedule]) -> None:
        """Have these schedules soon in the place of those before."""
        self._asked.put(partial(self._take, schedules))
        self._now()

    def _ask(self, function: Callable[[], T]) -> Reply[T]:
        reply: Reply[T] = Reply()

        def answer() -> None:
            try:
                reply._set(function())
            except Exception as error:  # raised where it is waited for
                reply._set(error=error)

        self._asked.put(answer)
        self._now()
        return reply

    # On the thread

    def _tick(self) -> None:
        while not self._asked.empty():
            self._asked.get()()
        try:
            self._look()
        except JournalFailed as error:  # it has said so itself, and the gate closes
            _logger.debug("schedules cannot be looked at: %s", error)

    def _take(self, schedules: Iterable[Schedule]) -> None:
        """Write which schedules there are. One that is new, edited or back catches nothing up."""
        now = math.floor(self._journal.wall())

        def write(db: sqlite3.Connection) -> dict[str, _State]:
            select = f"SELECT spec, {', '.join(_COLUMNS)}, {whole(db, 'schedules')} FROM schedules WHERE name = ?"
            found = {one.name: _found(db, select, one, now) for one in schedules}
            for (name,) in db.execute("SELECT name FROM schedules WHERE spec IS NOT NULL").fetchall():
                if name not in found:
                    db.execute("UPDATE schedules SET spec = NULL WHERE name = ?", (name,))
            return found

        before, self._states = self._states, self._journal.call(write).result()
        for name in before.keys() & self._states.keys():
            self._states[name] = attrs.evolve(self._states[name], missed=before[name].missed)

    def _look(self) -> None:
        """Submit what is due."""
        now = self._journal.wall()
        missed = now if now - self._looked > _LATE else -math.inf
        self._looked = now
        due = [one for one in self._states.values() if one.look <= now]
        running = self._running(due)
        changed = []
        for one in due:
            after, begins = _decided(one, now, missed, one.schedule.name in running)
            if after.saved != one.saved:
                changed.append((after, begins))
            else:
                self._states[one.schedule.name] = after
        try:
            self._write(changed)
        except JournalFailed:
            raise
        except Exception:
            _logger.exception("schedules could not submit; they are tried again")
            for one, _ in changed:
                before = self._states[one.schedule.name]
                self._states[one.schedule.name] = attrs.evolve(before, look=now + _LATE)

    def _running(self, some: Iterable[_State]) -> set[str]:
        """Return the names of those whose newest token has not ended."""
        uids = {one.uid: one.schedule.name for one in some if one.uid is not None}
        if not uids:
            return set()
        with self._journal.reading() as db:  # a row that was removed had ended
            open_one = "SELECT 1 FROM tokens WHERE uid = ? AND state < ?"
            return {name for uid, name in uids.items() if db.execute(open_one, (uid, states.COMPLETED)).fetchone()}

    def _write(self, changed: list[tuple[_State, tuple[float, ...]]]) -> None:
        """Write states of schedules, each with the tokens that begin, in one commit; then have these begin."""

        def write(db: sqlite3.Connection) -> list[tuple[_State, list[Row]]]:
            return [self._written(db, one, begins) for one, begins in changed]

        for one, rows in self._journal.call(write).result() if changed else ():
            self._states[one.schedule.name] = one
            for row in rows:
                self._journal.offer(row)

    def _written(self, db: sqlite3.Connection, one: _State, begins: tuple[float, ...]) -> tuple[_State, list[Row]]:
        schedule, rows = one.schedule, list[Row]()
        for due in begins:
            key, tags = f"schedule/{schedule.name}@{stamp(due)}", {"schedule": schedule.name, "due": stamp(due)}
            uid, is_new = submit_row(
                self._journal, db, schedule.operation, schedule.arguments,
                key=key, tags={**schedule.tags, **tags}, priority=schedule.priority,
            )  # fmt: skip
            one = attrs.evolve(one, uid=uid)
            if is_new:
                rows += rows_of(db, "uid = ?", uid)
        db.execute(_WRITE, (schedule.name, schedule.spec, *one.saved))
        return one, rows

    # Answers of verbs

    async def schedules(self, message: k.Schedules) -> tuple[k.ScheduleRow, ...]:
        rows = await self._ask(lambda: self._rows(self._states.values()))
        return tuple(
            row
            for row in rows
            if fnmatchcase(row.name, message.select or "*") and admission().sees_place(self._place(row.operation))
        )

    async def run_schedule(self, message: k.RunSchedule) -> k.ScheduleRow:
        def run(one: _State) -> _State:
            if one.schedule.times.overlap != "allow" and self._running([one]):
                raise BadRequest(
                    f"token {text_of(one.uid or 0)} of schedule '{message.name}' has not ended, and its overlap is not "
                    "'allow'; wait, or terminate it"
                )
            self._write([(one, (self._journal.wall(),))])
            return one

        return await self._act(message.name, run)

    async def pause_schedule(self, message: k.PauseSchedule) -> k.ScheduleRow:
        try:
            until = seconds_in(message.until) if isinstance(message.until, str) else message.until
        except ValueError as error:
            raise BadRequest(f"until is {message.until!r}, {error}") from None
        if until is not None and not 0 < until < math.inf:
            raise BadRequest(f"until is {message.until!r}; use seconds from now, more than 0")
        by, reason = admission().caller.principal, message.reason

        def pause(one: _State) -> _State:
            end = math.inf if until is None else self._journal.wall() + until
            return attrs.evolve(one, paused=end, look=end, by=by, reason=reason)

        return await self._act(message.name, pause)

    async def resume_schedule(self, message: k.ResumeSchedule) -> k.ScheduleRow:
        by, reason = admission().caller.principal, message.reason

        def resume(one: _State) -> _State:
            if one.paused is None:
                raise BadRequest(f"schedule '{message.name}' is not paused")
            now = self._journal.wall()
            return attrs.evolve(one, paused=None, look=now, missed=now, by=by, reason=reason)

        return await self._act(message.name, resume)

    async def _act(self, name: str, change: Callable[[_State], _State]) -> k.ScheduleRow:
        """Change a schedule, if the caller may do that to its operation; return its row."""

        def act() -> k.ScheduleRow:
            before = self._known(name)
            after = change(before)
            if after is not before:
                self._write([(after, ())])
                self._look()
            return self._rows([self._states[name]])[0]

        admission().reach(self._place((await self._ask(lambda: self._known(name))).schedule.operation))
        return await self._ask(act)

    def _known(self, name: str) -> _State:
        if name not in self._states:
            raise BadRequest(f"there is no schedule '{name}'; 'tokengate schedules' lists them")
        return self._states[name]

    def _place(self, operation: str) -> Place | PlaceName:
        known, name = operation_named(operation), operation.rpartition(":")[2]
        return (
            PlaceName(name, f"operations/{name}", "") if known is None else self._journal.gate._operations[known._spec]
        )

    def _rows(self, some: Iterable[_State]) -> list[k.ScheduleRow]:
        running = self._running(some)
        return [_shown(one, one.schedule.name in running) for one in some]


def _found(db: sqlite3.Connection, select: str, schedule: Schedule, now: float) -> _State:
    """Return what is on disk of a schedule, which is written if it is new, or has been edited, or bits have changed.

    In the latter case it is paused: whether it was is not known.
    """
    row = db.execute(select, (schedule.name,)).fetchone()
    if row is not None and row[0] == schedule.spec and row[-1]:
        return _State(schedule, *row[1:-1])
    if row is None:
        one = _State(schedule, now)
    elif row[-1]:
        one = _State(schedule, max(row[1], now), *row[2:-1])
    else:
        _logger.error("bits of schedule '%s' have changed on disk: it is paused, until it is resumed", schedule.name)
        one = _State(schedule, now, paused=math.inf, reason="bits of its row have changed on disk")
    db.execute(_WRITE, (schedule.name, schedule.spec, *one.saved))
    return one


def _decided(one: _State, now: float, missed: float, running: bool) -> tuple[_State, tuple[float, ...]]:
    """Return what one look makes of a schedule, and the due times of the tokens that begin."""
    if one.paused is not None and one.paused > now:
        return attrs.evolve(one, look=one.paused), ()
    missed = now if one.paused is not None else max(missed, min(one.missed, now))
    found = decide(one.schedule.times, one.schedule.name, one.last, now, missed=missed, running=running)
    after = attrs.evolve(one, last=found.last, skipped=one.skipped + found.skipped, paused=None)
    return attrs.evolve(after, look=found.look, missed=missed), found.begins


def _shown(one: _State, running: bool) -> k.ScheduleRow:
    return k.ScheduleRow(
        one.schedule.name, one.schedule.operation, str(one.schedule.times),
        due=None if one.paused is not None or one.look == math.inf else one.look,
        last=None if one.uid is None else one.last, running=text_of(one.uid or 0) if running else "",
        paused=one.paused is not None, until=None if one.paused == math.inf else one.paused,
        skipped=one.skipped, by=one.by or "", reason=one.reason or "",
    )  # fmt: skip
