"""Programs of tests with a journal, which are killed and opened again; and what is on disk then."""

from __future__ import annotations

import os
import sqlite3
import sys
from pathlib import Path
from typing import Any

import programs


def start(code: str, *args: object, env: dict[str, str] | None = None) -> programs.Program:
    """Start a program with the helpers of tests on its path; its arguments are `sys.argv[1:]`."""
    path = os.pathsep.join([str(Path(__file__).parent), *sys.path])
    return programs.Program("-c", code, *map(str, args), env={**os.environ, **(env or {}), "PYTHONPATH": path})


def rows(directory: Path, what: str = "*", where: str = "1") -> list[dict[str, Any]]:
    """Return rows of tokens on disk, in the order of their uids."""
    db = sqlite3.connect(f"{(directory / 'journal.db').as_uri()}?mode=ro", uri=True)
    try:
        db.row_factory = sqlite3.Row
        return [dict(row) for row in db.execute(f"SELECT {what} FROM tokens WHERE {where} ORDER BY uid")]
    finally:
        db.close()


def all_have_ended(directory: Path) -> bool:
    """Tell whether no token on disk is left to run."""
    return not rows(directory, "uid", "state < 3")


def commits(directory: Path) -> int:
    """Return how many transactions were written."""
    db = sqlite3.connect(f"{(directory / 'journal.db').as_uri()}?mode=ro", uri=True)
    try:
        return int(db.execute("SELECT commits FROM meta").fetchone()[0])
    finally:
        db.close()
