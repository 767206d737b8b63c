"""Lists that tests share with child processes: an entry that one process appends is seen by all.

A child imports this module to unpickle a list, so it imports nothing slow.
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
    """Raised by actors of tests; defined here, so that a child can import it without the test's module."""


class SharedList(Sequence[Any]):
    """A list in a file: pickled, it is the file's name; the file is removed with the list that made it.

    Args:
        file: path of the file; None makes a new one.
    """

    def __init__(self, file: str | None = None) -> None:
        if file is None:
            descriptor, file = tempfile.mkstemp()
            os.close(descriptor)
            weakref.finalize(self, os.unlink, file)
        self.file = file

    def append(self, entry: Any) -> None:
        """Write an entry at the end, atomically: several processes may append at once."""
        data = cloudpickle.dumps(entry)
        descriptor = os.open(self.file, os.O_WRONLY | os.O_APPEND)
        try:
            os.write(descriptor, len(data).to_bytes(_LENGTH, "little") + data)
        finally:
            os.close(descriptor)

    def entries(self) -> list[Any]:
        """Return the present entries."""
        with open(self.file, "rb") as opened:
            content = opened.read()
        found, at = [], 0
        while at < len(content):
            end = at + _LENGTH + int.from_bytes(content[at : at + _LENGTH], "little")
            if end > len(content):
                break  # it is just being written
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
