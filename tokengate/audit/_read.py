"""Records read back, whether they are what was written or not; sealing."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from tokengate.audit._chain import End
from tokengate.audit._files import FIRST_KEY, content, segments_in


def read(directory: Path) -> Iterator[dict[str, Any]]:
    """Return the records of a log, the oldest first; damaged lines are left out, and `verify` names them.

    Raises:
        OSError: the log cannot be read.
    """
    for name in segments_in(directory):
        for line in content(directory, name).splitlines():
            try:
                yield msgspec.json.decode(line, type=dict[str, Any])
            except (msgspec.DecodeError, UnicodeDecodeError):
                pass


def first_key(directory: Path) -> str:
    """Return the text of the first key, which `verify` needs.

    Raises:
        FileNotFoundError: the log is sealed, or there is none.
        ValueError: the key is damaged.
    """
    return End.parse(content(directory, FIRST_KEY)).text().decode()


def seal(directory: Path) -> str:
    """Remove the first key from a log, and return its text, for a safe elsewhere: `verify` needs it from now on.

    Raises: as `first_key` does.
    """
    text = first_key(directory)
    with (directory / FIRST_KEY).open("r+b", buffering=0) as file:
        file.write(b"0" * len(text))
        os.fsync(file.fileno())
    (directory / FIRST_KEY).unlink()
    return text
