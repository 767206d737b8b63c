"""A call that no signal handler interrupts: on a thread of its own, however many callers wait for it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import trio

from actors.lowlevel import DaemonThread
from tokengate.gate._mark import Mark

# Seconds after which a caller looks whether the thread could be started.
_START_SECONDS = 0.5


class UninterruptedCall:
    """Calls a function once, on a thread of its own, and lets callers wait for its end.

    Args:
        name: of the thread.

    Attributes:
        over: made when the function has returned. Loops that no signal may leave read `over.made`: reading it enters no
            Python function, which is where a signal handler may run.
        waiters: the threads that wait for the end, which therefore cannot end before it.
    """

    def __init__(self, name: str) -> None:
        self.over = Mark(lambda tell: tell())
        self.waiters: list[threading.Thread] = []
        self._fn: Callable[[], object] = bool
        self._thread = DaemonThread(self._run, name)
        self._error: BaseException | None = None

    def wait(self, interrupted: Callable[[], object], fn: Callable[[], object]) -> None:
        """Have a function called, and block until it returns; what signal handlers raise meanwhile is raised then.

        Args:
            interrupted: called each time when one has raised, perhaps more than once.
            fn: the function; one that has begun already is waited for instead.

        Raises:
            BaseException: what the function raised; else what a signal handler raised last.
        """
        me = threading.current_thread()
        error: BaseException | None = None
        self.waiters.append(me)
        # Twice the same: the outer one is for what is raised between two turns of the inner one.
        while not self.over.made:
            try:
                while not self.over.made:
                    try:
                        if error is not None:
                            interrupted()
                        self._begin(fn)
                        if not self.over.wait_in_thread(_START_SECONDS):
                            self._run_here()
                        self.over.wait_in_thread()
                    except BaseException as raised:
                        error = raised
            except BaseException as raised:
                error = raised
        if self._error is not None:
            raise self._error
        if error is not None:
            raise error

    async def wait_async(self, fn: Callable[[], object]) -> None:
        """Have a function called, and await its end (trio); it may be called again, and has to be if it raised."""
        self._begin(fn)
        with trio.move_on_after(_START_SECONDS):
            await self.over.wait()
        if not self.over.made:
            self._run_here()
            await self.over.wait()
        if self._error is not None:
            raise self._error

    def settle(self, seconds: float) -> None:
        """Have the function not be called any more; if it has been, wait for its end, but not longer than that."""
        self._thread.gone(time.monotonic() + seconds)

    def disown(self) -> None:
        """Be over in a forked child."""
        self.over.make()

    def _begin(self, fn: Callable[[], object]) -> None:
        self._fn = fn
        try:
            self._thread.begin()
        except RuntimeError:  # the interpreter exits, or there are too many threads
            self._run_here()

    def _run_here(self) -> None:
        if self._thread.withdraw():
            self._run()

    def _run(self) -> None:
        try:
            self._fn()
        except BaseException as error:
            self._error = error
        finally:
            self.over.make()
