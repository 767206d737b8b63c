"""The thread that writes: what has come is one transaction, and what waits for it is told after the commit."""

from __future__ import annotations

import logging
import sqlite3
import threading
from collections import deque
from collections.abc import Callable
from typing import Any, Final, TypeAlias

import attrs

from actors.lowlevel import DaemonThread
from tokengate._exceptions import JournalFailed

_logger = logging.getLogger("tokengate.durable")

_BATCH: Final = 4_096  # records of one transaction

ACCEPT: Final = (
    "INSERT INTO tokens(uid, operation, path, key, fair, arguments, crc, priority, tags, parent, trace, tx, due, "
    "deadline, state, attempts, recoveries, accepted) VALUES(?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?)"
)
BEGIN: Final = "UPDATE tokens SET state = 2, attempts = ? WHERE uid = ?"
END: Final = (
    "UPDATE tokens SET state = ?, ended = ?, result = ?, error = ?, reason = ?, attempts = ?, dead = ?, crc_end = ? "
    "WHERE uid = ?"
)
SAVE: Final = (
    "INSERT INTO saved(path, uid, value, crc) VALUES(?,?,?,?) ON CONFLICT(path) DO UPDATE SET uid = excluded.uid, "
    "value = excluded.value, crc = excluded.crc"
)

Also: TypeAlias = tuple[tuple[str, tuple[Any, ...]], ...]
"""Statements, each with its values."""


@attrs.define(eq=False)
class Write:
    """What is to be written.

    Attributes:
        statement: one of those above, whose rows are written together; or a function, called in the transaction with
            the connection, in order with the other functions. What it has written is undone if it raises, and `done`
            gets its error.
        row: its values.
        done: called by the writer's thread after the commit, with None, or with the error; it must not block, nor run
            code of users.
        also: what is written in the same transaction, after all the others of it, in order.
    """

    statement: str | Callable[[sqlite3.Connection], object]
    row: tuple[Any, ...] = ()
    done: Callable[[BaseException | None], object] | None = None
    also: Also = ()
    error: Exception | None = attrs.field(default=None, init=False)  # what the function raised


class Writer:
    """Writes to the database of a journal, on a thread of its own.

    Args:
        db: the connection.
        name: of the thread.
        failed: called once, on the thread, if nothing can be written any more.
    """

    def __init__(self, db: sqlite3.Connection, name: str, failed: Callable[[BaseException], object]) -> None:
        self._db = db
        self._told_failed = failed
        self._thread = DaemonThread(self._run, name)
        self._ready = threading.Condition()
        self._queue: deque[Write] = deque()
        self._closing = False
        self.error: BaseException | None = None

    def open(self) -> None:
        """Start the thread."""
        self._thread.begin()

    def put(self, write: Write) -> None:
        """Have something written.

        Raises:
            JournalFailed: nothing can be written any more.
        """
        with self._ready:
            if self.error is not None or self._closing:
                raise JournalFailed(f"the journal cannot write: {self.error or 'it is closed'}")
            self._queue.append(write)
            if len(self._queue) == 1:
                self._ready.notify()

    def close(self, deadline: float) -> bool:
        """Write what is left, and end; return whether that was done by the deadline, in seconds of `time.monotonic`."""
        with self._ready:
            self._closing = True
            self._ready.notify()
        return self._thread.gone(deadline)

    def _run(self) -> None:
        try:
            while batch := self._next():
                self._write(batch)
        finally:
            self._db.close()

    def _next(self) -> list[Write]:
        with self._ready:
            while not self._queue and not self._closing:
                self._ready.wait()
            return [self._queue.popleft() for _ in range(min(_BATCH, len(self._queue)))]

    def _write(self, batch: list[Write]) -> None:
        error: BaseException | None = None
        try:
            if self.error is not None:
                raise self.error
            self._commit(batch)
        except Exception as raised:
            error = raised
            if self.error is None:
                self.error = raised
                _logger.exception("the journal cannot write")
                self._told_failed(raised)
        for write in batch:
            if write.done is not None:
                write.done(error or write.error)

    def _commit(self, batch: list[Write]) -> None:
        db = self._db
        accepts = [write.row for write in batch if write.statement is ACCEPT]
        begins = [write.row for write in batch if write.statement is BEGIN]
        ends = [write.row for write in batch if write.statement is END]
        db.execute("BEGIN IMMEDIATE")
        try:
            if accepts:
                db.executemany(ACCEPT, accepts)
            for write in batch:
                if callable(write.statement):
                    self._call(write, write.statement)
            if begins:
                db.executemany(BEGIN, begins)
            if ends:
                db.executemany(END, ends)
            for write in batch:
                for statement, row in write.also:
                    db.execute(statement, row)
            db.execute("UPDATE meta SET commits = commits + 1")
            db.execute("COMMIT")
        except BaseException:
            if db.in_transaction:
                db.execute("ROLLBACK")
            raise

    def _call(self, write: Write, function: Callable[[sqlite3.Connection], object]) -> None:
        """Call a function in the transaction; its own errors are its own, those of the disk are the transaction's."""
        db = self._db
        db.execute("SAVEPOINT call")
        try:
            function(db)
        except Exception as error:
            if not db.in_transaction or _is_of_disk(error):
                raise
            db.execute("ROLLBACK TO call")
            write.error = error
        db.execute("RELEASE call")


def _is_of_disk(error: Exception) -> bool:
    """Tell whether an error says that nothing can be written, and not only this."""
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    return code in (
        sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_NOMEM,
        sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY,
    )  # fmt: skip
