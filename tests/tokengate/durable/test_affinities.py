"""What holds for durable tokens of each affinity, and for messages of actors."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path

import journals
import pytest
from durable_operations import KINDS, Sender, note, noted
from tiers import in_ci

from tokengate import Gate, token
from tokengate.durable import Journal
from tokengate.errors import NotRecovered
from tokengate.types import ProcessPool

pytestmark = pytest.mark.usefixtures("programs")

EACH = pytest.mark.parametrize("kind", [pytest.param(kind, marks=[] if kind == "cpu" else [in_ci]) for kind in KINDS])

ONE = """
import os, signal, sys
from durable_operations import Sender, note
from tokengate import Gate
from tokengate.durable import Journal
directory, ledger, kind, idempotent, number = sys.argv[1:]
note(ledger + ".pid", str(os.getpid()))
with Gate("shop", plugins=[Journal(directory)], control_socket=False) as gate:
    sender = Sender(gate, kind, idempotent=idempotent == "True")
    if number != "0":
        sender.submit(ledger, int(number))
    signal.pause()
"""


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> journals.Disk:
    return journals.Disk(monkeypatch)


@token
def plain_in_cpu() -> str:
    return "here"


@token
async def plain_in_trio() -> str:
    return "here"


@token(affinity="asyncio")
async def plain_in_asyncio() -> str:
    return "here"


@token(affinity="process")
def plain_in_process() -> str:
    return "here"


PLAIN = {"cpu": plain_in_cpu, "io": plain_in_trio, "asyncio": plain_in_asyncio, "process": plain_in_process}


@EACH
def test_a_beginning_is_on_disk_before_the_first_line_of_code(tmp_path: Path, disk: journals.Disk, kind: str) -> None:
    """Of a token that is not idempotent. Meanwhile it is queued, and other tokens run where it is to run. Case 6."""
    directory, ledger = tmp_path / "journal", tmp_path / "ledger"
    with Gate("shop", plugins=[Journal(directory)], control_socket=False) as gate:
        sender = Sender(gate, kind)
        sender.suspend()
        one = sender.submit(ledger, 1)
        disk.hold()
        sender.unsuspend()
        disk.wait_reached()

        assert PLAIN[kind.split(maxsplit=1)[0]].submit().result(20) == "here"
        assert (str(one.state), one.started_at, noted(ledger)) == ("queued", None, [])
        disk.release()
        assert one.result(20) == 1
        assert noted(ledger) == ["run 1"]


@EACH
def test_a_token_that_is_cancelled_while_its_beginning_is_written_never_runs(
    tmp_path: Path, disk: journals.Disk, kind: str
) -> None:
    """It ends as terminated, on disk, too."""
    directory, ledger = tmp_path / "journal", tmp_path / "ledger"
    with Gate("shop", plugins=[Journal(directory)], control_socket=False) as gate:
        sender = Sender(gate, kind)
        sender.suspend()
        one = sender.submit(ledger, 1)
        disk.hold()
        sender.unsuspend()
        disk.wait_reached()
        one.cancel()
        disk.release()

        assert type(one.exception(20)).__name__ == "TokenTerminated"
        assert sender.submit(ledger, 2).result(20) == 2
    assert noted(ledger) == ["run 2"]
    assert [row["state"] for row in journals.rows(directory)] == [6, 4]


@EACH
def test_an_end_is_on_disk_before_anybody_sees_it(tmp_path: Path, disk: journals.Disk, kind: str) -> None:
    """Until then the token is running, held `recording`, and its turn is free for the next one. Case 4."""
    directory, ledger = tmp_path / "journal", tmp_path / "ledger"
    with Gate("shop", plugins=[Journal(directory)], control_socket=False) as gate:
        sender = Sender(gate, kind, idempotent=True)
        sender.suspend()
        tokens = [sender.submit(ledger, number) for number in (1, 2)]
        told: list[str] = []
        for one in tokens:
            one.add_done_callback(lambda one: told.append(str(one.state)))
        disk.hold()
        sender.unsuspend()
        disk.wait_reached()

        listed = gate.control.tokens("held=recording")
        while len(listed) < 2:
            listed = gate.control.tokens("held=recording")
        assert [(one.row.id, one.row.state, one.row.held) for one in listed] == [
            (one.id, "running", "recording") for one in tokens
        ]
        assert gate.control.describe(tokens[0].id).row.held == "recording"
        assert (told, [one.done() for one in tokens]) == ([], [False, False])
        assert not tokens[0].cancel()
        disk.release()
        assert [one.result(20) for one in tokens] == [1, 2]
        assert told == ["completed", "completed"]


@in_ci
@EACH
@pytest.mark.parametrize("idempotent", [False, True], ids=["once", "again"])
def test_recovery_asks_whether_a_token_may_run_twice(tmp_path: Path, kind: str, idempotent: bool) -> None:
    """One that had begun runs again if it is idempotent; else it is a dead letter, which says so. Case 12."""
    directory, ledger = tmp_path / "journal", tmp_path / "ledger"
    with journals.start(ONE, directory, ledger, kind, idempotent, -1) as program:
        program.communicate()
    note(f"{ledger}.pid", str(os.getpid()))
    journal = Journal(directory)
    with Gate("shop", plugins=[journal], control_socket=False) as gate:
        Sender(gate, kind, idempotent=idempotent)
        (row,) = journals.rows(directory)
        one = journal.attach(f"{row['uid'] >> 40}.{row['uid'] & (1 << 40) - 1}")

        if idempotent:
            assert one.result(20) == -1
        else:
            with pytest.raises(NotRecovered, match="idempotent=True") as caught:
                one.result(20)
            assert caught.value.reason == "may_have_run"
    (row,) = journals.rows(directory)
    assert noted(ledger) == ["run -1"] * (1 + idempotent)
    assert (row["state"], row["reason"], row["dead"]) == ((4, "", None) if idempotent else (5, "may_have_run", 1))
    assert (row["attempts"], row["recoveries"]) == (1, int(idempotent))


@in_ci
def test_a_beginning_is_undone_if_the_process_dies_before_the_code_began(
    tmp_path: Path, until: Callable[[Callable[[], bool]], None]
) -> None:
    """The token is queued again, on disk, too, and runs in another process, once."""
    directory, ledger = tmp_path / "journal", tmp_path / "ledger"
    with Gate("shop", plugins=[Journal(directory)], processes=ProcessPool(size=1), control_socket=False) as gate:
        sender = Sender(gate, "process")
        assert sender.submit(ledger, 1).result(20) == 1
        workers = list(gate._system.processes.pool.workers)
        for worker in workers:
            os.kill(worker.pid, signal.SIGSTOP)  # it takes nothing more
        one = sender.submit(ledger, 2)
        until(lambda: any(worker.number_of(one) for worker in workers))
        assert journals.rows(directory)[1]["state"] == 2
        sender.suspend()
        for worker in workers:
            os.kill(worker.pid, signal.SIGKILL)
        until(lambda: journals.rows(directory)[1]["state"] == 1)
        sender.unsuspend()
        assert one.result(20) == 2
    assert noted(ledger) == ["run 1", "run 2"]
    assert [(row["state"], row["attempts"]) for row in journals.rows(directory)] == [(4, 1), (4, 1)]
