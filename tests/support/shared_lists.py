"""Lists that tests share with child processes: what one of them appends, all of them see.

A child imports this module to have one, so it imports nothing that takes long.
"""

from __future__ import annotations

import os
import tempfile
import weakref
from collections.abc import Iterator, Sequence
from typing import Any

import cloudpickle

_LENGTH = 8  # bytes of the length before each entry


class Boom(Exception):
    """What the code of a test's actor raises; here, so that a child can have it without the test's module."""


class SharedList(Sequence[Any]):
    """A list that is a file: pickled, it is the file's name, and gone with the one who made it.

    Args:
        file: the one to read and write; None makes one.
    """

    def __init__(self, file: str | None = None) -> None:
        if file is None:
            descriptor, file = tempfile.mkstemp()
            os.close(descriptor)
            weakref.finalize(self, os.unlink, file)
        self.file = file

    def append(self, entry: Any) -> None:
        """Write an entry at the end, in one piece, whoever else does so."""
        data = cloudpickle.dumps(entry)
        descriptor = os.open(self.file, os.O_WRONLY | os.O_APPEND)
        try:
            os.write(descriptor, len(data).to_bytes(_LENGTH, "little") + data)
        finally:
            os.close(descriptor)

    def entries(self) -> list[Any]:
        """Return what is in it now."""
        with open(self.file, "rb") as opened:
            content = opened.read()
        found, at = [], 0
        while at < len(content):
            end = at + _LENGTH + int.from_bytes(content[at : at + _LENGTH], "little")
            found.append(cloudpickle.loads(content[at + _LENGTH : end]))
            at = end
        return found

    def __iter__(self) -> Iterator[Any]:
        return iter(self.entries())

    def __getitem__(self, index: Any) -> Any:
        return self.entries()[index]

    def __len__(self) -> int:
        return len(self.entries())

    def __eq__(self, other: object) -> bool:
        return self.entries() == (other.entries() if isinstance(other, SharedList) else other)

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return repr(self.entries())

    def __reduce__(self) -> Any:
        return SharedList, (self.file,)
