"""A call that no signal handler interrupts: it runs on a thread of its own, and callers wait for it."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable

import trio

from actors.lowlevel import DaemonThread
from tokengate.gate._mark import Mark

# Seconds after which a caller checks whether the thread has started.
_START_SECONDS = 0.5


class UninterruptedCall:
    """Calls a function once, on a thread of its own, and lets callers wait for its end.

    Args:
        name: of the thread.

    Attributes:
        over: made when the function has returned. Loops that no signal may leave read `over.made`, an attribute:
            reading it enters no Python function, and signal handlers run at the entry of one.
        waiters: the threads that wait for the function, and so cannot end before it does.
    """

    def __init__(self, name: str) -> None:
        self.over = Mark(lambda tell: tell())
        self.waiters: list[threading.Thread] = []
        self._fn: Callable[[], object] = bool
        self._thread = DaemonThread(self._run, name)
        self._error: BaseException | None = None

    def wait(self, interrupted: Callable[[], object], fn: Callable[[], object]) -> None:
        """Run a function on the thread, and block until it returns; then raise what signal handlers raised meanwhile.

        Args:
            interrupted: called each time a signal handler has raised, perhaps more than once.
            fn: the function; ignored if another one runs already, which is waited for instead.

        Raises:
            BaseException: what the function raised; else what a signal handler raised last.
        """
        me = threading.current_thread()
        error: BaseException | None = None
        self.waiters.append(me)
        # Two loops: the outer one is for what is raised between two turns of the inner one.
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
        """Run a function on the thread, and await its end (trio and asyncio).

        After an exception, call this again to wait on.
        """
        self._begin(fn)
        if trio.lowlevel.in_trio_task():
            with trio.move_on_after(_START_SECONDS):
                await self.over.wait()
        else:
            try:
                await asyncio.wait_for(self.over.wait(), _START_SECONDS)
            except TimeoutError:
                pass
        if not self.over.made:
            self._run_here()
            await self.over.wait()
        if self._error is not None:
            raise self._error

    def begin(self, fn: Callable[[], object]) -> None:
        """Run a function on the thread, unless one runs there or has run, and return.

        Raises:
            RuntimeError: no thread can be started now; it may be tried again.
        """
        self._fn = fn
        self._thread.begin()

    def runs_here(self) -> bool:
        """Tell whether the calling thread is the one of the call."""
        return threading.current_thread() is self._thread

    def settle(self, seconds: float) -> None:
        """Prevent the call; if the function runs already, wait for its end, but at most so many seconds."""
        self._thread.gone(time.monotonic() + seconds)

    def disown(self) -> None:
        """Count as over, in a forked child."""
        self.over.make()

    def _begin(self, fn: Callable[[], object]) -> None:
        try:
            self.begin(fn)
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
