"""What is whole in a damaged journal, copied into a new database."""

from __future__ import annotations

import contextlib
import os
import shutil
import sqlite3
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, TypeAlias

import attrs

from tokengate._exceptions import JournalDamaged
from tokengate.control._uids import parts_of
from tokengate.durable._checksums import CHECKED, RENEW, columns, whole
from tokengate.durable._files import OwnedDirectory, sync
from tokengate.durable._page import last_commit, left_pages
from tokengate.durable._store import DATABASE, connect, reader

_UNREADABLE: Final = (sqlite3.DatabaseError, UnicodeDecodeError)  # the latter of the text of an error

_MADE: Final = "salvaged.db"
"""The new database, in the folder with the old files; it is complete there until it takes the place of the old one."""

_TABLES: Final = ("tokens", *CHECKED)

_INDEXES: Final = {
    "queued": "state = 1",
    "begun": "state = 2",
    "parked": "state = 3",
    "due": "state = 0",
    "ended": "ended IS NOT NULL AND dead IS NULL",
    "dead": "dead IS NOT NULL",
}
"""{index of tokens: the rows that it has}; together, all rows."""

_HIGHEST: Final = """
SELECT COALESCE(max(uid), 0) FROM (
    SELECT max(uid) AS uid FROM tokens UNION SELECT max(uid) FROM steps
    UNION SELECT max(uid) FROM saved UNION SELECT max(last_uid) FROM schedules)
"""

Row: TypeAlias = tuple[Any, ...]


@attrs.frozen
class Salvaged:
    """What a salvage has found.

    Attributes:
        kept: how many rows of tokens are in the new database.
        damaged: how many rows, of all tables, are left out: they have other bits than were written, or are in an index
            only.
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
        finish_salvage(directory)
        old = directory / f"damaged-{datetime.now(UTC):%Y%m%dT%H%M%S.%f}"
        for folder in (old, old / "new"):
            folder.mkdir(mode=0o700)
        for name in (DATABASE, f"{DATABASE}-wal"):
            with contextlib.suppress(FileNotFoundError):
                shutil.copy2(directory / name, old)
        found = _copy(directory, old)
        os.rename(old / "new" / DATABASE, old / _MADE)
        (old / "new").rmdir()
        sync(old)
        finish_salvage(directory)
        return found
    finally:
        owned.close()


def finish_salvage(directory: Path) -> None:
    """Have what a salvage has made take the place of the database; also one whose process died before that."""
    for made in directory.glob(f"damaged-*/{_MADE}"):
        for suffix in ("-wal", "-shm"):  # they would be taken for those of the new one
            with contextlib.suppress(FileNotFoundError):
                os.unlink(f"{directory / DATABASE}{suffix}")
        os.replace(made, directory / DATABASE)
        sync(directory)


def _copy(directory: Path, old: Path) -> Salvaged:
    pages = left_pages(directory)
    last = last_commit(pages)
    with contextlib.closing(reader(old)) as source, contextlib.closing(connect(old / "new")) as db:
        try:
            source.execute("PRAGMA writable_schema = ON")  # else a changed bit of a trigger would hide all tables
            lost = _lost_tables(source)
        except _UNREADABLE as error:
            raise JournalDamaged(f"nothing can be read of {directory / DATABASE}: {error}; take a backup") from error
        if lost:
            raise JournalDamaged(f"{directory / DATABASE} has no table {lost[0]} any more; take a backup")
        commits = 0
        with contextlib.suppress(*_UNREADABLE, TypeError):
            (commits,) = source.execute("SELECT commits FROM meta WHERE typeof(commits) = 'integer'").fetchone()
        db.execute("BEGIN IMMEDIATE")
        kept, damaged = _take_all(db, source)
        db.execute("UPDATE meta SET commits = ?", (max(commits, last) + 1,))
        (uid,) = db.execute(_HIGHEST).fetchone()
        (run,) = db.execute("SELECT COALESCE(MAX(run), 0) FROM runs").fetchone()
        run = max(run, parts_of(uid)[0], *(page.run for page in pages), 0)
        # One more: no number is given twice, even if all rows of the last run are lost.
        db.execute("INSERT OR IGNORE INTO runs(run) VALUES(?), (?)", (run, run + 1))
        db.execute("COMMIT")
    return Salvaged(kept, damaged, commits, max(last - commits, 0), old)


def _lost_tables(source: sqlite3.Connection) -> list[str]:
    """Return the tables that its schema does not have any more."""
    names = {name for (name,) in source.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")}
    return [table for table in _TABLES if table not in names]


def _take_all(db: sqlite3.Connection, source: sqlite3.Connection) -> tuple[int, int]:
    """Write the rows of all tables that are whole; return how many tokens these are, and how many rows are left out."""
    indexed = _indexed(source)
    kept, read = _take(db, "tokens", _tokens(source, indexed))
    db.execute(RENEW)
    damaged = max(read, len(indexed)) - kept
    for table in CHECKED:
        kept_there, read_there = _take(db, table, _table(source, table))
        damaged += read_there - kept_there
    return kept, damaged


def _take(db: sqlite3.Connection, table: str, rows: Iterator[Row]) -> tuple[int, int]:
    """Write the rows that are whole; return how many these are, and how many there were."""
    names = ", ".join(f"? AS {name}" for name in columns(db, table))
    insert = f"INSERT OR IGNORE INTO {table} SELECT * FROM (SELECT {names}) AS {table} WHERE {whole(db, table)}"
    kept, seen = 0, set[int]()
    for row in rows:
        seen.add(hash(row))
        with contextlib.suppress(sqlite3.IntegrityError, sqlite3.ProgrammingError):  # of another type, or number
            kept += db.execute(insert, row).rowcount
    return kept, len(seen)


def _tokens(source: sqlite3.Connection, indexed: set[int]) -> Iterator[Row]:
    """Yield the rows of tokens that can be read, some of them twice: those between two damages by their uids."""
    try:
        yield from source.execute("SELECT * FROM tokens ORDER BY uid")
    except _UNREADABLE:
        from_the_end = [uid for (uid,) in _rows(source, "SELECT uid FROM tokens ORDER BY uid DESC")]
        for uid in indexed.union(from_the_end):
            yield from _rows(source, "SELECT * FROM tokens WHERE uid = ?", uid)


def _indexed(source: sqlite3.Connection) -> set[int]:
    """Return the uids of tokens that indexes have."""
    return {
        uid
        for index, where in _INDEXES.items()
        for (uid,) in _rows(source, f"SELECT uid FROM tokens INDEXED BY tokens_{index} WHERE {where}")
    }


def _table(source: sqlite3.Connection, table: str) -> Iterator[Row]:
    """Yield the rows of another table that can be read from its beginning or from its end; some come twice."""
    yield from _rows(source, f"SELECT * FROM {table}")
    yield from _rows(source, f"SELECT * FROM {table} ORDER BY 1 DESC")


def _rows(source: sqlite3.Connection, statement: str, *values: Any) -> Iterator[Row]:
    with contextlib.suppress(*_UNREADABLE):
        yield from source.execute(statement, values)
