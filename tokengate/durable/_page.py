"""The page of a run: the number of its last commit, and the tokens whose code runs.

It is a mapped file: a store survives the death of the process, and costs no call.
"""

from __future__ import annotations

import mmap
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from tokengate.audit._directory import NO_LINK
from tokengate.durable._files import of_this_process

SLOTS: Final = 65_536

_WORD: Final = 8  # bytes of each number
_SIZE: Final = _WORD * (1 + SLOTS)  # the number of the commit, then the slots
_NAME: Final = "inflight."


class Page:
    """The page of this run.

    Its space is allocated, since a store into a hole on a full disk would end the process.

    Args:
        directory: of the journal.
        run: number of the opening.

    Raises:
        OSError: it cannot be made; the disk is full.
    """

    def __init__(self, directory: Path, run: int) -> None:
        self._path = directory / f"{_NAME}{run}"
        file = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_TRUNC | NO_LINK, 0o600)
        try:
            os.posix_fallocate(file, 0, _SIZE)
            self._words = memoryview(mmap.mmap(file, _SIZE)).cast("Q")
        except BaseException:
            os.unlink(self._path)
            raise
        finally:
            os.close(file)
        self._unused = iter(range(1, SLOTS + 1))
        self._free: list[int] = []
        of_this_process.add(self)

    def note_commit(self, number: int) -> None:
        """Note the number of the last commit."""
        self._words[0] = number

    def enter(self, uid: int) -> int:
        """Note that the code of a token runs; return its slot, 0 if all are taken."""
        try:
            slot = self._free.pop()
        except IndexError:
            slot = next(self._unused, 0)
        if slot:
            self._words[slot] = uid
        return slot

    def leave(self, slot: int) -> None:
        """Free a slot."""
        self._words[slot] = 0
        self._free.append(slot)

    def uids(self) -> list[int]:
        """Return the uids of the slots."""
        return [uid for uid in self._words[1:] if uid]

    def disown(self) -> None:
        """Leave the file as it is; what is noted from now on is in memory."""
        self._words = memoryview(bytearray(_SIZE)).cast("Q")

    def remove(self) -> None:
        """Remove the file."""
        self.disown()
        os.unlink(self._path)


class LeftPage:
    """The page of a run that has not ended.

    Attributes:
        path: of its file.
        run: number of the opening.
        commits: the number of its last commit.
        uids: of the tokens whose code ran.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.run = int(path.suffix[1:])
        content = path.read_bytes()[:_SIZE].ljust(_SIZE, b"\0")  # it may have ended before it had its space
        commits, *slots = memoryview(content).cast("q")
        self.commits = max(commits, 0)  # a number that none can be has changed bits
        self.uids = [uid for uid in slots if uid > 0]


def last_commit(pages: Iterable[LeftPage]) -> int:
    """Return the number of the last commit that pages know of; 0: of none."""
    return max((page.commits for page in pages), default=0)


def left_pages(directory: Path) -> list[LeftPage]:
    """Return the pages in a directory."""
    return [LeftPage(path) for path in sorted(directory.glob(f"{_NAME}*")) if path.suffix[1:].isdecimal()]
