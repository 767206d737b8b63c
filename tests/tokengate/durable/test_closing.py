"""What becomes of durable tokens when their gate closes: what has not ended is left in the journal."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import journals
import pytest
from durable_operations import Sender, noted
from gated_code import LIMIT, Door
from tiers import in_ci

from tokengate import Gate, Policy, Retry, token
from tokengate.durable import Journal
from tokengate.errors import LeftInJournal
from tokengate.types import Observer

DOORS: list[Door] = []


@token(durable=True, concurrency=1)
def waits(number: int) -> int:
    DOORS[-1].pass_through()
    return number


@token(durable=True, idempotent=True)
def waits_again(number: int) -> int:
    DOORS[-1].pass_through()
    return number


@token(durable=True, policy=Policy(retry=Retry(ValueError, wait=lambda _error: 3600.0)))
def fails_at_first() -> None:
    raise ValueError("not yet")


@pytest.fixture
def door() -> Door:
    DOORS.append(Door())
    return DOORS[-1]


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> journals.Disk:
    return journals.Disk(monkeypatch)


class Ends(Observer):
    """Notes which tokens end."""

    def __init__(self) -> None:
        self.ids: list[int] = []

    def token_finished(self, token: Any, /) -> None:
        if not token.serves_operators:
            self.ids.append(token.id)


def opened(directory: Path, **options: Any) -> Gate:
    """A gate with a journal, not opened yet."""
    return Gate("shop", plugins=[Journal(directory)], control_socket=False, **options)


def test_queued_tokens_are_left_in_the_journal(tmp_path: Path) -> None:
    """They are not waited for; their objects end with their uids, and no observer is told. Case 38."""
    directory, ledger = tmp_path / "journal", tmp_path / "ledger"
    with opened(directory) as gate:
        ends = Ends()
        gate._system.add_observer(ends)
        sender = Sender(gate, "cpu")
        sender.suspend()
        tokens = [sender.submit(ledger, number) for number in range(5)]
        gate.control.pause(tokens[4].id)
    assert ends.ids == []
    for one in tokens:
        with pytest.raises(LeftInJournal) as caught:
            one.result(LIMIT)
        assert (str(one.state), caught.value.uid) == ("terminated", one.uid)
    assert [row["state"] for row in journals.rows(directory)] == [1] * 5

    with opened(directory) as gate:
        Sender(gate, "cpu")
        while not journals.all_have_ended(directory):
            pass
    assert sorted(noted(ledger)) == [f"run {number}" for number in range(5)]


def test_running_tokens_get_the_time_of_the_drain(tmp_path: Path, door: Door) -> None:
    """Their ends are recorded; those behind them are left at once. Case 38."""
    with opened(tmp_path / "journal", shutdown=4 * LIMIT):
        one = waits.submit(1)
        door.wait_reached()
        behind = waits.submit(2)
        behind.add_done_callback(lambda _: door.open())
    assert one.result(LIMIT) == 1
    assert isinstance(behind.exception(LIMIT), LeftInJournal)
    assert [row["state"] for row in journals.rows(tmp_path / "journal")] == [4, 1]


@in_ci
@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize(("operation", "then"), [(waits, 5), (waits_again, 4)], ids=["once", "again"])
def test_a_token_that_is_cut_short_is_left_in_the_journal(
    tmp_path: Path, door: Door, operation: Any, then: int
) -> None:
    """At the next opening it is as if the process had died, but for the count of its recoveries."""
    directory = tmp_path / "journal"
    gate = opened(directory, shutdown=0.2).open()
    one = operation.submit(1)
    door.wait_reached()
    gate.close()
    with pytest.raises(LeftInJournal):
        one.result(LIMIT)
    assert [row["state"] for row in journals.rows(directory)] == [2]
    door.open()

    with opened(directory) as gate:
        gate.register(operation)
        while not journals.all_have_ended(directory):
            pass
    (row,) = journals.rows(directory)
    assert (row["state"], row["recoveries"]) == (then, 0)


@pytest.mark.usefixtures("impatient")
def test_a_commit_that_hangs_does_not_hang_the_close(
    tmp_path: Path, disk: journals.Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The object ends without its result, which nobody knows to be on disk. Case 38."""
    monkeypatch.setattr("tokengate.durable._plugin._CLOSE_SECONDS", 0.1)
    gate = opened(tmp_path / "journal", shutdown=0.2).open()
    ledger = tmp_path / "ledger"
    sender = Sender(gate, "cpu", idempotent=True)
    sender.suspend()
    one, behind = sender.submit(ledger, 1), sender.submit(ledger, 2)
    disk.hold()
    sender.unsuspend()
    disk.wait_reached()
    gate.close()
    try:
        for left in (one, behind):
            assert isinstance(left.exception(LIMIT), LeftInJournal)
    finally:
        disk.release()


def test_a_token_between_two_attempts_keeps_its_retry(tmp_path: Path) -> None:
    """The error of the attempt before is no end of it."""
    directory = tmp_path / "journal"
    with opened(directory) as gate:
        one = fails_at_first.submit()
        while not gate.control.tokens("held=delayed"):
            pass
    assert isinstance(one.exception(LIMIT), LeftInJournal)
    assert [row["state"] in (0, 1) for row in journals.rows(directory)] == [True]


def test_the_objects_of_a_forked_child_are_left_to_the_parent(tmp_path: Path) -> None:
    """They end there at once; the parent's go on."""
    directory, ledger = tmp_path / "journal", tmp_path / "ledger"
    with opened(directory) as gate:
        sender = Sender(gate, "cpu")
        sender.suspend()
        one = sender.submit(ledger, 1)
        child = os.fork()
        if not child:
            is_left = isinstance(one.exception(LIMIT), LeftInJournal) and str(one.state) == "terminated"
            os._exit(0 if is_left else 1)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        sender.unsuspend()
        assert one.result(LIMIT) == 1
    assert [row["state"] for row in journals.rows(directory)] == [4]
