"""The importer: each line of the files comes into the database once, whoever is killed."""

from __future__ import annotations

import importlib
import json
import os
import random
import signal
import sqlite3
from collections.abc import Callable
from contextlib import closing
from itertools import islice
from pathlib import Path
from typing import Any

import programs
import pytest
from tiers import in_ci

from tokengate.durable._states import FAILED

pytestmark = pytest.mark.usefixtures("programs")

Until = Callable[[Callable[[], bool]], None]

IMPORTER = Path(__file__).parents[2] / "examples" / "importer.py"


def start(folder: Path) -> programs.Program:
    arguments = "-m", "tokengate", "run", f"{IMPORTER}:gate", "--", str(folder), "--into", str(folder)
    return programs.Program(*arguments, env={**os.environ, "PYTHONUNBUFFERED": "1"})


def make_files(folder: Path, files: int, lines: int) -> dict[tuple[str, int], list[str]]:
    """Write files, and return what the database is to have: {(path, number of the line): its fields}."""
    expected = {}
    for file in range(files):
        path = folder / f"{file}.csv"
        rows = [[f"{file}", f"{number}", f'says "{number}"\nand more, ö'] for number in range(lines)]
        path.write_text("".join(f'{a},{b},"{c.replace(chr(34), chr(34) * 2)}"\n' for a, b, c in rows))
        expected |= {(str(path), number): row for number, row in enumerate(rows)}
    return expected


def imported(folder: Path) -> dict[tuple[str, int], list[str]]:
    with closing(sqlite3.connect(folder / "imported.db")) as db:
        rows = db.execute("SELECT file, number, fields FROM lines").fetchall()
    assert len(rows) == len({row[:2] for row in rows})
    return {(file, number): json.loads(fields) for file, number, fields in rows}


def test_a_directory_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    """It would look as if all were imported."""
    with start(tmp_path / "none") as program:
        _, error = program.communicate(timeout=60)

    assert program.returncode == 2
    assert error.endswith(f"error: '{tmp_path / 'none'}' is no directory\n")


def finish(program: programs.Program) -> None:
    """Wait until nothing is left, and stop it with Ctrl-C."""
    assert program.stdout is not None
    for line in program.stdout:
        if line.startswith("nothing is left"):
            break
    program.send_signal(signal.SIGINT)
    _, error = program.communicate()
    assert program.returncode == 0
    assert "Traceback" not in error


def query(folder: Path, statement: str) -> list[Any]:
    with closing(sqlite3.connect(f"file:{folder / 'journal' / 'journal.db'}?mode=ro", uri=True)) as db:
        return db.execute(statement).fetchall()


def test_it_imports_files_and_says_how_far_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], until: Until
) -> None:
    """A file that cannot be read is a dead letter, and the others are imported."""
    expected = make_files(tmp_path, 2, 700)
    (tmp_path / "bad.csv").write_text('1,"2" 3\n')
    monkeypatch.syspath_prepend(str(IMPORTER.parent))
    importer: Any = importlib.import_module("importer")
    said = ""

    def is_done() -> bool:
        nonlocal said
        said += capsys.readouterr().out
        return "nothing is left to import" in said

    with importer.make_gate(tmp_path, tmp_path):
        until(is_done)
    bad, *_, last, _ = [line for line in said.splitlines() if not line.startswith("0 of")]

    assert bad.startswith("bad.csv: Error(")
    assert last == "2 of 3 files, 1,400 lines"
    assert imported(tmp_path) == expected
    assert query(tmp_path, f"SELECT count(*) FROM tokens WHERE state = {FAILED}") == [(1,)]


@in_ci
def test_it_goes_on_where_it_was(tmp_path: Path, seed: int, until: Until) -> None:
    """After kill -9 at random moments; each file is one token."""
    rng = random.Random(seed)
    with closing(sqlite3.connect(tmp_path / "imported.db")) as db:  # which keeps what is loaded, in its order
        db.executescript("""
            CREATE TABLE loaded (file, lines);
            CREATE TABLE files (file PRIMARY KEY, lines);
            CREATE TRIGGER note AFTER INSERT ON files BEGIN INSERT INTO loaded VALUES (NEW.file, NEW.lines); END;
        """)
    expected = make_files(tmp_path, 4, 10_000)
    for _ in range(2):  # the third time would be the dead letter `poison`
        with start(tmp_path) as program:
            assert program.stdout is not None
            next(islice(program.stdout, 0, 1))
            enough = min(40_000, _loaded(tmp_path) + rng.randrange(1, 8_000))
            until(lambda: _loaded(tmp_path) >= enough)  # noqa: B023 - called at once
            program.kill()
    with start(tmp_path) as program:
        finish(program)
    with closing(sqlite3.connect(tmp_path / "imported.db")) as db:
        for (file,) in db.execute("SELECT file FROM files").fetchall():
            loaded = [
                lines for (lines,) in db.execute("SELECT lines FROM loaded WHERE file = ? ORDER BY rowid", (file,))
            ]
            assert loaded == sorted(loaded)  # from where it was, and not from the beginning

    assert imported(tmp_path) == expected
    assert query(tmp_path, "SELECT count(*), count(DISTINCT key) FROM tokens WHERE state = 4") == [(4, 4)]


def _loaded(folder: Path) -> int:
    """Return how many lines are in the database."""
    if not (folder / "imported.db").exists():
        return 0
    with closing(sqlite3.connect(folder / "imported.db", timeout=60)) as db:
        return int(db.execute("SELECT coalesce(sum(lines), 0) FROM files").fetchone()[0])
