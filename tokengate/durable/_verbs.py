"""The answers about the rows of a journal; they are read on threads."""

from __future__ import annotations

import os
import re
import sqlite3
from collections.abc import Callable, Sequence
from fnmatch import fnmatchcase
from functools import partial
from itertools import islice
from pathlib import Path
from types import SimpleNamespace
from typing import Final, TypeVar

import attrs

from tokengate.control._admission import admission, restricted
from tokengate.control._exceptions import BadRequest, ControlError, Refused
from tokengate.control._uids import text_of
from tokengate.control.inspection._off_loop import OffLoop
from tokengate.control.messages import verb_of
from tokengate.durable import _kinds as k
from tokengate.durable import _states as states
from tokengate.durable._checksums import CHECKED, whole
from tokengate.durable._listed import Listed, chosen, listed
from tokengate.durable._new_rows import submit_row
from tokengate.durable._page import last_commit, left_pages
from tokengate.durable._ports import StoredJournal
from tokengate.durable._store import DATABASE, damaged, is_damage, missing_commits

A = TypeVar("A")

_SECONDS: Final = 60.0  # for a reading
_CHECK_SECONDS: Final = 600.0
_AT_ONCE: Final = 1_000  # dead letters of one transaction
_threads: Final = OffLoop("reading of the journal", 2)
_PER: Final = {"s": 1.0, "m": 60.0, "h": 3_600.0}


def answers_of(*rooms: object) -> object:
    """Return an object with the methods of rooms that answer verbs of the journal."""
    verbs = [verb_of(message) for kind in k.KINDS for message in kind.messages]
    return SimpleNamespace(**{verb: getattr(room, verb) for room in rooms for verb in verbs if hasattr(room, verb)})


class JournalAnswers:
    """The answers about a journal, its tokens and its dead letters; see `_kinds`.

    Args:
        journal: the journal.
    """

    def __init__(self, journal: StoredJournal) -> None:
        self._journal = journal

    async def journals(self, message: k.Journals) -> tuple[k.JournalRow, ...]:
        _check_sees_all("the figures of a journal")
        row = await self._read(self._figures)
        return (row,) if fnmatchcase(row.directory, message.select or "*") else ()

    def _figures(self, db: sqlite3.Connection) -> k.JournalRow:
        journal = self._journal
        counts = [db.execute(f"SELECT count(*) FROM tokens WHERE state = {state}").fetchone()[0] for state in range(4)]
        (dead,) = db.execute("SELECT count(*) FROM tokens WHERE dead IS NOT NULL").fetchone()
        (commits,) = db.execute("SELECT commits FROM meta").fetchone()
        log = journal.directory / f"{DATABASE}-wal"
        return k.JournalRow(
            str(journal.directory), journal.run, sum(counts), max(0, sum(counts) - journal.in_memory()),
            counts[states.PARKED] + len(journal.parked), dead,
            os.stat(log).st_size if log.exists() else 0, commits, journal.trouble,
        )  # fmt: skip

    async def check_journal(self, _message: k.CheckJournal) -> k.JournalChecked:
        _check_sees_all("the check of a journal")
        return await self._read(partial(checked, self._journal.directory), _CHECK_SECONDS)

    async def salvage_journal(self, _message: k.SalvageJournal) -> k.JournalSalvaged:
        directory = self._journal.directory
        raise ControlError(
            f"this gate has {directory} open; close it, then 'tokengate journal salvage --state-dir {directory}'"
        )

    async def durable_tokens(self, message: k.DurableTokens) -> tuple[k.DurableTokenRow, ...]:
        rows = await self._listed(message.select, message.limit)
        return tuple(row.token_row(self._shows(row.path)) for row in rows)

    # Dead letters

    async def dead_letters(self, message: k.DeadLetters) -> tuple[k.DeadLetterRow, ...]:
        rows = await self._listed(message.select, message.limit, dead=True)
        return tuple(row.dead_row(self._shows(row.path)) for row in rows)

    async def retry_dead_letter(self, message: k.RetryDeadLetter) -> tuple[k.DeadLetterRow, ...]:
        apart = _seconds_of(message.rate)
        rows = await self._reached(message.select)
        if damaged := next((row for row in rows if not row.whole), None):
            raise BadRequest(
                f"bits of dead letter {text_of(damaged.uid)} have changed on disk, so its arguments may be wrong; "
                "submit its work anew, and discard it, or leave out such ones with 'reason!=corrupt'"
            )
        begin = self._journal.wall()
        due = [begin + apart * n if apart and n else None for n in range(len(rows))]
        return await self._changed(list(zip(rows[::-1], due, strict=True)), self._retry)

    async def discard_dead_letter(self, message: k.DiscardDeadLetter) -> tuple[k.DeadLetterRow, ...]:
        return await self._changed([(row, None) for row in await self._reached(message.select)], self._discard)

    def _retry(self, db: sqlite3.Connection, row: Listed, due: float | None) -> int:
        """Write the token that takes the place of a dead letter; return its uid."""
        db.execute("UPDATE tokens SET key = NULL WHERE uid = ?", (row.uid,))
        (arguments,) = db.execute("SELECT arguments FROM tokens WHERE uid = ?", (row.uid,)).fetchone()
        uid, _ = submit_row(
            self._journal, db, row.operation, arguments,
            key=row.key, tags=row.tags, priority=row.priority, due=due, path=row.path,
        )  # fmt: skip
        db.execute("UPDATE tokens SET dead = NULL, successor = ? WHERE uid = ?", (uid, row.uid))
        return uid

    def _discard(self, db: sqlite3.Connection, row: Listed, _due: float | None) -> None:
        db.execute("UPDATE tokens SET key = NULL, dead = NULL WHERE uid = ?", (row.uid,))

    async def _reached(self, select: str) -> list[Listed]:
        """Return the dead letters of a selector; the caller may do that to all of their operations.

        Raises:
            BadRequest: there is none.
            Refused: the caller may not.
        """
        if not select.strip():
            raise BadRequest("an empty selector would name every dead letter; write '*' if you mean all of them")
        rows = await self._listed(select, None, dead=True)
        if not rows:
            raise BadRequest(f"there is no dead letter '{select}'; 'tokengate dead-letters' lists them")
        for place in {row.place for row in rows}:
            admission().reach(place)
        return rows

    async def _changed(
        self,
        rows: Sequence[tuple[Listed, float | None]],
        change: Callable[[sqlite3.Connection, Listed, float | None], int | None],
    ) -> tuple[k.DeadLetterRow, ...]:
        """Change dead letters in a few transactions, as long as they are such; return what they are then."""

        def write(some: Sequence[tuple[Listed, float | None]], db: sqlite3.Connection) -> list[Listed]:
            are = "SELECT 1 FROM tokens WHERE uid = ? AND dead IS NOT NULL"
            return [
                attrs.evolve(row, successor=change(db, row, due))
                for row, due in some
                if db.execute(are, (row.uid,)).fetchone()
            ]

        done: list[Listed] = []
        for at in range(0, len(rows), _AT_ONCE):
            some = await self._journal.call(partial(write, rows[at : at + _AT_ONCE]))
            new = [row.successor for row in some if row.successor is not None]
            await _threads.run(_SECONDS, partial(self._journal.offer_new, new))
            done += some
        return tuple(row.dead_row(self._shows(row.path)) for row in done)

    # Reading

    def _shows(self, path: str) -> bool:
        """Tell whether the texts of errors of a place, which may have values of arguments, are shown to the caller."""
        place = self._journal.system.place_at(path)
        return place is not None and place.properties.show == "*" and admission().shows_place(place)

    async def _listed(self, select: str, limit: int | None, *, dead: bool = False) -> list[Listed]:
        found, here, now = chosen(select), restricted(), self._journal.wall()
        return await self._read(
            lambda db: list(islice(listed(db, found, now, here, self._journal.parked, dead=dead), limit))
        )

    async def _run(self, function: Callable[[], A]) -> A:
        """Call a function on a thread, and return its result."""
        return (await self._read(lambda _db: [function()]))[0]

    async def _read(self, function: Callable[[sqlite3.Connection], A], seconds: float = _SECONDS) -> A:
        def read() -> A:
            try:
                with self._journal.reading() as db:
                    return function(db)
            except Exception as error:
                if is_damage(error):
                    raise damaged(self._journal.directory, str(error)) from error
                raise

        found = await _threads.run(seconds, read)
        if found is None:
            raise ControlError(f"the journal took more than {seconds:g} s; ask for less")
        return found


def checked(directory: Path, db: sqlite3.Connection) -> k.JournalChecked:
    """Look at each row of a journal, at its indexes, and for commits that are missing."""
    last = last_commit(left_pages(directory))  # first: that of an open one goes on
    (problem,) = db.execute("PRAGMA integrity_check(1)").fetchone()
    (commits,) = db.execute("SELECT commits FROM meta").fetchone()
    problem = missing_commits(commits, last) if problem == "ok" else problem
    rows, changed = 0, []
    for table in ("tokens", *CHECKED):
        (number,) = db.execute(f"SELECT count(*) FROM {table}").fetchone()
        rows += number
        try:
            (good,) = db.execute(f"SELECT total({whole(db, table)}) FROM {table}").fetchone()
        except sqlite3.OperationalError as error:
            if not is_damage(error):
                raise
            changed.append(f"{table}: rows with a text that is no UTF-8")  # how many is not known
        else:
            if number != good:
                changed.append(f"{table}: {number - int(good):,} rows")
    return k.JournalChecked(str(directory), rows, tuple(changed), problem)


def _check_sees_all(what: str) -> None:
    if restricted() is not None:
        raise Refused(f"{what} need the right 'view' without a selector")


def _seconds_of(rate: str) -> float:
    """Return how many seconds are between two tokens of a rate; 0 without one."""
    if not rate:
        return 0.0
    found = re.fullmatch(r"(\d{1,9}(?:\.\d{1,6})?)/([smh])", rate.replace(" ", ""))
    if found is None or not float(found[1]):
        raise BadRequest(f"rate is '{rate}'; use a number of dead letters in a time, such as 100/s, 5/m or 10/h")
    return _PER[found[2]] / float(found[1])
