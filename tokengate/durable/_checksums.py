"""Checksums of rows: SQLite does not notice changed bits.

A row of tokens has one of what acceptance wrote, and one of what beginnings and ends change; a row of another table has
one of all its values. Triggers set them where a statement does not: those of each token do.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator
from typing import Final

from tokengate.durable._states import FAILED

CHECKED: Final = ("runs", "steps", "saved", "schedules", "transactions", "compensations")
"""The tables with one checksum, beside that of tokens."""

CHANGED_BITS: Final = "bits of its row have changed on disk, so it does not run; submit it again, with a new key"

_VALUES: Final = "name != 'crc'"
_ACCEPTED_1: Final = (  # in format 1
    "operation, path, key, fair, arguments, priority, tags, parent, trace, tx, due, deadline, recoveries, accepted, "
    "successor"
)
_ACCEPTED: Final = f"{_ACCEPTED_1}, delayed"
_CHANGED: Final = "state, attempts, ended, result, error, reason, dead"
_CRC_1, _CRC, _CRC_END = (
    f"checksum(@.uid, @.{names.replace(', ', ', @.')})" for names in (_ACCEPTED_1, _ACCEPTED, _CHANGED)
)

WHOLE: Final = f"((crc IS {_CRC} OR crc IS {_CRC_1}) AND crc_end IS {_CRC_END})".replace("@", "tokens")
"""An expression: whether a row of tokens has the bits that were written, in this format or in format 1."""

RENEW: Final = f"UPDATE tokens SET crc = {_CRC} WHERE crc IS {_CRC_1}".replace("@", "tokens")
"""A statement: it gives the right rows of format 1 the checksums of this one."""


def columns(db: sqlite3.Connection, table: str, only: str = "TRUE") -> list[str]:
    """Return the quoted names of the columns of a table, or of some of them."""
    found = db.execute(f"SELECT name FROM pragma_table_info(?) WHERE {only}", (table,))
    return [f'"{name}"' for (name,) in found]


def whole(db: sqlite3.Connection, table: str) -> str:
    """Return an expression: whether a row of a table has the bits that were written."""
    return WHOLE if table == "tokens" else f"crc IS checksum({', '.join(columns(db, table, _VALUES))})"


def note_corrupt(db: sqlite3.Connection, uid: int) -> None:
    """Make a row of tokens with changed bits a dead letter: its arguments may be wrong."""
    error = f"NotRecovered: {CHANGED_BITS}"
    db.execute(  # with its checksum: a trigger would make that of the values before, which may be no text
        "UPDATE tokens SET state = :state, attempts = CAST(attempts AS INTEGER), ended = :ended, result = NULL, "
        "error = :error, reason = 'corrupt', dead = 1, crc_end = "
        "checksum(uid, :state, CAST(attempts AS INTEGER), :ended, NULL, :error, 'corrupt', 1) WHERE uid = :uid",
        {"state": FAILED, "ended": time.time(), "error": error, "uid": uid},
    )


def triggers(db: sqlite3.Connection) -> Iterator[str]:
    """Yield the statements that make the triggers of a database.

    A checksum that is wrong stays wrong when its row is written.
    """
    key = "uid IS NEW.uid"
    new = f"crc = {_CRC}, crc_end = {_CRC_END}".replace("@", "NEW")
    yield _trigger("tokens", "new", "INSERT", "NEW.crc_end IS NULL", new, key)
    yield _trigger("tokens", "accepted", f"UPDATE OF uid, {_ACCEPTED}", "TRUE", _renewed("crc", _CRC), key)
    end = _renewed("crc_end", _CRC_END)
    yield _trigger("tokens", "changed", f"UPDATE OF {_CHANGED}", "NEW.crc_end IS OLD.crc_end", end, key)
    for table in CHECKED:
        names = columns(db, table, _VALUES)
        key = " AND ".join(f"{name} IS NEW.{name}" for name in columns(db, table, "pk"))
        crc = f"checksum(@.{', @.'.join(names)})"
        yield _trigger(table, "new", "INSERT", "NEW.crc IS NULL", f"crc = {crc.replace('@', 'NEW')}", key)
        changed = f"UPDATE OF {', '.join(names)}"
        yield _trigger(table, "changed", changed, "NEW.crc IS OLD.crc", _renewed("crc", crc), key)


def _renewed(name: str, value: str) -> str:
    old, new = value.replace("@", "OLD"), value.replace("@", "NEW")
    return f"{name} = CASE WHEN OLD.{name} IS {old} THEN {new} ELSE OLD.{name} END"


def _trigger(table: str, name: str, event: str, when: str, change: str, key: str) -> str:
    head = f"CREATE TRIGGER {table}_{name} AFTER {event} ON {table} WHEN {when}"
    return f"{head} BEGIN UPDATE {table} SET {change} WHERE {key}; END"
