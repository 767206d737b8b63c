"""Daemon threads that can be started from code which a signal handler interrupts."""

from __future__ import annotations

import _thread
import threading
import time
from collections.abc import Callable
from queue import SimpleQueue

from actors.concurrency._condition import Event


class DaemonThread(threading.Thread):
    """A daemon thread that starts at most once and is never in doubt: it has started or it has not.

    A signal handler that interrupts `threading.Thread.start` leaves the thread in doubt: it is in `threading`'s list,
    but may never have begun, and starting it again may run it twice. Handlers run on the main thread only, so there
    `begin` has another thread make that call, and starting that one is one call of C code.

    Args:
        target: what it runs.
        name: its name.

    Attributes:
        busy: whether it runs a runnable of a dispatcher.
    """

    def __init__(self, target: Callable[[], object], name: str) -> None:
        super().__init__(target=target, name=name, daemon=True)
        self.busy = False
        self._ticket: list[None] = [None]  # the thread that takes it calls `start`
        self._decided = Event()  # set when it has started or never will

    @property
    def waits_for_begin(self) -> bool:
        """Whether `begin` can still start it."""
        return bool(self._ticket)

    def begin(self) -> None:
        """Start it, unless that has been done.

        Raises:
            RuntimeError: no thread can be started now; it may be tried again.
        """
        if threading.get_ident() != threading.main_thread().ident:
            self._begin()
            return
        outcome: SimpleQueue[BaseException | None] = SimpleQueue()
        _thread.start_new_thread(self._begin_for, (outcome,))
        error = outcome.get()
        if error is not None:
            raise error

    def withdraw(self) -> bool:
        """Prevent its start; return whether it had not been started."""
        if not self._take():
            return False
        self._decided.set()
        return True

    def gone(self, deadline: float) -> bool:
        """Wait for its end; return whether it has ended. A thread that has not been started never will be.

        Args:
            deadline: when to stop waiting, in seconds of `time.monotonic`.
        """
        self.withdraw()
        if not self._decided.wait(max(0.0, deadline - time.monotonic())):
            return self.withdraw()  # its start may have failed meanwhile
        if self.ident is not None:
            self.join(max(0.0, deadline - time.monotonic()))
        return not self.is_alive()

    def _take(self) -> bool:
        try:
            self._ticket.pop()
        except IndexError:
            return False
        return True

    def _begin(self) -> None:
        if self._take():
            try:
                self.start()
            except BaseException:
                self._ticket.append(None)
                raise
            self._decided.set()

    def _begin_for(self, outcome: SimpleQueue[BaseException | None]) -> None:
        try:
            self._begin()
        except BaseException as error:
            outcome.put(error)
        else:
            outcome.put(None)
