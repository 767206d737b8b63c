"""The waits for the disk: who waits, who does not, and what a wait that ends early leaves."""

from __future__ import annotations

import asyncio
import logging
import signal
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import Any

import journals
import pytest
import trio
from durable_operations import Sender, noted
from gated_code import LIMIT
from tiers import in_ci

from actors import Reply
from tokengate import Gate, Token, token
from tokengate.durable import Journal
from tokengate.durable._writer import Writer
from tokengate.errors import JournalFailed, TokenTerminated, WouldBlock
from tokengate.types import Observer


@token(durable=True)
def name_of(thread: str) -> str:
    return thread


@token(durable=True, concurrency=1)
def parent(depth: int) -> int:
    return 0 if not depth else 1 + parent.submit(depth - 1).result(LIMIT)


@token(durable=True)
async def in_loop(number: int) -> int:
    return number


@token(affinity="process")
def from_child(number: int) -> tuple[str, int]:
    sent = name_of.submit(f"child {number}")
    return sent.result(LIMIT), len(name_of.map(["a", "b"]))


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> journals.Disk:
    return journals.Disk(monkeypatch)


def opened(directory: Path, **options: Any) -> Gate:
    """A gate with a journal, not opened yet."""
    return Gate("shop", plugins=[Journal(directory)], control_socket=False, **options)


@pytest.mark.parametrize("run", [trio.run, asyncio.run], ids=["trio", "asyncio"])
def test_no_loop_waits_for_the_disk(tmp_path: Path, run: Any) -> None:
    """`submit`, `map` and a direct call say so and leave nothing; `asubmit` and awaited calls await it. Case 39."""

    async def main() -> None:
        for call in (lambda: name_of.submit("x"), lambda: name_of.map(["x", "y"]), lambda: name_of("x")):
            with pytest.raises(WouldBlock, match="asubmit"):
                call()
        assert journals.rows(tmp_path / "journal") == []
        assert await (await name_of.asubmit("x")) == "x"
        assert await in_loop(2) == 2

    with opened(tmp_path / "journal"):
        run(main) if run is trio.run else run(main())
    assert [row["state"] for row in journals.rows(tmp_path / "journal")] == [4, 4]


def test_a_step_that_waits_for_the_disk_lends_its_turn(tmp_path: Path) -> None:
    """So an operation with one turn submits to itself."""
    with opened(tmp_path / "journal"):
        assert parent.submit(3).result(LIMIT) == 3


def test_a_cancelled_wait_takes_back_what_is_not_being_written(tmp_path: Path, disk: journals.Disk) -> None:
    """Then nothing was accepted; else the token is, and runs. Case 39."""
    directory = tmp_path / "journal"
    ended: list[tuple[str, str]] = []

    class Ends(Observer):
        def token_finished(self, token: Token[Any], /) -> None:
            if token.operation == "name_of":
                ended.append((str(token.state), type(token._error).__name__))

    async def submit(gate: Gate) -> None:
        disk.hold()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(name_of.asubmit, "first")  # is being written
            await trio.to_thread.run_sync(disk.wait_reached)
            nursery.start_soon(name_of.asubmit, "second")  # waits behind it
            await trio.testing.wait_all_tasks_blocked()
            nursery.cancel_scope.cancel()
        disk.release()

    with opened(directory) as gate:
        gate._system.add_observer(Ends())
        trio.run(submit, gate)
        while not journals.all_have_ended(directory) or len(ended) < 2:
            pass
        assert name_of.submit("third").result(LIMIT) == "third"
    assert [row["arguments"] for row in journals.rows(directory)] == [b'[["first"],{}]', b'[["third"],{}]']
    assert sorted(ended) == [("completed", "NoneType"), ("completed", "NoneType"), ("rejected", "TokenRejected")]


@in_ci
def test_code_in_child_processes_submits_durable_calls(tmp_path: Path) -> None:
    """The thread that serves the processes does not wait for the disk."""
    with opened(tmp_path / "journal"):
        assert from_child.submit(1).result(LIMIT) == ("child 1", 2)
    assert [row["state"] for row in journals.rows(tmp_path / "journal")][:1] == [4]


@in_ci
def test_a_slow_disk_holds_up_no_loop(tmp_path: Path, disk: journals.Disk) -> None:
    """While a commit is being written, operators are answered and plain tokens run. Case 37."""
    with opened(tmp_path / "journal") as gate:
        sender = Sender(gate, "io")
        sender.suspend()
        one = sender.submit(tmp_path / "ledger", 1)
        disk.hold()
        sender.unsuspend()
        disk.wait_reached()

        assert [row.id for row in gate.control.tokens("operation=once_in_trio")] == [one.id]
        assert gate.control.terminate(one.id)
        disk.release()
        assert isinstance(one.exception(LIMIT), TokenTerminated)
    assert noted(tmp_path / "ledger") == []


def test_no_code_of_users_runs_on_the_thread_that_writes(tmp_path: Path, disk: journals.Disk) -> None:
    """Nor do callbacks that wait hold up the disk: they are told that they must not. Case 37."""
    threads: set[int] = set()

    class Noting(Observer):
        def token_queued(self, token: Any, /) -> None:
            threads.add(threading.get_ident())

        token_started = token_failing = token_finished = token_queued

    with opened(tmp_path / "journal") as gate:
        gate._system.add_observer(Noting())
        for kind in ("cpu", "io", "asyncio"):
            one = Sender(gate, kind).submit(tmp_path / "ledger", 1)
            one.add_done_callback(lambda _: threads.add(threading.get_ident()))
            assert one.result(LIMIT) == 1
    assert disk.threads
    assert not disk.threads & threads


@in_ci
def test_a_journal_that_cannot_write_tells_all_who_wait(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Submitters, and those who wait for tokens; nothing is accepted afterwards, and the gate asks to be closed."""
    caplog.set_level(logging.CRITICAL)

    def fails(_writer: Writer, _batch: object) -> None:
        raise OSError(5, "Input/output error")

    with opened(tmp_path / "journal") as gate:
        sender = Sender(gate, "cpu")
        sender.suspend()
        queued = sender.submit(tmp_path / "ledger", 1)
        monkeypatch.setattr(Writer, "_commit", fails)
        with pytest.raises(JournalFailed, match="Input/output error"):
            name_of.submit("x")
        with pytest.raises(JournalFailed):
            name_of.submit("y")
        sender.unsuspend()
        assert isinstance(queued.exception(LIMIT), JournalFailed)
        assert gate._stop_request.made
    assert noted(tmp_path / "ledger") == []
    assert [row["state"] for row in journals.rows(tmp_path / "journal")] == [1]


def test_map_names_what_is_on_disk_when_it_raises(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Of its items, those that were in an earlier commit. Case 3."""
    caplog.set_level(logging.CRITICAL)
    monkeypatch.setattr("tokengate.durable._writer._BATCH", 2)
    commit, batches = Writer._commit, [1, 1]

    def fails_late(writer: Writer, batch: Any) -> None:
        if not batches:
            raise OSError(5, "Input/output error")
        batches.pop()
        commit(writer, batch)

    with opened(tmp_path / "journal"):
        monkeypatch.setattr(Writer, "_commit", fails_late)
        with pytest.raises(JournalFailed) as caught:
            name_of.map(["a", "b", "c", "d", "e"])
        accepted = caught.value.accepted  # type: ignore[attr-defined]
        assert all(isinstance(one.exception(LIMIT), JournalFailed) for one in accepted)
    on_disk = [f"{row['uid'] >> 40}.{row['uid'] & (1 << 40) - 1}" for row in journals.rows(tmp_path / "journal")]
    assert [one.uid for one in accepted] == on_disk
    assert len(accepted) == 4


@in_ci
def test_ctrl_c_takes_back_what_is_not_being_written(tmp_path: Path, disk: journals.Disk) -> None:
    """What is being written is accepted, and runs; then a second submit with the same key would join it. Case 39."""
    with opened(tmp_path / "journal"):
        disk.hold()
        for number in range(2):
            waiting = threading.Timer(0.0, _interrupt_wait, (disk,))
            waiting.start()
            with pytest.raises(KeyboardInterrupt):
                name_of.submit(f"{number}")
            waiting.join()
        disk.release()
        assert name_of.submit("last").result(LIMIT) == "last"
    assert [(row["arguments"], row["state"]) for row in journals.rows(tmp_path / "journal")] == [
        (b'[["0"],{}]', 4),
        (b'[["last"],{}]', 4),
    ]


def _interrupt_wait(disk: journals.Disk) -> None:
    """Interrupt the main thread as it waits for the disk; that has the first record in hand, and the second behind."""
    disk.wait_reached()
    main = threading.main_thread().ident
    while not any(frame.f_code is Reply._block.__code__ for frame in _frames(sys._current_frames()[main or 0])):
        pass
    signal.pthread_kill(main or 0, signal.SIGINT)


def _frames(frame: FrameType | None) -> Iterator[FrameType]:
    while frame is not None:
        yield frame
        frame = frame.f_back
