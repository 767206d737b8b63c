"""Rows on disk and the tokens that stand for them in this process; mailboxes are windows on the rows."""

from __future__ import annotations

import logging
import sqlite3
import threading
from collections import deque
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, closing, suppress
from functools import partial
from heapq import heapreplace
from queue import SimpleQueue
from typing import Any, Final, Protocol
from weakref import WeakValueDictionary

import msgspec

from actors import ActorDead, ActorSystem, Reply, TokenRejected, TokenState
from actors.lowlevel import (
    ActorPlace,
    DaemonThread,
    DurableMailbox,
    DurableToken,
    Place,
    Position,
    place_of,
)
from tokengate._exceptions import BadOperation
from tokengate.control._uids import is_uid, parts_of, uid_of
from tokengate.durable import _states as states
from tokengate.durable._checksums import note_corrupt
from tokengate.durable._queued import keys_at, paths_of, rows_from
from tokengate.durable._record import Keeper, Record
from tokengate.durable._resumed import end_if_late, resume
from tokengate.durable._row import Row, row_of, rows_of
from tokengate.gate._operation_table import OperationTable
from tokengate.operations._operation import operation_named

_logger = logging.getLogger("tokengate.durable")

_KEPT: Final = 1_000  # tokens on disk only that operators have asked for
_MOST: Final = 1_000_000  # tokens on disk, before the overflow of their mailbox decides
_AT_ONCE: Final = 512  # rows that are read before their tokens are queued
_FIRST: Final = 10  # rows of a path that say which place it is
_AGAIN_SECONDS: Final = 1.0  # after which rows are read again that could not be

_MOVE: Final = "UPDATE tokens SET path = ? WHERE path = ? AND operation = ? AND state < 4"


class RowsJournal(Keeper, Protocol):
    """The open journal, as tokens are made of its rows; properties here are attributes of the class."""

    @property
    def gate(self) -> Any: ...

    @property
    def system(self) -> ActorSystem: ...

    @property
    def run(self) -> int: ...

    def wall(self) -> float: ...

    def reading(self) -> AbstractContextManager[sqlite3.Connection]:
        """Return a connection that reads, for a `with`."""
        ...

    def decode(self, row: Row, token: DurableToken[Any], /) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Return the arguments of a row, for its token."""
        ...

    def park(self, row: Row, /) -> None:
        """Note on disk that the arguments of a row do not fit."""
        ...

    def rejoin(self, token: DurableToken[Any], row: Row, /) -> None:
        """Make the token of a row a member of its transaction again."""
        ...


class Backlog:
    """The rows of a journal that have not ended, and which of them are tokens in memory.

    Args:
        journal: the open journal.
    """

    def __init__(self, journal: RowsJournal) -> None:
        self._journal = journal
        self._system = journal.system
        self._run = journal.run
        self._places: OperationTable = journal.gate._operations
        self._lock = threading.RLock()
        # Tokens that wait on disk only, and those of earlier runs; the others are found by their ids.
        self._known: WeakValueDictionary[int, DurableToken[Any]] = WeakValueDictionary()
        self._found: dict[int, DurableToken[Any]] = {}  # {id: token}, of those that operators have asked for last
        self._kept: dict[int, DurableToken[Any]] = {}  # those on disk only with callbacks
        self._left: dict[str, dict[str | None, Position]] = {}  # {path: its fair keys}, of earlier runs
        self.unread: set[str] = set()  # paths with rows of earlier runs that are to be read
        self._closing = threading.Event()
        self._wanted: SimpleQueue[Callable[[sqlite3.Connection], object] | None] = SimpleQueue()
        self._thread = DaemonThread(self._read, f"{self._system.name}-journal-reader")
        self._ended: set[int] | None = None  # uids of tokens that have ended since the reader began to read
        self._rooms: deque[Reply[None]] = deque()  # of senders that wait, since too many are on disk
        self.on_disk = 0  # rows that wait on disk only
        self.most = _MOST  # of them
        self.parked: dict[int, str] = {}  # {uid of a row that cannot run here: its operation}
        self._misfits: dict[str, Any] = {}  # {operation of such rows: its function, which they do not fit, or None}

    def open(self, db: sqlite3.Connection) -> None:
        """Note what earlier runs have left, before any token is accepted, and start the thread."""
        (self.on_disk,) = db.execute("SELECT count(*) FROM tokens WHERE state = 1").fetchone()
        self._left = {path: keys_at(db, path) for path in paths_of(db)}
        self.unread = {*self._left, *(path for (path,) in db.execute("SELECT path FROM tokens WHERE state = 2"))}
        self._thread.begin()

    def close(self, deadline: float) -> None:
        """End the thread."""
        self._closing.set()
        self._wanted.put(None)
        self._thread.gone(deadline)

    def waiting(self) -> list[DurableToken[Any]]:
        """Return the objects of tokens that wait on disk only, as far as there are any."""
        with self._lock:
            return [token for token in self._known.values() if token.record is not None and token.record.is_on_disk]

    def look(self, path: str = "") -> None:
        """Have the rows of earlier runs read whose places are there by now, of one path or of all; not on a loop."""
        with self._journal.reading() as db:
            for one in [path] if path else list(self.unread):
                rows = rows_of(db, f"state IN (1, 2) AND path = ? LIMIT {_FIRST}", one)
                operation, place = self._reader_of(one, rows)
                if place is not None and isinstance(place.mailbox, DurableMailbox):
                    if place.path != one:
                        self._wanted.put(partial(self._move, one, operation, place))
                        continue
                    self.expect(place)
                    self.room_in(place)
                if not rows or place is not None:
                    self.unread.discard(one)

    def _reader_of(self, path: str, rows: Iterable[Row]) -> tuple[str, Place | None]:
        """Return an operation of a path, and its place, which reads the rows; None: it is not there yet.

        Args:
            path: of the rows.
            rows: the first ones. What they call may be unknown here, for which the others must not wait.
        """
        for row in rows:
            if (place := self.target(row.operation, row.path)[0]) is not None:
                return row.operation, place
        there = self._system.place_at(path)
        return "", there if rows and there is not None and isinstance(there.mailbox, DurableMailbox) else None

    def expect(self, place: Place) -> None:
        """Note which rows of earlier runs a place has, before it gets new tokens; they are read later."""
        rows = self._left.pop(place.path, None)
        if rows is not None and isinstance(place.mailbox, DurableMailbox):
            place.mailbox.expect(rows, partial(self.room_in, place))

    # Tokens of rows

    def token_of(self, row: Row) -> DurableToken[Any] | None:
        """Return the token of a row: the object that there is, or a new one, which waits on disk only.

        Returns:
            None if its operation or path is unknown here, or its arguments do not fit; it counts as parked then. None,
            too, if bits of the row have changed; it becomes a dead letter.
        """
        with self._lock:
            token = self.known(row.uid)
            if token is None and not row.whole:
                self._journal.call(partial(note_corrupt, uid=row.uid))
                return None
            token = token or self._made(row)
            if token is None:
                self.parked[row.uid] = row.operation
            else:
                self.parked.pop(row.uid, None)
        return token

    def offer(self, row: Row) -> bool:
        """Put the token of a queued row into its mailbox, unless it has been there; return False if it is parked."""
        token = self.token_of(row)
        if token is None:
            return False
        mailbox: Any = place_of(token).mailbox
        try:
            if self._passes_door(token):
                mailbox.offer(token)
        except ActorDead:
            self.parked[row.uid] = row.operation
            self._misfits.pop(row.operation, None)
            return False
        return True

    def find(self, ids: Iterable[int]) -> dict[int, DurableToken[Any]]:
        """Return {id: token} of tokens that wait, by their ids or the numbers of their uids.

        Those on disk only are kept in memory for a while, so that they are found by their ids again.
        """
        found: dict[int, DurableToken[Any]] = {}
        with self._journal.reading() as db:
            for id in ids:
                uid = id if is_uid(id) else uid_of(self._run, id)
                if not is_uid(uid):
                    continue  # nor is it an id
                token = self.known(uid) or self._found.get(id)
                if token is None:
                    row = row_of(db, uid)
                    token = self.token_of(row) if row is not None and row.state < states.PARKED and row.whole else None
                    row = row_of(db, uid)
                    if row is None or row.state >= states.PARKED:  # it was read elsewhere, and has ended
                        token = None
                if token is not None and not token.done():
                    found[id] = self._found[token.id] = token
        for id in list(self._found)[:-_KEPT]:
            del self._found[id]
        return found

    def known(self, uid: int) -> DurableToken[Any] | None:
        """Return the object of a token that has not ended, if there is one."""
        run, id = parts_of(uid)
        token: Any = self._system.live.get(id) if run == self._run else None
        if isinstance(token, DurableToken) and token.record is not None and token.record.number == uid:
            return token
        return self._known.get(uid)

    def hopeful(self) -> dict[str, list[int]]:
        """Return {operation: uids} of parked rows that may run by now: their operation is another one than it was."""
        with self._lock:
            rows: dict[str, list[int]] = {}
            for uid, name in self.parked.items():
                rows.setdefault(name, []).append(uid)
        return {name: uids for name, uids in rows.items() if self._code_of(name) is not self._misfits.get(name)}

    def _code_of(self, name: str) -> Any:
        """Return the function of an operation, or the class of an actor that has one of its methods; None: neither."""
        operation = operation_named(name)
        if operation is not None:
            return operation._function
        place = self._system.place_at(name.rpartition(":")[0])
        return place.actor_class if isinstance(place, ActorPlace) else None

    def _made(self, row: Row) -> DurableToken[Any] | None:
        place, name, call = self.target(row.operation, row.path)
        if place is None:
            return None
        token = place.token(name, call, (), {}, row.priority, msgspec.json.decode(row.tags))
        self._system.live.pop(token.id)
        if not isinstance(token, DurableToken):  # it is not durable any more
            return None
        record = Record(self._journal, row.uid, idempotent=place.is_idempotent(call))
        try:
            args, token.kwargs = self._journal.decode(row, token)
        except msgspec.ValidationError:
            self._misfits[row.operation] = self._code_of(row.operation)
            self._journal.park(row)
            return None
        token._args = args[0] if call is None else args
        record.is_accepted = record.is_on_disk = True
        record.recoveries = row.recoveries
        parent = None if row.parent is None else self.known(row.parent)
        token.parent = None if parent is None else parent.id  # an id of this run
        token.key, token.record, token._phase = row.key, record, TokenState.QUEUED
        token.created_at = token.queued_at = self._system.clock() - max(0.0, self._journal.wall() - row.accepted)
        run, id = parts_of(row.uid)
        if run == self._run:
            token.id = id
        self._known[row.uid] = token
        resume(token, row.attempts, row.deadline, self._journal.wall(), preempted=row.reason == states.PREEMPTED)
        self._journal.rejoin(token, row)
        return token

    def target(self, name: str, path: str) -> tuple[Place | None, str, Any]:
        """Return the place of a row, None if it is unknown here, and the name and the call of its token there.

        Args:
            name: of what it calls, on disk.
            path: of its place when it was accepted.
        """
        operation, method = operation_named(name), name.rpartition(":")[2]
        if operation is not None:
            own = self._places[operation._spec]
            with suppress(BadOperation):  # operators have moved it to another affinity, which it may not have any more
                if path.startswith(f"{own.path}@"):
                    own = self._places.with_affinity(own, path.rpartition("@")[2])
            return own, operation._name, operation._function
        place = self._system.place_at(path)
        if not isinstance(place, ActorPlace):
            return None, "", None
        return place, f"{place.actor_class.__name__}.{method}", None if method == "on_receive" else (method,)

    def _passes_door(self, token: DurableToken[Any]) -> bool:
        """Hold a token to the policy of its place; return False if that has ended it."""
        place = place_of(token)
        if end_if_late(token):
            return False
        if place.governor is None:
            return True
        try:
            place.governor.at_door(token)
        except TokenRejected as error:
            if place.mailbox.withdraw(token):
                place.reject(token, error)
            return False
        return True

    # On disk only

    def leave(self, record: Record, token: DurableToken[Any]) -> None:
        """Note that a token waits on disk only; under the lock of its mailbox."""
        with self._lock:
            self._known[record.number] = token
            if token._callbacks:
                self._kept[record.number] = token
            self._system.live.pop(token.id, None)
            self.on_disk += 1

    def keep(self, record: Record, token: DurableToken[Any]) -> None:
        """Keep the object of a token that waits on disk only: something waits for its end."""
        with self._lock:
            if record.is_on_disk:
                self._kept[record.number] = token

    def come(self, record: Record, token: DurableToken[Any]) -> None:
        """Note that it is in memory again; under the lock of its mailbox."""
        with self._lock:
            self._system.live[token.id] = token
            self._kept.pop(record.number, None)
            self.on_disk -= 1
            room = self._rooms.popleft() if self._rooms and self.on_disk < self.most else None
        if room is not None:
            room._set()

    def room(self, place: Place) -> Reply[None] | None:
        """Return what is set when a new token of a place may wait on disk; None: it may, or need not.

        Raises:
            MailboxFull: so many are on disk that the overflow of its mailbox refuses it.
        """
        mailbox: Any = place.mailbox
        if self.on_disk < self.most or not mailbox.is_full:
            return None
        if mailbox.overflow != "wait":
            if mailbox.overflow == "drop_oldest" and mailbox.drop_oldest():
                return None
            raise place._full()
        room: Reply[None] = Reply()
        with self._lock:
            if self.on_disk < self.most:
                return None
            self._rooms.append(room)
        return room

    def ends(self, uid: int) -> None:
        """Note that a token is about to leave memory, since its end is on disk."""
        ended = self._ended
        if ended is not None:
            ended.add(uid)

    def room_in(self, place: Place) -> None:
        """Have rows that wait read into the mailbox of a place."""
        self._wanted.put(partial(self._fill, place))

    # On the thread that reads

    def _read(self) -> None:
        with self._journal.reading() as db:
            while (wanted := self._wanted.get()) is not None:
                try:
                    while wanted(db):
                        pass
                except Exception:
                    _logger.exception("rows of the journal cannot be read; it is tried again")
                    self._closing.wait(_AGAIN_SECONDS)
                    self._wanted.put(wanted)

    def _move(self, path: str, operation: str, place: Place, db: sqlite3.Connection) -> None:
        """Give rows the path that their operation has now: it depends on the names of those that were there first."""
        self._journal.call(lambda db: db.execute(_MOVE, (place.path, path, operation))).result()
        self._left[place.path] = {**self._left.get(place.path, {}), **keys_at(db, place.path)}
        self.expect(place)
        self.room_in(place)
        self.look(path)

    def _fill(self, place: Place, db: sqlite3.Connection) -> bool:
        """Read rows into the mailbox of a place; return whether there is room for more."""
        mailbox: DurableMailbox = place.mailbox  # type: ignore[assignment]  # no other calls `room_in`
        room, rest = mailbox.begin_reading()
        self._ended = set()  # a token that ends from here on may be a waiting row to what is read
        behind: dict[str | None, Position | None] = {}  # where the rows begin that stay on disk
        found: list[tuple[str | None, DurableToken[Any]]] = []
        try:
            for key, position, most in _shares(rest, min(room, _AT_ONCE)):
                tokens, behind[key] = self._waiting(db, place, key, position, most)
                found.extend((key, token) for token in tokens)
            came = mailbox.come([token for _, token in found])
            for key, token in reversed(found[came:]):
                behind[key] = position_of(token)
        finally:
            self._ended = None
            again = mailbox.end_reading(behind)
        return again

    def _waiting(
        self, db: sqlite3.Connection, place: Place, key: str | None, position: Position, most: int
    ) -> tuple[list[DurableToken[Any]], Position | None]:
        """Return the first tokens of a fair key that wait on disk only, and where the row stands after them."""
        tokens: list[DurableToken[Any]] = []
        others: dict[str, Place] = {}  # {operation whose path this was once: its place}
        with closing(rows_from(db, place.path, key, position)) as rows:
            for row in rows:
                if len(tokens) == most:
                    return tokens, (-row.priority, row.uid)
                token = self.known(row.uid)
                if token is None and row.uid not in (self._ended or ()):
                    token = self.token_of(row)
                if token is not None and token._place is not place:
                    others[row.operation] = place_of(token)
                elif token is not None and token.record.is_on_disk and self._passes_door(token):  # type: ignore[union-attr]
                    tokens.append(token)
        for operation, other in others.items():
            self._move(place.path, operation, other, db)
        return tokens, None


def position_of(token: DurableToken[Any]) -> Position:
    """Return where the row of a token stands."""
    return -token.priority, token.record.number  # type: ignore[union-attr]


def _shares(rest: list[tuple[str | None, Position, int]], room: int) -> list[tuple[str | None, Position, int]]:
    """Return which fair keys are read, from where, and how many rows, so that they have as many tokens in memory.

    Args:
        rest: keys, where their rows begin, and how many tokens of them are in memory.
        room: for how many tokens.
    """
    least = sorted((number, index, 0) for index, (_, _, number) in enumerate(rest))[:room]
    for _ in range(room if least else 0):
        number, index, share = least[0]
        heapreplace(least, (number + 1, index, share + 1))
    return [(*rest[index][:2], share) for _, index, share in least if share]
