"""The importer: each line of the files comes into the database once, whoever is killed."""

from __future__ import annotations

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


def finish(program: programs.Program) -> list[str]:
    """Wait until nothing is left, and stop it with Ctrl-C; return the lines until then."""
    assert program.stdout is not None
    said: list[str] = []
    for line in program.stdout:
        said.append(line.rstrip())
        if line.startswith("nothing is left"):
            break
    program.send_signal(signal.SIGINT)
    _, error = program.communicate()
    assert program.returncode == 0
    assert "Traceback" not in error
    return said


def query(folder: Path, statement: str) -> list[Any]:
    with closing(sqlite3.connect(f"file:{folder / 'journal' / 'journal.db'}?mode=ro", uri=True)) as db:
        return db.execute(statement).fetchall()


def test_it_imports_files_and_says_how_far_it_is(tmp_path: Path) -> None:
    """A file that cannot be read is a dead letter, and the others are imported."""
    expected = make_files(tmp_path, 2, 700)
    (tmp_path / "bad.csv").write_text('1,"2" 3\n')
    with start(tmp_path) as program:
        said = finish(program)

    assert any(line.startswith("bad.csv: Error(") and line.endswith("it is a dead letter") for line in said)
    assert said[-2:] == ["2 of 3 files, 1,400 lines", "nothing is left to import; Ctrl-C ends this"]
    assert imported(tmp_path) == expected
    assert query(tmp_path, f"SELECT count(*) FROM tokens WHERE state = {FAILED}") == [(1,)]


@in_ci
def test_it_goes_on_where_it_was(tmp_path: Path, seed: int, until: Until) -> None:
    """After kill -9 at random moments; each file is one token."""
    rng = random.Random(seed)
    shown: list[int] = []  # how many lines the import said that it had, and had when it was killed
    expected = make_files(tmp_path, 4, 10_000)
    for _ in range(2):  # the third time would be the dead letter `poison`
        with start(tmp_path) as program:
            assert program.stdout is not None
            shown.append(_lines(next(islice(program.stdout, 0, 1))))
            enough = min(40_000, _loaded(tmp_path) + rng.randrange(1, 8_000))
            until(lambda: _loaded(tmp_path) >= enough)  # noqa: B023 - called at once
            program.kill()
        shown.append(_loaded(tmp_path))
    with start(tmp_path) as program:
        shown += map(_lines, finish(program)[:-1])

    assert shown == sorted(shown)  # from where it was, and not from the beginning
    assert imported(tmp_path) == expected
    assert query(tmp_path, "SELECT count(*), count(DISTINCT key) FROM tokens WHERE state = 4") == [(4, 4)]


def _lines(said: str) -> int:
    """Return the number of lines in `1 of 4 files, 3,500 lines`."""
    return int(said.split()[-2].replace(",", ""))


def _loaded(folder: Path) -> int:
    """Return how many lines are in the database."""
    if not (folder / "imported.db").exists():
        return 0
    with closing(sqlite3.connect(folder / "imported.db", timeout=60)) as db:
        return int(db.execute("SELECT coalesce(sum(lines), 0) FROM files").fetchone()[0])
