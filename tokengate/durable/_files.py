"""The directory of a journal: its lock, which one gate has, and its reserve for a full disk."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import json
import os
import time
import weakref
from pathlib import Path
from typing import Any, Final, Protocol

from tokengate._exceptions import JournalInUse
from tokengate.audit._directory import NO_LINK, check_for_database

_LOCK: Final = "owner.lock"
_RESERVE: Final = "reserve"
_RESERVE_SIZE: Final = 4 * 1024 * 1024
_FULL: Final = (errno.ENOSPC, errno.EDQUOT)


class Disowned(Protocol):
    """What a forked child must leave to its parent."""

    def disown(self) -> None:
        """Leave it to the parent."""
        ...


of_this_process: Final[weakref.WeakSet[Disowned]] = weakref.WeakSet()
"""What is left to the parent when this process forks."""


def boot_id() -> str:
    """Return what changes when the machine is started; empty if this system does not say."""
    with contextlib.suppress(OSError):
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    return ""


def keep_for_ever(thing: object) -> None:
    """Have an object never be finalized, not even at the end of the interpreter."""
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(thing))


def sync(directory: Path) -> None:
    """Have the names of the files of a directory on disk."""
    folder = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


class OwnedDirectory:
    """The directory of a journal, which is locked as long as this is open.

    Args:
        path: of the directory; made if it does not exist.
        gate: name of the gate.

    Raises:
        BadStateDirectory: it cannot be used.
        JournalInUse: another gate has it.
        OSError: the lock cannot be made.
    """

    def __init__(self, path: Path, gate: str) -> None:
        check_for_database(path)
        self.path = path
        self._lock = os.open(path / _LOCK, os.O_RDWR | os.O_CREAT | NO_LINK, 0o600)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            owner = self._owner()
            os.close(self._lock)
            raise JournalInUse(str(path), owner.get("gate", ""), owner.get("pid", 0), owner.get("since", 0.0)) from None
        os.ftruncate(self._lock, 0)
        text = json.dumps({"gate": gate, "pid": os.getpid(), "boot": boot_id(), "since": time.time()})
        with contextlib.suppress(OSError):  # on a full disk the lock holds, too
            os.pwrite(self._lock, text.encode(), 0)
        of_this_process.add(self)

    def _owner(self) -> dict[str, Any]:
        with contextlib.suppress(ValueError):
            found = json.loads(os.pread(self._lock, 4096, 0))
            if isinstance(found, dict):
                return found
        return {}

    def close(self) -> None:
        """Give the lock back."""
        of_this_process.discard(self)
        os.close(self._lock)

    disown = close  # the lock is the parent's as long as the parent has its descriptor

    # The reserve

    def make_reserve(self) -> bool:
        """Take the space of the reserve from the disk; return whether it is there."""
        file = os.open(self.path / _RESERVE, os.O_RDWR | os.O_CREAT | NO_LINK, 0o600)
        try:
            os.posix_fallocate(file, 0, _RESERVE_SIZE)
        except OSError as error:
            self.give_up_reserve()
            if error.errno in _FULL:
                return False
            raise
        finally:
            os.close(file)
        return True

    def give_up_reserve(self) -> None:
        """Give its space back."""
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self.path / _RESERVE)


def _leave_to_parent() -> None:
    for one in list(of_this_process):
        one.disown()


os.register_at_fork(after_in_child=_leave_to_parent)
