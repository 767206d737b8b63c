"""Durable tokens that are preempted: to the journal that is another attempt, of which none is lost or doubled."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import durable_operations as operations
import journals
import pytest
from durable_operations import noted
from gated_code import LIMIT
from tiers import in_ci

from tokengate import Gate, TokenState
from tokengate.durable import Journal
from tokengate.errors import TokenTerminated

pytestmark = pytest.mark.usefixtures("programs")

Until = Callable[[Callable[[], bool]], None]

EACH = pytest.mark.parametrize(
    "kind", ["cpu", *(pytest.param(one, marks=in_ci) for one in ("trio", "asyncio", "process"))]
)

# It is preempted by its own program, which is killed when so many runs have begun.
PREEMPTS = """
import os, sys, threading
import durable_operations as operations
from tokengate import Gate
from tokengate.durable import Journal
directory, ledger, kind, runs, suspended = sys.argv[1:]
def wait(condition):
    while not condition(): threading.Event().wait(0.002)
with Gate("shop", plugins=[Journal(directory)], processes=1, control_socket=False) as gate:
    sent = getattr(operations, f"spins_in_{kind}").submit(ledger, 2)
    wait(lambda: len(operations.noted(ledger)) == 1)
    if suspended == "True":
        gate.control.suspend(sent.actor)
    (outcome,) = gate.control.preempt(sent, wait=60)
    assert outcome.outcome == "preempted", outcome
    wait(lambda: len(operations.noted(ledger)) == int(runs))
    gate._system.journal.call(bool).result()
    os.kill(os.getpid(), 9)
"""


@pytest.fixture
def gate(tmp_path: Path) -> Iterator[Gate]:
    with opened(tmp_path) as gate:
        yield gate
        gate.close(drain=False)


def opened(folder: Path) -> Gate:
    return Gate("shop", plugins=[Journal(folder / "journal")], processes=1, control_socket=False)


def row_of(folder: Path) -> dict[str, Any]:
    (row,) = journals.rows(folder / "journal", "state, attempts, recoveries, reason, result")
    return row


@EACH
def test_the_row_has_another_attempt_and_one_end(tmp_path: Path, gate: Gate, kind: str, until: Until) -> None:
    """Its first run ends, and no recovery is counted."""
    ledger = tmp_path / "ledger"
    sent: Any = getattr(operations, f"spins_in_{kind}").submit(str(ledger), 1)
    until(lambda: noted(ledger) == ["attempt 1"])

    (outcome,) = gate.control.preempt(sent, wait=LIMIT)

    assert outcome.outcome == "preempted"
    assert sent.result(LIMIT) == 2
    assert noted(ledger) == ["attempt 1", "attempt 2"]
    until(lambda: journals.all_have_ended(tmp_path / "journal"))
    assert row_of(tmp_path) == {"state": 4, "attempts": 2, "recoveries": 0, "reason": "", "result": b"2"}


@in_ci
@pytest.mark.parametrize("kind", ["cpu", "trio", "asyncio", "process"])
def test_killed_in_the_second_attempt_it_is_recovered_and_not_preempted_again(
    tmp_path: Path, kind: str, until: Until
) -> None:
    """A recovery is no attempt; that an attempt was preempted outlives the process, since that is done once."""
    ledger = tmp_path / "ledger"
    with journals.start(PREEMPTS, tmp_path / "journal", ledger, kind, 2, False) as program:
        assert program.wait() == -9
    assert noted(ledger) == ["attempt 1", "attempt 2"]

    with opened(tmp_path) as gate:
        until(lambda: noted(ledger) == ["attempt 1", "attempt 2", "attempt 2"])
        until(lambda: journals.all_have_ended(tmp_path / "journal"))
        gate.close()

    row = row_of(tmp_path)
    assert (row["state"], row["attempts"], row["recoveries"], row["result"]) == (4, 2, 1, b"3")


@pytest.mark.parametrize("kind", ["cpu", pytest.param("process", marks=in_ci)])
def test_killed_between_the_attempts_it_begins_the_second_one(tmp_path: Path, kind: str, until: Until) -> None:
    """It was queued, and had not begun again, so nothing is recovered; it is not preempted a second time."""
    ledger = tmp_path / "ledger"
    with journals.start(PREEMPTS, tmp_path / "journal", ledger, kind, 1, True) as program:
        assert program.wait() == -9
    assert noted(ledger) == ["attempt 1"]
    assert row_of(tmp_path) == {"state": 1, "attempts": 2, "recoveries": 0, "reason": "preempt", "result": None}

    with opened(tmp_path) as gate:
        until(lambda: noted(ledger) == ["attempt 1", "attempt 2"])
        (handle,) = gate.control.tokens("*")
        (outcome,) = handle.preempt()
        assert (outcome.outcome, outcome.note) == ("refused", "it was preempted before, and that is done once")
        gate.control.terminate("*", wait=LIMIT)
        until(lambda: journals.all_have_ended(tmp_path / "journal"))

    assert noted(ledger) == ["attempt 1", "attempt 2"]


def test_a_gate_that_closes_leaves_the_second_attempt_to_the_next_opening(tmp_path: Path, until: Until) -> None:
    """As it leaves what is queued."""
    ledger = tmp_path / "ledger"
    with opened(tmp_path) as gate:
        sent: Any = operations.spins_in_cpu.submit(str(ledger), 1)
        until(lambda: noted(ledger) == ["attempt 1"])
        gate.control.suspend(sent.actor)
        (outcome,) = gate.control.preempt(sent, wait=LIMIT)
        assert outcome.outcome == "preempted"
        assert (sent.state, sent.attempt) == (TokenState.QUEUED, 2)
        gate.close(drain=False)
    assert isinstance(sent.exception(LIMIT), TokenTerminated | Exception)

    with opened(tmp_path):
        until(lambda: journals.all_have_ended(tmp_path / "journal"))
    assert noted(ledger) == ["attempt 1", "attempt 2"]
    row = row_of(tmp_path)
    assert (row["state"], row["attempts"], row["recoveries"]) == (4, 2, 0)


def test_code_that_asks_to_be_called_later_has_its_way(tmp_path: Path, gate: Gate, until: Until) -> None:
    """A `Snooze` that comes as an attempt is preempted is no failure; the token begins anew at its time."""
    ledger = tmp_path / "ledger"
    door = tmp_path / "door"
    sent: Any = operations.snoozes_behind_a_door.submit(str(ledger), str(door))
    until(lambda: noted(ledger) == ["attempt 1"])
    (outcome,) = gate.control.preempt(sent, wait=0)
    assert outcome.outcome == "preempt_requested"
    door.touch()

    until(lambda: [row["state"] for row in journals.rows(tmp_path / "journal", "state")] == [0])
    journals.Clocks(gate.plugin(Journal)).go_on(3700)
    assert sent.result(LIMIT) == 2
    assert noted(ledger) == ["attempt 1", "attempt 1"]
