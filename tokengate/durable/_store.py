"""The database of a journal: its tables, and connections to it."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Final

FORMAT: Final = 1

SCHEMA: Final = """
CREATE TABLE meta(format INTEGER NOT NULL, commits INTEGER NOT NULL);
CREATE TABLE runs(run INTEGER PRIMARY KEY, gate TEXT, pid INTEGER, host TEXT, boot TEXT, version TEXT, config TEXT,
    audit TEXT, opened REAL, closed REAL, how TEXT);
CREATE TABLE tokens(uid INTEGER PRIMARY KEY, operation TEXT NOT NULL, path TEXT NOT NULL, key TEXT, fair TEXT,
    arguments BLOB NOT NULL, crc INTEGER NOT NULL, priority INTEGER NOT NULL, tags TEXT, parent INTEGER, trace TEXT,
    tx INTEGER, due REAL, deadline REAL, state INTEGER NOT NULL, attempts INTEGER NOT NULL, recoveries INTEGER NOT NULL,
    accepted REAL NOT NULL, ended REAL, result BLOB, error TEXT, reason TEXT, dead INTEGER, successor INTEGER,
    crc_end INTEGER);
CREATE UNIQUE INDEX tokens_key ON tokens(operation, key) WHERE key IS NOT NULL;
CREATE INDEX tokens_queued ON tokens(path, fair, priority DESC, uid) WHERE state = 1;
CREATE INDEX tokens_begun ON tokens(uid) WHERE state = 2;
CREATE INDEX tokens_parked ON tokens(operation) WHERE state = 3;
CREATE INDEX tokens_due ON tokens(due) WHERE state = 0;
CREATE INDEX tokens_ended ON tokens(ended) WHERE ended IS NOT NULL;
CREATE INDEX tokens_dead ON tokens(uid) WHERE dead IS NOT NULL;
CREATE TABLE steps(uid INTEGER, name TEXT, nth INTEGER, seq INTEGER, value BLOB, PRIMARY KEY(uid, name, nth)) WITHOUT ROWID;
CREATE TABLE saved(path TEXT PRIMARY KEY, uid INTEGER, value BLOB, crc INTEGER) WITHOUT ROWID;
CREATE TABLE schedules(name TEXT PRIMARY KEY, spec TEXT, paused REAL, last_due REAL, last_uid INTEGER, skipped INTEGER,
    "by" TEXT, reason TEXT) WITHOUT ROWID;
CREATE TABLE transactions(tx INTEGER PRIMARY KEY, name TEXT, owner INTEGER, state TEXT);
CREATE TABLE compensations(tx INTEGER, seq INTEGER, uid INTEGER, operation TEXT, arguments BLOB, state TEXT,
    PRIMARY KEY(tx, seq)) WITHOUT ROWID;
"""

DATABASE: Final = "journal.db"


def connect(directory: Path) -> sqlite3.Connection:
    """Return the connection that writes; the database is made if it does not exist."""
    db = sqlite3.connect(directory / DATABASE, isolation_level=None, check_same_thread=False, timeout=5.0)
    try:
        db.execute("PRAGMA journal_mode=WAL")
        db.execute("PRAGMA synchronous=FULL")
        db.execute("PRAGMA wal_autocheckpoint=0")
        if not db.execute("SELECT 1 FROM sqlite_schema WHERE name = 'meta'").fetchone():
            db.executescript(f"BEGIN IMMEDIATE; {SCHEMA} INSERT INTO meta VALUES({FORMAT}, 0); COMMIT;")
    except BaseException:
        db.close()
        raise
    return db


def reader(directory: Path) -> sqlite3.Connection:
    """Return a connection that reads while the writer writes; never used on a loop."""
    path = (directory / DATABASE).absolute().as_uri()
    return sqlite3.connect(f"{path}?mode=ro", uri=True, timeout=5.0, check_same_thread=False)
