"""A verb's intent is on disk before it acts, or the verb is refused; nothing waits longer than it must."""

from __future__ import annotations

import errno
import logging
import os
import random
import stat
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import trio
from audit_logs import CLIENT, SEGMENT, Client, Hanging, PlannedDisk, fields, intent, write
from tiers import IN_CI, TORTURE

from tokengate.audit import AuditLog, Entry, verify
from tokengate.audit._appender import Appender, Item
from tokengate.audit._disk import Disk
from tokengate.audit._files import default_directory
from tokengate.control._exceptions import AuditUnavailable

Until = Callable[[Callable[[], bool]], None]


def intended(log: AuditLog, *entries: Entry) -> list[int]:
    """Record intents one after the other, and return their seqs."""

    async def record() -> list[int]:
        return [await log.intend(entry) for entry in entries or (intent(),)]

    return trio.run(record)


def released(log: AuditLog, **given: Any) -> int:
    async def record() -> int:
        return await log.release(intent(verb="resume", **given))

    return trio.run(record)


def opened(directory: Path, disk: PlannedDisk | None = None, **given: Any) -> AuditLog:
    return AuditLog(directory, "shop", **{"strict": True, **given}, disk=disk)


def kinds(directory: Path) -> list[str]:
    return [record["kind"] for record in fields(directory)]


def failing(error: int, *names: str) -> Callable[[int, str], None]:
    """Return a fault: these calls fail."""

    def fault(_number: int, name: str) -> None:
        if not names or name in names:
            raise OSError(error, os.strerror(error))

    return fault


def idle(log: AuditLog) -> bool:
    """Tell whether its thread has done all, the key file included."""
    return log._writer._busy_since is None


def working(_number: int, _name: str) -> None:
    """A fault that is none."""


# --- What is on disk --------------------------------------------------------------------------------------------------


def test_nothing_is_on_disk_before_the_first_record(directory: Path) -> None:
    """Nor is there a thread."""
    threads = threading.active_count()
    log = opened(directory)
    assert threading.active_count() == threads
    log.close()

    assert not directory.exists()


def test_an_intent_is_on_disk_when_it_returns(directory: Path) -> None:
    """Files are 0600 in a directory 0700, which it makes."""
    disk = PlannedDisk()
    log = opened(directory, disk)
    seq = intended(log)[0]
    synced = [name for name in disk.calls if name in ("write", "sync")]
    lines = fields(directory)
    log.close()

    assert synced[:6] == ["write", "sync"] * 3  # the first key, the key, the line
    assert [(line["seq"], line["kind"]) for line in lines] == [(1, "opened"), (2, "intent")]
    assert seq == 2
    assert stat.S_IMODE(directory.stat().st_mode) == 0o700
    assert {stat.S_IMODE(path.stat().st_mode) for path in directory.iterdir()} == {0o600}


def test_other_records_are_written_with_the_next_intent(directory: Path) -> None:
    """In the order in which they were added, as one batch."""
    log = opened(directory)
    seq = intended(log)[0]
    log.add(Entry(kind="outcome", of=seq, outcome={"terminated": 1}))
    intended(log)
    log.close()

    assert [line["seq"] for line in fields(directory) if line.get("batch") == 3] == [4]
    assert kinds(directory) == ["opened", "intent", "outcome", "intent", "closed"]


def test_other_records_are_on_disk_after_a_second(directory: Path, until: Until) -> None:
    """Without any intent."""
    log = opened(directory)
    log.add(Entry(kind="login"))
    until(lambda: directory.exists() and "login" in kinds(directory))
    log.close()


def test_callers_that_wait_together_share_a_sync(directory: Path, until: Until) -> None:
    """Group commit: while a batch is written, the next one gathers."""
    disk = PlannedDisk()
    hanging = Hanging("sync")
    log = opened(directory, disk)
    intended(log)
    until(lambda: idle(log))
    before = len(disk.calls)
    disk.fault = hanging

    async def storm() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(log.intend, intent(1))
            await trio.to_thread.run_sync(hanging.reached.wait)
            for number in range(2, 66):
                nursery.start_soon(log.intend, intent(number))
            await trio.testing.wait_all_tasks_blocked()
            hanging.released.set()

    trio.run(storm)
    log.close()

    assert disk.calls[before:].count("write") == 3  # the first, all others, and `closed`
    assert verify(directory).problems == ()


def test_a_closed_log_refuses(directory: Path) -> None:
    """A second close does nothing."""
    log = opened(directory)
    intended(log)
    log.close()
    log.close()
    log.add(Entry(kind="login"))
    log.refused(Entry(kind="refused"))

    with pytest.raises(AuditUnavailable, match="closed"):
        intended(log)
    assert kinds(directory)[-1] == "closed"


# --- One writer -------------------------------------------------------------------------------------------------------


def test_a_second_live_gate_of_a_name_has_a_directory_of_its_own(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """`NAME~2`; it is taken over when the first has closed."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    first, second = (AuditLog(None, "shop", strict=True) for _ in range(2))
    intended(first)
    intended(second)
    assert first.path == tmp_path / "tokengate" / "shop" / "audit" == default_directory("shop")
    assert second.path == tmp_path / "tokengate" / "shop~2" / "audit"
    first.close()
    third = AuditLog(None, "shop", strict=True)
    intended(third)
    second.close()
    third.close()

    assert third.path == first.path


def test_a_log_that_must_be_alone_refuses_while_another_writes(directory: Path) -> None:
    """As offline commands do, which append to the log of a gate that does not run."""
    gate, command = opened(directory), opened(directory, alone=True)
    intended(gate)
    with pytest.raises(AuditUnavailable, match="another process writes"):
        intended(command)
    gate.close()
    intended(command)
    command.close()

    assert verify(directory).problems == ()


@pytest.mark.parametrize("name", ["..", ".hidden", "a b\n", "caf\u00e9"])
def test_the_directory_of_a_gate_stays_where_it_should(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """Whatever the name of the gate is."""
    monkeypatch.setenv("XDG_STATE_HOME", "/state")

    assert default_directory(name).parent.parent == Path("/state/tokengate")
    assert not default_directory(name).parent.name.startswith(".")


def test_a_directory_that_is_open_to_others_is_refused(directory: Path) -> None:
    """The error says what to do."""
    directory.mkdir(mode=0o755)
    log = opened(directory)
    with pytest.raises(AuditUnavailable, match="chmod 700"):
        intended(log)
    log.close()


# --- A disk that fails ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("error", [errno.ENOSPC, errno.EIO, errno.EROFS])
@pytest.mark.parametrize("lasting", [False, True], ids=["once", "from then on"])
def test_at_each_call_that_fails_a_verb_is_refused_and_the_log_stays_whole(
    tmp_path: Path, error: int, lasting: bool, seed: int
) -> None:
    """Case 17: what was acknowledged is there, and when the disk works again, so does the log."""
    counted = PlannedDisk()
    write(tmp_path / "counted", 3, counted)
    every = range(len(counted.calls))
    for failed in every if IN_CI else random.Random(seed).sample(every, 8):
        directory = tmp_path / str(failed)
        disk = PlannedDisk()

        def fault(number: int, _name: str, failed: int = failed) -> None:
            if number == failed or (lasting and number > failed):
                raise OSError(error, os.strerror(error))

        disk.fault = fault
        log = opened(directory, disk)
        seqs = []
        for number in range(3):
            try:
                seqs += intended(log, intent(number))
            except AuditUnavailable as refused:
                assert os.strerror(error) in str(refused)  # noqa: PT017
        disk.fault = working
        seqs += intended(log)
        log.close()

        verification = verify(directory)
        assert verification.problems == (), failed
        intents = {line["seq"] for line in fields(directory) if line["kind"] == "intent"}
        assert intents == set(seqs), failed


@pytest.mark.parametrize("short", range(3))
def test_a_short_write_is_finished_or_cut_back(directory: Path, short: int, until: Until) -> None:
    """Case 17: half of a batch may be written at any write."""
    disk = PlannedDisk()
    log = opened(directory, disk)
    intended(log)
    until(lambda: idle(log))
    disk.short = {number for number in range(len(disk.calls), 1_000) if number % 3 == short}
    intended(log, *map(intent, range(10)))
    log.close()

    assert verify(directory).problems == ()
    assert kinds(directory).count("intent") == 11


def test_after_a_failed_sync_a_new_segment_begins(directory: Path, until: Until) -> None:
    """What a later sync says of the old one means nothing; the refused record is in neither."""
    disk = PlannedDisk()
    log = opened(directory, disk)
    intended(log)
    until(lambda: idle(log))
    disk.fault = failing(errno.EIO, "sync")
    with pytest.raises(AuditUnavailable):
        intended(log, intent(reason="lost"))
    disk.fault = working
    intended(log)
    log.close()

    assert sorted(path.name for path in directory.glob("*.jsonl")) == [SEGMENT, "audit-000002.jsonl"]
    assert not any(line.get("reason") == "lost" for line in fields(directory))
    assert verify(directory).problems == ()


def test_the_first_full_disk_releases_the_reserve(
    directory: Path, until: Until, caplog: pytest.LogCaptureFixture
) -> None:
    """So what fills the disk can be ended on record; the second one is refused."""
    disk = PlannedDisk()
    log = opened(directory, disk)
    intended(log)
    until(lambda: idle(log))
    assert (directory / "audit.reserve").stat().st_size == 2**20
    full = failing(errno.ENOSPC, "write")

    def until_released(number: int, name: str) -> None:
        if (directory / "audit.reserve").exists():
            full(number, name)

    disk.fault = until_released
    intended(log)
    disk.fault = full
    with pytest.raises(AuditUnavailable, match="No space left"):
        intended(log)
    disk.fault = working
    intended(log)
    log.close()

    assert verify(directory).problems == ()
    assert "reserve" in caplog.text


def test_an_outage_is_said_once_and_is_on_record(
    directory: Path, until: Until, caplog: pytest.LogCaptureFixture
) -> None:
    """With its reason; and the end of it."""
    disk = PlannedDisk()
    log = opened(directory, disk)
    intended(log)
    until(lambda: idle(log))
    disk.fault = failing(errno.EROFS)
    for _ in range(5):
        with pytest.raises(AuditUnavailable):
            intended(log)
    assert log.health == os.strerror(errno.EROFS)
    disk.fault = working
    intended(log)
    assert log.health == ""
    log.close()

    assert caplog.text.count("cannot be written") == 1
    assert caplog.text.count("can be written again") == 1
    (outage,) = (line for line in fields(directory) if line["kind"] == "unavailable")
    assert outage["args"]["why"] == os.strerror(errno.EROFS)


def test_releases_go_on_while_the_disk_fails_and_are_written_later(directory: Path) -> None:
    """A thousand of them; their outcomes are among these."""
    disk = PlannedDisk(failing(errno.EIO))
    log = opened(directory, disk)
    assert released(log) == 0
    for _ in range(2_000):
        log.add(Entry(kind="outcome"))
    with pytest.raises(AuditUnavailable, match="1,000 records are in memory"):
        released(log)
    disk.fault = working
    intended(log)
    log.close()

    assert kinds(directory).count("intent") == 2
    assert kinds(directory).count("outcome") == 999
    (outage,) = (line for line in fields(directory) if line["kind"] == "unavailable")
    assert outage["outcome"] == {"dropped": 1_002}


def test_what_breaks_the_glass_goes_on_once_it_is_in_the_log_of_the_process(
    directory: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Also when no more records fit into memory."""
    log = opened(directory, PlannedDisk(failing(errno.EIO)))
    assert released(log, break_glass="the shop is on fire") == 0
    for _ in range(1_000):
        log.add(Entry(kind="outcome"))
    assert released(log, break_glass="and the cellar") == 0
    log.close()

    assert '"break_glass":"the shop is on fire"' in caplog.text
    assert '"break_glass":"and the cellar"' in caplog.text


def test_a_log_that_is_not_strict_warns_once_and_goes_on(directory: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Verbs are not refused."""
    log = opened(directory, PlannedDisk(failing(errno.EIO)), strict=False)

    assert intended(log, intent(), intent()) == [0, 0]
    log.close()
    assert caplog.text.count("not said again") == 1


# --- A disk that hangs ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["open", "write", "sync", "replace"])
def test_a_hung_disk_refuses_after_two_seconds_and_then_at_once(
    directory: Path, name: str, monkeypatch: pytest.MonkeyPatch, until: Until
) -> None:
    """Case 17: a verb that was refused is on record as such when the disk answers again; releases go on."""
    for module in ("_log", "_writer"):
        monkeypatch.setattr(f"tokengate.audit.{module}.SECONDS", 0.2)
    monkeypatch.setattr("tokengate.audit._writer._LATER", 0.05)
    disk = PlannedDisk()
    hanging = Hanging(name)
    disk.fault = hanging
    log = opened(directory, disk)
    if name == "replace":
        log.add(intent())  # whose key is kept after its caller has been answered
        log.refused(intent())
    else:
        with pytest.raises(AuditUnavailable, match="not answered"):
            intended(log, intent(reason="refused"))
    assert hanging.reached.wait(60.0)
    until(lambda: log.health == "the disk does not answer")
    with pytest.raises(AuditUnavailable, match="does not answer"):
        intended(log)
    assert released(log) == 0
    hanging.released.set()
    log.close(60.0)

    lines = fields(directory)
    assert verify(directory).problems == ()
    assert [line["verb"] for line in lines if line["kind"] == "intent"][-1] == "resume"
    refused = [line["seq"] for line in lines if line.get("reason") == "refused"]
    ended = {line["of"]: line["outcome"] for line in lines if line["kind"] == "outcome"}
    assert all(ended[seq] == {"unavailable": 1} for seq in refused)


def test_a_caller_that_is_cancelled_leaves_no_open_intent(directory: Path, until: Until) -> None:
    """Its record, if there is one, has the outcome `unavailable`."""
    disk = PlannedDisk()
    log = opened(directory, disk)
    intended(log)
    until(lambda: idle(log))
    hanging = Hanging("sync")
    disk.fault = hanging

    async def cancelled() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(log.intend, intent(reason="first"))
            await trio.to_thread.run_sync(hanging.reached.wait)
            nursery.start_soon(log.intend, intent(reason="second"))
            await trio.testing.wait_all_tasks_blocked()
            nursery.cancel_scope.cancel()

    trio.run(cancelled)
    hanging.released.set()
    log.close()

    lines = fields(directory)
    (first,) = (line["seq"] for line in lines if line.get("reason") == "first")
    assert not any(line.get("reason") == "second" for line in lines)
    assert [line["outcome"] for line in lines if line.get("of") == first] == [{"unavailable": 1}]


def test_a_caller_that_is_cancelled_when_its_intent_is_on_disk_does_not_leave_it_open(directory: Path) -> None:
    """It does not act."""
    log = opened(directory)

    async def cancelled() -> None:
        with trio.CancelScope() as scope:
            wake = trio.Event.set

            def set_and_cancel(event: trio.Event) -> None:
                scope.cancel()
                wake(event)

            with pytest.MonkeyPatch.context() as patched:
                patched.setattr(trio.Event, "set", set_and_cancel)
                await log.intend(intent())

    trio.run(cancelled)
    log.close()

    assert [line["outcome"] for line in fields(directory) if line.get("of") == 2] == [{"unavailable": 1}]


def test_a_log_that_fails_tries_once_more_when_it_closes(directory: Path, caplog: pytest.LogCaptureFixture) -> None:
    """What is lost then is said."""
    disk = PlannedDisk(failing(errno.EIO))
    log = opened(directory, disk)
    assert released(log) == 0
    disk.fault = working
    log.close()
    assert kinds(directory) == ["opened", "unavailable", "intent", "closed"]

    disk.fault = failing(errno.EIO)
    log = opened(directory, disk)
    assert released(log) == 0
    log.close()
    assert "1 audit records of gate 'shop' are lost" in caplog.text


def test_a_log_on_a_hung_disk_closes_in_time(
    directory: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The thread is left behind, which the log of the process says."""
    monkeypatch.setattr("tokengate.audit._writer._LATER", 0.05)
    hanging = Hanging("write")
    log = opened(directory, PlannedDisk(hanging))
    log.add(Entry(kind="login"))
    log.refused(intent())

    def close() -> None:
        hanging.reached.wait(60.0)
        log.close(0.01)

    close()
    assert "could not be closed" in caplog.text
    hanging.released.set()
    log.close(60.0)


# --- Refusals ---------------------------------------------------------------------------------------------------------


def test_ten_thousand_refusals_are_a_few_lines(directory: Path) -> None:
    """Case 19: of each principal the first, and how many followed, by verb."""
    log = opened(directory)
    for number in range(10_000):
        client = Client(f"uid:{number % 3}")
        log.refused(Entry(kind="refused", caller=client, verb="terminate" if number % 2 else "pause"))
    log.close()

    lines = [line for line in fields(directory) if line["kind"] == "refused"]
    assert len(lines) == 6
    assert sum(line.get("outcome", {"refused": 1})["refused"] for line in lines) == 10_000
    assert sum(line["args"]["folded"]["refused pause"] for line in lines if "args" in line) == 4_998


def test_refusals_of_many_principals_are_folded_together(directory: Path) -> None:
    """From a hundred on."""
    log = opened(directory)
    for number in range(10_000):
        log.refused(Entry(kind="login", caller=Client(f"api:{number}")))
    log.close()

    assert kinds(directory).count("login") == 102


# --- Heads ------------------------------------------------------------------------------------------------------------


def test_the_log_of_the_process_gets_the_first_head_and_the_last(
    directory: Path, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    """And between them one a minute; `verify` compares them."""
    caplog.set_level(logging.INFO, "tokengate.audit")
    log = opened(directory)
    intended(log, *map(intent, range(20)))
    log.close()
    (tmp_path / "log").write_text(caplog.text)
    verification = verify(directory, heads=tmp_path / "log")

    assert verification.problems == ()
    assert caplog.text.count("audit head") == 2
    assert verification.heads == f"heads of {tmp_path / 'log'} that were compared: 2, up to record 22"


def test_the_heads_of_a_new_chain_are_told_too(directory: Path, caplog: pytest.LogCaptureFixture) -> None:
    """After the directory was removed, its numbers are smaller than before."""
    caplog.set_level(logging.INFO, "tokengate.audit")
    log = opened(directory)
    intended(log, *map(intent, range(20)))
    directory.rename(directory.with_name("gone"))
    intended(log)
    log.close()

    heads = [message for message in caplog.messages if message.startswith("audit head")]
    assert len({head.split()[2] for head in heads}) == 2
    assert "seq=4 " in heads[-1]


# --- Segments ---------------------------------------------------------------------------------------------------------


def test_a_segment_ends_when_it_is_full(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A batch is not divided; a log of several segments is whole, and goes on in the last."""
    monkeypatch.setattr("tokengate.audit._files.SEGMENT_SIZE", 2_000)
    write(directory, 10)
    write(directory, 10)

    sizes = [path.stat().st_size for path in directory.glob("*.jsonl")]
    assert len(sizes) > 5
    assert max(sizes) < 3_000
    assert verify(directory).problems == ()


def test_segments_that_are_too_old_are_removed_on_record(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whole ones, never the last; what is left is whole."""
    monkeypatch.setattr("tokengate.audit._files.SEGMENT_SIZE", 2_000)
    write(directory, 10)
    monkeypatch.setattr(time, "time", lambda now=time.time: now() + 1_000.0)
    before = len(list(directory.glob("*.jsonl")))
    log = opened(directory, retain=500.0)
    intended(log, intent())
    intended(log, intent())
    log.close()

    (retired,) = (line for line in fields(directory) if line["kind"] == "retired")
    assert len(retired["args"]["segments"]) == before - 1
    assert len(list(directory.glob("*.jsonl"))) == 2  # the last one was too old to go on with
    assert not (directory / SEGMENT).exists()
    verification = verify(directory)
    assert verification.problems == ()
    oldest = sorted(directory.glob("*.jsonl"))[0]
    oldest.unlink()
    assert [problem.what for problem in verify(directory).problems] == ["missing"]


def test_a_segment_is_removed_after_that_is_on_record(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that is killed between leaves records that are known to be removed, which is no problem."""
    monkeypatch.setattr("tokengate.audit._files.SEGMENT_SIZE", 1)
    appender = Appender("shop", lambda: [directory], -1_000.0, Disk())  # all that is not in the last one is too old

    def segments() -> list[str]:
        return sorted(path.name for path in directory.glob("*.jsonl"))

    for _ in range(2):
        appender.write([Item(intent())])
        appender.finish()
    assert segments() == [SEGMENT, "audit-000002.jsonl"]
    appender.write([Item(intent())])
    assert kinds(directory)[-2:] == ["retired", "intent"]
    assert segments()[0] == SEGMENT
    appender.finish()
    assert segments() == ["audit-000002.jsonl", "audit-000003.jsonl"]
    appender.close()

    assert verify(directory).problems == ()


def test_looking_and_closing_leave_nothing_behind(directory: Path) -> None:
    """A hundred logs: no thread, no file. (The fixture of all tests looks.)"""
    for _ in range(1_000 if TORTURE else 20):
        log = opened(directory)
        intended(log)
        log.close()

    assert verify(directory).problems == ()
    assert CLIENT.peer


def test_a_log_is_whole_while_it_is_written(directory: Path) -> None:
    """`verify` needs no lock, and a batch that it sees half is none of its problems."""
    log = opened(directory)
    intended(log)
    over = threading.Event()

    async def write_on() -> None:
        async with trio.open_nursery() as nursery:
            for _ in range(8):
                nursery.start_soon(write_one_after_the_other)

    async def write_one_after_the_other() -> None:
        while not over.is_set():
            await log.intend(intent(reason="x" * 400))

    thread = threading.Thread(target=trio.run, args=(write_on,))
    thread.start()
    try:
        found = [verify(directory).problems for _ in range(200 if TORTURE else 20)]
    finally:
        over.set()
        thread.join()
        log.close()

    assert found == [()] * len(found)
