"""The lock of the one daemon of a user, which the kernel gives back when its process ends."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from tokengate.control._exceptions import ControlError

_FLAGS = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


class AlreadyRuns(ControlError):
    """Another daemon of this user runs, or is about to."""


@contextmanager
def only_one(path: Path) -> Generator[None]:
    """Hold the lock for the length of a block, then remove its file.

    Raises:
        AlreadyRuns: another process has it.
        ControlError: the file cannot be used.
    """
    try:
        file = _taken(path)
    except BlockingIOError:
        raise AlreadyRuns(f"another admin daemon has '{path}'; see 'tokengate admin status'") from None
    except OSError as error:
        raise ControlError(f"cannot lock '{path}': {error.strerror}; see what it is, and remove it") from error
    try:
        yield
    finally:
        path.unlink(missing_ok=True)  # before it is given back: the next one must not lock a file without a name
        os.close(file)


def _taken(path: Path) -> int:
    while True:
        file = os.open(path, _FLAGS, 0o600)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.path.samestat(path.stat(follow_symlinks=False), os.fstat(file)):
                return file
        except FileNotFoundError:
            pass  # another daemon has just ended, and has removed it
        except BaseException:
            os.close(file)
            raise
        os.close(file)
