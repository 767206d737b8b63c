"""The files of a directory of history: their names, what is removed of them, and connections to them."""

from __future__ import annotations

import contextlib
import os
import re
import sqlite3
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from tokengate.audit._directory import check_for_database
from tokengate.history._rows import SCHEMA

LIVE: Final = 60.0
"""Seconds since the last write of a file in which it counts as one that is written to."""

_NAME: Final = re.compile(r"\d{8}T\d{6}\.[0-9a-f]{8}\.db")


def prepare(directory: Path) -> Path:
    """Return the folder of the files of history, made if it is missing.

    Raises:
        BadStateDirectory: it cannot be used.
    """
    folder = directory / "history"
    check_for_database(folder)
    return folder


def files_in(folder: Path) -> list[Path]:
    """Return the files of all runs, the oldest first."""
    with contextlib.suppress(OSError):
        return sorted(
            Path(entry) for entry in os.scandir(folder)
            if _NAME.fullmatch(entry.name) and entry.is_file(follow_symlinks=False)  # to open a FIFO would wait
        )  # fmt: skip
    return []


def size_of(path: Path) -> int:
    """Return the bytes of a file and of what SQLite keeps beside it."""
    return sum(found.st_size for found in _stats(path))


def _stats(path: Path) -> Iterator[os.stat_result]:
    for suffix in ("", "-wal"):
        with contextlib.suppress(OSError):
            yield os.stat(f"{path}{suffix}")


def begin(folder: Path, run: str, at: float) -> tuple[Path, sqlite3.Connection]:
    """Make a file, and return it with a connection that writes to it.

    Args:
        folder: where.
        run: the opening of the gate.
        at: seconds since the epoch.

    Raises:
        OSError, sqlite3.Error: it cannot be made.
    """
    while True:
        path = folder / f"{datetime.fromtimestamp(at, UTC):%Y%m%dT%H%M%S}.{run}.db"
        try:
            os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600))
            break
        except FileExistsError:
            at += 1.0
    db = None
    try:
        db = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=5.0)
        db.executescript(f"PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL; BEGIN; {SCHEMA} COMMIT;")
    except BaseException:
        if db is not None:
            with contextlib.suppress(sqlite3.Error):
                db.close()
        remove(path)
        raise
    return path, db


def opened(path: Path) -> sqlite3.Connection:
    """Return a connection that reads a file, also while another one writes to it.

    Raises:
        sqlite3.Error: it cannot be read.
    """
    return sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, timeout=5.0, check_same_thread=False)


def remove(path: Path) -> None:
    """Remove a file, and what SQLite keeps beside it."""
    for suffix in ("", "-wal", "-shm", "-journal"):
        with contextlib.suppress(OSError):
            os.unlink(f"{path}{suffix}")


def put_aside(path: Path) -> None:
    """Rename a damaged file, and what SQLite keeps beside it."""
    for suffix in ("", "-wal", "-shm"):
        with contextlib.suppress(OSError):
            os.rename(f"{path}{suffix}", f"{path}.damaged{suffix}")


def retire(folder: Path, own: Path | None, retention: float, most: int) -> None:
    """Remove the oldest files, so that age and size hold; those that are written to stay.

    Args:
        folder: where.
        own: the one that this process writes to.
        retention: seconds after the last write of a file.
        most: bytes of all files.
    """
    now, total = time.time(), 0
    for path in reversed([*files_in(folder), *sorted(folder.glob("*.damaged"))]):
        written = max((found.st_mtime for found in _stats(path)), default=now)
        is_live = path == own or (os.path.exists(f"{path}-wal") and now - written < LIVE)
        total += size_of(path)
        if not is_live and (total > most or now - written > retention):
            total -= size_of(path)
            remove(path)
