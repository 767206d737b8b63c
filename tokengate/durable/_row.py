"""Rows of tokens, as tokens are made of them again."""

from __future__ import annotations

import sqlite3
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


def rows_of(db: sqlite3.Connection, where: str, *values: Any) -> list[Row]:
    """Return the rows that meet a condition."""
    return [Row._make(row) for row in db.execute(f"{SELECT} WHERE {where}", values)]


def row_of(db: sqlite3.Connection, uid: int) -> Row | None:
    """Return the row with a uid; None if there is none."""
    return next(iter(rows_of(db, "uid = ?", uid)), None)
