"""The journal of an open gate: it accepts, begins and ends durable tokens."""

from __future__ import annotations

import logging
import sqlite3
import time
from collections import deque
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import closing, suppress
from functools import partial
from queue import Empty, SimpleQueue
from typing import Any, Final, TypeVar

import msgspec

from actors import ActorDead, ActorSystem, BaseActor, NotDurable, Reply, Token, TokenState, WorkerDied
from actors.lowlevel import (
    ActorPlace,
    DaemonThread,
    DurableToken,
    Place,
    fair_text,
    lend_this_thread,
    place_of,
    waking_together,
)
from tokengate._exceptions import JournalFailed, LeftInJournal, NotRecovered
from tokengate.control._uids import uid_of
from tokengate.durable import _states as states
from tokengate.durable._backlog import Backlog
from tokengate.durable._calls import codec_of, name_of_call
from tokengate.durable._codec import LARGEST, Codec
from tokengate.durable._due import Due
from tokengate.durable._keys import Tokens
from tokengate.durable._record import Record
from tokengate.durable._row import Row, rows_of
from tokengate.durable._run import Run
from tokengate.durable._saved import SavedStates
from tokengate.durable._step import key_of_child
from tokengate.durable._store import reader
from tokengate.durable._ticker import Ticker
from tokengate.durable._transactions import DurableTransactions, is_compensation
from tokengate.durable._writer import ACCEPT, BEGIN, CHANGE, END, Also, Write, Writer
from tokengate.operations._options import durable_names

T = TypeVar("T")

_logger = logging.getLogger("tokengate.durable")

_BOOT_CLOCK: Final = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
_SECONDS: Final = 1.0  # for which closing waits for a thread that reads

_AT_ONCE: Final = 256  # ends, after which the tasks that wait for them are woken

_UNDO: Final = "UPDATE tokens SET state = ? WHERE uid = ? AND state = ? AND attempts = ?"
_SOON: Final = 0.1  # seconds between two looks for new operations
_LOOKS: Final = 100  # of them to one at all parked rows

_WHY_NOT: Final = {
    "may_have_run": "its process has ended after it had begun, so it may have run, and it is not declared "
    "idempotent=True: see what it has done, then retry the dead letter, or discard it",
    "poison": f"{states.DEATHS} processes have died after it had begun there: see why, then retry the dead letter, or "
    "discard it",
}


class Acceptance(Reply[None]):
    """The acceptance of tokens: set when it is known of each whether it is on disk, with the first error.

    Args:
        writer: writes it.
        tokens: by their rows.
        due: is told of those that are not to begin yet.
        accepting: tokens, their records, their rows, and what is written with these.
    """

    def __init__(
        self,
        writer: Writer,
        tokens: Tokens,
        due: Due,
        accepting: Sequence[tuple[DurableToken[Any], Record, tuple[Any, ...], Also]],
    ) -> None:
        super().__init__()
        self._due = due
        self._writer = writer
        self._tokens = tokens
        self._accepting = accepting
        self._unknown = len(accepting)
        self._first: BaseException | None = None

    def begin(self) -> None:
        """Have it written.

        Raises:
            JournalFailed: nothing can be written any more; nothing was accepted.
        """
        writes = []
        for token, record, row, also in self._accepting:
            record.acceptance = self
            record.write = write = Write(ACCEPT, row, partial(self._known, token, record), also)
            if row[3] is not None:
                write.statement, write.is_new = partial(self._tokens.accept, token, record, row), True
            token.record = record
            writes.append(write)
        try:
            self._writer.put(*writes)
        except JournalFailed as error:
            for _, record, *_ in self._accepting:
                record.refusal = error
            raise

    def _known(self, token: DurableToken[Any], record: Record, error: BaseException | None) -> None:
        """Note, on the thread of the writer, whether a token is on disk."""
        record.is_accepted, record.refusal = error is None, error
        if error is not None and record.follows:
            self._tokens.leave(token)
            record.follows = False
        record.acceptance = record.write = None
        if error is None and record.due is not None:
            self._due.note(record.due)
        self._first = self._first or error
        self._unknown -= 1
        if not self._unknown:
            self._set(error=self._first)


class _EndsThread:
    """A thread on which tokens end; while code of users waits on it, another one goes on.

    Args:
        tell: ends tokens, until the function that it gets returns True.
        name: of the thread.
        queue: from which that takes what it does.
    """

    def __init__(self, tell: Callable[[Callable[[], bool]], None], name: str, queue: SimpleQueue[Any]) -> None:
        self._tell = tell
        self._queue = queue
        self._is_done = False
        self._others: list[_EndsThread] = []
        self.thread = DaemonThread(self._run, name)

    def _run(self) -> None:
        lend_this_thread(self)
        self._tell(lambda: self._is_done)
        self._queue.put(int)  # what has woken it may have been for another one

    def step_waits(self, *, paused: bool = False) -> None:  # noqa: ARG002
        """Have another thread go on."""
        other = _EndsThread(self._tell, f"{self.thread.name}+", self._queue)
        other.thread.begin()
        self._others.append(other)

    def step_resumes(self) -> None:
        """Have that one end."""
        self._others.pop()._is_done = True
        self._queue.put(int)  # wakes it


class OpenJournal:
    """What keeps the durable tokens of an open gate.

    Args:
        gate: the gate.
        run: the files of this opening.
        writer: writes to the disk.
        aliases: {name of an operation that was renamed: its name now}.

    Attributes:
        backlog: rows that have not ended, and their tokens.
        is_closing: whether what has not begun is left to the next opening.
    """

    def __init__(self, gate: Any, run: Run, writer: Writer, aliases: Mapping[str, str]) -> None:
        self.gate = gate
        self.aliases = aliases
        self.system: ActorSystem = gate._system
        self.directory = run.directory.path
        self.run = run.number
        self.backlog = Backlog(self)
        self.is_going_on = False  # whether what earlier runs have left may run
        self.page = run.page
        self.writer = writer
        self.tokens = Tokens(self)
        self.transactions: DurableTransactions = DurableTransactions(self, writer.put, self._offer_left)
        self._states = SavedStates(run.db, self.directory, lambda also: writer.put(Write("", also=also)))
        self._codecs: dict[str, Codec] = {}  # {operation: what encodes its calls}
        self._operations: dict[Place, tuple[str, Codec]] = {}  # {place of one: its name, and that}
        self._ended: SimpleQueue[Callable[[], object]] = SimpleQueue()
        self.ticker = Ticker(f"{self.system.name}-journal-ticks")
        self._ends = _EndsThread(self._tell_ends, f"{gate.name}-journal-ends", self._ended).thread
        self.due = Due(self)
        self.join = self.tokens.join
        self.find, self.room = self.backlog.find, self.backlog.room
        self.leave, self.keep, self.come = self.backlog.leave, self.backlog.keep, self.backlog.come
        self.try_again, self.puts_off = self.due.try_again, self.due.snooze
        self._suspects: deque[Row] = deque()  # rows that two processes have died with, which run one at a time
        self._suspect = 0  # uid of the one of these that runs, or is to run
        self._slots: dict[int, int] = {}  # {uid of a token whose code may run: its slot in the page}
        self.is_closing = False
        self._cuts_short = False  # whether the gate ends what runs
        self._is_over = False  # whether the thread of ends is
        self._is_disowned = False

    def open(self) -> None:
        """Start the threads."""
        self.writer.open()
        self.transactions.open()
        with self.reading() as db:
            self.backlog.open(db)
        self._ends.begin()
        self.ticker.open()

    def wall(self) -> float:
        """Return the wall time, in seconds since the epoch: the one place that asks for it."""
        return time.time()

    def boot_clock(self) -> float:
        """Return the seconds since the machine was started, with those that it slept."""
        return time.clock_gettime(_BOOT_CLOCK)

    def call(self, function: Callable[[sqlite3.Connection], T]) -> Reply[T]:
        """Have a function called by the writer within its transaction; see `Writer.call`."""
        return self.writer.call(function)

    @property
    def parked(self) -> Collection[int]:
        """The uids of rows that cannot run here."""
        return self.backlog.parked

    @property
    def trouble(self) -> str:
        """Why nothing can be written, or accepted; empty if all can."""
        return self.writer.trouble

    def in_memory(self) -> int:
        """Return how many of its tokens are in memory."""
        return sum(isinstance(token, DurableToken) for token in list(self.system.live.values()))

    def reading(self) -> closing[sqlite3.Connection]:
        """Return a connection that reads, for a `with`; not on a loop."""
        return closing(reader(self.directory))

    # Acceptance

    def acceptance(self, tokens: Sequence[DurableToken[Any]]) -> Acceptance:
        """Return the acceptance of new tokens, which is to be begun.

        Raises:
            NotDurable: a call cannot be kept.
        """
        return Acceptance(self.writer, self.tokens, self.due, [self._accepting(token) for token in tokens])

    def _accepting(self, token: DurableToken[Any]) -> tuple[DurableToken[Any], Record, tuple[Any, ...], Also]:
        """Return a token, its record, its row, and what is written with that."""
        place, key = place_of(token), token.key
        policy = token._extras.policy
        if self.backlog.unread:
            self.backlog.expect(place)
        name, codec = self._operations.get(place) or self._call_of(token, place)
        text = codec.encode(token.args, token.kwargs)
        if key is None and token.parent is not None:
            key = token.key = key_of_child(token, name, text)
        parent = None if token.parent is None else self.system.live.get(token.parent)
        record = Record(self, uid_of(self.run, token.id), idempotent=place.is_idempotent(token._call))
        record.fresh = True
        record.due, also = (None, ()) if policy is None else self.due.of_new(token, record.number)
        try:
            tags = msgspec.json.encode(dict(token.tags)).decode() if token.tags else "{}"
            key = None if key is None else str(key)
            if key is not None:
                key.encode()
        except UnicodeError as error:
            raise NotDurable(f"{token._describe()} has a key or tags that have no form on disk: {error}") from None
        row = (
            record.number, name, place.path, key, None if policy is None else fair_text(token), text, 0,
            token.priority, tags, None if parent is None else self._uid_of(parent), None,
            self.transactions.number_of(token), record.due, None if policy is None else self.due.deadline_of(token),
            states.QUEUED if record.due is None else states.DELAYED, 0, 0, self.wall(),
        )  # fmt: skip
        return token, record, row, also

    def _uid_of(self, parent: Token[Any]) -> int:
        if isinstance(parent, DurableToken) and isinstance(parent.record, Record):
            return parent.record.number
        return uid_of(self.run, parent.id)

    def take_back(self, record: Record) -> bool:
        return record.write is not None and self.writer.take_back(record.write)

    def _call_of(self, token: Token[Any], place: Place) -> tuple[str, Codec]:
        """Return the name of what a token calls, and what encodes its arguments."""
        name = name_of_call(place, token._call)
        codec = self.codec(name, place, token._call)
        if not isinstance(place, ActorPlace):
            self._operations[place] = name, codec
        return name, codec

    def decode(self, row: Row, token: Token[Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Return the arguments of a row, for its token."""
        if is_compensation(row.key):
            (text,), _ = msgspec.json.decode(row.arguments, type=tuple[tuple[msgspec.Raw], dict[str, Any]])
            return (self.transactions.done_of(bytes(text), self._codec_of),), {}
        return self.codec(row.operation, place_of(token), token._call).decode(row.arguments)

    def rejoin(self, token: DurableToken[Any], row: Row) -> None:
        """Make the token of a row a member of its transaction again."""
        if row.tx is not None:
            has_begun = row.state == states.BEGUN or row.attempts + row.recoveries > 0
            self.transactions.join(token, row.tx, has_begun=has_begun)

    def _codec_of(self, name: str, operation: Any) -> Codec:
        codec = self._codecs.get(name)
        if codec is None:
            codec = self._codecs[name] = Codec(name, operation._function)
        return codec

    def codec(self, name: str, place: Place, call: Any) -> Codec:
        """Return what encodes and decodes the calls with a name on disk, and their results; see `codec_of`."""
        codec = self._codecs.get(name)
        if codec is None:
            codec = self._codecs[name] = codec_of(name, place, call)
        return codec

    # Rows

    def offer(self, row: Row) -> bool:
        """Put the token of a queued row into its mailbox; return False if it is parked or corrupt.

        On any thread but a loop's.
        """
        return self.recover([row]) if row.state == states.BEGUN else self.backlog.offer(row)

    def go_on(self, path: str = "") -> None:
        """Have the tokens of earlier runs queued, of one path or of all; those first that had begun."""
        where = "state = 2 AND uid < ?" + " AND path = ?" * bool(path)
        first = uid_of(self.run, 0)
        values = (first, path) if path else (first,)
        with self.reading() as db:
            begun = rows_of(db, f"{where} ORDER BY uid", *values)
        self.recover(begun)
        self.is_going_on = True
        self.backlog.look(path)

    def recover(self, rows: Iterable[Row]) -> bool:
        """Queue tokens of rows again that had begun in an earlier run, or end those that must not run again.

        On any thread but a loop's, and not on that of the writer: it waits for the disk.

        Returns:
            whether none is parked.
        """
        found = list(rows)
        again = [row for row in found if self._runs_again(row)]
        suspects = [row for row in again if row.recoveries == states.DEATHS - 1]
        if suspects and not self._suspect:
            self._suspect = suspects.pop(0).uid  # it keeps its place before those that are queued
        if suspects:
            self._suspects.extend(suspects)
            again = [row for row in again if row not in suspects]
        self._offer_again(again)
        return not any(row.uid in self.backlog.parked for row in found)

    def _offer_suspect(self) -> None:
        """Offer the next token that two processes have died with: one at a time, or its neighbour would be blamed."""
        if self._suspect == 0 and self._suspects:
            row = self._suspects.popleft()
            self._suspect = row.uid
            with suppress(JournalFailed):
                self._offer_again([row])

    def _offer_again(self, rows: Sequence[Row]) -> None:
        if rows:
            undo = [(states.QUEUED, row.uid, states.BEGUN, row.attempts) for row in rows]
            # Before: a mailbox that is full leaves them on disk, where it looks for those that are queued.
            self.call(lambda db: db.executemany(_UNDO, undo)).result()
        for row in rows:
            self.backlog.offer(row)

    def _runs_again(self, row: Row) -> bool:
        """Tell whether the token of a row that had begun is to be queued again; end it if it must not be."""
        token = self.backlog.token_of(row)
        record: Any = None if token is None else token.record
        if token is None or record.begun or record.pending is not None or token.started_at is not None:
            return False  # it is parked, or has begun again
        reason = "" if record.idempotent else "may_have_run"
        reason = reason or ("poison" if row.recoveries >= states.DEATHS else "")
        if reason:
            if record.is_on_disk:
                record.come(token)
            token._finish(TokenState.FAILED, error=NotRecovered(f"token {record.uid}: {_WHY_NOT[reason]}", reason))
        return not reason

    def _offer_left(self, uid: int) -> bool:
        """Offer a row that may be of an earlier run, and have ended; return False if it cannot run here."""
        with self.reading() as db:
            (row,) = rows_of(db, "uid = ?", uid)
        return row.state >= states.COMPLETED or self.offer(row)

    def offer_new(self, uids: Sequence[int]) -> None:
        """Offer the rows with these uids that are queued, or had begun; on any thread but a loop's."""
        with self.reading() as db:
            for at in range(0, len(uids), 500):
                some = uids[at : at + 500]
                where = ",".join("?" * len(some))
                for row in rows_of(db, f"state IN (1, 2) AND uid IN ({where}) ORDER BY uid", *some):
                    self.offer(row)

    # Rows that cannot run here

    def watch_parked(self) -> None:
        """Look at parked rows each 10 seconds, and soon after a durable operation was decorated."""
        seen, looks = len(durable_names), 0

        def look() -> None:
            nonlocal seen, looks
            looks += 1
            if seen != len(durable_names):
                seen, looks = len(durable_names), -1  # and once more: it may be decorated, and not yet in its module
            if looks % _LOOKS <= 0:
                self.look()

        self.ticker.every(_SOON, look)

    def look(self) -> None:
        """Offer rows again that could not run, if their operation or path is here by now; not on a loop."""
        self.backlog.look()
        for name, uids in self.backlog.hopeful().items():
            self._codecs.pop(name, None)
            unparked = self.call(partial(_set_state, uids, states.PARKED, states.QUEUED))
            unparked.add_done_callback(partial(self._offer_later, uids))

    def _offer_later(self, uids: Sequence[int], _reply: object) -> None:
        self.later(self.offer_new, uids)

    def park(self, row: Row) -> None:
        """Note on disk that the arguments of a row do not fit."""
        with suppress(JournalFailed):
            self.writer.put(Write(partial(_set_state, [row.uid], states.QUEUED, states.PARKED)))

    # Full mailboxes

    def room_in(self, place: Place) -> None:
        """Have rows that wait read into the mailbox of a place."""
        if not self.is_closing:
            self.backlog.room_in(place)

    # An attempt, and the end

    def beginning(self, record: Record, token: DurableToken[Any]) -> Reply[None] | None:
        """Have the beginning of a token written that must not run twice; or leave it to the next opening.

        Returns:
            what is set after the commit, whatever came of it; None if there is nothing to wait for.
        """
        if self.is_closing or self.writer.error is not None:
            self.leave_behind(token)
            return None
        if record.idempotent or record.begun == token.attempt:
            return None
        if record.pending is None or record.pending.done():
            try:
                record.pending = self._write_beginning(record, token.attempt)
            except JournalFailed:
                self.leave_behind(token)
                return None
        return record.pending

    def _write_beginning(self, record: Record, attempt: int) -> Reply[None]:
        reply: Reply[None] = Reply()

        def done(error: BaseException | None) -> None:
            if error is None:
                record.begun = attempt
            reply._set()

        self.writer.put(Write(BEGIN, (attempt, record.number), done))
        return reply

    def begin(self, record: Record, token: DurableToken[Any]) -> None:
        """Note that the code of a token begins now, so that the death of the process is known to be during its run."""
        if record.begun != token.attempt or record.idempotent:  # an idempotent one may have begun in an earlier run
            record.begun = token.attempt
            if record.number not in self._slots:
                self._slots[record.number] = self.page.enter(record.number)

    def undo_beginning(self, record: Record, attempt: int) -> None:
        """Have it written that an attempt has not begun, or is over and another one follows."""
        if record.idempotent:
            self._free_slot(record)
        elif not self._is_disowned:
            row = states.QUEUED, record.number, states.BEGUN, attempt  # by then another attempt may have begun
            with suppress(JournalFailed):
                self.writer.put(Write(lambda db: db.execute(_UNDO, row)))

    def _free_slot(self, record: Record) -> None:
        slot = self._slots.pop(record.number, 0)
        if slot:
            self.page.leave(slot)
        if record.number == self._suspect:
            self._suspect = 0
            self.later(self._offer_suspect)

    def changed(self, record: Record, token: DurableToken[Any]) -> None:
        """Have it written that the priority, the tags or the place of a token have changed."""
        tags = msgspec.json.encode(dict(token.tags)).decode()
        row = token.actor, token.priority, tags, record.number
        with suppress(JournalFailed):  # the gate is asked to be closed already
            self.writer.put(Write("", also=((CHANGE, row),)))

    def end(self, record: Record, token: DurableToken[Any]) -> None:
        """Have the `ending` of a token written; then the token ends."""
        ending = record.ending
        assert ending is not None
        state, _value, error, result = ending
        if self.is_closing and self._is_cut_short(state, error):
            self._end_later(record, token, self._why_left(record))
            return
        dead = None if state in (TokenState.COMPLETED, TokenState.TERMINATED) else 1
        text = None if error is None else _text_of(error)
        also: Also = ()
        if record.saved is not None and not self.system.is_sealed(token):
            also = self._states.commit(token.actor, record.number, record.saved)
        kept = result if state is TokenState.COMPLETED else None
        if token._extras.policy is not None:
            also += self.transactions.compensation(token, kept)
        also += self.transactions.owner_ended(record.number)
        row_state = states.STATE_OF[state]
        reason = error.reason if isinstance(error, NotRecovered) else token.reason
        row = row_state, time.time(), kept, text, reason, token.attempt, dead, 0, record.number
        try:
            self.writer.put(Write(END, row, partial(self._end_later, record, token), also))
        except JournalFailed:
            self._end_later(record, token, self._why_left(record))

    def _is_cut_short(self, state: TokenState, error: BaseException | None) -> bool:
        """Tell whether an end comes from the closing of the gate, and is none of the token."""
        if isinstance(error, LeftInJournal):
            return True
        return self._cuts_short and (state is TokenState.TERMINATED or isinstance(error, ActorDead | WorkerDied))

    def leave_behind(self, token: DurableToken[Any]) -> None:
        """End the object of a token that goes on at the next opening, unless it has ended."""
        record: Any = token.record
        error = self._why_left(record)
        if not record.claim(token, (TokenState.TERMINATED, None, error, b"")):
            return
        if token.started_at is None:
            record.undo_beginning(token.attempt)
        if token._extras.policy is not None:
            token._extras.policy.end(token, TokenState.TERMINATED, None, error)
        self._end_later(record, token, error)

    def _end_later(self, record: Record, token: DurableToken[Any], failure: BaseException | None) -> None:
        """Have a token end whose end is on disk, or its object if that could not be written; this does not wait."""
        if failure is None:
            self._free_slot(record)
        self.later(self._end, record, token, failure)

    def _end(self, record: Record, token: DurableToken[Any], failure: BaseException | None) -> None:
        ending = record.ending
        assert ending is not None
        state, value, error, _ = ending
        if failure is not None:
            state, value, error = TokenState.TERMINATED, None, failure
        self.backlog.ends(record.number)
        token._end_as(state, value, error, told=failure is None)
        if not self._is_disowned:
            self.tokens.ended(record.number, state, value, error)

    def _why_left(self, record: Record) -> BaseException:
        if self.writer.error is None:
            return LeftInJournal(record.uid)
        return JournalFailed(f"token {record.uid} is left in the journal, which cannot write: {self.writer.error}")

    # User code: it runs on a thread of its own, and never on that of the writer

    def later(self, function: Callable[..., object], *args: Any) -> None:
        """Call a function soon, on a thread that may run code of users; this does not wait."""
        self._ended.put(partial(function, *args))
        if self._is_over:  # the thread may have missed it
            self._tell_ends()

    def _tell_ends(self, is_done: Callable[[], bool] = bool) -> None:
        """Run as the thread on which tokens end; and after it, for what has come too late."""
        while not is_done():
            try:
                first = self._ended.get(block=not self._is_over)
            except Empty:
                return
            with waking_together(), suppress(Empty):
                self._tell_end(first)
                for _ in range(_AT_ONCE):
                    self._tell_end(self._ended.get_nowait())

    def _tell_end(self, end: Callable[[], object]) -> None:
        try:
            end()
        except Exception:
            _logger.exception("the journal of '%s' could not end a token", self.system.name)

    # Actors

    def entered(self, place: Place) -> None:
        """Have the messages offered that wait for the actor of a new place."""
        if not self.is_going_on:
            return  # it is looked for then
        self.backlog.expect(place)
        if place.path in self.backlog.unread:
            self.later(self._go_on_at, place.path)

    def _go_on_at(self, path: str) -> None:
        with suppress(JournalFailed):
            self.go_on(path)

    def saved(self, place: ActorPlace, default: Any, kind: Any) -> Any:
        """Return the state that an actor has saved."""
        return self._states.of(place, default, kind)

    def save(self, actor: BaseActor, value: Any) -> None:
        """Keep a state of an actor."""
        self._states.note(actor, value)

    # Closing

    def close_intake(self, *, draining: bool) -> None:
        """Leave what has not begun to the next opening; and, unless `draining`, what does not end by itself."""
        if self._is_disowned:
            return
        self._cuts_short = self._cuts_short or not draining
        if not self.is_closing:
            self.is_closing = True
            self.later(self._leave_queued)

    def _leave_queued(self) -> None:
        self.backlog.close(time.monotonic() + _SECONDS)  # nothing more comes from the disk
        for token in [*self.system.live.values(), *self.backlog.waiting()]:
            if isinstance(token, DurableToken) and token.started_at is None and token.record is not None:
                is_left = token._phase is not TokenState.CREATED and not place_of(token).drain.has_taken(token)
                if token._withdraw() or is_left:  # else what has it leaves it
                    self.leave_behind(token)

    def close(self, deadline: float) -> None:
        """Write what is left, and end the threads; a disk that hangs is waited for until the deadline."""
        self.is_closing = self._cuts_short = True
        self.ticker.close(deadline)
        self.backlog.close(deadline)
        self.writer.close(deadline)
        self.abandon(deadline)

    def abandon(self, deadline: float = 0.0) -> None:
        """End the objects of tokens whose ends have not been written; what ends from now on ends where it is."""
        if not self.writer.is_closing and not self._is_disowned:  # the gate has not opened
            self.close(time.monotonic() + _SECONDS)
            return
        self._is_over = True
        self._ended.put(int)  # wakes the thread
        if not self._is_disowned:
            self._ends.gone(deadline)
        self._tell_ends()
        self._ended.put(int)  # what is above may have taken the other one
        for token in list(self.system.live.values()):
            if isinstance(token, DurableToken) and token.record is not None and token.record.is_recording:
                record: Any = token.record
                self._end(record, token, self._why_left(record))

    def disown(self) -> None:
        """Leave all to the parent, in a forked child: the objects end at once, and nothing is written."""
        self._is_disowned = self.is_closing = self._cuts_short = True
        self._ended = SimpleQueue()
        for token in self.system.live.values():
            token._callbacks = None  # they belong to threads and loops of the parent
        self.abandon()


def _text_of(error: BaseException) -> str:
    """Return the class and the text of an error of user code, as far as it has one that can be written."""
    try:
        text = str(error)[:LARGEST].encode(errors="backslashreplace").decode()
    except Exception as raised:
        text = f"its text cannot be made: {type(raised).__name__}"
    return f"{type(error).__name__}: {text}"


def _set_state(uids: Sequence[int], before: int, state: int, db: sqlite3.Connection) -> None:
    """Write another state of rows that are in a certain one."""
    db.executemany("UPDATE tokens SET state = ? WHERE uid = ? AND state = ?", [(state, uid, before) for uid in uids])
