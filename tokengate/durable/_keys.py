"""Rows of tokens by uid, and by operation and key: made inside of the journal, and attached to."""

from __future__ import annotations

import sqlite3
import sys
import threading
import time
from collections.abc import Mapping
from contextlib import AbstractContextManager
from typing import Any, Final, Protocol
from weakref import WeakValueDictionary

import attrs
import msgspec

from actors import ActorSystem, Token, TokenExpired, TokenFailed, TokenRejected, TokenState, TokenTerminated, WouldBlock
from actors.lowlevel import DurableToken, Properties, loop_here, make_token
from tokengate._exceptions import NotRecovered
from tokengate.durable import _states as states
from tokengate.durable._codec import checksum
from tokengate.durable._record import Keeper, Record, number_of, text_of
from tokengate.durable._writer import ACCEPT
from tokengate.operations._functions import found_at
from tokengate.operations._operation import operation_in

RECOVERY_REASONS: Final = ("may_have_run", "poison", "corrupt")
"""Why tokens do not run again after the death of their process."""


class OpenedJournal(Keeper, Protocol):
    """The open journal, as its rows are looked up in it."""

    @property
    def gate(self) -> Any: ...

    @property
    def system(self) -> ActorSystem: ...

    @property
    def run(self) -> int: ...

    @property
    def tokens(self) -> Tokens: ...

    def reading(self) -> AbstractContextManager[sqlite3.Connection]:
        """Return a connection that reads, for a `with`; not on a loop."""
        ...


def operation_named(name: str) -> Any:
    """Return the operation with a name, `module:qualified name`, or None; no module is imported."""
    module, _, qualified = name.partition(":")
    return operation_in(found_at(module, qualified)) if module in sys.modules else None


def submit_row(
    journal: OpenedJournal,
    db: sqlite3.Connection,
    operation: str,
    arguments: bytes,
    *,
    key: str | None = None,
    tags: Mapping[str, str] | None = None,
    priority: int | None = None,
    due: float | None = None,
    path: str = "",
    parent: int | None = None,
) -> tuple[int, bool]:
    """Write the row of a new token, unless its key is taken; within a transaction, on the thread of the writer.

    After the commit it is offered to its mailbox by `journal.offer`, or when it is due.

    Args:
        journal: the open journal.
        db: the connection that writes.
        operation: its name, `module:qualified name`.
        arguments: as the codec writes them.
        key: of the token; None: none.
        tags: in addition to those of the operation.
        priority: None: that of the operation.
        due: wall time before which it does not begin.
        path: of the place; empty: that of the operation.
        parent: uid of the token that has made it, as a number.

    Returns:
        its uid as a number, or that of the row which has the key; and whether it is new.
    """
    if key is not None:
        taken = db.execute("SELECT uid FROM tokens WHERE operation = ? AND key = ?", (operation, key)).fetchone()
        if taken:
            return int(taken[0]), False
    known = operation_named(operation)
    if not path:
        name = operation.rpartition(":")[2] if known is None else known._spec.name
        path = f"operations/{name}"
    own_tags = {} if known is None else dict(known.tags)
    if priority is None:
        priority = 0 if known is None else known.priority
    uid = journal.run << 40 | next(journal.system.ids)
    row = (
        uid, operation, path, key, None, arguments, checksum(uid, operation, arguments), priority,
        msgspec.json.encode({**own_tags, **(tags or {})}).decode(), parent, None, None, due, None,
        states.QUEUED if due is None else states.DELAYED, 0, 0, time.time(),
    )  # fmt: skip
    db.execute(ACCEPT, row)
    return uid, True


class Tokens:
    """Tokens of this process by the uids of their rows: those that run, and those that end with another one.

    Args:
        journal: the open journal.
    """

    def __init__(self, journal: OpenedJournal) -> None:
        self._journal = journal
        self._found: WeakValueDictionary[int, DurableToken[Any]] = WeakValueDictionary()  # of rows of earlier runs
        self._followers: dict[int, list[DurableToken[Any]]] = {}
        self._lock = threading.Lock()

    def note(self, number: int, token: DurableToken[Any]) -> None:
        """Note the token that runs, or is to run, for a row which it has not made."""
        self._found[number] = token

    def live(self, number: int) -> DurableToken[Any] | None:
        """Return the token that runs, or is to run, for a row; None if there is none here."""
        token: Any = self._found.get(number)
        if token is None and number >> 40 == self._journal.run:
            token = self._journal.system.live.get(number & (1 << 40) - 1)
        if not isinstance(token, DurableToken) or token.done() or token.record is None:
            return None
        return token if token.record.is_accepted and token.record.uid == text_of(number) else None

    def follow(self, token: DurableToken[Any], number: int) -> None:
        """Have a token that does not run end with a row; look at the row afterwards: it may have ended before."""
        token.record = record = Record(self._journal, number, idempotent=True)
        record.is_accepted = record.follows = True
        token._phase = TokenState.QUEUED
        token.queued_at = token.created_at
        with self._lock:
            self._followers.setdefault(number, []).append(token)

    def ended(self, number: int, state: TokenState, value: Any, error: BaseException | None) -> None:
        """End the tokens that end with a row; not on the thread of the writer."""
        if self._followers:
            with self._lock:
                followers = self._followers.pop(number, ())
            for token in followers:
                token._finish(state, value, error)

    def attach(self, number: int) -> Token[Any]:
        """Return a token of a row; see `Journal.attach`."""
        live = self.live(number)
        if live is not None:
            return live
        journal = self._journal
        with journal.reading() as db:
            row = db.execute("SELECT operation, path, priority, tags FROM tokens WHERE uid = ?", (number,)).fetchone()
            if row is None:
                raise gone(f"token {text_of(number)}")
            name, path, priority, tags = row
            known = operation_named(name)
            place: Any = Elsewhere(journal.system, path) if known is None else journal.gate._operations[known._spec]
            called = name.rpartition(":")[2] if known is None else known._name
            token = make_token(place, called, None, (), {}, priority, msgspec.json.decode(tags or "{}"), DurableToken)
            assert isinstance(token, DurableToken)
            self.follow(token, number)
            outcome = outcome_of(db, number)
        if outcome is not None:
            self.ended(number, *outcome)
        return token


@attrs.define
class Elsewhere:
    """Stands for the place of a token whose operation is unknown here."""

    system: ActorSystem
    path: str
    affinity: str = "cpu"
    serves_operators: bool = False
    properties: Properties = attrs.field(factory=Properties)
    governor: None = None
    changes_here: bool = False
    listen_for: None = None

    @property
    def mailbox(self) -> Elsewhere:
        return self

    drain = mailbox

    def held_up_by(self) -> list[Token[Any]]:
        """Return no token: none of this process runs before it."""
        return []


def gone(what: str) -> LookupError:
    """Return the error for a row that is not there."""
    return LookupError(f"{what} is not in the journal: it was never there, or was removed after its retention")


def outcome_of(db: sqlite3.Connection, number: int) -> tuple[TokenState, Any, BaseException | None] | None:
    """Return the end of a row, its result decoded by the annotation of its function; None while it has not ended.

    Raises:
        LookupError: the row is not there.
    """
    row = db.execute(
        "SELECT operation, state, result, error, reason, dead FROM tokens WHERE uid = ?", (number,)
    ).fetchone()
    if row is None:
        raise gone(f"token {text_of(number)}")
    name, row_state, result, text, reason, _dead = row
    state = states.TOKEN_STATE.get(row_state)
    if state is None:
        return None
    if state is TokenState.COMPLETED:
        return state, msgspec.json.decode(result), None
    return state, None, error_from(state, f"token {text_of(number)} ({name}) {state}: {text or reason}", reason or "")


def error_from(state: TokenState, message: str, reason: str) -> BaseException:
    """Return the error of a token that has ended in an earlier process, or whose error is not here."""
    if reason in RECOVERY_REASONS:
        return NotRecovered(message, reason)
    if state is TokenState.REJECTED:
        return TokenRejected(message, reason)
    if state is TokenState.EXPIRED:
        return TokenExpired(message, reason)
    return TokenTerminated(message) if state is TokenState.TERMINATED else TokenFailed(message)


def attach(journal: OpenedJournal, what: Any, key: str | int | None) -> Token[Any]:
    """Return a token of a row; see `Journal.attach`."""
    if loop := loop_here():
        raise WouldBlock(f"attach would block this {loop} loop while it reads the disk; call it on a thread")
    if key is None:
        return journal.tokens.attach(number_of(what))
    name = what if isinstance(what, str) else f"{what.__module__}:{what.__qualname__}"
    with journal.reading() as db:
        row = db.execute("SELECT uid FROM tokens WHERE operation = ? AND key = ?", (name, str(key))).fetchone()
    if row is None:
        raise gone(f"a token of '{name}' with the key {key!r}")
    return journal.tokens.attach(int(row[0]))
