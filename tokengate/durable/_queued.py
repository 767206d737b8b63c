"""The queued rows of a journal, in the order in which mailboxes take them: by path, fair key, priority and uid."""

from __future__ import annotations

import sqlite3
from collections.abc import Generator, Iterator
from typing import Final

from actors.lowlevel import FIRST, Position
from tokengate.durable._row import SELECT, Row, each_of

_QUEUED: Final = "INDEXED BY tokens_queued WHERE state = 1"
_OF_KEY: Final = f"{SELECT} {_QUEUED} AND path = ? AND fair IS ?"
_OF_PRIORITY: Final = f"{_OF_KEY} AND priority = ? AND uid >= ? ORDER BY uid"
_OF_LOWER: Final = f"{_OF_KEY} AND priority < ? ORDER BY priority DESC, uid"
_NEXT_PATH: Final = f"SELECT min(path) FROM tokens {_QUEUED} AND path > ?"
_NEXT_FAIR: Final = f"SELECT min(fair) FROM tokens {_QUEUED} AND path = ? AND fair > ?"
_WITHOUT_FAIR: Final = f"SELECT fair FROM tokens {_QUEUED} AND path = ? AND fair IS NULL LIMIT 1"


def paths_of(db: sqlite3.Connection) -> Iterator[str]:
    """Yield the paths of queued rows, in order."""
    path: str | None = ""
    while (path := db.execute(_NEXT_PATH, (path,)).fetchone()[0]) is not None:
        yield path


def keys_at(db: sqlite3.Connection, path: str) -> dict[str | None, Position]:
    """Return the fair keys of queued rows of a path, each with where these begin at the earliest."""
    keys: dict[str | None, Position] = {}
    if db.execute(_WITHOUT_FAIR, (path,)).fetchone():
        keys[None] = FIRST
    key: str | None = ""
    while (key := db.execute(_NEXT_FAIR, (path, key)).fetchone()[0]) is not None:
        keys[key] = FIRST
    return keys


def rows_from(db: sqlite3.Connection, path: str, key: str | None, position: Position) -> Generator[Row]:
    """Yield the queued rows of a fair key from a position on, in order."""
    priority, uid = -position[0], position[1]
    for statement, *values in ((_OF_PRIORITY, priority, uid), (_OF_LOWER, priority)):
        yield from each_of(db, statement, path, key, *values)
