"""Programs of tests with a journal, which are killed and opened again; and what is on disk then."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
import tempfile
import threading
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import programs
import pytest
from gated_code import LIMIT

from tokengate.durable._writer import Write, Writer


def start(code: str, *args: object, env: dict[str, str] | None = None, piped: bool = False) -> programs.Program:
    """Start a program with the helpers of tests on its path; its arguments are `sys.argv[1:]`."""
    return programs.Program("-c", code, *map(str, args), env=_environment(env), piped=piped)


def traced(code: str, *args: object, options: Sequence[str] = ()) -> tuple[int, str]:
    """Run a program with strace and these options; return its exit code, and the calls of all its threads in order."""
    waits = "input()\n"
    with tempfile.NamedTemporaryFile("r") as trace, start(waits + code, *args, piped=True) as program:
        command = ["strace", "--follow-forks", f"--attach={program.pid}", f"--output={trace.name}", *options]
        with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as strace:
            assert strace.stderr is not None
            assert "attached" in strace.stderr.readline()
            program.communicate("\n")
            strace.communicate(timeout=programs.LIMIT)
        return program.wait(), trace.read()


def _environment(env: dict[str, str] | None) -> dict[str, str]:
    path = os.pathsep.join([str(Path(__file__).parent), *sys.path])
    return {**os.environ, **(env or {}), "PYTHONPATH": path}


def rows(directory: Path, what: str = "*", where: str = "1") -> list[dict[str, Any]]:
    """Return rows of tokens on disk, in the order of their uids."""
    return query(directory, f"SELECT {what} FROM tokens WHERE {where} ORDER BY uid")


def all_have_ended(directory: Path) -> bool:
    """Tell whether no token on disk is left to run."""
    return not rows(directory, "uid", "state < 3")


def is_poison(row: dict[str, Any]) -> bool:
    """Tell whether a token was at work when three processes died, so that it does not run again; it may have run."""
    return (row["state"], row["reason"], row["recoveries"]) == (5, "poison", 3)


def commits(directory: Path) -> int:
    """Return how many transactions were written."""
    db = sqlite3.connect(f"{(directory / 'journal.db').as_uri()}?mode=ro", uri=True)
    try:
        return int(db.execute("SELECT commits FROM meta").fetchone()[0])
    finally:
        db.close()


class Disk:
    """The disk of the journals of this process, which holds commits up while a test wants that."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._free = threading.Event()
        self._free.set()
        self._reached = threading.Event()
        self.threads: set[int] = set()  # that have committed
        commit = Writer._commit

        def commit_later(writer: Writer, batch: list[Write]) -> None:
            self.threads.add(threading.get_ident())
            if not self._free.is_set():
                self._reached.set()
                assert self._free.wait(LIMIT)
            commit(writer, batch)

        monkeypatch.setattr(Writer, "_commit", commit_later)

    def hold(self) -> None:
        """Hold up each commit from now on."""
        self._reached.clear()
        self._free.clear()

    def wait_reached(self) -> None:
        """Wait until a commit is held up."""
        assert self._reached.wait(LIMIT)

    def release(self) -> None:
        """Let all go on."""
        self._free.set()


def change_bytes(directory: Path, before: bytes, after: bytes) -> None:
    """Change bytes of the database of a closed journal, as a disk may by itself."""
    path = directory / "journal.db"
    content = path.read_bytes()
    assert len(before) == len(after)
    assert content.count(before) == 1
    path.write_bytes(content.replace(before, after))


def spoil(directory: Path, statement: str) -> None:
    """Change rows of a closed journal as a disk may by itself: their checksums stay as they are."""
    with closing(sqlite3.connect(directory / "journal.db", isolation_level=None)) as db:
        triggers = db.execute("SELECT name, sql FROM sqlite_schema WHERE type = 'trigger'").fetchall()
        db.execute("BEGIN")
        for name, _ in triggers:
            db.execute(f"DROP TRIGGER {name}")
        assert db.execute(statement).rowcount == 1
        for _, text in triggers:
            db.execute(text)
        db.execute("COMMIT")


def runs(directory: Path) -> list[dict[str, Any]]:
    """Return the rows of the openings."""
    return query(directory, "SELECT * FROM runs ORDER BY run")


def query(directory: Path, statement: str) -> list[dict[str, Any]]:
    """Return rows of the database."""
    db = sqlite3.connect(f"{(directory / 'journal.db').as_uri()}?mode=ro", uri=True)
    try:
        db.row_factory = sqlite3.Row
        return [dict(row) for row in db.execute(statement)]
    finally:
        db.close()


class Clocks:
    """The wall clock and the boot clock of an open journal, which a test moves; it looks at what is due then.

    Args:
        journal: the plugin of an open gate.
    """

    def __init__(self, journal: Any) -> None:
        self._opened = journal._journal
        self._wall, self._boot = self._opened.wall(), self._opened.boot_clock()
        self._opened.wall, self._opened.boot_clock = lambda: self._wall, lambda: self._boot

    def go_on(self, seconds: float) -> None:
        """Let time pass."""
        self._boot += seconds
        self.set_wall(seconds)

    def set_wall(self, seconds: float) -> None:
        """Change the wall clock by so many seconds."""
        self._wall += seconds
        self._opened.due._tick()
