"""A bank transfer that is broken at each step, in each way: an outside ledger is even afterwards."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from typing import Any

import pytest
from gated_code import LIMIT
from shared_lists import Boom, SharedList
from tiers import in_ci

from tokengate import Gate, token
from tokengate.errors import TokenGateError
from tokengate.types import Done, ProcessPool

STEPS = ("withdraw", "deposit", "fee")
AMOUNTS = {"withdraw": -100, "deposit": 95, "fee": 5}


def movements(affinity: str) -> list[Any]:
    """Return operations that each write a line into a ledger, and may break before or after that.

    A compensation reverses what the ledger has of its call: it works whatever became of the code.
    """
    made = []
    for step in STEPS:

        def move(ledger: SharedList, order: str, amount: int, broken: str, step: str = step) -> None:
            if broken == "raises before":
                raise Boom(step)
            if broken == "dies before":
                os._exit(1)
            ledger.append((order, step, amount))
            if broken == "dies after":
                os._exit(1)
            if broken == "raises after":
                raise Boom(step)

        move.__name__ = move.__qualname__ = step
        operation: Any = token(affinity=affinity)(move)  # type: ignore[call-overload]

        @operation.compensate(on="any")
        def reverse(done: Done[None], step: str = step) -> None:
            ledger, order, amount, _ = done.args
            booked = sum(line[2] for line in ledger if line[:2] == (order, step))
            assert booked in (0, amount)
            if booked:
                ledger.append((order, step, -booked))

        made.append(operation)
    return made


def transfer(gate: Gate, ledger: SharedList, operations: list[Any], broken_at: int, way: str) -> str:
    """Move money in three steps, one of which is broken; return the state of the transaction."""
    tx = gate.transaction("transfer")
    with contextlib.suppress(Boom, TokenGateError), tx:
        for number, (step, operation) in enumerate(zip(STEPS, operations, strict=True)):
            operation(ledger, "order 7", AMOUNTS[step], way if number == broken_at else "")
    return tx.state


@pytest.fixture
def gate() -> Iterator[Gate]:
    with Gate("bank", processes=ProcessPool(size=1, spares=0), control_socket=False, shutdown=LIMIT) as opened:
        yield opened


def check(gate: Gate, affinity: str, ways: tuple[str, ...]) -> None:
    operations = movements(affinity)
    for way in ways:
        for broken_at in range(len(STEPS)):
            ledger = SharedList()
            assert transfer(gate, ledger, operations, broken_at, way) == "rolled_back", (way, broken_at)
            assert sum(line[2] for line in ledger) == 0, (way, broken_at)
            for step in STEPS:
                assert sum(line[2] for line in ledger if line[1] == step) == 0, (way, broken_at)
            reversed_steps = [line[1] for line in ledger if line[2] == -AMOUNTS[line[1]]]
            assert reversed_steps == list(reversed(STEPS[: len(reversed_steps)]))
    ledger = SharedList()
    assert transfer(gate, ledger, operations, -1, "") == "committed"
    assert [line[1:] for line in ledger] == list(AMOUNTS.items())


def test_the_ledger_is_even_whichever_step_raises(gate: Gate) -> None:
    """Case 47. Before or after it has written, on threads; an unbroken transfer is booked once."""
    check(gate, "cpu", ("raises before", "raises after"))


@in_ci
def test_the_ledger_is_even_whichever_step_takes_its_process_with_it(gate: Gate) -> None:
    """Case 47. Before or after it has written: the outcome is unknown, and the compensation looks."""
    check(gate, "process", ("dies before", "dies after"))
