"""The journal of an open gate: it accepts, begins and ends durable tokens."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from functools import partial
from queue import SimpleQueue
from typing import Any, TypeVar

import msgspec

from actors import ActorSystem, BaseActor, NotDurable, Reply, Token, TokenState, WouldBlock
from actors.lowlevel import (
    ActorPlace,
    DaemonThread,
    DurableToken,
    Place,
    blocking,
    fair_text,
    loop_here,
    method_of,
    place_of,
)
from tokengate._exceptions import LeftInJournal
from tokengate.durable import _states as states
from tokengate.durable._backlog import COLUMNS, Backlog, Row
from tokengate.durable._checksums import note_corrupt
from tokengate.durable._codec import Codec, checksum, encode_result
from tokengate.durable._keys import Tokens, submit_row
from tokengate.durable._record import Record
from tokengate.durable._run import Run
from tokengate.durable._saved import SavedStates
from tokengate.durable._store import reader
from tokengate.durable._ticker import Ticker
from tokengate.durable._writer import ACCEPT, BEGIN, END, Also, Write, Writer
from tokengate.operations._operation import operation_in

T = TypeVar("T")

_RESULTS_OF = TokenState.COMPLETED


class OpenJournal:
    """What keeps the durable tokens of an open gate.

    Args:
        gate: the gate.
        run: the files of this opening.
        writer: writes to the disk.

    Attributes:
        backlog: rows that have not ended, and their tokens.
    """

    def __init__(self, gate: Any, run: Run, writer: Writer) -> None:
        self.gate = gate
        self.system: ActorSystem = gate._system
        self.directory = run.directory.path
        self.backlog = Backlog(
            self.system,
            run.number,
            gate._operations,
            self._codec,
            self._record,
            self.reading,
        )
        self.run = run.number
        self.page = run.page
        self.writer = writer
        self.tokens = Tokens(self)
        self._states = SavedStates(run.db, self.directory, lambda also: writer.put(Write("", also=also)))
        self._codecs: dict[str, Codec] = {}  # {operation: what encodes its calls}
        self._ended: SimpleQueue[Callable[[], object] | None] = SimpleQueue()
        self.ticker = Ticker(f"{self.system.name}-journal-ticks")
        self._ends = DaemonThread(self._tell_ends, f"{gate.name}-journal-ends")

    def open(self) -> None:
        """Start the threads."""
        with self.reading() as db:
            self.backlog.open(db)
        self.writer.open()
        self._ends.begin()
        self.ticker.open()

    def close(self, deadline: float) -> None:
        """Write what is left, and end the threads."""
        self.ticker.close(deadline)
        self.backlog.close(deadline)
        self.writer.close(deadline)
        self._ended.put(None)
        self._ends.gone(deadline)

    def call(self, function: Callable[[sqlite3.Connection], T]) -> Reply[T]:
        """Have a function called by the writer within its transaction, with the connection.

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

        self.writer.put(Write(write, (), lambda error: reply._set(result, error)))
        return reply

    def _record(self, uid: int, idempotent: bool) -> Record:
        return Record(self, uid, idempotent=idempotent)

    def reading(self) -> closing[sqlite3.Connection]:
        """Return a connection that reads, for a `with`; not on a loop."""
        return closing(reader(self.directory))

    # Acceptance

    submit_row = submit_row

    def accept(self, token: DurableToken[Any]) -> bool:
        """Have the acceptance of a token written, and wait for that."""
        if loop := loop_here():
            raise WouldBlock(f"{token._describe()} would block this {loop} loop until it is on disk; use 'asubmit'")
        reply = self._offer(token)
        with blocking():
            reply.result()
        return True

    async def accept_async(self, token: DurableToken[Any]) -> bool:
        """Do so, awaiting the disk."""
        await self._offer(token)
        return True

    def _offer(self, token: DurableToken[Any]) -> Reply[None]:
        name = operation_of(token)
        self.backlog.expect(place_of(token))
        text = self._codec(name, token).encode(token.args, token.kwargs)
        record = Record(self, self.run << 40 | token.id, idempotent=place_of(token).is_idempotent(token._call))
        record.fresh = True
        row = (
            record.number, name, token.actor, None, fair_text(token), text, checksum(record.number, name, text),
            token.priority, msgspec.json.encode(dict(token.tags)).decode(), token.parent, None, None, None, None,
            states.QUEUED, 0, 0, time.time(),
        )  # fmt: skip
        reply: Reply[None] = Reply()

        def done(error: BaseException | None) -> None:
            record.is_accepted = error is None
            reply._set(error=error)

        token.record = record
        self.writer.put(Write(ACCEPT, row, done))
        return reply

    def _codec(self, name: str, token: Token[Any]) -> Codec:
        codec = self._codecs.get(name)
        if codec is None:
            codec = self._codecs[name] = Codec(name, called_by(token))
        return codec

    # Rows

    def token_of(self, row: Row) -> DurableToken[Any] | None:
        """Return the token of a row, the one that there is or a new one; None if it is parked."""
        return self.backlog.token_of(row)

    def offer(self, row: Row) -> bool:
        """Put the token of a queued row into its mailbox; return False if it is parked or corrupt.

        On any thread but a loop's.
        """
        if not row.whole:
            self.call(lambda db: note_corrupt(db, row.uid))
            return False
        return self.backlog.offer(row)

    def offer_new(self, uids: Sequence[int]) -> None:
        """Offer the rows with these uids that are queued; on any thread but a loop's."""
        with self.reading() as db:
            for at in range(0, len(uids), 500):
                some = uids[at : at + 500]
                where = ",".join("?" * len(some))
                found = db.execute(
                    f"SELECT {COLUMNS} FROM tokens WHERE state = {states.QUEUED} AND uid IN ({where}) ORDER BY uid",
                    some,
                )
                for row in map(Row._make, found.fetchall()):
                    self.offer(row)

    # Full mailboxes

    def room_in(self, place: Place) -> None:
        """Have rows that wait read into the mailbox of a place."""
        self.backlog.room_in(place)

    def leave(self, record: Record, token: DurableToken[Any]) -> None:
        """Note that a token waits on disk only."""
        self.backlog.leave(record, token)

    def keep(self, record: Record, token: DurableToken[Any]) -> None:
        """Keep a token that is on disk only in memory, too."""
        self.backlog.keep(record, token)

    def come(self, record: Record, token: DurableToken[Any]) -> None:
        """Note that it is in memory again."""
        self.backlog.come(record, token)

    # An attempt, and the end

    def begin(self, record: Record, token: DurableToken[Any]) -> bool:
        """Note that an attempt begins; wait until that is on disk if it must not run twice."""
        if record.begun or record.slot:
            return False
        if record.idempotent:
            record.slot = self.page.enter(record.number)
            if record.slot:
                return False
        reply: Reply[None] = Reply()
        self.writer.put(Write(BEGIN, (token.attempt, record.number), lambda error: reply._set(error=error)))
        with blocking():
            reply.result()
        record.begun = True
        return True

    def end(
        self, record: Record, token: DurableToken[Any], state: TokenState, value: Any, error: BaseException | None
    ) -> None:
        """Have the end of a token written; then it ends."""
        result = None
        if state is TokenState.COMPLETED:
            try:
                result = encode_result(token.operation, value)
            except NotDurable as refusal:
                state, value, error = TokenState.FAILED, None, refusal
        dead = None if state in (TokenState.COMPLETED, TokenState.TERMINATED) else 1
        text = None if error is None else f"{type(error).__name__}: {error}"
        also: Also = ()
        if record.saved is not None and not self.system.is_sealed(token):
            also = self._states.commit(token.actor, record.number, record.saved)
        row_state = states.STATE_OF[state]
        row = (
            row_state, time.time(), result, text, token.reason, token.attempt, dead,
            checksum(record.number, row_state, result, text), record.number,
        )  # fmt: skip
        try:
            self.writer.put(Write(END, row, partial(self._written, record, token, state, value, error), also))
        except Exception:
            self._leave(record, token)

    def _written(
        self,
        record: Record,
        token: DurableToken[Any],
        state: TokenState,
        value: Any,
        error: BaseException | None,
        failure: BaseException | None,
    ) -> None:
        """Have a token end whose end is on disk, or could not be written; on the thread of the writer."""
        if failure is None:
            if record.slot:
                self.page.leave(record.slot)
            self._ended.put(partial(self._settle, record, token, state, value, error))
        else:
            self._ended.put(partial(self._leave, record, token))

    def _settle(
        self, record: Record, token: DurableToken[Any], state: TokenState, value: Any, error: BaseException | None
    ) -> None:
        record.has_ended, record.is_recording = True, False
        self.backlog.ends(record.number)
        token._settle(state, value, error)
        self.tokens.ended(record.number, state, value, error)

    def _leave(self, record: Record, token: DurableToken[Any]) -> None:
        """End the object of a token that is left to the next opening."""
        self._settle(record, token, TokenState.TERMINATED, None, LeftInJournal(record.uid))

    # Actors

    def entered(self, place: Place) -> None:
        """Have the messages offered that wait for the actor of a new place."""
        self.backlog.expect(place)
        if self.backlog.parked:
            self._ended.put(partial(self._offer_begun, place.path))

    def _offer_begun(self, path: str) -> None:
        what = f"SELECT {COLUMNS} FROM tokens WHERE state = 2 AND path = ? AND uid < ? ORDER BY uid"
        with self.reading() as db:
            for row in map(Row._make, db.execute(what, (path, self.run << 40)).fetchall()):
                self.offer(row)

    def saved(self, place: ActorPlace, default: Any, kind: Any) -> Any:
        """Return the state that an actor has saved."""
        return self._states.of(place, default, kind)

    def save(self, actor: BaseActor, value: Any) -> None:
        """Keep a state of an actor."""
        self._states.note(actor, value)

    def _tell_ends(self) -> None:
        """Run as the thread on which tokens end: code of users is called there, and never on that of the writer."""
        while (end := self._ended.get()) is not None:
            end()


def operation_of(token: Token[Any]) -> str:
    """Return what names the call of a token on disk: `module:qualified name`, or `path:method` of an actor's."""
    place, call = place_of(token), token._call
    if isinstance(place, ActorPlace):
        return f"{place.path}:{method_of(call)}"
    operation = operation_in(call)
    named = call if operation is None else operation
    return f"{named.__module__}:{named.__qualname__}"


def called_by(token: Token[Any]) -> Callable[..., Any]:
    """Return the function that a token calls; its parameters are those of its arguments."""
    place, call = place_of(token), token._call
    if not isinstance(place, ActorPlace):
        return call  # type: ignore[no-any-return]
    return partial(getattr(place.actor_class, method_of(call) or ""), None)
