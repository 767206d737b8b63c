"""What a journal promises: accepted means on disk, the end is on disk before it is seen, and nothing runs after it."""

from __future__ import annotations

from pathlib import Path

import journals
import pytest
from durable_operations import KINDS, Sender, add, noted
from tiers import IN_CI, in_ci

from tokengate import Gate, token
from tokengate.durable import Journal
from tokengate.errors import NotDurable

pytestmark = pytest.mark.usefixtures("programs")

ACCEPTED = """
import os, sys
from durable_operations import Sender
from tokengate import Gate
from tokengate.durable import Journal
directory, ledger, *kinds = sys.argv[1:]
with Gate("shop", plugins=[Journal(directory)], control_socket=False) as gate:
    for kind in kinds:
        sender = Sender(gate, kind)
        sender.suspend()
        print(sender.submit(ledger, 1).uid, flush=True)
    os.kill(os.getpid(), 9)
"""

REPLIED = """
import os, sys
from durable_operations import Sender
from tokengate import Gate
from tokengate.durable import Journal
directory, ledger, *kinds = sys.argv[1:]
with Gate("shop", plugins=[Journal(directory)], control_socket=False) as gate:
    for kind in kinds:
        assert Sender(gate, kind, idempotent=True).submit(ledger, 1).result(60) == 1
    os.kill(os.getpid(), 9)
"""

POISON = """
import os, signal, sys
from durable_operations import Sender, note
from tokengate import Gate
from tokengate.durable import Journal
directory, ledger, first = sys.argv[1:]
note(ledger + ".pid", str(os.getpid()))
with Gate("shop", plugins=[Journal(directory)], control_socket=False) as gate:
    sender = Sender(gate, "cpu actor", idempotent=True)
    if first:
        sender.submit(ledger, 1).result(60)
        sender.suspend()
        for number in (-3, 2):
            sender.submit(ledger, number)
        sender.unsuspend()
    signal.pause()
"""

USED = KINDS if IN_CI else ("cpu", "io", "asyncio", "cpu actor")


def test_a_result_is_on_disk(tmp_path: Path) -> None:
    """With the state, before it is seen."""
    with Gate("shop", plugins=[Journal(tmp_path / "journal")], control_socket=False):
        one = add.submit(1, 2)

        assert one.result(10) == 3
        assert [(row["state"], row["result"]) for row in journals.rows(tmp_path / "journal")] == [(4, b"3")]


def test_a_durable_operation_needs_a_journal() -> None:
    """In a gate; without a gate it is the plain function."""
    assert add(1, 2) == 3
    with Gate("shop", control_socket=False), pytest.raises(NotDurable, match="no journal"):
        add.submit(1, 2)


def test_what_was_accepted_survives_a_kill(tmp_path: Path) -> None:
    """From the return of `submit` on; it runs at the next opening, once. Case 2."""
    directory, ledger = tmp_path / "journal", tmp_path / "ledger"
    with journals.start(ACCEPTED, directory, ledger, *USED) as program:
        uids, _ = program.communicate()
    rows = journals.rows(directory)

    assert [f"{row['uid'] >> 40}.{row['uid'] & (1 << 40) - 1}" for row in rows] == uids.split()
    assert [row["state"] for row in rows] == [1] * len(USED)
    with Gate("shop", plugins=[Journal(directory)], control_socket=False) as gate:
        for kind in USED:
            Sender(gate, kind)
        while not journals.all_have_ended(directory):
            pass
    assert noted(ledger) == ["run 1"] * len(USED)
    assert [(row["state"], row["attempts"], row["recoveries"]) for row in journals.rows(directory)] == [
        (4, 1, 0) for _ in USED
    ]


def test_what_has_replied_never_runs_again(tmp_path: Path) -> None:
    """Not even if it may run twice. Case 4."""
    directory, ledger = tmp_path / "journal", tmp_path / "ledger"
    with journals.start(REPLIED, directory, ledger, *USED) as program:
        program.communicate()
    assert journals.all_have_ended(directory)
    with Gate("shop", plugins=[Journal(directory)], control_socket=False) as gate:
        for kind in USED:
            assert Sender(gate, kind, idempotent=True).submit(ledger, 2).result(60) == 2
    assert noted(ledger) == ["run 1"] * len(USED) + ["run 2"] * len(USED)


@in_ci
def test_a_token_that_three_processes_died_with_is_poison(tmp_path: Path) -> None:
    """Those before and behind it are not blamed, and run. Case 11."""
    directory, ledger = tmp_path / "journal", tmp_path / "ledger"
    for first in ("yes", "", ""):
        with journals.start(POISON, directory, ledger, first) as program:
            program.communicate()
    with Gate("shop", plugins=[Journal(directory)], control_socket=False) as gate:
        Sender(gate, "cpu actor", idempotent=True)
        while not journals.all_have_ended(directory):
            pass

    assert noted(ledger) == ["run 1", "run -3", "run -3", "run -3", "run 2"]
    rows = journals.rows(directory)
    assert [(row["state"], row["recoveries"]) for row in rows] == [(4, 0), (5, 3), (4, 0)]
    assert rows[1]["reason"] == "poison"
    assert "3 processes" in rows[1]["error"]


BESIDE = """
import sys
from durable_operations import neighbour, poison
from tokengate import Gate
from tokengate.durable import Journal
with Gate("shop", plugins=[Journal(sys.argv[1])], control_socket=False) as gate:
    if len(sys.argv) > 3:
        neighbour.submit(sys.argv[2])
        poison.submit(sys.argv[2])
    gate.wait()
"""


@in_ci
def test_a_token_that_ran_beside_poison_is_not_blamed(tmp_path: Path) -> None:
    """What two processes have died with runs alone the third time. Case 11."""
    directory, ledger = tmp_path / "journal", tmp_path / "ledger"
    for first in (["yes"], [], []):
        with journals.start(BESIDE, directory, ledger, *first) as program:
            program.communicate()
    with Gate("shop", plugins=[Journal(directory)], control_socket=False):
        while not journals.all_have_ended(directory):
            pass

    assert [(row["state"], row["reason"]) for row in journals.rows(directory)] == [(4, ""), (5, "poison")]


def test_what_submit_refuses_is_not_on_disk(tmp_path: Path) -> None:
    """`map` accepts all of its items, or none. Case 3."""
    with Gate("shop", plugins=[Journal(tmp_path / "journal")], control_socket=False):
        with pytest.raises(NotDurable):
            add.submit(1, float("nan"))  # type: ignore[arg-type]
        with pytest.raises(NotDurable) as caught:
            echo.map([1.0, 2.0, float("nan")])
        assert caught.value.accepted == ()  # type: ignore[attr-defined]
        assert journals.rows(tmp_path / "journal") == []
        assert [one.result(10) for one in echo.map([1.0, 2.0])] == [1.0, 2.0]


@token(durable=True)
def echo(what: float) -> float:
    return what


@token(durable=True)
def returns(what: str) -> object:
    return {"bytes": b"x", "object": object(), "text": "x"}[what]


def test_a_result_that_json_cannot_hold_fails_its_token(tmp_path: Path) -> None:
    """The error says so; the code has run, and the token is a dead letter."""
    with Gate("shop", plugins=[Journal(tmp_path / "journal")], control_socket=False):
        with pytest.raises(NotDurable, match="result of 'returns'"):
            returns.submit("object").result(10)
        assert returns.submit("text").result(10) == "x"
    assert [row["state"] for row in journals.rows(tmp_path / "journal")] == [5, 4]
