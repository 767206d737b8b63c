"""The files of a log: segments of lines, the key of the next record, a reserve; and the lock of their one writer.

`audit.key` is written in place: a full disk does not prevent that, and no key of a written record is left.
"""

from __future__ import annotations

import errno
import fcntl
import logging
import os
import re
import stat
import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Final

from tokengate.audit._chain import End
from tokengate.audit._directory import NO_LINK as _NO_LINK
from tokengate.audit._directory import opened_directory
from tokengate.audit._disk import Disk
from tokengate.control.transport._discovery import state_directory

KEY: Final = "audit.key"
FIRST_KEY: Final = "audit.first-key"
SEGMENT_SIZE: Final = 64 * 2**20  # bytes
_RESERVE: Final = "audit.reserve"
_RESERVE_SIZE: Final = 2**20  # bytes
_RESERVE_SECONDS: Final = 60.0  # between two attempts to have one
_SEGMENT: Final = re.compile(r"audit-[0-9]{6,}\.jsonl")
_BEGIN: Final = re.compile(rb'\{"seq":([0-9]{1,18}),[^{]{0,200}?"at":([0-9]{1,12}\.?[0-9]*)')  # of a record: seq, at

_logger = logging.getLogger("tokengate.audit")


def default_directory(gate: str) -> Path:
    """Return where the log of a gate is, if its file does not say."""
    return state_directory(gate) / "audit"


def segments_in(directory: Path) -> list[str]:
    """Return the names of the segments, the oldest first."""
    return sorted(filter(_SEGMENT.fullmatch, os.listdir(directory)), key=_number)


def content(directory: Path, name: str) -> bytes:
    """Return what is in a file.

    Raises:
        OSError: it cannot be read, or is a link, a FIFO or the like.
    """
    with opened(directory, name) as file:
        return file.read()


@contextmanager
def opened(directory: Path, name: str) -> Generator[IO[bytes]]:
    """Open a file to read it; raises OSError as `content` does."""
    with open(directory / name, "rb", opener=lambda path, flags: os.open(path, flags | _NO_LINK)) as file:
        _check_regular(file.fileno(), name)
        yield file


class Files:
    """The files of a log; this process is its one writer.

    Args:
        path: of the directory, which is made if it does not exist.
        disk: makes the calls.

    Attributes:
        stale: whether the next line begins a segment.
        key_is_stale: whether the key file must be replaced.

    Raises:
        BlockingIOError: another log, of this process or another one, has the lock.
        OSError: the directory cannot be used.
    """

    def __init__(self, path: Path, disk: Disk) -> None:
        self.path = path
        self.stale = self.key_is_stale = True
        self._disk = disk
        self._opened: dict[str, int] = {}  # {name: descriptor}; "" is the directory
        self._name = ""  # of the segment
        self._size = 0  # of the segment, without what could not be cut back
        self._uncut = False  # whether there may be more in it
        self._kept = b""  # what the key file has
        self._reserve_due = 0.0
        self._opened[""] = opened_directory(path)
        try:
            found = os.fstat(self._opened[""])
            self._owner = found.st_uid, found.st_gid
            fcntl.flock(self._open("audit.lock", os.O_RDWR | os.O_CREAT), fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Close the files, and give the lock back unless a parent process has it, too."""
        while self._opened:
            os.close(self._opened.popitem()[1])

    # --- What is there ------------------------------------------------------------------------------------------------

    def read(self, name: str) -> bytes:
        """Return what is in a file; empty if there is none. Raises OSError as `content` does."""
        try:
            return content(self.path, name)
        except FileNotFoundError:
            return b""

    def is_there(self) -> bool:
        """Tell whether the directory still has its path."""
        try:
            return os.path.samestat(os.stat(self.path), os.fstat(self._opened[""]))
        except OSError:
            return False

    def difference(self) -> str:
        """Return what others have changed since the last write; empty: nothing."""
        sizes = {} if self.stale else {self._name: self._size}
        sizes |= {} if self.key_is_stale else {KEY: len(self._kept)}
        for name, size in sizes.items():
            try:
                found = os.stat(name, dir_fd=self._opened[""], follow_symlinks=False)
            except FileNotFoundError:
                return f"{name} is gone"
            if not os.path.samestat(found, os.fstat(self._opened[name])):
                return f"{name} is another file"
            if found.st_size != size and not (self._uncut and name == self._name):
                return f"{name} has {found.st_size:,} bytes instead of {size:,}"
        same = self.key_is_stale or os.pread(self._opened[KEY], len(self._kept), 0) == self._kept
        return "" if same else f"{KEY} has another key"

    def expired(self, before: float) -> tuple[list[str], int]:
        """Return the oldest segments, if all their records are older, and the last seq in them; never the last one."""
        found, through = [], 0
        for name in segments_in(self.path)[:-1]:
            last = _BEGIN.match((self.read(name).splitlines() or [b""])[-1])
            if last is None or float(last[2]) >= before:
                break
            found.append(name)
            through = int(last[1])
        return found, through

    def age(self, now: float) -> float:
        """Return the seconds since the first record of the last segment."""
        first = _BEGIN.match(self.read(segments_in(self.path)[-1])) if not self.stale else None
        return now - float(first[2]) if first else 0.0

    # --- Writing ------------------------------------------------------------------------------------------------------

    def go_on(self, name: str) -> None:
        """Write to this segment, which is whole."""
        file = self._open(name, os.O_WRONLY | os.O_APPEND)
        self._name, self._size, self.stale = name, os.fstat(file).st_size, False

    def move_torn(self, name: str, whole: int) -> None:
        """Move what follows the first bytes of a segment to a file `.torn`."""
        torn = self.read(name)[whole:]
        self._write(self._open(f"{name}.torn", os.O_WRONLY | os.O_APPEND | os.O_CREAT), torn)
        self._disk.sync(self._opened[f"{name}.torn"])
        self._close(f"{name}.torn")
        self._disk.truncate(self._open(name, os.O_WRONLY), whole)
        self._disk.sync(self._opened[name])

    def append(self, lines: bytes) -> bool:
        """Write lines, and return when they are on disk; tell whether a segment begins with them.

        Raises:
            OSError: they are not, and what was written of them is cut back.
        """
        if self._uncut:
            self._cut_back()
        begins = self.stale or (self._size > 0 and self._size + len(lines) > SEGMENT_SIZE)
        if begins:
            self._begin()
        try:
            self._write(self._opened[self._name], lines)
        except OSError as error:
            self._cut_back()
            if error.errno not in (errno.ENOSPC, errno.EDQUOT) or not self._release_reserve():
                raise
            return self.append(lines) or begins
        try:
            self._disk.sync(self._opened[self._name])
        except OSError:
            self.stale = True  # what a later sync says of this file means nothing
            self._cut_back()
            raise
        self._size += len(lines)
        return begins

    def keep(self, end: End) -> None:
        """Have the key file say where the chain ends.

        Raises:
            OSError: it may say so, or what it said before.
        """
        text = end.text()
        if self.key_is_stale:
            self.create(KEY, text)
            self._open(KEY, os.O_RDWR)
        else:
            self.key_is_stale = True
            if self._disk.replace(self._opened[KEY], text) != len(text):
                raise OSError(errno.EIO, "the key was not written whole", KEY)
            self._disk.sync(self._opened[KEY])
        self._kept, self.key_is_stale = text, False

    def create(self, name: str, text: bytes) -> None:
        """Make a file, in the place of one with this name, and return when it is on disk."""
        folder, fresh = self._opened[""], f"{name}.new"
        self.remove(fresh)
        self._write(self._open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL), text)
        self._disk.sync(self._opened[fresh])
        os.rename(fresh, name, src_dir_fd=folder, dst_dir_fd=folder)
        self._close(fresh)
        os.fsync(folder)

    def remove(self, *names: str) -> None:
        """Remove files, if they are there."""
        for name in names:
            if os.path.lexists(self.path / name):
                os.unlink(name, dir_fd=self._opened[""])

    def put_aside(self) -> str:
        """Move a chain that cannot go on to a directory of its own, and return the name of that."""
        name = f"chain-{sum(name.startswith('chain-') for name in os.listdir(self.path)) + 1}"
        os.mkdir(self.path / name, 0o700)
        for one in (*segments_in(self.path), KEY, FIRST_KEY):
            if os.path.lexists(self.path / one):
                os.rename(self.path / one, self.path / name / one)
        return name

    def make_reserve(self) -> None:
        """Take a part of the disk, now and then, so that there is something to give back when it is full."""
        if time.monotonic() < self._reserve_due:
            return
        self._reserve_due = time.monotonic() + _RESERVE_SECONDS
        disk = os.fstatvfs(self._opened[""])
        if os.path.lexists(self.path / _RESERVE) or disk.f_bavail * disk.f_frsize < 2 * _RESERVE_SIZE:
            return
        try:
            self._disk.reserve(self._open(_RESERVE, os.O_WRONLY | os.O_CREAT | os.O_EXCL), _RESERVE_SIZE)
        except OSError:  # the disk has too little now, or cannot do this
            self.remove(_RESERVE)
        finally:
            self._close(_RESERVE)

    # --- Parts of these -----------------------------------------------------------------------------------------------

    def _open(self, name: str, flags: int) -> int:
        file = self._disk.open(name, flags | _NO_LINK, self._opened[""])
        self._close(name)
        self._opened[name] = file
        _check_regular(file, name)
        if os.geteuid() == 0 and flags & os.O_CREAT:
            os.fchown(file, *self._owner)  # the gate must go on with what a command of root has made
        return file

    def _close(self, name: str) -> None:
        if name and name in self._opened:
            os.close(self._opened.pop(name))

    def _begin(self) -> None:
        """Begin the segment after all that are there."""
        number = max(map(_number, [*segments_in(self.path), self._name or "audit-000000.jsonl"])) + 1
        name = f"audit-{number:06}.jsonl"
        self._open(name, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_EXCL)
        os.fsync(self._opened[""])
        self._close(self._name)
        self._name, self._size, self.stale = name, 0, False

    def _write(self, file: int, text: bytes) -> None:
        while text:
            written = self._disk.write(file, text)
            if written <= 0:
                raise OSError(errno.EIO, "nothing was written")
            text = text[written:]

    def _cut_back(self) -> None:
        self._uncut = True
        self._disk.truncate(self._opened[self._name], self._size)
        self._uncut = False

    def _release_reserve(self) -> bool:
        there = os.path.lexists(self.path / _RESERVE)
        if there:
            self.remove(_RESERVE)
            _logger.error("the disk of audit log %s is full, and its reserve of 1 MiB is used: make space", self.path)
        return there


def _number(segment: str) -> int:
    return int(segment[6:-6])


def _check_regular(file: int, name: str) -> None:
    if not stat.S_ISREG(os.fstat(file).st_mode):
        raise OSError(errno.EINVAL, "it is not a regular file", name)
