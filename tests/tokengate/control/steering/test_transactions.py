"""Operators list transactions, roll them back, repeat and skip the steps in which they are stuck."""

# ruff: noqa: PT012  # a whole block is what raises

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tokengate import Gate, token
from tokengate._exceptions import CompensationFailed
from tokengate.control.messages import TransactionRow
from tokengate.errors import BadRequest, TokenTerminated
from tokengate.types import Done

Until = Callable[[Callable[[], bool]], None]


class Bank:
    """What was done and undone; it refuses to undo while it is closed."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.is_closed = False

        @token
        def charge(number: int) -> int:
            self.lines.append(f"charge {number}")
            return number

        @charge.compensate
        def refund(done: Done[int]) -> None:
            if self.is_closed:
                raise RuntimeError("closed")
            self.lines.append(f"refund {done.result}")

        self.charge: Any = charge


@pytest.fixture
def gate() -> Iterator[Gate]:
    with Gate("shop", threads=2, control_socket=False) as opened:
        yield opened


@pytest.fixture
def bank() -> Bank:
    return Bank()


def test_transactions_are_listed_by_name_and_state(gate: Gate, bank: Bank) -> None:
    """Case 48. A gate that never had one lists none; `*` stands for any text."""
    assert gate.control.transactions() == ()
    with gate.transaction("order 7"), gate.transaction("stock"):
        bank.charge.submit(1).result()
        assert gate.control.transactions() == (
            TransactionRow("order 7", "open", 0, 0),
            TransactionRow("stock", "open", 1, 0),
        )
        assert [row.name for row in gate.control.transactions("order*")] == ["order 7"]
    assert gate.control.transactions() == ()


@pytest.mark.parametrize("way", ["transaction", "token"])
def test_an_open_transaction_is_rolled_back(gate: Gate, bank: Bank, until: Until, way: str) -> None:
    """Case 48. By its name, or as that of a token, which may have ended; the block is told."""
    with pytest.raises(TokenTerminated, match="an operator asked for it"), gate.transaction("order 7"):
        member = bank.charge.submit(1)
        member.result()
        if way == "transaction":
            assert gate.control.compensate_transaction("order 7").name == "order 7"
        else:
            (outcome,) = gate.control.compensate(member.id)
            assert (outcome.outcome, outcome.note) == ("rolling_back", "transaction 'order 7'")
        until(lambda: bank.lines == ["charge 1", "refund 1"])


def test_stuck_steps_are_repeated_and_skipped(gate: Gate, bank: Bank, until: Until) -> None:
    """Case 48. The row names the steps, and the error."""
    bank.is_closed = True
    with pytest.raises(CompensationFailed), gate.transaction("order 7") as tx:
        first, second = bank.charge.submit(1), bank.charge.submit(2)
        first.result()
        second.result()
        tx.roll_back()
    (row,) = gate.control.transactions()
    assert row.state == "stuck"
    assert set(row.failed) == {first.id, second.id}
    assert row.error == "RuntimeError: closed"
    assert (row.members, row.undone) == (2, 0)

    with pytest.raises(BadRequest, match="not stuck in step 99"):
        gate.control.skip_transaction("order 7", 99)
    assert gate.control.skip_transaction("order 7", first.id).failed == (second.id,)
    bank.is_closed = False
    gate.control.compensate_transaction("order 7")
    until(lambda: gate.control.transactions() == ())
    assert bank.lines[-1] == "refund 2"
    assert bank.lines.count("refund 1") == 0


def test_what_is_not_there_is_named(gate: Gate, bank: Bank) -> None:
    """The error says what to look at; a token outside of transactions is refused."""
    with pytest.raises(BadRequest, match="'transactions' lists them"):
        gate.control.compensate_transaction("order 7")
    with gate.transaction("order 7"):
        pass
    with pytest.raises(BadRequest, match="or it is over"):
        gate.control.skip_transaction("order 7", 1)
    outside = bank.charge.submit(1)
    outside.result()
    assert gate.control.compensate(outside.id)[0].outcome == "ended"


def test_a_dry_run_rolls_nothing_back(gate: Gate, bank: Bank) -> None:
    """It says which tokens it would be for."""
    with gate.transaction("order 7"):
        member = bank.charge.submit(1)
        member.result()
        assert gate.control.compensate(member.id, dry_run=True)[0].outcome == "would"
    assert bank.lines == ["charge 1"]
