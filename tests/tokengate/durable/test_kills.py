"""Programs that are killed at moments which are drawn: a ledger outside of them says what they had promised."""

from __future__ import annotations

import os
import random
import sqlite3
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import journals
import msgspec
import pytest
from durable_operations import KILLED, noted
from tiers import IN_CI, TORTURE

from tokengate import Gate
from tokengate.durable import Journal

Until = Callable[[Callable[[], bool]], None]

pytestmark = pytest.mark.usefixtures("programs")

PARTS = 2
KILLS = int(os.environ.get("TOKENGATE_KILLS", "10000" if TORTURE else "20" if IN_CI else "2")) // PARTS
"""Of each part; CI has a job of its own with 500 in all."""

PROGRAM = """
import random, sys, threading
from itertools import count
from durable_operations import KILLED, note
from tokengate import Gate
from tokengate.durable import Journal
directory, ledger, seed = sys.argv[1:]
print("starting", flush=True)
with Gate("shop", plugins=[Journal(directory)], control_socket=False) as gate:
    def send(thread):
        rng = random.Random(f"{seed} {thread}")
        for number in count(int(seed) * 100_000 + thread, 3):
            operation = rng.choice(KILLED)
            note(ledger, f"sent {number}")
            token = operation.submit(ledger, number)
            note(ledger, f"accepted {number}")
            token.add_done_callback(lambda one, number=number: one._error or note(ledger, f"ended {number}"))
    for thread in range(3):
        threading.Thread(target=send, args=(thread,), daemon=True).start()
    threading.Event().wait()
"""


@pytest.mark.parametrize("part", range(PARTS))
def test_what_was_promised_holds_over_kills(tmp_path: Path, seed: int, part: int, until: Until) -> None:
    """Nothing accepted is lost, nothing is invented, nothing runs after its reply, or twice if it must not. Case 5."""
    rng = random.Random(seed + part)
    directory, ledger = tmp_path / "journal", tmp_path / "ledger"
    for number in range(KILLS):
        with journals.start(PROGRAM, directory, ledger, number) as program:
            assert program.stdout is not None
            assert program.stdout.readline() == "starting\n"
            lines = _size(ledger) + rng.choice((0, 0, 500, 5_000)) * rng.random()
            until(lambda: _size(ledger) >= lines or program.poll() is not None)  # noqa: B023 - called at once
            program.kill()
            error = program.communicate()[1]
        assert not error, error
        if number % 100 == 99 or number == KILLS - 1:
            _check(directory, ledger, until)


def _size(ledger: Path) -> int:
    return ledger.stat().st_size if ledger.exists() else 0


def _check(directory: Path, ledger: Path, until: Until) -> None:
    with Gate("shop", plugins=[Journal(directory)], control_socket=False) as gate:
        for operation in KILLED:
            gate.register(operation)
        until(lambda: not journals.rows(directory, "uid", "state < 4"))
    events = [line.split() for line in noted(ledger)]
    sent, accepted, replied = ({int(n) for what, n in events if what == kind} for kind in ("sent", "accepted", "ended"))
    rows = {msgspec.json.decode(row["arguments"])[0][1]: row for row in journals.rows(directory)}

    assert len(rows) == len(journals.rows(directory, "uid"))
    assert accepted <= rows.keys() <= sent
    assert all(rows[number]["state"] == 4 for number in replied)
    ended: set[int] = set()
    runs: Counter[int] = Counter()
    for what, text in events:
        if what == "ended":
            ended.add(int(text))
        elif what == "run":
            assert int(text) not in ended, f"token {text} ran after its reply"
            runs[int(text)] += 1
    for number, row in rows.items():
        if row["operation"].endswith(":once"):
            assert runs[number] <= 1, f"token {number} ran {runs[number]} times"
            assert (row["state"], row["reason"]) in ((4, ""), (5, "may_have_run"))
        elif not journals.is_poison(row):
            assert row["state"] == 4, row
            assert runs[number] >= 1
        assert row["recoveries"] <= 3
    with sqlite3.connect(directory / "journal.db") as db:
        assert db.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    db.close()
