"""Rows of tokens, as tokens are made of them again."""

from __future__ import annotations

import sqlite3
from collections.abc import Generator
from contextlib import closing
from typing import Any, Final, NamedTuple

from tokengate.durable._checksums import WHOLE


class Row(NamedTuple):
    """What a token is made of again; its fields are the columns."""

    uid: int
    operation: str
    path: str
    key: str | None
    fair: str | None
    arguments: bytes
    priority: int
    tags: str
    parent: int | None
    deadline: float | None
    state: int
    attempts: int
    recoveries: int
    accepted: float
    tx: int | None
    reason: str | None = None
    whole: int = 1  # 0: bits of the row have changed on disk


SELECT: Final = f"SELECT {', '.join(Row._fields[:-1])}, {WHOLE} FROM tokens"
"""Of `Row`s, without conditions."""


_UNREADABLE: Final = (sqlite3.OperationalError, UnicodeDecodeError)
"""What is raised if bits of a text have changed, so that it is none; of some other troubles, too."""


def rows_of(db: sqlite3.Connection, where: str, *values: Any) -> list[Row]:
    """Return the rows that meet a condition."""
    return list(each_of(db, f"{SELECT} WHERE {where}", *values))


def each_of(db: sqlite3.Connection, statement: str, *values: Any) -> Generator[Row]:
    """Yield the rows of a statement that begins with `SELECT`, also if one of them has a text that is none."""
    seen = set[int]()
    try:
        with closing(db.execute(statement, values)) as rows:
            for found in rows:
                seen.add(found[0])
                yield Row._make(found)
    except _UNREADABLE:
        uids = db.execute(statement.replace(SELECT, "SELECT uid FROM tokens"), values).fetchall()
        for (uid,) in uids:
            if uid not in seen:
                yield _readable(db, uid)


def _readable(db: sqlite3.Connection, uid: int) -> Row:
    """Return a row; if it cannot be read, one without values which is not whole."""
    try:
        return Row._make(db.execute(f"{SELECT} WHERE uid = ?", (uid,)).fetchone())
    except _UNREADABLE:
        (state,) = db.execute("SELECT state FROM tokens WHERE uid = ?", (uid,)).fetchone()
        return Row(uid, "", "", None, None, b"", 0, "{}", None, None, state, 0, 0, 0.0, None, whole=0)


def row_of(db: sqlite3.Connection, uid: int) -> Row | None:
    """Return the row with a uid; None if there is none."""
    return next(iter(rows_of(db, "uid = ?", uid)), None)
