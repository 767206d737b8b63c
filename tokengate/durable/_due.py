"""Tokens that are queued until a time: their rows are on disk, and in memory is only what the program itself holds."""

from __future__ import annotations

import logging
import math
import sqlite3
from collections.abc import Callable, Iterable
from typing import Any, Final

from actors import Reply
from actors.lowlevel import ActorPlace, DurableToken, place_of
from tokengate._exceptions import JournalFailed
from tokengate.durable._checksums import note_corrupt
from tokengate.durable._ports import OpenedJournal
from tokengate.durable._record import Record
from tokengate.durable._row import Row, rows_of
from tokengate.durable._snooze import Snooze
from tokengate.durable._states import PREEMPTED
from tokengate.durable._writer import Also, Write
from tokengate.policy._governed import Governed
from tokengate.policy._policies import policies_of
from tokengate.policy._rules import Moment

_logger = logging.getLogger("tokengate.durable")

_LOOK: Final = 1.0  # seconds between two looks at the wall clock
_AT_ONCE: Final = 1_000  # rows that come in one transaction
_LONG: Final = 60.0  # seconds between two attempts from which on a token does not wait for the next one in memory
_JUMP: Final = 0.5  # seconds, at least, by which the wall clock is changed when delays on disk are moved with it

_DUE: Final = f"state = 0 AND due <= ? ORDER BY due LIMIT {_AT_ONCE}"
_COME: Final = "UPDATE tokens SET state = 1, due = NULL WHERE uid = ?"
_PUT_OFF: Final = (
    "UPDATE tokens SET state = ?, due = ?, delayed = 1, attempts = ?, reason = ? WHERE uid = ? AND state IN (1, 2)"
)


class Due:
    """The rows of a journal that are queued until a time.

    Delays are written as wall time, too, and moved with the wall clock when that is changed.

    Args:
        journal: the open journal.
    """

    def __init__(self, journal: OpenedJournal) -> None:
        self._journal = journal
        self._first = math.inf  # wall time of the first one; written by the writer's thread
        self._offset = journal.wall() - journal.boot_clock()  # that the delays on disk are written with
        self._looks = False
        self._look: Callable[[float], None] = lambda _: None

    def open(self) -> None:
        """Begin to look, once all actors have started; what was about to be tried again goes on to wait."""

        def begin(db: sqlite3.Connection) -> None:
            db.execute("UPDATE tokens SET state = 0 WHERE state = 1 AND due > ?", (self._journal.wall(),))
            self._read_first(db)

        self._journal.call(begin).result()
        self._look = self._journal.ticker.every(_LOOK, self._tick)
        self._look(0.0)

    # On the thread of the writer

    def note(self, due: float) -> None:
        """Note that a row is due at a wall time."""
        if due < self._first:
            self._first = due
            self._look(self._seconds())

    def _read_first(self, db: sqlite3.Connection) -> None:
        first = db.execute("SELECT min(due) FROM tokens WHERE state = 0").fetchone()[0]
        self._first = math.inf if first is None else first

    def _take(self, db: sqlite3.Connection) -> tuple[list[Row], float]:
        wall = self._journal.wall()
        offset = wall - self._journal.boot_clock()
        if abs(offset - self._offset) > _JUMP:
            db.execute("UPDATE tokens SET due = due + ? WHERE state = 0 AND delayed", (offset - self._offset,))
        else:
            offset = self._offset
        rows = rows_of(db, _DUE, wall)
        for row in rows:
            if not row.whole:
                note_corrupt(db, row.uid)
        rows = [row for row in rows if row.whole]
        db.executemany(_COME, [(row.uid,) for row in rows])
        self._read_first(db)
        return rows, offset

    def _taken(self, reply: Reply[tuple[list[Row], float]]) -> None:
        if reply._value is not None:
            rows, self._offset = reply._value
            self._looks = False
            self._look(self._seconds())
            if rows:
                self._journal.later(self._offer, sorted(rows))
        elif not isinstance(reply._error, JournalFailed):
            _logger.error("rows that are due cannot be taken; it is tried again", exc_info=reply._error)
            self._looks = False
            self._look(_LOOK)

    # On the thread that looks

    def _seconds(self) -> float:
        """Return the seconds until the first one is due, or the next look."""
        return min(_LOOK, max(0.0, self._first - self._journal.wall()))

    def _tick(self) -> None:
        if self._looks or self._first == math.inf or self._journal.is_closing:
            return
        wall = self._journal.wall()
        if self._first <= wall or abs(wall - self._journal.boot_clock() - self._offset) > _JUMP:
            self._looks = True  # for good, if the journal has failed
            self._journal.call(self._take).add_done_callback(self._taken)
        else:
            self._look(self._seconds())

    def _offer(self, rows: Iterable[Row]) -> None:
        for row in rows:
            token = self._journal.backlog.known(row.uid)
            if token is not None:
                mailbox: Any = place_of(token).mailbox
                mailbox.note_due(token)
                token.queued_at = self._journal.system.clock()
                if isinstance(token._extras.policy, Governed):
                    token._extras.policy.come()
            self._journal.offer(row)

    # Tokens

    def of_new(self, token: DurableToken[Any], uid: int) -> tuple[float | None, Also]:
        """Return when a new token is due, in wall time, and what is to be written with its row; None: now."""
        policy = token._extras.policy
        delay = policy.delay if isinstance(policy, Governed) else None
        if delay is None:
            return None, ()
        if isinstance(delay, Moment):
            return delay.moment, ()
        return self._wall_at(delay.at), (("UPDATE tokens SET delayed = 1 WHERE uid = ?", (uid,)),)

    def deadline_of(self, token: DurableToken[Any]) -> float | None:
        """Return the deadline of a token in wall time; None without one."""
        return None if token.deadline is None else self._wall_at(token.deadline)

    def _wall_at(self, at: float) -> float:
        """Return a time of the system's clock as wall time, by the offset that delays on disk are written with."""
        return self._journal.boot_clock() + self._offset + at - self._journal.system.clock()

    def try_again(self, record: Record, token: DurableToken[Any], at: float) -> bool:
        """Write that a further attempt of a token follows; return whether it waits on disk, and not in its mailbox.

        Args:
            record: of the token.
            token: the token, whose attempt has this number.
            at: when it begins at the earliest, in seconds of the clock.
        """
        on_disk = at - self._journal.system.clock() > _LONG or self._journal.is_closing
        if on_disk and isinstance(token._extras.policy, Governed):
            token._extras.policy.free()
        self._write(record, token, at, on_disk=on_disk)
        if self._journal.is_closing:
            self._leave(token)
        return on_disk

    def snooze(self, record: Record, token: DurableToken[Any], error: BaseException) -> bool:
        """Put a token off whose code has asked for that; return False if this is another error."""
        if not isinstance(error, Snooze) or isinstance(token._place, ActorPlace) or record.is_recording:
            return False
        policy = token._extras.policy
        if token._extras.cancel_requested and not (isinstance(policy, Governed) and policy.is_to_be_preempted(token)):
            return False
        at = self._journal.system.clock() + error.seconds
        policies_of(place_of(token)).begin_anew(token, at)
        record.undo_beginning(token.attempt)
        self._write(record, token, at, on_disk=True)
        return True

    def _write(self, record: Record, token: DurableToken[Any], at: float, *, on_disk: bool) -> None:
        due = self._wall_at(min(at, math.inf if token.deadline is None else token.deadline))  # it ends at its deadline
        mailbox: Any = place_of(token).mailbox
        if on_disk:
            record.due = due
            mailbox.put_off(token)
        reason = PREEMPTED if token._extras.preempted else None
        row = 0 if on_disk else 1, due, token.attempt, reason, record.number

        def written(error: BaseException | None) -> None:
            if on_disk and error is None:
                self.note(due)
            elif on_disk:
                self._journal.later(self._leave, token)

        try:
            self._journal.writer.put(Write(lambda db: db.execute(_PUT_OFF, row), (), written))
        except JournalFailed as error:
            written(error)

    def _leave(self, token: DurableToken[Any]) -> None:
        """End the object of a token that waits on disk."""
        if place_of(token).mailbox.withdraw(token):
            self._journal.leave_behind(token)
