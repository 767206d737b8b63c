"""The tables of a file of history, and records as rows of it.

`at` is microseconds since the epoch, durations are nanoseconds; operations, actors and the like are numbers, which the
table `names` explains. Of a token that another one has run for, `uid` is that one, and `token` its own id.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, Final

import msgspec

from tokengate.control._safe_text import plain
from tokengate.control.stream._record import NO_MORE, Happening, More, Raw, Record, as_record

SCHEMA: Final = """
CREATE TABLE meta (name TEXT PRIMARY KEY, value) WITHOUT ROWID;
CREATE TABLE names (id INTEGER PRIMARY KEY, name TEXT NOT NULL);
CREATE TABLE records (
    number INTEGER PRIMARY KEY, kind INTEGER, uid INTEGER, token INTEGER, operation INTEGER, actor INTEGER,
    affinity INTEGER, parent INTEGER, priority INTEGER, tags INTEGER, steps INTEGER, attempt INTEGER, state INTEGER,
    at INTEGER, age INTEGER, wait INTEGER, run INTEGER, worker INTEGER, weight INTEGER,
    error INTEGER, reason TEXT, key TEXT, trace_id TEXT, span_id TEXT, kept REAL, parked REAL, steered INTEGER,
    deadline REAL, cpu REAL, memory INTEGER, memory_end INTEGER, limits TEXT, features TEXT, predicted TEXT);
CREATE TABLE samples (uid INTEGER, at INTEGER, cpu REAL, memory INTEGER, steps INTEGER);
CREATE TABLE events (
    number INTEGER PRIMARY KEY, kind TEXT, at INTEGER, actor TEXT, token INTEGER, operation TEXT, text TEXT,
    details TEXT, about TEXT);
CREATE TABLE minutes (
    minute INTEGER, op TEXT, state TEXT, n INTEGER, sampled INTEGER, wait REAL, run REAL, wait_hist TEXT, run_hist TEXT,
    PRIMARY KEY (minute, op, state)) WITHOUT ROWID;
CREATE TABLE gaps (since REAL, until REAL, lost INTEGER, why TEXT);
"""

INDEXES: Final = """
CREATE INDEX by_operation ON records (operation, at);
CREATE INDEX by_uid ON records (uid);
CREATE INDEX by_token ON records (token) WHERE token IS NOT NULL;
"""
"""Made when a file is closed: while it is written to, they would cost each row as much as the row."""

PLAIN: Final = 19
"""The columns of records that are not of `More`."""
AT_ONCE: Final = 128
"""Rows of one statement: each statement gives the interpreter lock to other threads, and has to get it back."""
_VALUES: Final = f"({', '.join('?' * PLAIN)}{', NULL' * 15})"
PUT: Final = f"INSERT OR REPLACE INTO records VALUES {_VALUES}"
PUT_SEVERAL: Final = f"{PUT}{f', {_VALUES}' * (AT_ONCE - 1)}"
PUT_ALL: Final = f"INSERT OR REPLACE INTO records VALUES ({', '.join('?' * (PLAIN + 15))})"
PUT_EVENT: Final = "INSERT OR REPLACE INTO events VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)"

_NONE: Final = (None,) * 15
_LARGEST: Final = 2**63 - 1  # of the numbers that SQLite has
_NO_TAGS: Final[Mapping[str, str]] = MappingProxyType({})
_json: Final = msgspec.json.encode


class Names(dict[str, int]):
    """{name: its number in a file}; a name that is not there gets the next number.

    Attributes:
        fresh: what the file does not have yet: (number, name).
    """

    def __init__(self) -> None:
        super().__init__()
        self.fresh: list[tuple[int, str]] = []

    def __missing__(self, name: str) -> int:
        number = self[name] = len(self) + 1
        self.fresh.append((number, whole(name)))
        return number


def whole(text: str) -> str:
    """Return a text that SQLite can store: with escapes for lone surrogates, which UTF-8 does not have."""
    return plain(text).encode(errors="backslashreplace").decode()


def row_of(raw: Raw, weight: int, offset: float, names: Names, workers: Mapping[int, str]) -> tuple[Any, ...]:
    """Return the row of a raw record, without the columns of `More` if it has none.

    Args:
        raw: the record.
        weight: how many attempts it stands for.
        offset: what is added to its times to make them seconds since the epoch.
        names: of the file.
        workers: {ident of a thread: its name}.
    """
    (
        number, token, operation, actor, affinity, parent, priority, tags, steps, attempt, state, created, queued,
        started, ended, worker, _, kind, more,
    ) = raw  # fmt: skip
    kept, parked = (0.0, 0.0) if more is None else (more.kept, more.parked)
    wait = (ended if started is None else started) - (created if queued is None else queued) - kept
    row = (
        number, names[kind], (more and more.uid) or token, token if more is not None and more.uid else None,
        names[operation], names[actor], names[affinity], parent,
        max(-_LARGEST, min(int.__int__(priority), _LARGEST)), _tags(tags, names), steps, attempt, names[state],
        int((ended + offset) * 1e6), int((ended - created) * 1e9), int(wait * 1e9),
        None if started is None else int((ended - started - parked) * 1e9), names[workers.get(worker, "")], weight,
    )  # fmt: skip
    if more is None:
        return row
    return (
        *row, names[more.error] if more.error else None, whole(more.reason) or None, more.key or None,
        more.trace_id or None, more.span_id or None, kept or None, parked or None, more.steered or None, more.deadline,
        more.cpu, more.memory, more.memory_end, *(None if one is None else _json(one).decode() for one in more[-3:]),
    )  # fmt: skip


def _tags(tags: Mapping[str, str] | None, names: Names) -> int | None:
    return names[_json({whole(name): whole(value) for name, value in tags.items()}).decode()] if tags else None


def record_of(row: Sequence[Any], names: Mapping[int, str], run: str) -> Record:
    """Return the record of a row; its times are seconds since the epoch.

    Args:
        row: its columns.
        names: of the file.
        run: the opening of the gate.
    """
    (
        number, kind, uid, token, operation, actor, affinity, parent, priority, tags, steps, attempt, state, at, age,
        wait, took, worker, weight,
    ) = row[:PLAIN]  # fmt: skip
    rest, more = row[PLAIN:], NO_MORE
    if rest != _NONE or token is not None:
        error, reason, key, trace_id, span_id, kept, parked, steered, deadline, cpu, memory, end, *texts = rest
        more = More(
            names[error] if error else "", reason or "", key or "", trace_id or "", span_id or "", kept or 0.0,
            parked or 0.0, bool(steered), 0 if token is None else uid, deadline, cpu, memory, end,
            *(None if text is None else msgspec.json.decode(text) for text in texts),
        )  # fmt: skip
    ended = at / 1e6
    started = None if took is None else ended - took / 1e9 - more.parked
    queued = (ended if started is None else started) - wait / 1e9 - more.kept
    return Record(
        number, names[kind], uid if token is None else token, names[operation], names[actor], names[affinity], parent,
        priority, msgspec.json.decode(names[tags]) if tags else _NO_TAGS, steps, attempt, names[state],
        ended - age / 1e9, queued, started, ended, names[worker], weight, more, run,
    )  # fmt: skip


def event_row(one: Happening, offset: float) -> tuple[Any, ...]:
    """Return the row of something else that has happened; see `row_of`."""
    about = "token" if isinstance(one.about, Record) else one.about
    details = _json({whole(name): _storable(value) for name, value in one.details.items()}, enc_hook=str).decode()
    at = int((one.ended + offset) * 1e6)
    actor, operation, text = whole(one.actor), whole(one.operation), whole(one.text)
    return (one.number, whole(one.kind), at, actor, one.token, operation, text, details, about)


def _storable(value: Any) -> Any:
    return whole(value) if isinstance(value, str) else value


def happening_of(row: Sequence[Any], run: str) -> Happening:
    """Return it from its row; its time is seconds since the epoch."""
    number, kind, at, actor, token, operation, text, details, about = row
    found = Happening(number, kind, at / 1e6, actor, token, operation, text, msgspec.json.decode(details), about, run)
    # What is known of the token, for the selectors of grants.
    return found._replace(about=as_record(found)) if about == "token" else found
