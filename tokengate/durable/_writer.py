"""The thread that writes: what has come is one transaction, and what waits for it is told after the commit."""

from __future__ import annotations

import contextlib
import logging
import sqlite3
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from itertools import chain
from typing import Any, Final, TypeAlias, TypeVar

import attrs

from actors import NotDurable, Reply
from actors.lowlevel import DaemonThread, waking_together
from tokengate._exceptions import JournalFailed, JournalFull
from tokengate.durable._codec import checksum
from tokengate.durable._files import keep_for_ever, of_this_process
from tokengate.durable._run import Run
from tokengate.durable._states import BEGUN

T = TypeVar("T")

_logger = logging.getLogger("tokengate.durable")

_BATCH: Final = 4_096  # records of one transaction
_FRAMES: Final = 4_096  # of the log of the database, of 4 KiB each
_PAUSE: Final = 1.0  # seconds between two attempts on a full disk

_FULL: Final = (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR_SHMSIZE)
_PASSING: Final = (*_FULL, sqlite3.SQLITE_BUSY)
_OF_VALUES: Final = (UnicodeError, OverflowError, sqlite3.DataError)

ACCEPT: Final = (
    "INSERT INTO tokens(uid, operation, path, key, fair, arguments, crc, priority, tags, parent, trace, tx, due, "
    "deadline, state, attempts, recoveries, accepted) VALUES(?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?)"
)
BEGIN: Final = "UPDATE tokens SET state = 2, attempts = ? WHERE uid = ?"
END: Final = (
    "UPDATE tokens SET state = ?, ended = ?, result = ?, error = ?, reason = ?, attempts = ?, dead = ?, crc_end = ? "
    "WHERE uid = ?"
)
_ACCEPT: Final = ACCEPT.replace("accepted)", "accepted, crc_end)").replace("(?", "(?,?")
_BEGIN: Final = BEGIN.replace(
    " WHERE", ", ended = NULL, result = NULL, error = NULL, reason = NULL, dead = NULL, crc_end = ? WHERE"
)
CHANGE: Final = "UPDATE tokens SET path = ?, priority = ?, tags = ? WHERE uid = ? AND state < 4"
SAVE: Final = "INSERT OR REPLACE INTO saved(path, uid, value) VALUES(?,?,?)"

# Rows of one statement: each statement lets other threads run Python, and then waits for its turn.
_TOGETHER: Final = (256, 64, 16, 4)

_ACCEPTS: Final = {number: _ACCEPT + f",({','.join('?' * 19)})" * (number - 1) for number in (*_TOGETHER, 1)}
_ENDS: Final = {
    number: "UPDATE tokens SET state = column1, ended = column2, result = column3, error = column4, reason = column5, "
    "attempts = column6, dead = column7, crc_end = column8 "
    f"FROM (VALUES {','.join(['(?,?,?,?,?,?,?,?,?)'] * number)}) WHERE uid = column9"
    for number in _TOGETHER
} | {1: END}

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
        is_new: whether it is refused while the disk is full, as an acceptance is; the rest waits for space.
        done: called by the writer's thread after the commit, with None, or with the error; it must not block, nor run
            code of users.
        also: what is written in the same transaction, after all the others of it, in order.
    """

    statement: str | Callable[[sqlite3.Connection], object]
    row: tuple[Any, ...] = ()
    done: Callable[[BaseException | None], object] | None = None
    also: Also = ()
    is_new: bool = False
    error: Exception | None = attrs.field(default=None, init=False)  # what the function raised


class Writer:
    """Writes to the database of a journal, on a thread of its own.

    While the disk is full, what is new is refused; the rest has the reserve, and is then tried each second.

    Args:
        run: the files; closed when it ends.
        name: of the thread.
        failed: called once, on the thread, if nothing can be written any more.

    Attributes:
        error: why nothing can be written any more; None if it can.
        is_closing: whether it ends when all is written.
    """

    def __init__(self, run: Run, name: str, failed: Callable[[BaseException], object]) -> None:
        self._run = run
        self._db = run.db
        self._told_failed = failed
        self._thread = DaemonThread(self._work, name)
        self._lock = threading.RLock()  # a signal handler or a finalizer may put while its thread does
        self._ready = threading.Condition(self._lock)
        self._queue: deque[Write] = deque()
        self._late: list[Write] = []  # what has found no space
        self._next_try = 0.0
        self.is_closing = False
        self._written = 0  # records and commits in the log of the database
        self._most = 2_000  # of them, before that is copied into the database
        self.error: BaseException | None = None
        of_this_process.add(self)

    def open(self) -> None:
        """Start the thread."""
        self._thread.begin()

    def put(self, *writes: Write) -> None:
        """Have something written, all of it if it is several.

        Raises:
            JournalFailed: nothing can be written any more.
        """
        with self._lock:
            if self.error is not None or self.is_closing:
                raise self._failure()
            if not self._queue:
                self._ready.notify()
            self._queue.extend(writes)

    def take_back(self, write: Write) -> bool:
        """Take something out of what is to be written; return False if it is being written, or was."""
        with self._ready:
            try:
                self._queue.remove(write)
            except ValueError:
                return False
            return True

    def call(self, function: Callable[[sqlite3.Connection], T]) -> Reply[T]:
        """Have a function called within a transaction, with the connection.

        It runs no code of users. If it raises, what it has written is undone; the others of the transaction are not.

        Returns:
            its result, or its error, after the commit.

        Raises:
            JournalFailed: nothing can be written any more.
        """
        reply: Reply[T] = Reply()
        result: T | None = None

        def write(db: sqlite3.Connection) -> None:
            nonlocal result
            result = function(db)

        self.put(Write(write, (), lambda error: reply._set(result, error)))
        return reply

    def close(self, deadline: float) -> bool:
        """Write what is left, and end; return whether that was done by the deadline, in seconds of `time.monotonic`."""
        with self._ready:
            self.is_closing = True
            self._ready.notify()
        return self._thread.gone(deadline)

    def disown(self) -> None:
        """Leave the database to the parent, in a forked child, where the thread does not exist."""
        keep_for_ever(self._db)
        self._lock = threading.RLock()
        self._ready = threading.Condition(self._lock)
        self.error = RuntimeError("this process was forked from the one that has it; open a gate here, with a journal")

    @property
    def trouble(self) -> str:
        """Why nothing can be written, or nothing new; empty if all can."""
        if self.error is not None:
            return f"it has failed: {self.error}"
        return "" if self._run.has_reserve else "the disk is full, so nothing is accepted"

    def _failure(self) -> JournalFailed:
        return JournalFailed(f"the journal cannot write any more: {self.error or 'it is closed'}")

    def _work(self) -> None:
        while batch := self._next():
            self._late = self._write(batch)
            del batch  # it would keep its tokens until the next one
            self._checkpoint()
        if self.error is None:
            self._write([Write(self._run.note_end)])
        try:
            self._run.close(well=self.error is None)
        except Exception:
            _logger.exception("the files of the journal in %s were not closed", self._run.directory.path)

    def _next(self) -> list[Write]:
        with self._ready:
            while not self._queue and not self.is_closing:
                if not self._ready.wait(_PAUSE if self._late else None) and self._late:
                    break
            queue = self._queue
            if len(queue) > _BATCH:
                return self._late + [queue.popleft() for _ in range(_BATCH)]
            batch = [*self._late, *queue]
            queue.clear()
            return batch

    def _write(self, batch: list[Write]) -> list[Write]:
        """Write what can be written; return what is to be tried again."""
        if not (batch := self._admit(batch)) or (self._late and time.monotonic() < self._next_try):
            return batch
        error: BaseException | None = None
        try:
            if self.error is not None:
                raise self._failure() from self.error
            self._commit(batch)
        except BaseException as raised:
            error = raised
            if _code(raised) in _PASSING and not self.is_closing:
                if self._run.has_reserve and _code(raised) in _FULL:
                    self._give_up_reserve()
                    return self._write(batch)
                self._next_try = time.monotonic() + _PAUSE
                return batch
            if not isinstance(raised, _OF_VALUES):
                self._fail(raised)
                error = self._failure()
            elif len(batch) > 1:  # the others are written
                half = len(batch) // 2
                late = self._write(batch[:half])
                return late + batch[half:] if late else self._write(batch[half:])
            else:
                error = NotDurable(f"a value has no form on disk: {raised}")
        with waking_together():
            for write in batch:
                if write.done is not None:
                    write.done(error or write.error)
        return []

    def _admit(self, batch: list[Write]) -> list[Write]:
        """Refuse what is new while there is no reserve; return the rest."""
        run, now = self._run, time.monotonic()
        if not run.has_reserve and now >= self._next_try:
            with contextlib.suppress(OSError):
                run.has_reserve = run.directory.make_reserve()
            if not self._late:
                self._next_try = now + _PAUSE
        if run.has_reserve or self.error is not None:
            return batch
        rest: list[Write] = []
        for write in batch:
            if not write.is_new and write.statement is not ACCEPT:
                rest.append(write)
            elif write.done is not None:
                write.done(JournalFull(f"the disk of {run.directory.path} is full, so nothing is accepted; make space"))
        return rest

    def _give_up_reserve(self) -> None:
        _logger.error("the disk of journal %s is full: make space", self._run.directory.path)
        self._run.directory.give_up_reserve()
        self._run.has_reserve = False
        self._most = 0
        self._checkpoint()  # the space of the log is used again

    def _fail(self, error: BaseException) -> None:
        if self.error is None:
            self.error = error
            _logger.error("the journal in %s cannot write", self._run.directory.path, exc_info=error)
            self._told_failed(error)

    def _checkpoint(self) -> None:
        """Copy the log into the database once it is large; one that readers do not hold is then used again."""
        if self._written < self._most or self.error is not None:
            return
        each = 1.0  # records of a frame
        try:
            _, frames, copied = self._db.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
            each = self._written / max(frames, 1)
            if copied == frames:
                self._written = 0
        except sqlite3.Error as error:
            if _code(error) not in _PASSING:
                self._fail(error)
        self._most = self._written + max(int(_FRAMES * each), 1)

    def _commit(self, batch: list[Write]) -> None:
        db = self._db
        accepts = [write.row for write in batch if write.statement is ACCEPT]
        begins = [write.row for write in batch if write.statement is BEGIN]
        ends = [write.row for write in batch if write.statement is END]
        db.execute("BEGIN IMMEDIATE")
        try:
            if accepts:
                _execute(db, _ACCEPTS, list(map(_accept, accepts)))
            if len(accepts) + len(begins) + len(ends) < len(batch):
                for write in batch:
                    if callable(write.statement):
                        self._call(write, write.statement)
            if begins:
                db.executemany(_BEGIN, map(_begin, begins))
            if ends:
                _execute(db, _ENDS, list(map(_end, ends)))
            for write in batch:
                for statement, row in write.also:
                    db.execute(statement, row)
            db.execute("UPDATE meta SET commits = commits + 1")
            db.execute("COMMIT")
        except BaseException:
            if db.in_transaction:
                db.execute("ROLLBACK")
            raise
        self._written += len(batch) + 1
        self._run.note_commit()

    def _call(self, write: Write, function: Callable[[sqlite3.Connection], object]) -> None:
        """Call a function in the transaction; its own errors are its own, those of the disk are the transaction's."""
        db = self._db
        write.error = None
        db.execute("SAVEPOINT call")
        try:
            function(db)
        except Exception as error:
            if not db.in_transaction or _is_of_disk(error):
                raise
            db.execute("ROLLBACK TO call")
            write.error = error
        db.execute("RELEASE call")


def _execute(db: sqlite3.Connection, statements: Mapping[int, str], rows: list[tuple[Any, ...]]) -> None:
    """Execute a statement with rows; it is given as {number of rows: the statement for as many}, in falling order."""
    at = 0
    for number, statement in statements.items():
        while len(rows) - at >= number:
            db.execute(statement, list(chain.from_iterable(rows[at : at + number])))
            at += number


def _accept(row: tuple[Any, ...]) -> tuple[Any, ...]:
    """Return the row of an acceptance with its checksums."""
    crc = checksum(*row[:6], *row[7:14], *row[16:], None, None)  # all but state and attempts; no successor, no delay
    return *row[:6], crc, *row[7:], checksum(row[0], row[14], row[15], None, None, None, None, None)


def _begin(row: tuple[Any, ...]) -> tuple[Any, ...]:
    attempt, uid = row
    return attempt, checksum(uid, BEGUN, attempt, None, None, None, None, None), uid


def _end(row: tuple[Any, ...]) -> tuple[Any, ...]:
    state, ended, result, error, reason, attempts, dead, _, uid = row
    return *row[:7], checksum(uid, state, attempts, ended, result, error, reason, dead), uid


def _code(error: BaseException) -> int:
    """Return the code of an error of SQLite; 0 for others."""
    return getattr(error, "sqlite_errorcode", 0)


def _is_of_disk(error: Exception) -> bool:
    """Tell whether an error says that nothing can be written, and not only this."""
    return _code(error) & 0xFF in (
        sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_NOMEM,
        sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY,
    )  # fmt: skip
