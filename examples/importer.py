"""A resumable import: the CSV files of a directory go into a SQLite database, and each line does so once.

    tokengate run examples/importer.py:gate -- DIRECTORY      # Ctrl-C, or kill -9, and start it again

Each file is a durable token, with the file's name, size and time as its key, so a file is imported once, and a changed
one again. It loads 500 lines at a time. Such a part is one transaction of the database, and one step of the token: an
import that was cut short goes on with the part where it was, wherever it was cut, and a part that is loaded again is
the same rows. A file that was at work in three processes when these were killed is a dead letter, since it may be what
kills them.

    imported.db     tables `files(file, lines)` and `lines(file, number, fields)`, with the fields as JSON
    journal/        the journal; without it all would begin anew

Both are in the working directory, or where `--into` says. Look at it from another terminal, also when nobody imports:

    tokengate durable-tokens                              # one for each file
    tokengate durable-tokens --state-dir journal
    tokengate dead-letters --state-dir journal            # files that could not be read
    tokengate dead-letter retry 'operation=import_file'   # when they can be
"""

from __future__ import annotations

import argparse
import csv
import json
import sqlite3
import sys
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from itertools import islice
from pathlib import Path
from typing import Final

from tokengate import ChildSpec, CpuActor, Gate, Token, token
from tokengate.durable import Journal, step

LINES: Final = 500
"""Lines of a part."""


@contextmanager
def database(into: str) -> Iterator[sqlite3.Connection]:
    """Open the database for one transaction."""
    with closing(sqlite3.connect(Path(into, "imported.db"), timeout=60)) as db:
        db.execute("CREATE TABLE IF NOT EXISTS files (file PRIMARY KEY, lines)")
        db.execute("CREATE TABLE IF NOT EXISTS lines (file, number, fields, PRIMARY KEY (file, number))")
        with db:
            yield db


def forget(into: str, file: str) -> None:
    """Remove what an earlier version of a file has left."""
    with database(into) as db:
        db.execute("DELETE FROM lines WHERE file = ?", (file,))


def load(into: str, file: str, position: int, lines: int) -> tuple[int, int]:
    """Load a part of a file from a position on; a second run changes nothing.

    Returns:
        the position after it, and how many lines of the file are loaded then.
    """
    with open(file, newline="") as stream:
        stream.seek(position)
        part = list(islice(csv.reader(iter(stream.readline, ""), strict=True), LINES))
        position = stream.tell()
    with database(into) as db:
        rows = [(file, number, json.dumps(fields)) for number, fields in enumerate(part, lines)]
        db.executemany("INSERT OR REPLACE INTO lines VALUES (?, ?, ?)", rows)
        db.execute("INSERT OR REPLACE INTO files VALUES (?, ?)", (file, lines + len(part)))
    return position, lines + len(part)


@token(durable=True, idempotent=True, show=("file",))
def import_file(into: str, file: str) -> int:
    """Import a file, and return the number of its lines."""
    step("forget", forget, into, file)
    before, position, lines = -1, 0, 0
    while lines > before:
        before = lines
        position, lines = step("load", load, into, file, position, lines)
    return lines


class Importer(CpuActor):
    """Submits the files of a directory, and says now and then how far they are."""

    def __init__(self, files: Sequence[Path], into: Path) -> None:
        self._into = into
        self._tokens: dict[Path, Token[int]] = {}
        self._files = files

    def on_start(self) -> None:
        for file in self._files:
            stat = file.stat()
            key = f"{file} {stat.st_size} {stat.st_mtime_ns}"
            self._tokens[file] = import_file.with_options(key=key).submit(str(self._into), str(file))
        self.send_every(0.5, None)

    def on_receive(self, _message: object) -> None:
        for file, one in list(self._tokens.items()):
            if one.done() and (error := one.exception()) is not None:
                say(f"{file.name}: {error!r}; it is a dead letter")
                del self._tokens[file]
        ended = sum(one.done() for one in self._tokens.values())
        with database(str(self._into)) as db:
            (lines,) = db.execute("SELECT coalesce(sum(lines), 0) FROM files").fetchone()
        say(f"{ended} of {len(self._files)} files, {lines:,} lines")
        if ended == len(self._tokens):
            say("nothing is left to import; Ctrl-C ends this")
            self.stop()


def say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def make_gate(directory: Path, into: Path) -> Gate:
    """Return an import that is not open yet.

    Args:
        directory: its files `*.csv` are imported.
        into: the directory of the database, and of the journal.
    """
    files = sorted(directory.glob("*.csv"))
    children = [ChildSpec("importer", Importer, args=(files, into), restart="transient")]
    return Gate("importer", children=children, plugins=[Journal(into / "journal")])


def options(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="tokengate run examples/importer.py:gate --", description="Import CSV files.")
    parser.add_argument("directory", type=Path, nargs="?", default=Path(), help="of the files; else the working one")
    parser.add_argument("--into", type=Path, default=Path(), metavar="DIR", help="where database and journal are")
    chosen = parser.parse_args(arguments)
    if not chosen.directory.is_dir():
        parser.error(f"'{chosen.directory}' is no directory")
    return chosen


# Under `tokengate run` this file is what `sys.argv` begins with, and what follows is for us.
typed = options(sys.argv[1:] if Path(sys.argv[0]).name == Path(__file__).name else [])
gate = make_gate(typed.directory.absolute(), typed.into.absolute())
