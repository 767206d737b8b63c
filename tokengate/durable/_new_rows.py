"""Rows that the journal makes itself: of schedules, the inbox, retries, forks and compensations; and aliases."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Mapping

import msgspec

from tokengate.control._uids import uid_of
from tokengate.durable import _states as states
from tokengate.durable._calls import path_of
from tokengate.durable._ports import StoredJournal
from tokengate.durable._run import Run
from tokengate.durable._writer import ACCEPT
from tokengate.operations._operation import operation_named


def prepare_rows(run: Run, aliases: Mapping[str, str]) -> None:
    """Give rows to the operations that have taken the places of theirs, and have parked ones tried again.

    Args:
        run: the files of this opening; nothing else writes to them yet.
        aliases: {name of an operation on disk: its name now}.
    """
    db = run.db
    db.execute("BEGIN IMMEDIATE")
    for old, new in aliases.items():
        row = new, path_of(new), old  # a row whose key is taken there stays as it is
        db.execute("UPDATE OR IGNORE tokens SET operation = ?, path = ? WHERE operation = ?", row)
    db.execute("UPDATE tokens SET state = ? WHERE state = ?", (states.QUEUED, states.PARKED))
    db.execute("UPDATE meta SET commits = commits + 1")
    db.execute("COMMIT")
    run.note_commit()


def submit_row(
    journal: StoredJournal,
    db: sqlite3.Connection,
    operation: str,
    arguments: bytes,
    *,
    key: str | None = None,
    tags: Mapping[str, str] | None = None,
    priority: int | None = None,
    due: float | None = None,
    path: str = "",
) -> tuple[int, bool]:
    """Write the row of a new token, unless its key is taken; within a transaction, on the thread of the writer.

    After the commit it is offered to its mailbox by `journal.offer`, or when it is due.

    Args:
        journal: the journal.
        db: the connection that writes.
        operation: its name, `module:qualified name`.
        arguments: as the codec writes them.
        key: of the token; None: none.
        tags: in addition to those of the operation.
        priority: None: that of the operation.
        due: wall time before which it does not begin.
        path: of the place; empty: that of the operation.

    Returns:
        its uid as a number, or that of the row which has the key; and whether it is new.
    """
    operation = journal.aliases.get(operation, operation)
    if key is not None:
        taken = db.execute("SELECT uid FROM tokens WHERE operation = ? AND key = ?", (operation, key)).fetchone()
        if taken:
            return int(taken[0]), False
    known = operation_named(operation)
    path = path or path_of(operation)
    own_tags = {} if known is None else dict(known.tags)
    if priority is None:
        priority = 0 if known is None else known.priority
    uid = uid_of(journal.run, next(journal.system.ids))
    row = (
        uid, operation, path, key, None, arguments, 0, priority,
        msgspec.json.encode({**own_tags, **(tags or {})}).decode(), None, None, None, due, None,
        states.QUEUED if due is None else states.DELAYED, 0, 0, time.time(),
    )  # fmt: skip
    db.execute(ACCEPT, row)
    if due is not None:
        journal.due.note(due)
    return uid, True
