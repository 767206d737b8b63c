"""Keys and uids of durable tokens: what is on disk is one piece of work, however often it is asked for."""

from __future__ import annotations

import asyncio
import random
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from decimal import Decimal
from itertools import takewhile
from pathlib import Path
from typing import Any

import durable_operations as operations
import journals
import pytest
import trio
from durable_operations import add, again, fails, halves, noted, once
from tiers import in_ci

from tokengate import Gate, TokenState
from tokengate.durable import Journal
from tokengate.durable._new_rows import submit_row
from tokengate.errors import KeyReused, TokenFailed, TokenTerminated, WouldBlock

pytestmark = pytest.mark.usefixtures("programs")

KILLED = """
import os, sys
from durable_operations import again, once
from tokengate import Gate
from tokengate.durable import Journal
with Gate("shop", plugins=[Journal(sys.argv[1])]) as gate:
    once.with_options(key="ended").submit(sys.argv[2], 1).result(10)
    gate.control.suspend(gate._operations[again._spec].path)
    print(again.with_options(key="open").submit(sys.argv[2], 2).uid, flush=True)
    os.kill(os.getpid(), 9)
"""


@contextmanager
def opened(directory: Path) -> Iterator[tuple[Gate, Journal]]:
    journal = Journal(directory / "journal")
    with Gate("shop", plugins=[journal], control_socket=False) as gate:
        yield gate, journal


def hold(gate: Gate, operation: Any) -> None:
    """Let no call of an operation begin."""
    gate.control.suspend(gate._operations[operation._spec].path)


@pytest.fixture
def ledger(tmp_path: Path) -> str:
    return str(tmp_path / "ledger")


def test_a_key_is_one_piece_of_work(tmp_path: Path, ledger: str) -> None:
    """Case 19: while it runs, after it has ended, and in a later run of the gate; the code runs once."""
    with opened(tmp_path) as (gate, _):
        hold(gate, once)
        first = once.with_options(key="order-17").submit(ledger, 1)
        second = once.with_options(key="order-17").submit(ledger, number=1)
        other = once.with_options(key="order-18").submit(ledger, 2)

        assert first.id != second.id
        assert first.uid == second.uid != other.uid
        assert second.state is TokenState.QUEUED
        gate.control.unsuspend("operations/once")
        assert [token.result(10) for token in (first, second, other)] == [1, 1, 2]
        third = once.with_options(key="order-17").submit(ledger, 1)
        assert (third.state, third.uid, third.result(0)) == (TokenState.COMPLETED, first.uid, 1)
    with opened(tmp_path):
        fourth = once.with_options(key="order-17").submit(ledger, 1)
        assert (fourth.state, fourth.uid, fourth.result(0)) == (TokenState.COMPLETED, first.uid, 1)
    assert sorted(noted(ledger)) == ["run 1", "run 2"]


@in_ci
def test_a_killed_process_has_taken_its_keys(tmp_path: Path, ledger: str) -> None:
    """Case 19: what had ended is not run again, and what was open is joined as it goes on."""
    with journals.start(KILLED, tmp_path / "journal", ledger) as program:
        uid = program.communicate()[0].strip()

    with opened(tmp_path):
        assert once.with_options(key="ended").submit(ledger, 1).result(0) == 1
        left = again.with_options(key="open").submit(ledger, 2)
        assert (left.uid, left.result(10)) == (uid, 2)
    assert noted(ledger) == ["run 1", "run 2"]


@pytest.mark.parametrize("end", ["open", "completed", "failed", "terminated"])
def test_other_arguments_under_a_key_are_rejected(tmp_path: Path, end: str) -> None:
    """Case 20: whatever the end of the first was; the rejected token is no row, and has its own uid."""
    operation: Any = fails if end == "failed" else add
    args: tuple[Any, ...] = ("no",) if end == "failed" else (1, 2)
    with opened(tmp_path) as (gate, _):
        if end in ("open", "terminated"):
            hold(gate, operation)
        first = operation.with_options(key=17).submit(*args)
        if end == "terminated":
            assert first.cancel()
        if end != "open":
            first.exception(10)

        other = operation.with_options(key=17).submit(*args[:-1], "other" if end == "failed" else 3)
        same = operation.with_options(key=17).submit(*args)

        assert other.state is TokenState.REJECTED
        with pytest.raises(KeyReused, match=rf"token {first.uid} has the same key, '17', and other arguments"):
            other.result(0)
        assert other.uid != first.uid == same.uid
        assert same.state is first.state
        assert len(journals.rows(tmp_path / "journal")) == 1


def test_a_key_is_taken_whatever_its_end_was(tmp_path: Path) -> None:
    """The error of a later token names class and text of the first one's; that one is raised where it happened."""
    with opened(tmp_path):
        first = fails.with_options(key="k").submit("no such order")
        with pytest.raises(ValueError, match="no such order"):
            first.result(10)
    with opened(tmp_path) as (_, journal):
        for token in (fails.with_options(key="k").submit("no such order"), journal.attach(first.uid)):
            assert (token.uid, token.state) == (first.uid, TokenState.FAILED)
            with pytest.raises(TokenFailed, match=rf"token {first.uid} .*failed: ValueError: no such order"):
                token.result(0)


def test_a_joined_token_has_its_own_cancel(tmp_path: Path, ledger: str) -> None:
    """It ends alone; when the first one ends, the others do, too."""
    with opened(tmp_path) as (gate, _):
        hold(gate, once)
        first, second, third = (once.with_options(key="k").submit(ledger, 1) for _ in range(3))

        assert second.cancel()
        assert second.state is TokenState.TERMINATED
        assert first.state is third.state is TokenState.QUEUED
        assert first.cancel()
        with pytest.raises(TokenTerminated):
            third.result(10)
    assert noted(ledger) == []


@in_ci
def test_threads_that_submit_a_key_at_once_get_one_uid(tmp_path: Path, ledger: str, seed: int) -> None:
    """Case 19: drawn keys from four threads; each key runs once, and each token has its outcome."""
    tokens: list[tuple[int, Any]] = []

    def submit(draw: random.Random) -> None:
        for _ in range(50):
            number = draw.randrange(10)
            tokens.append((number, again.with_options(key=f"key-{number}").submit(ledger, number)))

    with opened(tmp_path):
        threads = [threading.Thread(target=submit, args=(random.Random(seed + n),)) for n in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert all(token.result(30) == number for number, token in tokens)
    assert len({(number, token.uid) for number, token in tokens}) == len({number for number, _ in tokens})
    assert sorted(noted(ledger)) == sorted(f"run {number}" for number in {number for number, _ in tokens})


@pytest.mark.parametrize(
    "name", ["again", *(pytest.param(name, marks=in_ci) for name in ("in_trio", "in_asyncio", "in_process"))]
)
def test_keys_hold_in_all_affinities(tmp_path: Path, ledger: str, name: str) -> None:
    """Awaited submits of trio and asyncio, direct calls; all have the uid of the first."""
    operation: Any = getattr(operations, name).with_options(key="k")

    async def ask() -> Any:
        token = await operation.asubmit(ledger, 1)
        return token, await token

    with opened(tmp_path):
        for run in (trio.run, lambda ask: asyncio.run(ask())):
            _, result = run(ask)
            assert result == 1
        if name in ("again", "in_process"):
            assert operation(ledger, 1) == 1
        uids = {row["uid"] for row in journals.rows(tmp_path / "journal")}
    assert len(uids) == 1
    assert noted(ledger) == ["run 1"]


def test_results_come_back_by_the_annotation(tmp_path: Path) -> None:
    """Case 21: attached by uid, and by operation and key, in this run and in a later one."""
    with opened(tmp_path) as (_, journal):
        first = halves.with_options(key="k").submit(Decimal("12.50"))
        assert first.result(10) == (Decimal("6.25"), Decimal("6.25"))
        assert journal.attach(first.uid).result(0) == first.result(0)
    with opened(tmp_path) as (_, journal):
        for what, key in ((first.uid, None), (halves, "k"), ("durable_operations:halves", "k")):
            attached: Any = journal.attach(what, key=key)  # type: ignore[call-overload]
            assert (attached.uid, attached.state) == (first.uid, TokenState.COMPLETED)
            assert attached.result(0) == (Decimal("6.25"), Decimal("6.25"))
            assert attached.operation == "halves"


def test_attach_returns_the_token_that_is_open(tmp_path: Path, ledger: str) -> None:
    """Case 21: that one itself while it is in memory; in a later run, one that ends as it does."""
    with opened(tmp_path) as (gate, journal):
        hold(gate, once)
        first = once.with_options(key="k").submit(ledger, 1)
        assert journal.attach(first.uid) is first is journal.attach(once, key="k")
    with opened(tmp_path) as (_, journal):
        assert journal.attach(first.uid).result(10) == 1
    assert noted(ledger) == ["run 1"]


def test_attach_says_what_it_cannot_find(tmp_path: Path) -> None:
    """Case 21: gone, or never there; no uid; on a loop, which must not read the disk; no gate."""
    with opened(tmp_path) as (_, journal):
        looks: tuple[tuple[type[Exception], str, Callable[[], object]], ...] = (
            (LookupError, r"token 1\.999 is not in the journal", lambda: journal.attach("1.999")),
            (LookupError, r"'durable_operations:add' with the key 'k' is not", lambda: journal.attach(add, key="k")),
            (ValueError, "uid is 'x'; it must be a run and an id", lambda: journal.attach("x")),
        )
        for kind, text, look in looks:
            with pytest.raises(kind, match=text):
                look()

        async def attach() -> None:
            journal.attach("1.1")

        for run in (trio.run, lambda look: asyncio.run(look())):
            with pytest.raises(WouldBlock, match="call it on a thread"):
                run(attach)


def test_a_row_is_submitted_once_by_its_key(tmp_path: Path) -> None:
    """Within a transaction of the writer; attached, it is the same one."""
    with opened(tmp_path) as (_, journal):
        inside: Any = journal._journal

        def write(db: Any) -> list[Any]:
            name, args = "durable_operations:add", b"[[1, 2], {}]"
            return [submit_row(inside, db, name, args, key="one", due=2e9) for _ in range(2)]

        (uid, is_new), (same, is_again) = inside.call(write).result(10)
        assert (uid, is_new, is_again) == (same, True, False)
        assert journal.attach(add, key="one").uid == journal.attach("durable_operations:add", key="one").uid


@in_ci
def test_records_name_the_uid_of_the_row_and_the_key(tmp_path: Path) -> None:
    """In the run that has made it, and in a later one; what has joined has that uid, too."""
    events: list[Any] = []
    for _ in range(2):
        with opened(tmp_path) as (gate, _), gate.control.watch("operation=add") as watched:
            keyed, plain = add.with_options(key="k").submit(1, 2), add.submit(1, 2)
            assert keyed.result(10) == plain.result(10) == 3
            events += takewhile(lambda event, last=plain.id: (event.token, event.state) != (last, "completed"), watched)
            assert plain.uid.split(".")[0].isdecimal()
    ends = [event for event in events if event.kind == "token.finished"]
    assert [(event.uid, event.key) for event in ends] == [(keyed.uid, "k")] * 2
