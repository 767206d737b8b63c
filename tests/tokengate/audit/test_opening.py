"""A log that was left by a killed process, or changed by others, goes on; and what was found is on record."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import programs
import psutil
import pytest
import trio
from audit_logs import SEGMENT, fields, intent, write
from tiers import TORTURE

from tokengate.audit import AuditLog, Entry, seal, verify
from tokengate.audit._chain import End

pytestmark = pytest.mark.usefixtures("programs")

KEY = "audit.key"

Until = Callable[[Callable[[], bool]], None]


def note(directory: Path, kind: str) -> list[dict[str, object]]:
    """Return the arguments of the records of a kind."""
    return [record["args"] for record in fields(directory) if record["kind"] == kind]


def record(log: AuditLog, *entries: Entry) -> list[int]:
    async def intend() -> list[int]:
        return [await log.intend(entry) for entry in entries]

    return trio.run(intend)


# --- Left behind ------------------------------------------------------------------------------------------------------


def test_open_intents_are_closed_as_unknown(directory: Path) -> None:
    """Those of the last process; once."""
    for _ in range(2):
        log = AuditLog(directory, "shop", strict=True)
        first, second = record(log, intent(1), intent(2))
        log.add(Entry(kind="outcome", of=first, outcome={"terminated": 1}))
        log.close()
    write(directory, 1)

    unknown = [line["of"] for line in fields(directory) if line.get("outcome") == {"unknown": 1}]
    assert unknown == [3, second]
    assert len(set(unknown)) == 2


def test_a_torn_tail_goes_to_a_file_of_its_own(directory: Path) -> None:
    """At whichever byte it was torn; nothing is wrong with the log, which goes on, and is whole."""
    write(directory, 2)
    whole = {name: (directory / name).read_bytes() for name in os.listdir(directory)}
    end = End.parse(whole[KEY])
    line, _ = end.add(json.dumps({"kind": "intent"}).encode(), end.seq)
    for size in range(1, len(line), 1 if TORTURE else 23):
        shutil.rmtree(directory)
        directory.mkdir(mode=0o700)
        for name, text in whole.items():
            (directory / name).write_bytes(text)
        (directory / SEGMENT).write_bytes(whole[SEGMENT] + line[:size])
        killed = verify(directory)
        write(directory, 1)

        assert killed.problems == ()
        assert f"{size} bytes of a record are at the end" in killed.notes[0]

        assert verify(directory).problems == ()
        assert (directory / f"{SEGMENT}.torn").read_bytes() == line[:size]
        assert note(directory, "caught_up") == [{"torn": SEGMENT, "bytes": size}]


def test_a_batch_whose_key_was_not_kept_is_caught_up(directory: Path) -> None:
    """It was written when the process was killed; two batches are an older key."""
    write(directory, 2)
    end = End.parse((directory / KEY).read_bytes())
    first = end.seq
    lines = []
    for _ in range(3):
        line, end = end.add(b'{"at":1.0,"kind":"intent"}', first)
        lines.append(line)
    with (directory / SEGMENT).open("ab") as segment:
        segment.writelines(lines)
    write(directory, 1)

    assert verify(directory).problems == ()
    assert note(directory, "caught_up") == [{"records": f"{first}-{first + 2}"}]
    assert note(directory, "tampered") == []


CHILD = """
import sys, trio
from pathlib import Path
from audit_logs import intent
from tokengate.audit import AuditLog
async def main():
    log = AuditLog(Path(sys.argv[1]), "shop", strict=True)
    async def one(number):
        while True:
            seq = await log.intend(intent(number))
            print(seq, flush=True)
    async with trio.open_nursery() as nursery:
        for number in range(4):
            nursery.start_soon(one, number)
trio.run(main)
"""


def start(directory: Path) -> programs.Program:
    path = os.pathsep.join([str(Path(__file__).parents[2] / "support"), *sys.path])
    return programs.Program("-c", CHILD, str(directory), env={**os.environ, "PYTHONPATH": path})


@pytest.mark.parametrize("part", range(10))
def test_what_was_acknowledged_before_a_kill_is_on_record(directory: Path, seed: int, part: int) -> None:
    """Case 14, the log's part: kill -9 at random moments; the next process goes on with a whole log."""
    chance = random.Random(seed + part)
    for _ in range(50 if TORTURE else 2):
        with start(directory) as child:
            assert child.stdout is not None
            acknowledged = [int(child.stdout.readline()) for _ in range(chance.randrange(1, 60))]
            child.kill()
            acknowledged += [int(line) for line in child.stdout if line.endswith("\n")]
        assert verify(directory).problems == ()
        intents = {line["seq"] for line in fields(directory) if line["kind"] == "intent"}
        assert set(acknowledged) <= intents
        shutil.rmtree(directory) if chance.random() < 0.2 else write(directory, 1)
    write(directory, 1)

    assert verify(directory).problems == ()
    assert note(directory, "tampered") == []


# --- Changed by others ------------------------------------------------------------------------------------------------


def extend(directory: Path) -> None:
    with (directory / SEGMENT).open("ab") as segment:
        segment.write(b"foreign\n")


def put_back(directory: Path) -> None:
    text = (directory / SEGMENT).read_bytes()
    os.truncate(directory / SEGMENT, text.rindex(b"\n", 0, -1) + 1)


def replace(directory: Path) -> None:
    shutil.copy(directory / SEGMENT, directory / "copy")
    (directory / "copy").rename(directory / SEGMENT)


def change_key(directory: Path) -> None:
    (directory / KEY).write_bytes(End.first().text())


def replace_key(directory: Path) -> None:
    shutil.copy(directory / KEY, directory / "copy")
    (directory / "copy").rename(directory / KEY)


def link(directory: Path) -> None:
    (directory / SEGMENT).rename(directory / "elsewhere")
    (directory / SEGMENT).symlink_to(directory / "elsewhere")


def fifo(directory: Path) -> None:
    (directory / SEGMENT).unlink()
    os.mkfifo(directory / SEGMENT)


def remove(directory: Path) -> None:
    (directory / SEGMENT).unlink()


def remove_key(directory: Path) -> None:
    (directory / KEY).unlink()


CHANGES = {
    extend: ["foreign"],
    put_back: ["missing"],
    replace: [],
    change_key: [],
    replace_key: [],
    link: ["file", "missing"],
    fifo: ["file", "missing"],
    remove: ["missing"],
    remove_key: [],
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_change_while_the_gate_runs_is_noticed_at_the_next_write(
    directory: Path, change: Callable[[Path], None], until: Until, caplog: pytest.LogCaptureFixture
) -> None:
    """Case 23: an error in the log, a record, a new segment; and `verify` names what is wrong."""
    log = AuditLog(directory, "shop", strict=True)
    record(log, intent(1))
    until(lambda: log._writer._busy_since is None)
    change(directory)
    record(log, intent(2))
    log.close()

    assert [problem.what for problem in verify(directory).problems] == CHANGES[change]
    assert "was changed by others" in caplog.text
    newest = max(directory.glob("audit-*.jsonl"))
    found = [json.loads(line) for line in newest.read_text().splitlines()]
    assert [line["kind"] for line in found] == ["tampered", "intent", "closed"]


@pytest.mark.parametrize("change", [change for change in CHANGES if change not in (replace, replace_key)])
def test_a_change_while_no_gate_runs_is_noticed_at_the_next_open(
    directory: Path, change: Callable[[Path], None], caplog: pytest.LogCaptureFixture
) -> None:
    """In the same way."""
    write(directory, 1)
    change(directory)
    write(directory, 1)

    assert [problem.what for problem in verify(directory).problems] == CHANGES[change]
    assert "was changed by others" in caplog.text
    newest = max(directory.glob("audit-*.jsonl"))
    found = [json.loads(line) for line in newest.read_text().splitlines()]
    assert found[0]["kind"] == "tampered"
    assert "closed" in [line["kind"] for line in found]


@pytest.mark.parametrize("change", [extend, put_back, change_key])
def test_a_change_while_the_process_is_stopped_is_noticed(
    directory: Path, change: Callable[[Path], None], until: Until
) -> None:
    """Case 16, 23: SIGSTOP holds it anywhere, also within a write; or nothing of the change is left."""
    with start(directory) as child:
        assert child.stdout is not None
        for _ in range(20):
            child.stdout.readline()
        os.kill(child.pid, signal.SIGSTOP)
        process = psutil.Process(child.pid)
        until(lambda: process.status() == psutil.STATUS_STOPPED)
        written = (directory / SEGMENT).read_bytes().count(b"\n")
        change(directory)
        os.kill(child.pid, signal.SIGCONT)
        for line in child.stdout:  # what it has printed before is in the pipe
            if (directory / "audit-000002.jsonl").exists() or int(line) > written + 100:
                break
        child.kill()
        for _ in child.stdout:
            pass

    if change is change_key and not note(directory, "tampered"):  # stopped between its look at the key and its write
        assert End.parse((directory / KEY).read_bytes()).seq > 1  # so nothing is left of the change
        assert verify(directory).problems == ()
    else:
        assert note(directory, "tampered")


def test_an_older_log_with_its_key_goes_on_and_only_a_head_shows_it(directory: Path) -> None:
    """The writer cannot know; another process has written since."""
    write(directory, 1)
    old = {name: (directory / name).read_bytes() for name in (SEGMENT, KEY)}
    write(directory, 1)
    for name, text in old.items():
        (directory / name).write_bytes(text)
    write(directory, 1)

    assert verify(directory).problems == ()
    assert note(directory, "tampered") == []


def test_an_older_key_is_on_record(directory: Path) -> None:
    """The log goes on after what is there."""
    write(directory, 1)
    old = (directory / KEY).read_bytes()
    write(directory, 3)
    (directory / KEY).write_bytes(old)
    write(directory, 1)

    assert verify(directory).problems == ()
    assert "is older than records" in str(note(directory, "tampered"))


def test_a_lost_key_of_a_sealed_log_ends_its_chain(directory: Path, tmp_path: Path) -> None:
    """What is left of it is put aside, where the sealed key verifies it."""
    write(directory, 1)
    (tmp_path / "key").write_text(seal(directory))
    (directory / KEY).unlink()
    write(directory, 1)
    aside = directory / "chain-1"

    assert verify(directory).problems == ()
    assert aside.name in str(note(directory, "tampered"))
    (problem,) = verify(aside, key=tmp_path / "key").problems
    assert problem.what == "key"


def test_a_directory_that_is_removed_while_the_gate_runs_is_made_again(
    directory: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """With a new chain, whose first records say so."""
    log = AuditLog(directory, "shop", strict=True)
    record(log, intent(1))
    directory.rename(directory.with_name("gone"))
    record(log, intent(2))
    log.close()

    assert verify(directory).problems == ()
    assert "is gone, with chain" in str(note(directory, "tampered"))
    assert "was changed by others" in caplog.text
