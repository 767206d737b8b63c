"""What becomes of a journal whose disk is full or fails, whose database is held by others, or whose process forks."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import sqlite3
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import journals
import pytest
from durable_operations import add, again, noted
from other_users import needs_root
from tiers import in_ci

from tokengate import Gate, token
from tokengate.durable import Journal, _writer
from tokengate.errors import JournalFailed, JournalFull

Until = Callable[[Callable[[], bool]], None]

pytestmark = pytest.mark.usefixtures("programs")


@token
def plain(a: int) -> int:
    return a


def opened(directory: Path) -> tuple[Gate, Any]:
    """A gate that is not open yet, and its plugin."""
    plugin = Journal(directory)
    return Gate("shop", plugins=[plugin], control_socket=False), plugin


class Failing:
    """A connection whose statements fail.

    Args:
        db: the connection.
        statement: the beginning of those that fail.
        code: of the error, as in `SQLITE_IOERR_FSYNC`.
    """

    def __init__(self, db: sqlite3.Connection, statement: str, code: int) -> None:
        self._db = db
        self._statement = statement
        self._code = code
        self.is_failing = True

    def execute(self, statement: str, *args: Any) -> Any:
        if self.is_failing and statement.startswith(self._statement):
            error = sqlite3.OperationalError("disk I/O error")
            error.sqlite_errorcode = self._code
            raise error
        return self._db.execute(statement, *args)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._db, name)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 8 MiB."""
    folder = tmp_path / "disk"
    folder.mkdir(mode=0o700)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m,mode=700", "tokengate", folder], check=True)
    yield folder
    subprocess.run(["umount", "-l", folder], check=True)


def fill(folder: Path, name: str) -> None:
    """Use up the space of a file system."""
    with open(folder / name, "wb", buffering=0) as file, contextlib.suppress(OSError):
        for size in (65_536, 4_096):
            with contextlib.suppress(OSError):
                while file.write(bytes(size)) == size:
                    pass


@in_ci
@needs_root
def test_a_full_disk_refuses_what_is_new_and_has_space_for_ends(small_disk: Path, until: Until) -> None:
    """When the reserve is used up, too, ends wait for space; plain tokens go on, and no reply is wrong. Case 31."""
    gate, _ = opened(small_disk / "journal")
    with gate:
        gate.register(add)
        assert add.submit(0, 0).result(10) == 0
        gate.control.suspend("operations/add")
        tokens = [add.submit(number, 1) for number in range(100)]
        fill(small_disk, "first")

        with pytest.raises(JournalFull, match="is full, so nothing is accepted; make space"):
            _submit_many()
        assert not (small_disk / "journal" / "reserve").exists()
        gate.control.unsuspend("operations/add")
        assert [one.result(10) for one in tokens] == list(range(1, 101))
        assert plain.submit(5).result(10) == 5
        with pytest.raises(JournalFull):
            add.submit(1, 1)

        (small_disk / "first").unlink()
        until(lambda: _accepts(1))
        assert (small_disk / "journal" / "reserve").stat().st_size == 4 * 1024 * 1024
    found = journals.rows(small_disk / "journal", "state")
    assert {row["state"] for row in found} == {4}


def _submit_many() -> None:
    for number in range(10_000):
        add.submit(number, 1)


def _accepts(number: int) -> bool:
    try:
        return add.submit(number, 1).result(10) == number + 1
    except JournalFull:
        return False


def test_ends_that_find_no_space_are_late(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, until: Until) -> None:
    """They are tried each second until there is some; what is new is refused at once meanwhile. Case 31."""
    monkeypatch.setattr(_writer, "_PAUSE", 0.01)
    gate, plugin = opened(tmp_path)
    with gate:
        gate.register(add)
        gate.control.suspend("operations/add")
        tokens = [add.submit(number, 1) for number in range(10)]
        writer = plugin._journal.writer
        writer._db = failing = Failing(writer._db, "COMMIT", sqlite3.SQLITE_FULL)
        monkeypatch.setattr(plugin._journal.writer._run.directory, "make_reserve", lambda: False, raising=False)
        gate.control.unsuspend("operations/add")
        until(lambda: len(writer._late) == 10)
        with pytest.raises(JournalFull):
            add.submit(1, 1)
        assert plain.submit(5).result(10) == 5
        assert not any(one.done() for one in tokens)
        failing.is_failing = False

        assert [one.result(10) for one in tokens] == list(range(1, 11))
        monkeypatch.undo()
        until(lambda: _accepts(1))


@pytest.mark.parametrize("statement", ["BEGIN IMMEDIATE", "UPDATE meta", "COMMIT"])
def test_a_journal_whose_disk_fails_stops(tmp_path: Path, statement: str, until: Until) -> None:
    """SQLite says yes to the next commit: so nothing is accepted any more, and nobody is told of success. Case 32."""
    gate, plugin = opened(tmp_path)
    with gate:
        assert add.submit(1, 2).result(10) == 3
        gate.register(again)
        gate.control.suspend("operations/again")
        waiting = again.submit(str(tmp_path / "ledger"), 1)
        writer = plugin._journal.writer
        writer._db = failing = Failing(writer._db, statement, sqlite3.SQLITE_IOERR_FSYNC)

        with pytest.raises(JournalFailed, match="cannot write any more: disk I/O error"):
            add.submit(1, 2)
        failing.is_failing = False
        with pytest.raises(JournalFailed):
            add.submit(1, 2)
        gate.control.unsuspend("operations/again")
        with pytest.raises(JournalFailed, match="is left in the journal"):
            waiting.result(10)
        until(lambda: gate.stopping)
        assert plain.submit(5).result(10) == 5
    assert [row["state"] for row in journals.rows(tmp_path)] == [4, 1]
    with Gate("shop", plugins=[Journal(tmp_path)], control_socket=False):
        until(lambda: journals.rows(tmp_path)[1]["state"] == 4)
    assert [row["how"] for row in journals.runs(tmp_path)] == ["killed", "closed"]


@in_ci
def test_a_database_that_another_program_holds_is_waited_for(tmp_path: Path) -> None:
    """An operator's shell in a transaction delays acceptances, and fails none."""
    gate, plugin = opened(tmp_path)
    with gate:
        plugin._journal.call(lambda db: db.execute("PRAGMA busy_timeout = 1")).result(10)
        other = sqlite3.connect(tmp_path / "journal.db", isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        thread = threading.Thread(target=lambda: add.submit(1, 2).result(10))
        thread.start()
        thread.join(0.05)
        assert thread.is_alive()
        other.close()
        thread.join(10)
        assert not thread.is_alive()
        assert add.submit(1, 2).result(10) == 3


FAILS = """
import os, sys
from durable_operations import add, note
from tokengate import Gate
from tokengate.durable import Journal
from tokengate.errors import JournalFailed
directory, ledger = sys.argv[1:]
try:
    with Gate("shop", plugins=[Journal(directory)], control_socket=False):
        for number in range(8):
            token = add.submit(number, 0)
            note(ledger, f"accepted {number}")
            token.add_done_callback(lambda one, number=number: one._error or note(ledger, f"ended {number}"))
except JournalFailed:
    note(ledger, "failed")
"""


@in_ci
@pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed")
@pytest.mark.parametrize("call", ["fdatasync", "pwrite64"])
@pytest.mark.parametrize("error", ["EIO", "ENOSPC"])
def test_whichever_call_fails_nobody_is_told_of_success(tmp_path: Path, call: str, error: str) -> None:
    """The k-th, for each k: what is acknowledged is on disk, and nothing is accepted after a failure. Case 32."""
    for number in range(1, 18):
        directory, ledger = tmp_path / f"{number}", tmp_path / f"ledger{number}"
        inject = f"--inject={call}:error={error}:when={number}"
        journals.traced(FAILS, directory, ledger, options=[inject, f"--trace={call}"])
        lines = noted(ledger)
        with contextlib.suppress(sqlite3.OperationalError):  # the first calls make the database
            states = [row["state"] for row in journals.rows(directory)]
            accepted = [line for line in lines if line.startswith("accepted")]
            assert len(states) >= len(accepted)
            assert all(states[int(line.split()[1])] == 4 for line in lines if line.startswith("ended"))
        if "failed" in lines:
            assert not any(line.startswith("accepted") for line in lines[lines.index("failed") :])


# Forks

FORKS = """
import gc, os, signal, sys
from durable_operations import add
from tokengate import Gate
from tokengate.durable import Journal
from tokengate.errors import NeedsGate, GateState, JournalFailed
directory = sys.argv[1]
plugin = Journal(directory)
with Gate("shop", plugins=[plugin], control_socket=False) as gate:
    token = add.submit(1, 2)
    assert token.result() == 3
    child = os.fork()
    if not child:
        for call in (lambda: add.submit(1, 2), lambda: plugin._journal.call(len)):
            try:
                call()
            except (NeedsGate, GateState, JournalFailed) as error:
                print(type(error).__name__, flush=True)
        gc.collect()
        opened = [os.path.basename(os.path.realpath(f"/proc/self/fd/{one}")) for one in os.listdir("/proc/self/fd")]
        print({name for name in opened if name in ("owner.lock", "journal.db")}, flush=True)
        signal.pause()
    print(child, flush=True)
    sys.stdin.readline()
    assert add.submit(3, 4).result() == 7
    os.kill(os.getpid(), 9)
"""


@in_ci
def test_a_forked_child_has_neither_the_lock_nor_the_journal(tmp_path: Path) -> None:
    """It refuses durable calls, never touches the connection, and may outlive its parent. Case 33."""
    with journals.start(FORKS, tmp_path, piped=True) as program:
        lines = [program.stdout.readline().strip() for _ in range(4)]
        child = int(next(line for line in lines if line.isdecimal()))
        assert sorted(line for line in lines if not line.isdecimal()) == [
            "JournalFailed", "NeedsGate", "{'journal.db'}"
        ]  # fmt: skip
        assert program.stdin is not None
        program.stdin.write("\n")
        program.stdin.flush()
        assert program.wait() == -signal.SIGKILL
        with Gate("shop", plugins=[Journal(tmp_path)], control_socket=False):
            assert add.submit(1, 2).result(10) == 3
            os.kill(child, signal.SIGKILL)
    assert [row["state"] for row in journals.rows(tmp_path)] == [4, 4, 4]
