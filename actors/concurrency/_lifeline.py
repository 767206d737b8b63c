"""A thread that keeps the process alive while something is left to wait for."""

from __future__ import annotations

import threading

from actors.concurrency._condition import Event


class Lifeline:
    """Keeps the interpreter from exiting at the end of the main program, as long as it has members.

    The interpreter waits for threads that are no daemons. One such thread runs while there are members.

    Args:
        name: of the thread.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._lock = threading.Lock()
        self._members: set[object] = set()
        self._emptied = Event()
        self._thread: threading.Thread | None = None

    def add(self, member: object) -> None:
        """Add a member."""
        with self._lock:
            self._members.add(member)
            if self._thread is None or not self._thread.is_alive():
                self._thread = threading.Thread(target=self._wait, name=self._name, daemon=False)
                self._thread.start()

    def discard(self, member: object) -> None:
        """Remove a member, if it is one; without members the process may end."""
        with self._lock:
            self._members.discard(member)
            if not self._members:
                self._emptied.set()

    def _wait(self) -> None:
        while not self._has_ended():
            self._emptied.wait()

    def _has_ended(self) -> bool:
        """Tell whether there is no member, and the thread may end: the next member starts another one."""
        with self._lock:
            self._emptied.clear()
            if self._members:
                return False
            self._thread = None
            return True
