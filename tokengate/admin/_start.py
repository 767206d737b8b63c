"""Run by its path in a process that the plugin starts and waits for: leaves a process behind that is the daemon."""

from __future__ import annotations

import fcntl
import importlib
import os
import sys

LOCK = "admin.lock"

_FLAGS = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


def taken(path: str) -> int | None:
    """Take the lock of the one daemon of a user, and return its descriptor; None: another process has it.

    The kernel gives it back when the process ends.

    Raises:
        OSError: the file cannot be used.
    """
    while True:
        file = os.open(path, _FLAGS, 0o600)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.path.samestat(os.lstat(path), os.fstat(file)):
                return file
        except BlockingIOError:
            os.close(file)
            return None
        except FileNotFoundError:
            pass  # another daemon has just ended, and has removed it
        os.close(file)


def main() -> None:
    """Fork, so that the daemon is no child of the gate; it imports afterwards, since the gate waits until then."""
    lock = taken(os.path.join(os.path.dirname(sys.argv[1]), LOCK))
    if lock is None or os.fork():
        os._exit(0)
    sys.path.append(os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))
    # By its name: the daemon imports this file, and the lock must be there before anything takes time to import.
    importlib.import_module("tokengate.admin._daemon").run_detached(lock, *sys.argv[1:])


if __name__ == "__main__":
    main()
