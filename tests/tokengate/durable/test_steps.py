"""Steps: what one has returned is on disk, and a second run of its token gets it from there."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from pathlib import Path

import durable_operations as operations
import journals
import pytest

from tokengate import Gate
from tokengate.durable import Journal

pytestmark = pytest.mark.usefixtures("programs")

FIRST = """
import os, sys
import durable_operations as operations
from tokengate import Gate
from tokengate.durable import Journal
operations.note(f"{sys.argv[3]}.pid", str(os.getpid()))
with Gate("shop", plugins=[Journal(sys.argv[1])], processes=1, control_socket=False) as gate:
    if sys.argv[2] == "StepsInActor":
        gate.spawn(operations.StepsInActor, name="importer").proxy().imported(sys.argv[3]).result()
    else:
        getattr(operations, sys.argv[2]).submit(sys.argv[3]).result()
"""

Until = Callable[[Callable[[], bool]], None]

KINDS = ("steps_in_cpu", "steps_in_trio", "steps_in_asyncio", "steps_in_process")


def recorded(directory: Path) -> list[tuple[str, int, bytes]]:
    db = sqlite3.connect(f"{(directory / 'journal.db').as_uri()}?mode=ro", uri=True)
    try:
        return db.execute("SELECT name, nth, value FROM steps ORDER BY seq").fetchall()
    finally:
        db.close()


@pytest.mark.parametrize("kind", KINDS)
def test_a_recorded_step_is_not_called_again(tmp_path: Path, kind: str, until: Until) -> None:
    """Case 15: after the death of the process the token runs again, and gets from disk what its steps have returned;
    one that had not returned is called again.
    """
    ledger, directory = str(tmp_path / "ledger"), tmp_path / "journal"
    with journals.start(FIRST, directory, kind, ledger) as program:
        program.wait()
    assert operations.noted(ledger) == ["count", "load 0", "load 1"]
    assert recorded(directory) == [("count", 0, b"3"), ("load", 0, b'[0,"row 0"]')]

    with Gate("shop", plugins=[Journal(directory)], processes=1, control_socket=False) as gate:
        if kind == "StepsInActor":
            gate.spawn(operations.StepsInActor, name="importer")
        until(lambda: journals.all_have_ended(directory))

    assert operations.noted(ledger) == ["count", "load 0", "load 1", "load 1", "load 2"]
    assert journals.rows(directory, "state, result") == [{"state": 4, "result": b'["row 0","row 1","row 2"]'}]
