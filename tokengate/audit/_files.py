"""The files of a log: segments of lines, the key of the next record, a reserve; and the lock of their one writer.

`audit.key` is written in place: a full disk does not prevent that, and the key of a written record is gone.
"""

from __future__ import annotations

import errno
import fcntl
import logging
import os
import re
import stat
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from tokengate.audit._chain import End
from tokengate.audit._disk import Disk

KEY: Final = "audit.key"
FIRST_KEY: Final = "audit.first-key"
SEGMENT_SIZE: Final = 64 * 2**20  # bytes
RESERVE_SIZE: Final = 2**20  # bytes
_logger = logging.getLogger("tokengate.audit")
_LOCK: Final = "audit.lock"
_RESERVE: Final = "audit.reserve"
_SEGMENT: Final = re.compile(r"audit-([0-9]{6,12})\.jsonl")
_FULL: Final = (errno.ENOSPC, errno.EDQUOT)
_BEGIN: Final = re.compile(rb'\{"seq":([0-9]{1,18}),[^{]{0,200}?"at":([0-9]{1,12}\.?[0-9]*)')  # of a record: seq, at


def default_directory(gate: str) -> Path:
    """Return where the log of a gate is, if its file does not say."""
    state = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    name = re.sub(r"^\.|[^A-Za-z0-9._~-]", "_", gate)
    return Path(state).absolute() / "tokengate" / name / "audit"


def segments_in(directory: Path) -> list[str]:
    """Return the names of the segments, the oldest first."""
    found = [match for name in os.listdir(directory) if (match := _SEGMENT.fullmatch(name))]
    return [match[0] for match in sorted(found, key=lambda match: int(match[1]))]


def content(directory: Path, name: str) -> bytes:
    """Return what is in a file.

    Raises:
        OSError: it cannot be read, or is a link, a FIFO or the like.
    """
    file = os.open(directory / name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    with open(file, "rb") as opened:
        _check_regular(file, name)
        return opened.read()


class Files:
    """The files of a log, whose one writer is this process.

    Args:
        path: of the directory, which is made if it does not exist.
        disk: makes the calls.

    Raises:
        BlockingIOError: another process, or another gate of this one, writes there.
        OSError: the directory cannot be used.
    """

    def __init__(self, path: Path, disk: Disk) -> None:
        self.path = path
        self._disk = disk
        self._opened: list[int] = []  # descriptors, but for those of the segment and the key
        self._segment = self._key = -1
        self._name = ""
        self._size = 0  # of the segment, without what could not be cut back
        self._kept = b""  # what the key file has
        self._uncut = False  # whether there may be more in the segment
        self.stale = True  # whether the next line needs a new segment
        self.key_is_stale = False  # whether the key file must be replaced
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        try:
            self._folder = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
            self._opened.append(self._folder)
            self._owner = _check_folder(self._folder, path)
            self._opened.append(lock := self._open(_LOCK, os.O_RDWR | os.O_CREAT))
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Close the files, and give the lock back unless a parent process has it, too."""
        for file in (self._segment, self._key, *reversed(self._opened)):
            if file >= 0:
                os.close(file)
        self._segment = self._key = -1
        self._opened.clear()

    # --- What is there ------------------------------------------------------------------------------------------------

    def read(self, name: str) -> bytes:
        """Return what is in a file; empty if there is none.

        Raises:
            OSError: it cannot be read, or is a link, a FIFO or the like.
        """
        try:
            return content(self.path, name)
        except FileNotFoundError:
            return b""

    def difference(self) -> str:
        """Return what has changed since the last write, by others; empty: nothing."""
        expected = [] if self.stale else [(self._name, self._segment, self._size)]
        for name, file, size in (*expected, (KEY, self._key, len(self._kept))):
            try:
                found = os.stat(name, dir_fd=self._folder, follow_symlinks=False)
            except FileNotFoundError:
                return f"{name} is gone"
            if not os.path.samestat(found, os.fstat(file)):
                return f"{name} is another file"
            if found.st_size != size and not (self._uncut and file == self._segment):
                return f"{name} has {found.st_size:,} bytes instead of {size:,}"
        return "" if os.pread(self._key, len(self._kept), 0) == self._kept else f"{KEY} has another key"

    def is_there(self) -> bool:
        """Tell whether the directory still has its path."""
        try:
            return os.path.samestat(os.stat(self.path), os.fstat(self._folder))
        except OSError:
            return False

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

    # --- Writing ------------------------------------------------------------------------------------------------------

    def go_on(self, name: str) -> None:
        """Write to this segment, which is whole."""
        self._segment = self._open(name, os.O_WRONLY | os.O_APPEND)
        self._name, self._size, self.stale = name, os.fstat(self._segment).st_size, False

    def move_torn(self, name: str, whole: int) -> None:
        """Move what follows the first bytes of a segment to a file `.torn`."""
        torn = self.read(name)[whole:]
        for target, flags in ((f"{name}.torn", os.O_WRONLY | os.O_APPEND | os.O_CREAT), (name, os.O_WRONLY)):
            file = self._open(target, flags)
            try:
                if target != name:
                    self._write(file, torn)
                else:
                    self._disk.truncate(file, whole)
                self._disk.sync(file)
            finally:
                os.close(file)

    def append(self, lines: bytes) -> bool:
        """Write lines, and return when they are on disk; whether a segment begins with them.

        Raises:
            OSError: they are not, and what was written of them is cut back.
        """
        if self._uncut:
            self._cut_back()
        begins = self.stale or (self._size > 0 and self._size + len(lines) > SEGMENT_SIZE)
        if begins:
            self._begin()
        try:
            self._write(self._segment, lines)
        except OSError as error:
            self._cut_back()
            if error.errno not in _FULL or not self._release_reserve():
                raise
            self._write_or_cut_back(lines)
        try:
            self._disk.sync(self._segment)
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
        if self.key_is_stale or self._key < 0:
            self._replace_key(text)
            return
        self.key_is_stale = True
        if self._disk.replace(self._key, text) != len(text):
            raise OSError(errno.EIO, "the key was not written whole", KEY)
        self._kept = text
        self._disk.sync(self._key)
        self.key_is_stale = False

    def create(self, name: str, text: bytes) -> None:
        """Make a file, in the place of one with this name, and return when it is on disk."""
        fresh = f"{name}.new"
        self.remove(fresh)
        file = self._open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL)
        try:
            self._write(file, text)
            self._disk.sync(file)
            os.rename(fresh, name, src_dir_fd=self._folder, dst_dir_fd=self._folder)
        finally:
            os.close(file)
        os.fsync(self._folder)

    def remove(self, *names: str) -> None:
        """Remove files; those that are not there are left out."""
        for name in names:
            try:
                os.unlink(name, dir_fd=self._folder)
            except FileNotFoundError:
                pass

    def put_aside(self) -> str:
        """Move a chain that cannot go on to a directory of its own, and return the name of that."""
        name = f"chain-{sum(name.startswith('chain-') for name in os.listdir(self.path)) + 1}"
        os.mkdir(name, 0o700, dir_fd=self._folder)
        for one in (*segments_in(self.path), KEY, FIRST_KEY):
            if os.path.lexists(self.path / one):
                os.rename(self.path / one, self.path / name / one)
        return name

    def make_reserve(self) -> None:
        """Take a part of the disk, so that there is something to give back when the disk is full."""
        if os.path.lexists(self.path / _RESERVE) or self._free() < 4 * RESERVE_SIZE:
            return
        file = self._open(_RESERVE, os.O_WRONLY | os.O_CREAT | os.O_EXCL)
        try:
            self._disk.reserve(file, RESERVE_SIZE)
        except OSError:  # the disk has too little, or cannot do this: there is none then
            self.remove(_RESERVE)
        finally:
            os.close(file)

    # --- Parts of these -----------------------------------------------------------------------------------------------

    def _open(self, name: str, flags: int) -> int:
        file = self._disk.open(name, flags, self._folder)
        try:
            _check_regular(file, name)
            if os.geteuid() == 0 and flags & os.O_CREAT:
                os.fchown(file, *self._owner)  # of root's offline commands, too, the gate must go on with it
        except BaseException:
            os.close(file)
            raise
        return file

    def _begin(self) -> None:
        """Begin the segment after all that are there."""
        names = segments_in(self.path)
        number = int(names[-1][6:-6]) + 1 if names else 1
        name = f"audit-{number:06}.jsonl"
        file = self._open(name, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_EXCL)
        if self._segment >= 0:
            os.close(self._segment)
        self._segment, self._name, self._size, self._uncut, self.stale = file, name, 0, False, False
        os.fsync(self._folder)

    def _write(self, file: int, text: bytes) -> None:
        written = 0
        while written < len(text):
            more = self._disk.write(file, text[written:])
            if more <= 0:
                raise OSError(errno.EIO, "nothing was written")
            written += more

    def _write_or_cut_back(self, lines: bytes) -> None:
        try:
            self._write(self._segment, lines)
        except OSError:
            self._cut_back()
            raise

    def _cut_back(self) -> None:
        self._uncut = True
        self._disk.truncate(self._segment, self._size)
        self._uncut = False

    def _release_reserve(self) -> bool:
        try:
            os.unlink(_RESERVE, dir_fd=self._folder)
        except FileNotFoundError:
            return False
        _logger.error("the disk of audit log %s is full; its reserve of 1 MiB is used now: make space", self.path)
        return True

    def _free(self) -> int:
        found = os.fstatvfs(self._folder)
        return found.f_bavail * found.f_frsize

    def _replace_key(self, text: bytes) -> None:
        self.create(KEY, text)
        file = self._open(KEY, os.O_RDWR)
        if self._key >= 0:
            os.close(self._key)
        self._key, self._kept, self.key_is_stale = file, text, False


def _check_folder(folder: int, path: Path) -> Sequence[int]:
    """Return uid and gid of a directory that no other user may write to."""
    found = os.fstat(folder)
    if found.st_uid != os.geteuid() != 0:
        raise PermissionError(errno.EPERM, f"it belongs to user {found.st_uid}; name another directory", str(path))
    if mode := stat.S_IMODE(found.st_mode) & 0o077:
        raise PermissionError(errno.EPERM, f"it is open to others (mode ...{mode:03o}); chmod 700", str(path))
    return found.st_uid, found.st_gid


def _check_regular(file: int, name: str) -> None:
    if not stat.S_ISREG(os.fstat(file).st_mode):
        raise OSError(errno.EINVAL, "it is not a regular file", name)
