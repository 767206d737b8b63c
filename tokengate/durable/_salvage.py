"""What is whole in a damaged journal, copied into a new database."""

from __future__ import annotations

import contextlib
import os
import shutil
import sqlite3
from collections.abc import Iterator
from datetime import UTC, datetime
from itertools import chain
from pathlib import Path
from typing import Any, Final, TypeAlias

import attrs

from tokengate._exceptions import JournalDamaged
from tokengate.control._uids import parts_of
from tokengate.durable._checksums import CHECKED, RENEW, columns, whole
from tokengate.durable._files import OwnedDirectory, sync
from tokengate.durable._page import left_pages
from tokengate.durable._store import DATABASE, connect, reader

_UNREADABLE: Final = (sqlite3.DatabaseError, UnicodeDecodeError)  # the latter of the text of an error

_INDEXES: Final = {
    "queued": "state = 1",
    "begun": "state = 2",
    "parked": "state = 3",
    "due": "state = 0",
    "ended": "ended IS NOT NULL",
}
"""{index of tokens: the rows that it has}; together, all rows."""

Row: TypeAlias = tuple[Any, ...]


@attrs.frozen
class Salvaged:
    """What a salvage has found.

    Attributes:
        kept: how many rows of tokens are in the new database.
        damaged: how many could be read, and had other bits than were written.
        commits: how many commits the old database had; 0 if that cannot be read.
        missing: how many of its last commits were not there.
        old: the folder with the old files.
    """

    kept: int
    damaged: int
    commits: int
    missing: int
    old: Path


def salvage(directory: Path) -> Salvaged:
    """Copy the rows with right checksums into a new database, which takes the place of the old one; that is kept.

    Raises:
        BadStateDirectory: the directory cannot be used.
        JournalInUse: a gate has it.
        JournalDamaged: there is nothing to be read.
        OSError, sqlite3.Error: the new one cannot be written; nothing has changed.
    """
    owned = OwnedDirectory(directory, "salvage")
    try:
        old = directory / f"damaged-{datetime.now(UTC):%Y%m%dT%H%M%S.%f}"
        for folder in (old, old / "new"):
            folder.mkdir(mode=0o700)
        for name in (DATABASE, f"{DATABASE}-wal"):
            with contextlib.suppress(FileNotFoundError):
                shutil.copy2(directory / name, old)
        found = _copy(directory, old)
        for suffix in ("-wal", "-shm"):  # they would be taken for those of the new one
            with contextlib.suppress(FileNotFoundError):
                os.unlink(f"{directory / DATABASE}{suffix}")
        os.replace(old / "new" / DATABASE, directory / DATABASE)
        (old / "new").rmdir()
        sync(directory)
        return found
    finally:
        owned.close()


def _copy(directory: Path, old: Path) -> Salvaged:
    pages = left_pages(directory)
    last = max((page.commits for page in pages), default=0)
    with contextlib.closing(reader(old)) as source, contextlib.closing(connect(old / "new")) as db:
        try:
            source.execute("PRAGMA writable_schema = ON")  # else a changed bit of a trigger would hide all tables
            source.execute("SELECT 1 FROM sqlite_schema").fetchone()
        except _UNREADABLE as error:
            raise JournalDamaged(f"nothing can be read of {directory / DATABASE}: {error}; take a backup") from error
        commits = 0
        with contextlib.suppress(*_UNREADABLE, TypeError):
            (commits,) = source.execute("SELECT commits FROM meta WHERE typeof(commits) = 'integer'").fetchone()
        db.execute("BEGIN IMMEDIATE")
        kept, read = _take(db, "tokens", _tokens(source))
        db.execute(RENEW)
        for table in CHECKED:
            _take(db, table, _table(source, table))
        db.execute("UPDATE meta SET commits = ?", (max(commits, last) + 1,))
        (highest,) = db.execute("SELECT COALESCE(MAX(uid), 0) FROM tokens").fetchone()
        for run in {parts_of(highest)[0], *(page.run for page in pages)} - {0}:  # no number is given twice
            db.execute("INSERT OR IGNORE INTO runs(run) VALUES(?)", (run,))
        db.execute("COMMIT")
    return Salvaged(kept, read - kept, commits, max(last - commits, 0), old)


def _take(db: sqlite3.Connection, table: str, rows: Iterator[Row]) -> tuple[int, int]:
    """Write the rows that are whole; return how many these are, and how many there were."""
    names = ", ".join(f"? AS {name}" for name in columns(db, table))
    insert = f"INSERT OR IGNORE INTO {table} SELECT * FROM (SELECT {names}) AS {table} WHERE {whole(db, table)}"
    kept, seen = 0, set[Any]()
    for row in rows:
        seen.add(row[0])
        with contextlib.suppress(sqlite3.IntegrityError, sqlite3.ProgrammingError):  # of another type, or number
            kept += db.execute(insert, row).rowcount
    return kept, len(seen)


def _tokens(source: sqlite3.Connection) -> Iterator[Row]:
    """Yield the rows of tokens that can be read, some of them twice: those between two damages by their uids."""
    try:
        yield from source.execute("SELECT * FROM tokens ORDER BY uid")
    except _UNREADABLE:
        uids = _rows(source, "SELECT uid FROM tokens ORDER BY uid DESC")
        for index, where in _INDEXES.items():
            uids = chain(uids, _rows(source, f"SELECT uid FROM tokens INDEXED BY tokens_{index} WHERE {where}"))
        for (uid,) in set(uids):
            yield from _rows(source, "SELECT * FROM tokens WHERE uid = ?", uid)


def _table(source: sqlite3.Connection, table: str) -> Iterator[Row]:
    """Yield the rows of another table that can be read from its beginning or from its end; some come twice."""
    yield from _rows(source, f"SELECT * FROM {table}")
    yield from _rows(source, f"SELECT * FROM {table} ORDER BY 1 DESC")


def _rows(source: sqlite3.Connection, statement: str, *values: Any) -> Iterator[Row]:
    with contextlib.suppress(*_UNREADABLE):
        yield from source.execute(statement, values)
