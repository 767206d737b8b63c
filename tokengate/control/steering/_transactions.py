"""The verbs for transactions: list them, roll them back, repeat or skip the steps in which they are stuck."""

from __future__ import annotations

from collections.abc import Collection
from fnmatch import fnmatchcase

from tokengate.control import messages as m
from tokengate.control._admission import admission
from tokengate.control._exceptions import BadRequest, NotSteerable
from tokengate.control._ports import ControlledGate
from tokengate.control._safe_text import plain
from tokengate.policy._transaction import State, Transaction

_WHY = "an operator asked for it"


class TransactionVerbs:
    """The verbs for the transactions of a gate.

    Args:
        gate: the gate.
    """

    def __init__(self, gate: ControlledGate) -> None:
        self._gate = gate

    async def transactions(self, message: m.Transactions) -> tuple[m.TransactionRow, ...]:
        ledger = self._gate._transactions
        found = [one for one in ([] if ledger is None else ledger.all()) if _is_reached(one)]
        return tuple(_row(one) for one in found if fnmatchcase(one.name, message.select.strip() or "*"))

    async def compensate_transaction(self, message: m.CompensateTransaction) -> m.TransactionRow:
        transaction = self._named(message.name)
        if transaction.state is State.OPEN:
            if held := _guarded(self._gate, transaction, ()):
                raise NotSteerable(f"{held}; 'compensate' it by its tokens, which asks what that needs")
            transaction.roll_back(_WHY)
        elif not transaction.repeat():
            why = (
                "its code was left behind, and is undone when it returns" if transaction.running else "it is on its way"
            )
            raise BadRequest(f"transaction '{message.name}' is {transaction.state}, and nothing can be repeated: {why}")
        return _row(transaction)

    async def skip_transaction(self, message: m.SkipTransaction) -> m.TransactionRow:
        transaction = self._named(message.name)
        if not transaction.skip(message.step):
            steps = ", ".join(map(str, _row(transaction).failed)) or "none"
            raise BadRequest(
                f"transaction '{message.name}' is {transaction.state}, and not stuck in step {message.step}; "
                f"its steps: {steps}"
            )
        return _row(transaction)

    def _named(self, name: str) -> Transaction:
        ledger = self._gate._transactions
        found = None if ledger is None else ledger.named(name)
        if found is None:
            raise BadRequest(f"no transaction is called '{name}', or it is over; 'transactions' lists them")
        return found


def compensate(gate: ControlledGate, id: int, asked: Collection[int]) -> str:
    """Roll back the open transaction that a token is a member of; return its name, empty if there is none.

    One with members that the caller does not reach is as if there were none.

    Args:
        gate: the gate.
        id: of the token.
        asked: ids of the tokens that may be rolled back by their guards.

    Raises:
        NotSteerable: it would end other tokens, which are guarded.
    """
    ledger = gate._transactions
    found = None if ledger is None else ledger.of(id)
    if ledger is None or found is None or found.state is not State.OPEN:
        return ""
    if not all(map(_is_reached, (found, *ledger.inside(found)))):
        return ""
    if held := _guarded(gate, found, asked):
        raise NotSteerable(f"{held}; name it as well")
    found.roll_back(_WHY)
    return found.name


def _guarded(gate: ControlledGate, transaction: Transaction, asked: Collection[int]) -> str:
    """Return which live member has a guard that was not asked for, as text; empty if none has."""
    ledger = gate._transactions
    assert ledger is not None
    for one in (transaction, *ledger.inside(transaction)):
        for member in list(one.members.values()):
            guard = member.token._place.properties.guard
            if guard != "none" and not member.token.done() and member.token.id not in asked:
                return f"that ends token {member.token.id}, whose guard is '{guard}'"
    return ""


def _is_reached(transaction: Transaction) -> bool:
    """Tell whether the caller's grants reach all members of a transaction, of which none is forgotten."""
    here = admission()
    if here.covers("*"):
        return True
    members = list(transaction.members.values())
    return len(members) == transaction.size and all(here.reaches(member.token) for member in members)


def _row(transaction: Transaction) -> m.TransactionRow:
    return m.TransactionRow(
        transaction.name,
        str(transaction.state),
        transaction.size,
        len(transaction.undone),
        (*transaction.failed, *transaction.running),
        plain(transaction.error),
    )
