"""The database of a journal: its tables, and connections to it."""

from __future__ import annotations

import contextlib
import os
import sqlite3
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from tokengate._exceptions import JournalDamaged, NewerFormat
from tokengate.audit._directory import NO_LINK
from tokengate.durable._checksums import RENEW, triggers
from tokengate.durable._codec import checksum
from tokengate.durable._files import sync
from tokengate.durable._page import LeftPage, last_commit

FORMAT: Final = 2

SCHEMA: Final = """
CREATE TABLE meta(format INTEGER NOT NULL, commits INTEGER NOT NULL);
CREATE TABLE runs(run INTEGER PRIMARY KEY, gate TEXT, pid INTEGER, host TEXT, boot TEXT, version TEXT, config TEXT,
    audit TEXT, opened REAL, closed REAL, how TEXT, crc INTEGER);
CREATE TABLE tokens(uid INTEGER PRIMARY KEY, operation TEXT NOT NULL, path TEXT NOT NULL, key TEXT, fair TEXT,
    arguments BLOB NOT NULL, crc INTEGER NOT NULL, priority INTEGER NOT NULL, tags TEXT, parent INTEGER, trace TEXT,
    tx INTEGER, due REAL, delayed INTEGER, deadline REAL,
    state INTEGER NOT NULL, attempts INTEGER NOT NULL, recoveries INTEGER NOT NULL,
    accepted REAL NOT NULL, ended REAL, result BLOB, error TEXT, reason TEXT, dead INTEGER, successor INTEGER,
    crc_end INTEGER);
CREATE UNIQUE INDEX tokens_key ON tokens(operation, key) WHERE key IS NOT NULL;
CREATE INDEX tokens_queued ON tokens(path, fair, priority DESC, uid) WHERE state = 1;
CREATE INDEX tokens_begun ON tokens(uid) WHERE state = 2;
CREATE INDEX tokens_parked ON tokens(operation) WHERE state = 3;
CREATE INDEX tokens_due ON tokens(due) WHERE state = 0;
CREATE INDEX tokens_ended ON tokens(ended) WHERE ended IS NOT NULL AND dead IS NULL;
CREATE INDEX tokens_dead ON tokens(uid) WHERE dead IS NOT NULL;
CREATE INDEX tokens_tx ON tokens(tx) WHERE tx IS NOT NULL;
CREATE TABLE steps(uid INTEGER, name TEXT, nth INTEGER, seq INTEGER, value BLOB, crc INTEGER,
    PRIMARY KEY(uid, name, nth)) WITHOUT ROWID;
CREATE TABLE saved(path TEXT PRIMARY KEY, uid INTEGER, value BLOB, crc INTEGER) WITHOUT ROWID;
CREATE TABLE schedules(name TEXT PRIMARY KEY, spec TEXT, paused REAL, last_due REAL, last_uid INTEGER, skipped INTEGER,
    "by" TEXT, reason TEXT, crc INTEGER) WITHOUT ROWID;
CREATE TABLE transactions(tx INTEGER PRIMARY KEY, name TEXT, owner INTEGER, state TEXT, crc INTEGER);
CREATE TABLE compensations(tx INTEGER, seq INTEGER, uid INTEGER, operation TEXT, arguments BLOB, state TEXT,
    crc INTEGER, PRIMARY KEY(tx, seq)) WITHOUT ROWID;
"""

MIGRATIONS: Final = {1: [RENEW]}
"""{format: statements that make the next one of it}; the triggers are made anew."""

DATABASE: Final = "journal.db"

_OF_DAMAGE: Final = (0, sqlite3.SQLITE_ERROR, sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)

_SMALL: Final = 8 * 2**20  # bytes of a database that is checked, with its indexes, at each opening


def check(directory: Path, pages: Iterable[LeftPage]) -> None:
    """Check what is in a directory, and change nothing.

    Args:
        directory: of the journal.
        pages: of runs that have not ended as they should.

    Raises:
        NewerFormat: a later version has written it.
        JournalDamaged: it is damaged, or commits are missing.
    """
    last = last_commit(pages)
    commits = 0
    if os.path.exists(directory / DATABASE):
        try:
            with contextlib.closing(reader(directory)) as db:
                commits = _checked(directory, db, last)
        except (sqlite3.DatabaseError, UnicodeDecodeError, TypeError) as error:
            raise damaged(directory, str(error)) from error
    if why := missing_commits(commits, last):
        raise damaged(directory, why, last - commits)


def missing_commits(commits: int, last: int) -> str:
    """Return which commits are missing of a database that has so many, by the number of the last one; empty: none."""
    return f"the last {last - commits:,} of its {last:,} commits are not there" if commits < last else ""


def damaged(directory: Path, why: str, missing: int = 0) -> JournalDamaged:
    """Return the error of a database that is damaged."""
    remedy = f"'tokengate journal salvage --state-dir {directory}' keeps what is whole, and the old file"
    return JournalDamaged(f"journal {directory} is damaged: {why}; nothing was changed; {remedy}", missing)


def is_damage(error: BaseException) -> bool:
    """Tell whether an error says that what is on disk cannot be right, and not only that it cannot be had now."""
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF  # 0: what has come is no text
    return isinstance(error, sqlite3.DatabaseError | UnicodeDecodeError) and code in _OF_DAMAGE


def _checked(directory: Path, db: sqlite3.Connection, last: int) -> int:
    """Check a database, wholly if it was not closed or is small; return how many commits it has had."""
    if not db.execute("SELECT 1 FROM sqlite_schema").fetchone():
        return 0
    format, commits = db.execute("SELECT format, commits FROM meta").fetchone()
    if format < 1:
        raise sqlite3.DatabaseError(f"its format is {format}")
    if format > FORMAT:
        raise NewerFormat(
            f"journal {directory} has format {format}, and this version knows {FORMAT} at most; "
            "use the version that has written it, or name another directory"
        )
    is_small = os.stat(directory / DATABASE).st_size <= _SMALL
    if is_small or last or db.execute("SELECT 1 FROM runs WHERE how IS NULL").fetchone():
        # A row that its index does not have would never run; to look for these takes twice as long, or more.
        (found,) = db.execute(f"PRAGMA {'integrity_check' if is_small else 'quick_check'}(1)").fetchone()
        if found != "ok":
            raise sqlite3.DatabaseError(found)
    return int(commits)


def connect(directory: Path) -> sqlite3.Connection:
    """Return the connection that writes; the database is made if it does not exist, and migrated if it is older."""
    _make(directory / DATABASE)
    db = sqlite3.connect(directory / DATABASE, isolation_level=None, check_same_thread=False, timeout=5.0)
    try:
        db.create_function("checksum", -1, checksum, deterministic=True)
        db.execute("PRAGMA journal_mode=WAL")
        db.execute("PRAGMA synchronous=FULL")
        db.execute("PRAGMA wal_autocheckpoint=0")
        if not db.execute("SELECT 1 FROM sqlite_schema WHERE name = 'meta'").fetchone():
            db.executescript(f"BEGIN IMMEDIATE; {SCHEMA} INSERT INTO meta VALUES({FORMAT}, 0);")
            _make_triggers(db)
            db.execute("COMMIT")
            sync(directory.parent)  # SQLite syncs the directory itself
        _migrate(directory, db)
    except BaseException:
        db.close()
        raise
    return db


def _make_triggers(db: sqlite3.Connection) -> None:
    for statement in list(triggers(db)):
        db.execute(statement)


def _make(path: Path) -> None:
    """Make a file for this user alone, unless it exists: to close a descriptor of one drops the locks of SQLite."""
    with contextlib.suppress(FileExistsError):
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | NO_LINK, 0o600))


def _migrate(directory: Path, db: sqlite3.Connection) -> None:
    """Bring an older format up to date in one transaction, after a copy was made."""
    (format,) = db.execute("SELECT format FROM meta").fetchone()
    if format == FORMAT:
        return
    copy = directory / f"{DATABASE}.format-{format}"
    fresh = copy.with_name(f"{copy.name}.new")
    fresh.unlink(missing_ok=True)  # of a migration that has died
    _make(fresh)
    with contextlib.closing(sqlite3.connect(fresh)) as kept:
        db.backup(kept)
    os.replace(fresh, copy)
    db.execute("BEGIN IMMEDIATE")
    for (name,) in db.execute("SELECT name FROM sqlite_schema WHERE type = 'trigger'").fetchall():
        db.execute(f"DROP TRIGGER {name}")
    for number in range(format, FORMAT):
        for statement in MIGRATIONS[number]:
            db.execute(statement)
    _make_triggers(db)
    db.execute("UPDATE meta SET format = ?, commits = commits + 1", (FORMAT,))
    db.execute("COMMIT")


def reader(directory: Path) -> sqlite3.Connection:
    """Return a connection that reads while the writer writes; never used on a loop."""
    path = (directory / DATABASE).absolute().as_uri()
    db = sqlite3.connect(f"{path}?mode=ro", uri=True, timeout=5.0, check_same_thread=False)
    db.create_function("checksum", -1, checksum, deterministic=True)
    return db
