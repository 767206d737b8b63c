"""Tokens by the uid or the key of their row: attached to, and ended as others do whose key they have."""

from __future__ import annotations

import sqlite3
import threading
from typing import Any, Final

import attrs
import msgspec

from actors import (
    ActorSystem,
    KeyReused,
    Token,
    TokenExpired,
    TokenFailed,
    TokenRejected,
    TokenState,
    TokenTerminated,
    WouldBlock,
)
from actors.lowlevel import DurableToken, Properties, any_loop_here, make_token, place_of
from tokengate._exceptions import NotRecovered
from tokengate.control._uids import number_of, text_of
from tokengate.durable import _states as states
from tokengate.durable._calls import name_of
from tokengate.durable._checksums import CHANGED_BITS, WHOLE
from tokengate.durable._ports import OpenedJournal
from tokengate.durable._record import Record
from tokengate.durable._row import Row, row_of
from tokengate.durable._writer import ACCEPT

RECOVERY_REASONS: Final = ("may_have_run", "poison", "corrupt")
"""Why tokens do not run again after the death of their process."""


_FOUND: Final = f"SELECT uid, arguments, operation, state, result, error, reason, {WHOLE} FROM tokens WHERE"


class Tokens:
    """Tokens of this process by the uids of their rows: those that run, and those that end as others do.

    Args:
        journal: the open journal.
    """

    def __init__(self, journal: OpenedJournal) -> None:
        self._journal = journal
        self._followers: dict[int, dict[DurableToken[Any], None]] = {}  # {uid: the tokens that end as that one does}
        self._lock = threading.Lock()

    # Keys

    def accept(self, token: DurableToken[Any], record: Record, row: tuple[Any, ...], db: sqlite3.Connection) -> None:
        """Write the row of a new token; or have the token end as the one does which has its key.

        In the transaction, on the thread of the writer, so that no end of that one is missed. If it is undone, this is
        called again.
        """
        if record.follows:
            self.leave(token)
        number, name, key, text = row[0], row[1], row[3], row[5]
        taken = db.execute(f"{_FOUND} operation = ? AND key = ?", (name, key)).fetchone()
        record.number, record.follows, record.found = number, taken is not None, taken
        if taken is None:
            db.execute(ACCEPT, row)
        elif not taken[-1] or self._journal.codec(name, place_of(token), token._call).is_same(text, taken[1]):
            record.number = taken[0]
            self._follow(token)
        else:
            record.found = KeyReused(
                f"{token._describe()} was refused: token {text_of(taken[0])} has the same key, {key!r}, and other "
                "arguments; give each piece of work a key of its own"
            )

    def join(self, token: DurableToken[Any]) -> None:
        """Do what follows for a token whose key was taken, once; on a thread that may run code of users.

        Raises:
            KeyReused: its arguments are others.
        """
        record: Any = token.record
        found, record.found = record.found, None
        if isinstance(found, KeyReused):
            token.record = None
            token._phase = TokenState.CREATED
            raise found
        if found is None:
            return
        system = self._journal.system
        if system.on_token_queued is not None:
            system.tell(system.on_token_queued, token)
        self._end(token, found[2:])

    # Tokens that end as others do

    def _follow(self, token: DurableToken[Any]) -> None:
        record: Any = token.record
        token._phase, token.queued_at = TokenState.QUEUED, token.created_at
        with self._lock:
            self._followers.setdefault(record.number, {})[token] = None
        token.add_done_callback(self.leave)

    def leave(self, token: DurableToken[Any]) -> None:
        """Let a token not end as another one does any more."""
        record: Any = token.record
        with self._lock:
            followers = self._followers.get(record.number)
            if followers is not None and followers.pop(token, self) is None and not followers:
                del self._followers[record.number]

    def ended(self, number: int, state: TokenState, value: Any, error: BaseException | None) -> None:
        """End the tokens that end as another one has; not on the thread of the writer."""
        if self._followers:
            with self._lock:
                followers = self._followers.pop(number, ())
            for token in followers:
                token._finish(state, value, error)

    def attach(self, number: int) -> Token[Any]:
        """Return a token of a row; see `Journal.attach`."""
        journal = self._journal
        live = journal.backlog.known(number)
        if live is not None and not live.done():
            return live
        with journal.reading() as db:
            row = row_of(db, number)
            if row is None:
                raise gone(f"token {text_of(number)}")
            token = self._standing_for(row)
            self._follow(token)
            found = db.execute(f"{_FOUND} uid = ?", (number,)).fetchone()  # after that, so that no end is missed
        if found is None:
            token._finish(TokenState.TERMINATED, error=gone(f"token {text_of(number)}"))
        else:
            self._end(token, found[2:])
        return token

    def _standing_for(self, row: Row) -> DurableToken[Any]:
        """Return a token that ends as that of a row does."""
        place: Any
        place, called, call = self._journal.backlog.target(row.operation, row.path)
        if place is None:
            place, called, call = Elsewhere(self._journal.system, row.path), row.operation.rpartition(":")[2], ()
        token = make_token(place, called, call, (), {}, row.priority, msgspec.json.decode(row.tags), DurableToken)
        assert isinstance(token, DurableToken)
        token.key = None
        token.record = record = Record(self._journal, row.uid, idempotent=True)
        record.is_accepted = record.follows = True
        return token

    def _end(self, token: DurableToken[Any], found: tuple[Any, ...]) -> None:
        """End a token as a row has ended, if it has."""
        name, row_state, result, text, reason, is_whole = found
        if not is_whole:
            token._finish(TokenState.FAILED, error=NotRecovered(f"token {token.uid}: {CHANGED_BITS}", "corrupt"))
            return
        state = states.TOKEN_STATE.get(row_state)
        if state is None:
            return
        what = f"token {token.uid} ({name})"
        if state is TokenState.COMPLETED:
            value = (
                msgspec.json.decode(result)
                if isinstance(token._place, Elsewhere)
                else self._journal.codec(name, place_of(token), token._call).decode_result(result)
            )
            token._finish(state, value)
        else:
            token._finish(state, error=error_from(state, f"{what} {state}: {text or reason or ''}", reason or ""))


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

    def has_taken(self, _token: Token[Any]) -> bool:
        """Tell that it runs no token."""
        return False

    def held_up_by(self) -> list[Token[Any]]:
        """Return no token: none of this process runs before it."""
        return []


def gone(what: str) -> LookupError:
    """Return the error for a row that is not there."""
    return LookupError(f"{what} is not in the journal: it was never there, or was removed after its retention")


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
    if loop := any_loop_here():
        raise WouldBlock(f"attach would block this {loop} loop while it reads the disk; call it on a thread")
    if key is None:
        return journal.tokens.attach(number_of(what))
    name = what if isinstance(what, str) else name_of(what)
    name = journal.aliases.get(name, name)
    with journal.reading() as db:
        row = db.execute("SELECT uid FROM tokens WHERE operation = ? AND key = ?", (name, str(key))).fetchone()
    if row is None:
        raise gone(f"a token of '{name}' with the key {key!r}")
    return journal.tokens.attach(int(row[0]))
