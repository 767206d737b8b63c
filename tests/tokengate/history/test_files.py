"""The files of history: where they may be, what is removed, and what becomes of a disk that fails."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import sqlite3
import stat
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from other_users import needs_root
from tiers import in_ci

from tokengate import Gate, token
from tokengate.audit import _directory
from tokengate.errors import BadStateDirectory
from tokengate.history import History, _files
from tokengate.history import _writer as writer
from tokengate.history._reader import Reader
from tokengate.telemetry import Telemetry

Opened = Callable[..., tuple[Gate, History]]
Until = Callable[[Callable[[], bool]], None]


@token
def work(x: int) -> int:
    return x


def files(directory: Path) -> list[Path]:
    return sorted((directory / "history").glob("*.db"))


def gaps(history: History) -> list[str]:
    return [one.text for one in history.records(limit=10_000) if one.kind == "telemetry.lost"]


def completed(history: History) -> int:
    return sum(row.completed for row in history.operations() if row.name == "work")


# --- Where it may be ------------------------------------------------------------------------------------------------


def test_the_files_are_for_the_user_alone(opened: Opened, tmp_path: Path) -> None:
    """0600 in 0700, also what SQLite keeps beside a file."""
    opened()

    assert stat.S_IMODE((tmp_path / "history").stat().st_mode) == 0o700
    assert {stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "history").iterdir()} == {0o600}


def test_a_directory_that_is_open_to_others_opens_no_gate(tmp_path: Path) -> None:
    """The error has the path, the reason and the remedy; nothing is left open."""
    (tmp_path / "history").mkdir(mode=0o755)
    (tmp_path / "history").chmod(0o755)
    with pytest.raises(BadStateDirectory, match="open to others") as caught, Gate("shop", plugins=[History(tmp_path)]):
        pass
    error = caught.value

    assert error.path == str(tmp_path / "history")
    assert "chmod 700" in str(error)


def test_a_file_in_the_place_of_the_directory_opens_no_gate(tmp_path: Path) -> None:
    """So does anything in which no file can be made."""
    (tmp_path / "history").write_text("")
    with pytest.raises(BadStateDirectory), Gate("shop", plugins=[History(tmp_path)]):
        pass


@needs_root
def test_a_directory_of_another_user_opens_no_gate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It names that user."""
    (tmp_path / "history").mkdir(mode=0o700)
    monkeypatch.setattr(os, "geteuid", lambda: 10_001)
    with pytest.raises(BadStateDirectory, match="belongs to user 0"):
        _files.prepare(tmp_path)


def test_a_network_file_system_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """SQLite's locks do not hold there."""
    monkeypatch.setattr(_directory, "_remote", lambda _folder: "nfs4")
    with pytest.raises(BadStateDirectory, match="network file system"):
        _files.prepare(tmp_path)


def test_a_failed_opening_leaves_no_thread(tmp_path: Path) -> None:
    """The file of history is closed if another plugin does not start."""
    from tokengate.control.registry import Plugin

    class Broken(Plugin):
        def observer(self, _gate: Any, /) -> None:
            raise RuntimeError("broken")

    with pytest.raises(RuntimeError, match="broken"), Gate("shop", plugins=[History(tmp_path), Broken()]):
        pass
    with sqlite3.connect(files(tmp_path)[0]) as db:
        closed = db.execute("SELECT value FROM meta WHERE name = 'closed'").fetchall()
    db.close()

    assert len(closed) == 1


# --- What is removed ------------------------------------------------------------------------------------------------


def _old(directory: Path, name: str, age: float, size: int) -> Path:
    path = directory / f"{name}.0123abcd.db"
    path.write_bytes(b"x" * size)
    os.utime(path, (time.time() - age, time.time() - age))
    return path


def test_retention_is_by_age_and_by_size(tmp_path: Path) -> None:
    """Case 32: whole files go, the oldest first; what is written to stays."""
    own = _old(tmp_path, "20260101T000000", 10**6, 100)
    aged = _old(tmp_path, "20260102T000000", 10**6, 100)
    older, newer = (_old(tmp_path, f"2026010{day}T000000", 10, 600) for day in (3, 4))
    other = _old(tmp_path, "20260101T120000", 10**6, 600)
    Path(f"{other}-wal").touch()
    _files.retire(tmp_path, own, retention=86_400.0, most=1_000)
    left = _files.files_in(tmp_path)

    assert aged not in left
    assert older not in left
    assert left == [own, other, newer]


@in_ci
def test_a_large_file_is_followed_by_another(opened: Opened, tmp_path: Path, until: Until) -> None:
    """Each is closed and indexed; counts and rows go on in the next."""
    gate, history = opened(rows_per_second=10**6)
    writing: Any = history._writer
    writing._largest = 0
    for made in (40, 80):
        for number in range(40):
            work.submit(number).result(30)
        until(lambda made=made: completed(history) == made)  # type: ignore[misc]
    until(lambda: len(files(tmp_path)) >= 2)
    gate.close()
    first = files(tmp_path)[0]
    with sqlite3.connect(first) as db:
        indexes = db.execute("SELECT name FROM sqlite_master WHERE name = 'by_operation'").fetchall()
    db.close()

    assert completed(history) == 80
    assert len(history.records("operation=work", limit=10_000)) == 80
    assert indexes
    assert not Path(f"{files(tmp_path)[-1]}-wal").exists()  # while others were closed, they may have been read


def test_the_audit_log_has_the_digest_of_a_closed_file(
    opened: Opened, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So that a file that was changed later is found; a gate without a log records nothing."""
    gate, _ = opened()
    log = tmp_path / "audit"
    gate._authority.recorder.record_to(log, None, strict=True)  # type: ignore[union-attr]
    gate.close()
    lines = [json.loads(line) for path in log.glob("*.jsonl") for line in path.read_bytes().splitlines()]
    (record,) = (line["args"] for line in lines if line["kind"] == "history")

    assert record["sha256"] == hashlib.sha256(Path(record["file"]).read_bytes()).hexdigest()


# --- A disk that fails ----------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("hasty")
def test_a_deleted_file_is_noticed_and_another_begins(opened: Opened, tmp_path: Path, until: Until) -> None:
    """Case 31: what was in it is a gap; tokens go on."""
    _gate, history = opened()
    work.submit(1).result(30)
    until(lambda: completed(history) == 1)
    _files.remove(files(tmp_path)[0])
    until(lambda: bool(files(tmp_path)) and bool(gaps(history)))
    work.submit(2).result(30)
    until(lambda: any(one.state == "completed" for one in history.records("operation=work")))
    until(lambda: completed(history) >= 1)  # 2, unless a minute has passed

    assert "is gone" in gaps(history)[0]


def test_a_file_that_was_deleted_before_midnight_is_noticed_after_it(
    opened: Opened, tmp_path: Path, until: Until, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The file of the next day has the gap."""
    monkeypatch.setattr(writer, "_CHECK", 1e9)
    _gate, history = opened()
    writing: Any = history._writer
    work.submit(1).result(30)
    until(lambda: completed(history) == 1)
    _files.remove(files(tmp_path)[0])
    writing._minute -= 1440
    until(lambda: bool(files(tmp_path)) and bool(gaps(history)))

    assert "is gone" in gaps(history)[0]


def test_a_file_that_is_being_made_is_no_gap(tmp_path: Path) -> None:
    """It has no tables for a moment; one that stays so is told."""
    folder = tmp_path / "history"
    folder.mkdir(mode=0o700)
    path, db = _files.begin(folder, "0badcafe", time.time())
    db.close()
    reader = Reader(folder)
    assert reader.records() == []
    os.utime(path, (time.time() - 60, time.time() - 60))
    (told,) = reader.records()
    assert "cannot be read: 'run'" in told.text


def _by_copy(path: Path) -> None:
    path.with_suffix(".copy").write_bytes(path.read_bytes())
    path.with_suffix(".copy").replace(path)


def _by_link(path: Path) -> None:
    path.rename(path.with_suffix(".moved"))
    path.symlink_to(path.with_suffix(".moved"))


def _by_directory(path: Path) -> None:
    path.unlink()
    path.mkdir()


def _by_fifo(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


@in_ci
@pytest.mark.usefixtures("hasty")
@pytest.mark.parametrize("replace", [_by_copy, _by_link, _by_directory, _by_fifo])
def test_a_file_that_is_replaced_is_noticed_and_another_begins(
    opened: Opened, tmp_path: Path, until: Until, replace: Callable[[Path], None]
) -> None:
    """Case 31: SQLite would go on to write to the one that nobody finds; nothing waits for what is no file."""
    _gate, history = opened()
    work.submit(1).result(30)
    until(lambda: completed(history) == 1)
    replace(files(tmp_path)[0])
    until(lambda: any("is another one" in gap for gap in gaps(history)))
    work.submit(2).result(30)
    until(lambda: any(one.state == "completed" for one in history.records("operation=work")))


@in_ci
@pytest.mark.usefixtures("hasty")
def test_a_deleted_directory_is_made_anew(opened: Opened, tmp_path: Path, until: Until) -> None:
    """Case 31: as a deleted file is."""
    _gate, history = opened()
    work.submit(1).result(30)
    until(lambda: completed(history) == 1)
    shutil.rmtree(tmp_path / "history")
    until(lambda: any("is gone" in gap for gap in gaps(history)))
    work.submit(2).result(30)
    until(lambda: any(one.state == "completed" for one in history.records("operation=work")))
    assert (tmp_path / "history").stat().st_mode & 0o777 == 0o700


@in_ci
@pytest.mark.usefixtures("hasty")
def test_a_damaged_file_is_put_aside_and_another_begins(opened: Opened, tmp_path: Path, until: Until) -> None:
    """Case 31: it stays, as `.damaged`."""
    _gate, history = opened()
    work.submit(1).result(30)
    until(lambda: completed(history) == 1)
    path = files(tmp_path)[0]
    writing: Any = history._writer
    writing._db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    with path.open("r+b") as file:
        file.write(b"garbage " * 512)
    until(lambda: any("damaged" in text for text in gaps(history)))
    work.submit(2).result(30)
    until(lambda: completed(history) >= 1)  # 2, unless a minute has passed

    assert path.with_name(f"{path.name}.damaged").exists()


@pytest.mark.usefixtures("hasty")
def test_a_disk_that_fails_is_a_gap_and_is_tried_again(
    opened: Opened, tmp_path: Path, until: Until, caplog: pytest.LogCaptureFixture
) -> None:
    """Case 31: counts are exact nevertheless, what has no row is counted, and the log has one line."""
    gate, history = opened()
    writing: Any = history._writer
    work.submit(1).result(30)
    until(lambda: completed(history) == 1)
    pages = writing._db.execute("PRAGMA page_count").fetchone()[0]
    writing._db.execute(f"PRAGMA max_page_count = {pages}")
    tokens = [work.with_options(tags={"number": str(number)}).submit(number) for number in range(2_000)]
    for one in tokens:
        one.result(30)
    until(lambda: bool(writing.failing))
    (degraded,) = history.health(gate)
    writing._db.execute("PRAGMA max_page_count = 1000000")
    until(lambda: not writing.failing)
    until(lambda: completed(history) == 2_001)
    gate.close()
    found = history.records(limit=10_000)
    missing = sum(int((one.details or {})["lost"]) for one in found if one.kind == "telemetry.lost")
    rows = sum(one.weight or 0 for one in found if one.operation == "work")

    assert "database or disk is full" in gaps(history)[0]
    assert (degraded.status, "full" in degraded.why) == ("degraded", True)
    assert rows < 2_001 <= rows + missing
    assert len([one for one in caplog.records if "writes nothing" in one.message]) == 1


@needs_root
@in_ci
def test_a_real_disk_is_filled_and_freed(tmp_path: Path, until: Until, monkeypatch: pytest.MonkeyPatch) -> None:
    """Case 31: no token is lost for it."""
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", disk], check=False).returncode:
        pytest.skip("this machine mounts nothing")
    monkeypatch.setattr(writer, "_CHECK", 0.2)
    try:
        history = History(disk)
        with Gate("shop", plugins=[history]):
            writing: Any = history._writer
            for _ in range(3):
                _fill(disk / "filler")
                until(lambda: work.submit(1).result(30) == 1 and bool(writing.failing))
                (disk / "filler").unlink()
                until(lambda: work.submit(1).result(30) == 1 and not writing.failing)
            work.submit(1).result(30)
            made = sum(one.completed for one in history.gate.plugin(Telemetry).operations("work"))
        assert completed(history) == made
        assert any("full" in text or "I/O" in text for text in gaps(history))
    finally:
        subprocess.run(["umount", disk], check=True)


def _fill(path: Path) -> None:
    with contextlib.suppress(OSError), path.open("wb") as filler:
        while True:
            filler.write(b"x" * 2**16)
            filler.flush()


def test_a_file_that_cannot_be_read_is_named_as_a_gap(opened: Opened, tmp_path: Path, until: Until) -> None:
    """The others are read."""
    _gate, history = opened()
    work.submit(1).result(30)
    until(lambda: completed(history) == 1)
    shutil.copy(__file__, tmp_path / "history" / "20260101T000000.0123abcd.db")

    assert any("cannot be read" in text for text in gaps(history))
    assert completed(history) == 1


@in_ci
def test_a_forked_child_writes_nothing_and_closes_nothing(opened: Opened, tmp_path: Path, until: Until) -> None:
    """Case 22: it ends after its parent has closed the file, with all destructors; what it knows is old by then."""
    code = """
import os, sys, time
from tokengate import Gate, token
from tokengate.history import History

@token
def work(x): return x

history = History(sys.argv[1])
with Gate("shop", plugins=[history]) as gate:
    work.submit(1).result(30)
    while not history.records("operation=work"):
        time.sleep(0.01)
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(write)
        os.read(read, 1)
        raise SystemExit(0)
    for number in range(99):
        work.submit(number).result(30)
os.close(write)
assert os.waitpid(child, 0)[1] == 0
"""
    subprocess.run([sys.executable, "-W", "ignore", "-c", code, str(tmp_path)], check=True)
    history = History(tmp_path)

    assert len(files(tmp_path)) == 1
    assert completed(history) == 100
    assert sum(one.weight or 0 for one in history.records("operation=work")) == 100
    assert gaps(history) == []
