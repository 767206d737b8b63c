"""A mailbox as a window on the rows on disk: their order, the objects that run, and what is in memory."""

from __future__ import annotations

import gc
import threading
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import journals
import pytest
from durable_operations import noted
from fake_predictor import FakePredictor
from tiers import in_ci

from tokengate import Gate, Policy, Token, TokenState, token
from tokengate.durable import Journal
from tokengate.errors import MailboxFull, TokenTerminated

pytestmark = pytest.mark.usefixtures("programs")

Until = Callable[[Callable[[], bool]], None]

_go = threading.Event()
_ran: list[tuple[str, int]] = []


@token(durable=True, idempotent=True, capacity=10, concurrency=1)
def work(number: int) -> int:
    _go.wait()
    _ran.append(("", number))
    return number


@token(durable=True, idempotent=True, capacity=10, concurrency=1, policy=Policy(fair="tenant"))
def shared(tenant: str, number: int) -> int:
    _go.wait()
    _ran.append((tenant, number))
    return number


@pytest.fixture(autouse=True)
def _blocked() -> Iterator[None]:
    _go.clear()
    _ran.clear()
    yield
    _go.set()


@pytest.fixture
def gate(tmp_path: Path) -> Iterator[Gate]:
    with Gate("shop", plugins=[Journal(tmp_path / "journal")], control_socket=False) as gate:
        yield gate
        _go.set()


@pytest.fixture
def executor() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(1) as executor:
        yield executor
        _go.set()


def _in_memory(gate: Gate) -> int:
    """Return how many tokens the gate holds, but for requests to the runtime."""
    return sum(not one.serves_operators for one in gate._system.live.values())


def _submitted(*numbers: int, priority: int = 0) -> list[Token[int]]:
    return [work.with_options(priority=priority).submit(number) for number in numbers]


@in_ci
def test_tokens_on_disk_run_in_their_order_and_in_the_objects_of_their_senders(gate: Gate) -> None:
    """Case 25: a mailbox of 10 has 10 of them in memory, and each object that a sender holds is the one that runs."""
    tokens = _submitted(*range(100))

    assert _in_memory(gate) == 11  # one runs
    assert {one.state for one in tokens[1:]} == {TokenState.QUEUED}
    _go.set()
    assert [one.result(30) for one in tokens] == list(range(100))
    assert [number for _, number in _ran] == list(range(100))


def test_objects_that_nobody_holds_are_freed_and_their_rows_run(until: Until, gate: Gate, tmp_path: Path) -> None:
    """Case 25: what is only on disk takes no memory; one with a callback is held until that was called."""
    called: list[int] = []
    _submitted(*range(20))
    freed = weakref.ref(work.submit(20))
    work.submit(21).add_done_callback(lambda done: called.append(done.result()))
    gc.collect()

    assert freed() is None
    assert _in_memory(gate) == 11
    _go.set()
    until(lambda: len(_ran) == 22 and called == [21])
    assert [number for _, number in _ran] == list(range(22))
    until(lambda: all(row["state"] == 4 for row in journals.rows(tmp_path / "journal", "state")))


def test_one_with_an_estimate_of_an_operator_is_held_until_it_has_run(gate: Gate, until: Until) -> None:
    """What was said of it must be known when it runs; another one that was only looked at is freed."""
    gate._system.predictor = FakePredictor()
    journal: Any = gate._system.journal
    backlog = journal.backlog
    uids = [work.submit(number).uid for number in range(20)][18:]

    assert [one.outcome for one in gate.control.estimate(uids[0], run="10m")] == ["estimated"]
    gate.control.describe(uids[1])
    said, seen = map(weakref.ref, backlog._found.values())
    backlog._found.clear()
    until(lambda: gc.collect() >= 0 and seen() is None)
    assert said() is not None
    _go.set()
    until(lambda: len(_ran) == 20)
    until(lambda: gc.collect() >= 0 and said() is None)


def test_a_higher_priority_goes_first_and_displaces_the_last_of_the_lowest(gate: Gate) -> None:
    """Case 10: with a full window, too; the displaced ones keep their place."""
    low = _submitted(*range(20))
    high = _submitted(*range(100, 115), priority=1)

    assert _in_memory(gate) == 11
    _go.set()
    for one in (*low, *high):
        one.result(30)
    assert [number for _, number in _ran] == [0, *range(100, 115), *range(1, 20)]


def test_a_token_on_disk_is_cancelled_reniced_and_paused_like_one_in_memory(until: Until, gate: Gate) -> None:
    """By its object: a cancelled one never runs, a reniced one goes by its priority, a paused one waits."""
    tokens = _submitted(*range(40))
    box: Any = gate._operations[work._spec].mailbox

    assert tokens[30].cancel()
    assert box.renice(tokens[35], 7)
    assert box.hold(tokens[36])
    _go.set()
    until(lambda: len(_ran) == 38)
    assert [number for _, number in _ran] == [0, 35, *(n for n in range(1, 40) if n not in (30, 35, 36))]
    assert tokens[36].state is TokenState.PAUSED
    until(tokens[30].done)
    assert tokens[30].state is TokenState.TERMINATED
    assert box.release(tokens[36])
    assert tokens[36].result(30) == 36


@in_ci
def test_a_small_tenant_on_disk_waits_under_two_rounds(gate: Gate) -> None:
    """Case 26: fair keys take turns on disk, too, whatever the others have there."""
    tokens = [shared.submit("big", number) for number in range(100)]
    tokens += [shared.submit("small", number) for number in range(30)]
    _go.set()
    for one in tokens:
        one.result(30)

    turns = "".join(tenant[0] for tenant, _ in _ran)
    begins, ends = turns.index("s"), turns.rindex("s")
    assert begins <= 3
    assert "bbb" not in turns[begins:ends]  # two in a row, where the next small one just comes from the disk
    assert ends - begins <= 60  # else every other one
    for tenant in ("big", "small"):
        numbers = [number for one, number in _ran if one == tenant]
        assert numbers == sorted(numbers)


@pytest.mark.parametrize("overflow", ["wait", "reject", "drop_oldest"])
def test_the_overflow_decides_when_too_many_are_on_disk(
    overflow: str, gate: Gate, until: Until, executor: ThreadPoolExecutor
) -> None:
    """Its sender waits until there is room, it is refused, or the oldest one is dropped."""
    tokens = _submitted(*range(15))
    journal: Any = gate._system.journal
    box: Any = gate._operations[work._spec].mailbox
    journal.backlog.most, box.overflow = 4, overflow

    more = executor.submit(work.submit, 15)
    if overflow == "reject":
        with pytest.raises(MailboxFull):
            more.result(30).result(30)
    elif overflow == "drop_oldest":
        assert more.result(30).state is TokenState.QUEUED
        with pytest.raises(TokenTerminated, match="took its place"):
            tokens[1].result(30)
    else:
        until(lambda: bool(journal.backlog._rooms))
        assert not more.done()
    _go.set()
    until(lambda: len(_ran) == (15 if overflow != "wait" else 16))
    assert more.result(30).done() is (overflow == "reject") or more.result(30).result(30) == 15


KILLED = """
import os, sys
from durable_operations import again, narrow
from tokengate import Gate
from tokengate.durable import Journal
with Gate("shop", plugins=[Journal(sys.argv[1])]) as gate:
    gate._operations[narrow._spec].suspend()
    for number in range(30):
        narrow.submit(sys.argv[2], number)
    for number in range(100, 105):
        narrow.with_options(priority=2).submit(sys.argv[2], number)
    os.kill(os.getpid(), 9)
"""

OPENED = """
import sys
from durable_operations import narrow
from tokengate import Gate
from tokengate.durable import Journal
with Gate("shop", plugins=[Journal(sys.argv[1])]) as gate:
    narrow.submit(sys.argv[2], 1000).result(60)
"""


def test_order_holds_over_a_restart_and_what_was_left_goes_before_what_is_new(tmp_path: Path) -> None:
    """Case 10: by priority, then in the order of the senders; a new token goes last."""
    for program in (KILLED, OPENED):
        with journals.start(program, tmp_path / "journal", tmp_path / "ledger") as started:
            errors = started.communicate()[1]
        assert errors == ""

    runs = [f"run {number}" for number in (*range(100, 105), *range(30), 1000)]
    assert noted(tmp_path / "ledger") == runs
