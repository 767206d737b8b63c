"""Files that are made for operators: whole or not at all, for this user only."""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO


@contextmanager
def written(out: Path) -> Iterator[IO[bytes]]:
    """Open a file for a block; it takes the place of one that is there when the block has ended without an error.

    A link stays, and what it leads to is written. What is no regular file, such as a pipe or a device, is written to
    as the block writes, and so is stdout, for `-`.

    Raises:
        OSError: it cannot be written.
    """
    if str(out) == "-":
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
        return
    target = Path(os.path.realpath(out))
    if target.exists() and not stat.S_ISREG(target.stat().st_mode):
        with target.open("wb") as file:
            yield file
        return
    unfinished = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        with open(unfinished, "xb", opener=_for_this_user) as file:
            yield file
        unfinished.replace(target)
    except OSError as error:
        if error.filename == str(unfinished):
            error.filename = str(out)
        raise
    finally:
        unfinished.unlink(missing_ok=True)


def _for_this_user(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)
