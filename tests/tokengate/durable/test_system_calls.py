"""The order of system calls: what is acknowledged has been synced."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import journals
import pytest
from tiers import in_ci

pytestmark = [
    pytest.mark.usefixtures("programs"),
    pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed"),
]

PROGRAM = """
import sys
from durable_operations import note, once, stepped
from tokengate import Gate
from tokengate.durable import Journal, _run
directory, ledger, name, synced = sys.argv[1:]
connect = _run.connect
def connect_without_sync(path):
    db = connect(path)
    db.execute("PRAGMA synchronous = OFF")
    return db
if synced == "no":
    _run.connect = connect_without_sync
operation = {"once": once, "stepped": stepped}[name]
with Gate("shop", plugins=[Journal(directory)], control_socket=False):
    operation.submit(ledger, -1).result()
    note(ledger, "first")
    for number in range(5):
        token = operation.submit(ledger, number)
        note(ledger, f"accepted {number}")
        token.result()
        note(ledger, f"ended {number}")
"""

_CALL = re.compile(r"(\d+) +(?:(\w+)\((\d+)<(.*?)>(.*)|<\.\.\. (\w+) resumed>.*)")


def problems(trace: str) -> list[str]:
    """Return the acknowledgements of a trace that came before the commit they stand for was synced.

    Each token has three commits, in order: acceptance; beginning, or step; end.
    """
    synced, base = 0, None
    is_written = False
    pending: dict[str, str] = {}  # {thread: the file that it syncs}
    found = []
    for line in trace.splitlines():
        match = _CALL.match(line)
        if match is None:
            continue
        thread, call, _, path, rest, resumed = match.groups()
        if resumed in ("fdatasync", "fsync"):
            path, call, rest = pending.pop(thread), resumed, ""
        elif call in ("fdatasync", "fsync") and "unfinished" in rest:
            pending[thread] = path
            continue
        if call == "pwrite64" and path.endswith("-wal"):
            is_written = True
        elif call in ("fdatasync", "fsync") and path.endswith("-wal") and is_written:
            synced, is_written = synced + 1, False
        elif call == "write" and path.endswith("ledger"):
            kind = re.sub(r'^, "(\w+).*', r"\1", rest)
            needed = {"first": 0, "accepted": 1, "run": 2, "ended": 3}[kind]
            if base is not None and synced < base + needed:
                found.append(f"{rest} after {synced - base} commits of its token")
            if kind == "first" or (kind == "ended" and base is not None):
                base = synced
    assert base is not None, trace
    return found


@in_ci
@pytest.mark.parametrize("name", ["once", "stepped"])
def test_what_is_acknowledged_was_synced(tmp_path: Path, name: str) -> None:
    """Acceptance, end, step; and the beginning of what must not run twice, before its first line. Case 6."""
    assert problems(_trace(tmp_path, name, "yes")) == []


@in_ci
def test_a_writer_that_does_not_sync_is_caught(tmp_path: Path) -> None:
    """By the same look at its calls. Case 6."""
    found = problems(_trace(tmp_path, "once", "no"))
    assert len(found) == 15, found


def _trace(tmp_path: Path, name: str, synced: str) -> str:
    calls = "--trace=fdatasync,fsync,pwrite64,write"
    args = (tmp_path / "journal", tmp_path / "ledger", name, synced)
    code, trace = journals.traced(PROGRAM, *args, options=[calls, "--decode-fds=path"])
    assert code == 0
    return trace
