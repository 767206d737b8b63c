"""The lock of the one daemon of a user, for as long as that runs."""

from __future__ import annotations

import os
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from tokengate.admin._start import LOCK, taken
from tokengate.control._exceptions import ControlError


class AlreadyRuns(ControlError):
    """Another daemon of this user runs, or is about to."""


@contextmanager
def only_one(directory: Path, file: int | None = None) -> Generator[None]:
    """Hold the lock for the length of a block, then remove its file.

    Args:
        directory: of the file.
        file: its descriptor, if it was taken before.

    Raises:
        AlreadyRuns: another process has it.
        ControlError: the file cannot be used.
    """
    path = directory / LOCK
    try:
        file = taken(os.fspath(path)) if file is None else file
    except OSError as error:
        raise ControlError(f"cannot lock '{path}': {error.strerror}; see what it is, and remove it") from error
    if file is None:
        raise AlreadyRuns(f"another admin daemon has '{path}'; see 'tokengate admin status'")
    try:
        yield
    finally:
        path.unlink(missing_ok=True)  # before it is given back: the next one must not lock a file without a name
        os.close(file)
