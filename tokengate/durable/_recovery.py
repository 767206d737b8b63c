"""What the runs before have left in a journal, and how it goes on."""

from __future__ import annotations

import sqlite3
import time

from tokengate.durable._backlog import COLUMNS, Row
from tokengate.durable._journal import OpenJournal


def begin_run(db: sqlite3.Connection, gate: str) -> int:
    """Make the row of this opening, and say how those before have ended; return its number. One transaction."""
    now = time.time()
    db.execute("BEGIN IMMEDIATE")
    db.execute("UPDATE runs SET how = 'killed', closed = ? WHERE how IS NULL", (now,))
    run = db.execute("INSERT INTO runs(gate, opened) VALUES(?, ?) RETURNING run", (gate, now)).fetchone()[0]
    db.execute("UPDATE meta SET commits = commits + 1")
    db.execute("COMMIT")
    return int(run)


def go_on(journal: OpenJournal, db: sqlite3.Connection) -> None:
    """Offer the tokens of earlier runs that have not ended."""
    found = db.execute(
        f"SELECT {COLUMNS} FROM tokens WHERE state IN (1, 2) AND uid < ? ORDER BY uid", (journal.run << 40,)
    )
    for row in map(Row._make, found.fetchall()):
        journal.offer(row)
