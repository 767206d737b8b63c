"""The open systems of this process: a forked child disowns them, and the exit of the interpreter closes them."""

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

# Held while the default system of the process is looked up or made.
default_lock = threading.Lock()

# Seconds that a system which was left open gets for closing when the interpreter exits.
_EXIT_SECONDS = 1.0


def _disown() -> None:
    """Disown all systems in a forked child: their threads are in the parent only.

    Locks are replaced by new ones, since threads that held them at the fork do not exist here.
    """
    _future.rare = threading.Lock()
    while open_systems:
        open_systems.pop().disown()


def _close_all() -> None:
    """Close all systems, so that the end of the interpreter interrupts no thread in its work."""
    for system in reversed(list(open_systems)):
        system.close(_EXIT_SECONDS)


os.register_at_fork(
    before=default_lock.acquire, after_in_parent=default_lock.release, after_in_child=default_lock.release
)
os.register_at_fork(after_in_child=_disown)
atexit.register(_close_all)
