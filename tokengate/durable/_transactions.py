"""Durable transactions: what is kept of them on disk, and what becomes of those that a process has left."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from itertools import count
from typing import Any, Final

import attrs
import msgspec

from actors import NotDurable, Reply, Token, TokenRejected, TokenState, current_token
from actors.lowlevel import DurableToken
from tokengate.control._uids import text_of, uid_of
from tokengate.durable import _states as states
from tokengate.durable._calls import name_of
from tokengate.durable._checksums import WHOLE, whole
from tokengate.durable._codec import Codec, encode_result
from tokengate.durable._new_rows import submit_row
from tokengate.durable._ports import OpenedJournal
from tokengate.durable._store import damaged
from tokengate.durable._writer import Also, Write
from tokengate.operations._operation import operation_named
from tokengate.policy._attempt import End
from tokengate.policy._transaction import Kept, Member, State, Transaction, entered
from tokengate.policy._undo import Done, Undo

_LEFT: Final = "the process that ran it has ended"
_CUT: Final = "TokenTerminated: its transaction was rolled back, since the process that ran it has ended"

# A call with a `Done`, from the row of the call that is undone, which is gone after the retention.
_COMPENSATE: Final = """
INSERT OR REPLACE INTO compensations(tx, seq, uid, operation, arguments, state)
SELECT ?, ?, uid, ?, '{"of":' || json_quote(operation) || ',"call":' || CAST(arguments AS TEXT) || ',"result":' || ?
    || ',"state":' || json_quote(?) || ',"key":' || CASE WHEN key LIKE 'child/%' THEN 'null' ELSE json_quote(key) END
    || '}', 'pending'
FROM tokens WHERE uid = ?
"""
_RELEASE: Final = "UPDATE tokens SET key = NULL WHERE uid = ? AND key LIKE 'child/%'"
_UNDONE: Final = "DELETE FROM compensations WHERE tx = ? AND uid = ?"

# Members whose code may have run, of which nothing more is known, and no compensation is there.
_UNKNOWN: Final = f"""
SELECT uid, operation, {WHOLE} FROM tokens WHERE tx = ? AND (state = 2 OR (state < 4 AND attempts + recoveries > 0)
    OR (state = 5 AND reason = 'corrupt')) AND uid NOT IN (SELECT uid FROM compensations WHERE tx = ?) ORDER BY uid
"""


@attrs.frozen
class _DoneText:
    """A `Done` on disk.

    Attributes:
        of: name of the operation that is undone.
        call: its arguments, as they were written.
        result, state, key: as those of `Done`.
    """

    of: str
    call: msgspec.Raw
    result: msgspec.Raw
    state: str
    key: str | None


class DurableTransactions:
    """The log of the durable transactions of a gate; see `TransactionLog`.

    Args:
        journal: the open journal.
        write: has something written.
        offer: puts the token of a row into its mailbox; returns False if it cannot run here.
    """

    def __init__(
        self,
        journal: OpenedJournal,
        write: Callable[[Write], object],
        offer: Callable[[int], bool],
    ) -> None:
        self._journal = journal
        self._write = write
        self._offer = offer
        self._open: dict[int, Transaction] = {}  # {number: the transaction}
        self._done: dict[int, list[Transaction]] = {}  # {uid of an owner that has not ended: those that are done}
        self._left: list[Transaction] = []  # those to roll back before tokens run

    # What a process has left

    def open(self) -> None:
        """Find what was left: decide what is rolled back, and let its members not run; before any token runs."""
        with self._journal.reading() as db:
            if not db.execute("SELECT 1 FROM transactions").fetchone():
                return
            are_changed = f"SELECT count(*) FROM transactions WHERE NOT {whole(db, 'transactions')}"
            if changed := db.execute(are_changed).fetchone()[0]:  # one that is done may be taken for one to roll back
                raise damaged(self._journal.directory, f"bits of {changed:,} rows of transactions have changed")
        found, steps, last = self._journal.call(_cut).result()
        ledger = self._journal.gate._ledger()
        ledger.orders = count(last + 1)
        for number, name, owner, state in found:
            transaction = Transaction(ledger, name, None, log=self)
            transaction.number, transaction.owner = number, owner
            transaction.kept = {one.id: one for one in steps.get(number, ())}
            transaction.size = len(transaction.kept)
            transaction.awaits_owner = state == "open"
            transaction.is_left = state != "open"
            if state == "done":
                self._done.setdefault(owner, []).append(transaction)
                continue
            ledger.add(transaction)
            self._open[number] = transaction
            if state != "open":
                self._left.append(transaction)

    def roll_back_left(self) -> None:
        """Roll back what was left, and wait for that."""
        left, self._left = self._left, []
        for transaction in left:
            transaction.roll_back(_LEFT)
        for transaction in left:
            if transaction.run is not None:
                transaction.run.wait(bool, transaction.go_on)

    def join(self, token: DurableToken[Any], number: int, *, has_begun: bool) -> None:
        """Make the token of a row a member again, if its transaction goes on.

        Args:
            token: the token.
            number: of the transaction.
            has_begun: whether code of it has run of which nothing is known.
        """
        transaction, context = self._open.get(number), token._context
        if transaction is not None and context is not None:
            context.run(entered.set, transaction)
            with transaction.ledger.lock:
                transaction.take(token)
                if has_begun:
                    _note_lost(transaction.members[token.id])

    def owner_ended(self, owner: int) -> Also:
        """Roll back what the run of an owner has not gone on with; return what removes the others, with its end."""
        if not self._open and not self._done:
            return ()
        for transaction in list(self._open.values()):
            if transaction.awaits_owner and transaction.owner == owner:
                transaction.awaits_owner = False
                transaction.is_left = True
                transaction.roll_back("its owner has ended without it")
        return sum((_forget(one.number) for one in self._done.pop(owner, ())), ())

    # For the journal

    def number_of(self, token: Token[Any]) -> int | None:
        """Return the number of the transaction that a token is a member of."""
        ledger, context = self._journal.gate._transactions, token._context
        inside = None if ledger is None or context is None else ledger.innermost(context.get(entered))
        return None if inside is None or inside.log is not self else inside.number

    def compensation(self, token: Token[Any], result: bytes | None) -> Also:
        """Return what writes the compensation of a token that ends; nothing if none follows."""
        member = getattr(token._extras.policy, "member", None)
        if not isinstance(member, Member) or member.transaction.log is not self or not member.is_of_use:
            return ()
        return self._compensation(member, result)

    def _compensation(self, member: Member, result: bytes | None) -> Also:
        assert member.undo is not None
        text = "null" if result is None or member.outcome is not TokenState.COMPLETED else result.decode()
        name = name_of(member.undo.operation)
        row = member.transaction.number, member.order, name, text, str(member.outcome), _uid_of(member)
        return ((_COMPENSATE, row),)

    def done_of(self, text: bytes, codec: Callable[[str, Any], Codec]) -> Done[Any]:
        """Return the argument of a compensation.

        Args:
            text: as it is on disk.
            codec: returns what decodes the calls of an operation, by its name and the operation.

        Raises:
            msgspec.ValidationError: the operation that is undone is unknown here, or does not fit.
        """
        kept = msgspec.json.decode(text, type=_DoneText)
        operation = operation_named(kept.of)
        if operation is None:
            raise msgspec.ValidationError(f"operation '{kept.of}' is unknown here")
        known = codec(kept.of, operation)
        args, kwargs = known.decode(bytes(kept.call))
        result = known.decode_result(bytes(kept.result)) if kept.state == TokenState.COMPLETED else None
        return Done(args, kwargs, result, kept.state, kept.key)

    # `TransactionLog`

    def begin(self, transaction: Transaction) -> Transaction:
        owner = current_token()
        record: Any = owner.record if isinstance(owner, DurableToken) else None
        transaction.owner = None if record is None else record.number
        done = self._done.get(transaction.owner or 0, [])
        for found in done:
            if found.name == transaction.name:  # a run before has done it, and this one does it again
                done.remove(found)
                transaction.number, transaction.kept = found.number, found.kept
                transaction.size = len(found.kept)
                self._put("UPDATE transactions SET state = 'open' WHERE tx = ?", found.number)
                self._open[found.number] = transaction
                return transaction
        for found in self._open.values():
            if found.awaits_owner and (found.owner, found.name) == (transaction.owner, transaction.name):
                return found
        transaction.number = uid_of(self._journal.run, next(self._journal.system.ids))
        self._put("INSERT INTO transactions(tx, name, owner, state) VALUES(?, ?, ?, 'open')",
                  transaction.number, transaction.name, transaction.owner)  # fmt: skip
        self._open[transaction.number] = transaction
        return transaction

    def check(self, token: Token[Any], undo: Undo | None) -> None:
        if not isinstance(token, DurableToken):
            raise NotDurable(
                f"{token._describe()} cannot be in a durable transaction: declare its operation, or the method of its "
                "actor, durable"
            )
        if undo is not None and not undo.operation._spec.properties.durable:
            raise NotDurable(
                f"{token._describe()} cannot be in a durable transaction: its compensation "
                f"'{undo.operation._name}' is not durable; declare it @token(durable=True)"
            )

    def roll_back(self, transaction: Transaction) -> None:
        self._put("UPDATE transactions SET state = 'rolling_back' WHERE tx = ?", transaction.number)

    def release(self, members: Sequence[Member]) -> None:
        for member in members:
            self._put(_RELEASE, _uid_of(member))

    def wait(self) -> None:
        self._journal.call(bool).result()

    def undo(self, transaction: Transaction, step: Member | Kept, tags: Mapping[str, str]) -> Token[Any]:
        if isinstance(step, Member) and step.returned is not None:  # its code was left behind, and tells more by now
            result = encode_result(step.token.operation, step.returned[1])
            for statement, row in self._compensation(step, result):
                self._put(statement, *row)
        uid, name = self._journal.call(partial(self._submit, transaction, _uid_of(step), tags)).result()
        if not self._offer(uid):
            raise TokenRejected(
                f"compensation '{name}', token {text_of(uid)}, is unknown here, or its arguments do not fit; import "
                "its module, then compensate the transaction again"
            )
        return self._journal.tokens.attach(uid)

    def _submit(
        self, transaction: Transaction, uid: int, tags: Mapping[str, str], db: sqlite3.Connection
    ) -> tuple[int, str]:
        """Make the row of a compensation, unless it is there; return its uid, and its operation."""
        name, text, is_whole = db.execute(
            f"SELECT operation, arguments, {whole(db, 'compensations')} FROM compensations WHERE tx = ? AND uid = ?",
            (transaction.number, uid),
        ).fetchone()
        if not (name and is_whole):
            raise TokenRejected(
                f"token {text_of(uid)} cannot be undone: its operation was unknown as the journal was opened, or bits "
                "of its row have changed; undo it by hand, then skip the step"
            )
        key = f"undo/{transaction.number}/{uid}"
        row = db.execute("SELECT uid, state FROM tokens WHERE operation = ? AND key = ?", (name, key)).fetchone()
        if row is not None and (row[1] <= states.COMPLETED or not transaction.repeats):
            return row[0], name
        if row is not None:
            db.execute("UPDATE tokens SET key = NULL WHERE uid = ?", (row[0],))
        new, _ = submit_row(self._journal, db, name, b"[[%b],{}]" % text.encode(), key=key, tags=tags)
        if row is not None:
            db.execute("UPDATE tokens SET successor = ?, dead = NULL WHERE uid = ?", (new, row[0]))
        return new, name

    def undone(self, transaction: Transaction, step: Member | Kept, *, skipped: bool = False) -> None:
        uid = _uid_of(step)
        also: Also = ((_UNDONE, (transaction.number, uid)), *(() if skipped else ((_RELEASE, (uid,)),)))
        self._write(Write("", also=also))

    def end(self, transaction: Transaction) -> Reply[Any]:
        self._open.pop(transaction.number, None)
        reply: Reply[None] = Reply()
        also = _forget(transaction.number)
        if transaction.state is State.COMMITTED and transaction.owner is not None:
            # Until its owner ends: if that runs again, and fails, all of it is undone.
            members = [member for member in transaction.members.values() if member.is_of_use]
            transaction.kept |= {_uid_of(one): Kept(_uid_of(one), one.order, one.name) for one in members}
            self._done.setdefault(transaction.owner, []).append(transaction)
            also = (("UPDATE transactions SET state = 'done' WHERE tx = ?", (transaction.number,)),)
        self._write(Write("", done=lambda error: reply._set(error=error), also=also))
        return reply

    def _put(self, statement: str, *row: Any) -> None:
        self._write(Write("", also=((statement, row),)))


def _note_lost(member: Member) -> None:
    """Note that code of a member has run in an earlier process, and how far it came is unknown."""
    member.begin()
    member.end(End.LOST)


def is_compensation(key: str | None) -> bool:
    """Tell whether a key is that of a compensation."""
    return key is not None and key.startswith("undo/")


def _uid_of(step: Member | Kept) -> int:
    return step.id if isinstance(step, Kept) else step.token.record.number  # type: ignore[attr-defined]


def _forget(number: int) -> Also:
    """Return what removes a transaction."""
    return (
        ("DELETE FROM transactions WHERE tx = ?", (number,)),
        ("DELETE FROM compensations WHERE tx = ?", (number,)),
    )


def _kept(uid: int, order: int, operation: str) -> Kept:
    return Kept(uid, order, f"{operation.rpartition(':')[2]} (token {text_of(uid)})")


def _undo_of(name: str) -> str | None:
    """Return the name of what undoes an operation; None if nothing does; an empty one if it is unknown here."""
    operation = operation_named(name)
    undo = None if operation is None else operation._spec.undo.operation
    return "" if operation is None else None if undo is None else name_of(undo)


def _cut(db: sqlite3.Connection) -> tuple[list[tuple[int, str, Any, str]], dict[int, list[Kept]], int]:
    """Decide what becomes of the transactions that were left, and end the members of those that are rolled back.

    Returns:
        number, name, owner and state of each: `open` and `done` if its owner runs again, `rolling_back`; {number: what
        is to be undone}; and the last of their orders.
    """
    last: int = db.execute("SELECT COALESCE(MAX(seq), 0) FROM compensations").fetchone()[0]
    found = []
    rows = db.execute("SELECT tx, name, owner, state FROM transactions ORDER BY tx").fetchall()
    for tx, name, owner, state in rows:
        if state != "rolling_back" and _runs_again(db, owner):
            found.append((tx, name, owner, state))
        elif state == "done":
            for statement, row in _forget(tx):
                db.execute(statement, row)
        else:
            found.append((tx, name, owner, "rolling_back"))
            for uid, operation, is_whole in db.execute(_UNKNOWN, (tx, tx)).fetchall():
                undo = _undo_of(operation) if is_whole else ""
                if undo is not None:
                    last += 1
                    db.execute(_COMPENSATE, (tx, last, undo, "null", "terminated", uid))
            db.execute("UPDATE transactions SET state = 'rolling_back' WHERE tx = ?", (tx,))
            db.execute(
                "UPDATE tokens SET state = ?, ended = ?, error = ?, reason = 'transaction', key = "
                "CASE WHEN key LIKE 'child/%' THEN NULL ELSE key END WHERE tx = ? AND state < 4",
                (states.TERMINATED, time.time(), _CUT, tx),
            )
    steps: dict[int, list[Kept]] = {}
    for tx, seq, uid, operation in _members(db):
        steps.setdefault(tx, []).append(_kept(uid, seq, operation))
    return found, steps, last


def _members(db: sqlite3.Connection) -> Iterator[tuple[int, int, int, str]]:
    valid = "CASE WHEN json_valid(arguments) THEN json_extract(arguments, '$.of') ELSE '' END"
    yield from db.execute(f"SELECT tx, seq, uid, {valid} FROM compensations")


def _runs_again(db: sqlite3.Connection, owner: int | None) -> bool:
    """Tell whether the owner of a transaction will run again, as far as that is known here."""
    row = db.execute("SELECT operation, state, recoveries FROM tokens WHERE uid = ?", (owner,)).fetchone()
    if row is None or row[1] >= states.COMPLETED:
        return False
    operation = operation_named(row[0])
    if row[1] != states.BEGUN or operation is None:
        return True
    return bool(operation._spec.properties.idempotent) and row[2] < states.DEATHS
