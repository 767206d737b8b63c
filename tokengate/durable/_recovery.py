"""What the runs before have left in a journal, and how it goes on."""

from __future__ import annotations

import sqlite3
import sys
import time
from typing import Any

import msgspec

from actors import Token
from actors.lowlevel import DurableToken
from tokengate.durable import _states as states
from tokengate.durable._journal import OpenJournal
from tokengate.durable._record import Record
from tokengate.operations._functions import found_at
from tokengate.operations._operation import operation_in


def begin_run(db: sqlite3.Connection, gate: str) -> int:
    """Make the row of this opening, and say how those before have ended; return its number. One transaction."""
    now = time.time()
    db.execute("BEGIN IMMEDIATE")
    db.execute("UPDATE runs SET how = 'killed', closed = ? WHERE how IS NULL", (now,))
    run = db.execute("INSERT INTO runs(gate, opened) VALUES(?, ?) RETURNING run", (gate, now)).fetchone()[0]
    db.execute("UPDATE meta SET commits = commits + 1")
    db.execute("COMMIT")
    return int(run)


def go_on(gate: Any, journal: OpenJournal, db: sqlite3.Connection) -> None:
    """Send the tokens of earlier runs that have not ended."""
    rows = db.execute(
        "SELECT uid, operation, path, arguments, priority, tags, state FROM tokens WHERE state < 3 ORDER BY uid"
    ).fetchall()
    for uid, name, _path, arguments, priority, tags, state in rows:
        module, _, qualified = name.partition(":")
        operation = operation_in(found_at(module, qualified)) if module in sys.modules else None
        if operation is None:
            continue  # parked
        place = gate._operations[operation._spec]
        token: Token[Any] = place.token(
            operation._name, operation._function, (), {}, priority, msgspec.json.decode(tags)
        )
        token._args, token.kwargs = journal._codec(name, token).decode(arguments)
        assert isinstance(token, DurableToken)
        record = token.record = Record(journal, uid, idempotent=place.properties.idempotent)
        record.is_accepted, record.begun = True, state == states.BEGUN
        place.send(token)
