"""What the runs before have left in a journal, and how it goes on."""

from __future__ import annotations

import sqlite3

from tokengate.durable._backlog import COLUMNS, Row
from tokengate.durable._journal import OpenJournal


def go_on(journal: OpenJournal, db: sqlite3.Connection) -> None:
    """Offer the tokens of earlier runs that have not ended."""
    found = db.execute(f"SELECT {COLUMNS} FROM tokens WHERE state = 2 AND uid < ? ORDER BY uid", (journal.run << 40,))
    journal.recover(map(Row._make, found.fetchall()))
    journal.backlog.look()
