"""Processes that are killed while they write history: it opens, agrees with a ledger outside, and names the gap."""

from __future__ import annotations

import os
import random
import select
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from tiers import TORTURE, in_ci

from tokengate.control.stream._record import LOST
from tokengate.history import History
from tokengate.history import _reader as reader

_PROGRAM = """
import os, sys, time
from tokengate import Gate, token
from tokengate.history import History

@token
def work(x): return x
@token
def fail(x): raise ValueError(x)

with Gate("shop", plugins=[History(sys.argv[1], rows_per_second=10**6)], control_socket=False):
    number = 0
    while True:
        number += 1
        (work if number % 10 else fail).submit(number).exception(30)
        os.write(1, b"%d %.6f\\n" % (number, time.time()))
"""


def _ledger(pipe: int, kill_after: int, process: subprocess.Popen[bytes]) -> list[float]:
    """Return when each token had ended, as the program has told until it was killed."""
    text, killed = b"", False
    while True:
        select.select([pipe], [], [])
        read = os.read(pipe, 2**16)
        if not read:
            break
        text += read
        if not killed and text.count(b"\n") >= kill_after:
            killed = True
            process.send_signal(signal.SIGKILL)
    return [float(line.split()[1]) for line in text.splitlines(keepends=True) if line.endswith(b"\n")]


@in_ci
@pytest.mark.parametrize("number", range(200 if TORTURE else 20))
def test_a_kill_loses_a_second_at_most_and_is_a_gap(
    tmp_path: Path, seed: int, number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Cases 29 and 30: counts are those of all tokens until the gap begins, and rows those of a second before."""
    dice = random.Random(seed * 1_000 + number)
    process = subprocess.Popen([sys.executable, "-c", _PROGRAM, str(tmp_path)], stdout=subprocess.PIPE)
    assert process.stdout is not None
    with process.stdout:
        ended = _ledger(process.stdout.fileno(), dice.randrange(1, 4_000), process)
    assert process.wait() == -signal.SIGKILL
    monkeypatch.setattr(reader, "_SILENT", 0.0)
    monkeypatch.setattr(reader.time, "time", lambda: ended[-1] + 100.0)
    history = History(tmp_path)
    found = history.records(limit=10_000)
    (gap,) = [one for one in found if one.kind == LOST]
    rows = [one for one in found if one.kind == "token.finished"]
    figures = {row.name: row for row in history.operations()}
    counted = sum(row.completed + row.failed for row in figures.values())

    assert "without closing" in gap.text
    assert len(rows) == len({one.token for one in rows})
    assert sum(at <= gap.at - 0.1 for at in ended) <= counted <= len(ended) + 1
    assert sum(at <= gap.at - 1.0 for at in ended) <= len(rows) <= len(ended) + 1
    assert {one.state for one in rows if one.operation == "fail"} <= {"failed"}
