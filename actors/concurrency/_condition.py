"""A condition and an event that an interrupted thread does not leave locked."""

from __future__ import annotations

import threading


class Condition(threading.Condition):
    """A condition whose `with` block cannot be interrupted between the taking of the lock and the block.

    `threading.Condition.__enter__` is a Python function. A signal handler may raise in it when the lock is taken, and
    the block that gives it back has not begun; then other threads wait for the lock for ever. Here a `with` statement
    finds the lock's own methods, which are C functions, and runs no Python code. A caller of `acquire` has no such
    protection.
    """

    __slots__ = ("__enter__", "__exit__")

    def __init__(self) -> None:
        lock = threading.RLock()
        super().__init__(lock)
        self.__enter__ = lock.__enter__  # type: ignore[method-assign]
        self.__exit__ = lock.__exit__  # type: ignore[method-assign]

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until notified, or for `timeout` seconds; return whether it was notified."""
        try:
            return super().wait(timeout)
        finally:
            # It is not, if the wait was interrupted when it had given the lock up, and had not begun.
            if not self._is_owned():  # type: ignore[attr-defined]
                self.acquire()


class Event(threading.Event):
    """An event that the main thread can wait for and set, as other threads do, when signal handlers may raise in it."""

    def __init__(self) -> None:
        super().__init__()
        self._cond = Condition()
