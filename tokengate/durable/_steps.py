"""The steps of one run of a durable token: those that runs before have recorded, and the counts of this one."""

from __future__ import annotations

import sqlite3
import threading
from collections import Counter
from collections.abc import Callable
from functools import partial
from typing import Final, Protocol, TypeVar

from actors import NotDurable, Reply
from tokengate._exceptions import NotRecovered

T = TypeVar("T")

MOST: Final = 10_000
"""Steps of a token at most."""

WITHIN: Final = "\x1f"
"""Stands between the name and number of a step and the name of one within it."""

_WHOLE: Final = "crc IS checksum(uid, name, nth, seq, value)"
_SMALL: Final = 1_024  # bytes of a value that is read with all others


class Caller(Protocol):
    """The journal, as far as it calls functions with its database."""

    def call(self, function: Callable[[sqlite3.Connection], T], /) -> Reply[T]:
        """Have a function called within a transaction; return its result after the commit."""
        ...


class Steps:
    """The steps of one run of a token, and the children that this has had.

    Args:
        journal: that keeps them.
        uid: of the token.
        fresh: whether no run before can have recorded any.
    """

    def __init__(self, journal: Caller, uid: int, *, fresh: bool) -> None:
        self._journal, self._uid = journal, uid
        self._lock = threading.Lock()
        self._counts: Counter[str] = Counter()
        self._begun = self._last = 0
        self._found: dict[tuple[str, int], bytes | None] | None = {} if fresh else None  # None: of one not read yet
        self._spoilt = False  # whether bits of one that was read have changed

    def next(self, what: str) -> int:
        """Return how many steps, or children, of this name there were before."""
        with self._lock:
            nth = self._counts[what]
            self._counts[what] += 1
        return nth

    def find(self, path: str) -> tuple[int, Reply[bytes | None]]:
        """Return the count of a step that begins, and its value; None if there is none.

        Raises:
            NotDurable: the token has had too many.
        """
        nth = self.next(path)
        with self._lock:
            self._begun += 1
            if self._begun > MOST:
                raise NotDurable(f"a token has {MOST:,} steps at most; put several calls into one step '{path}'")
        found = {(path, nth): None} if self._found is None else self._found
        if self._spoilt or found.get((path, nth), b"") is None:
            return nth, self._journal.call(partial(self._read, path, nth))
        reply: Reply[bytes | None] = Reply()
        reply._set(found.get((path, nth)))
        return nth, reply

    def _read(self, path: str, nth: int, db: sqlite3.Connection) -> bytes | None:
        if self._found is None:
            rows = db.execute(
                f"SELECT name, nth, CASE WHEN length(value) <= ? AND {_WHOLE} THEN value END, seq, {_WHOLE} FROM steps "
                "WHERE uid = ?",
                (_SMALL, self._uid),
            ).fetchall()
            self._last = max((seq for *_, seq, whole in rows if whole), default=0)
            self._found = {(name, number): value for name, number, value, *_ in rows}
            self._spoilt = not all(whole for *_, whole in rows)
        row = db.execute(
            f"SELECT value, {_WHOLE} FROM steps WHERE uid = ? AND name = ? AND nth = ?", (self._uid, path, nth)
        ).fetchone()
        if row is None and not self._spoilt:
            return None
        value, whole = row or (b"", False)
        if not whole:  # without a row, its name may be what has changed
            which = f"the value of step {shown(path, nth)}" if row else f"a recorded step, maybe {shown(path, nth)},"
            raise NotRecovered(f"bits of {which} have changed on disk, so its token does not go on", "corrupt")
        return bytes(value)

    def add(self, path: str, nth: int, value: bytes) -> Reply[None]:
        """Have a value written."""
        return self._journal.call(partial(self._write, path, nth, value))

    def _write(self, path: str, nth: int, value: bytes, db: sqlite3.Connection) -> None:
        self._last += 1
        row = self._uid, path, nth, self._last, value
        db.execute("INSERT OR REPLACE INTO steps(uid, name, nth, seq, value) VALUES(?,?,?,?,?)", row)


def shown(path: str, nth: int) -> str:
    """Return a step as people read it: `'load' 2`, or `'import' 0 'load' 2` of one within another."""
    *outer, name = path.split(WITHIN)
    pairs = zip(outer[::2], outer[1::2], strict=True)
    return " ".join((*(f"'{each}' {number}" for each, number in pairs), f"'{name}' {nth}"))
