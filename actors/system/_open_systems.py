"""The open systems of this process, and what becomes of them when it forks or exits."""

from __future__ import annotations

import atexit
import os
import threading
from typing import Protocol

from actors.concurrency import _future


class OpenSystem(Protocol):
    """A system that is open."""

    def close(self, timeout: float, /) -> object: ...

    def disown(self) -> None: ...


open_systems: list[OpenSystem] = []  # in the order of their opening

# Held while the one default system of the process is looked up or made.
default_lock = threading.Lock()

# Seconds that the code of a system that was left open gets when the interpreter exits.
_EXIT_SECONDS = 1.0


def _disown() -> None:
    """Leave all systems to the parent, in a forked child: their threads are there, and not here.

    Locks are replaced by new ones, since whoever held them at the fork is gone.
    """
    _future._rare = threading.Lock()
    while open_systems:
        open_systems.pop().disown()


def _close_all() -> None:
    """End what still runs, so that no thread is caught in the middle of something by the interpreter's end."""
    for system in reversed(list(open_systems)):
        system.close(_EXIT_SECONDS)


os.register_at_fork(
    before=default_lock.acquire, after_in_parent=default_lock.release, after_in_child=default_lock.release
)
os.register_at_fork(after_in_child=_disown)
atexit.register(_close_all)
