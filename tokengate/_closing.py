"""The end of a gate: on a thread of its own, where no signal handler raises, however many callers wait for it."""

from __future__ import annotations

import threading
from collections.abc import Callable

import trio

from actors import TrioHost
from tokengate._mark import Mark

# Seconds after which the loop that is to start the thread is taken for hung.
_LOOP_SECONDS = 0.5


class Closing:
    """Runs a function once, on a thread of its own, and lets callers wait for its end.

    Args:
        name: of the thread.
        host: the loop that starts it, while it runs.

    Attributes:
        waiters: the threads that wait for the end, which therefore cannot end before it.
    """

    def __init__(self, name: str, host: TrioHost) -> None:
        self._name = name
        self._host = host
        self._ticket: list[None] = [None]  # the first thread that takes it runs the function
        self._over = Mark(lambda tell: tell())
        self._error: BaseException | None = None
        self.waiters: list[threading.Thread] = []

    @property
    def over(self) -> bool:
        """Whether it has returned."""
        return self._over.made

    def _begin(self, close: Callable[[], object]) -> None:
        """Have a function run, unless one runs or has run."""
        # On the loop, since a start that is interrupted leaves a thread in `threading`'s list that never begins. When
        # the interpreter exits no thread starts any more.
        if self._host.runs and threading.main_thread().is_alive():
            self._host.call_soon(lambda: self._start(close))
        else:
            self._start_here(close)

    def _start(self, close: Callable[[], object]) -> None:
        if self._ticket:
            threading.Thread(target=self._run, args=(close,), name=self._name, daemon=True).start()

    def _start_here(self, close: Callable[[], object]) -> None:
        try:
            self._start(close)
        except RuntimeError:  # the interpreter exits, or there are too many threads
            self._run(close)

    def wait(self, interrupted: Callable[[], object], close: Callable[[], object]) -> None:
        """Have a function run, and block until it has; whatever signal handlers raise meanwhile is raised after that.

        Args:
            interrupted: called each time when one has raised, perhaps more than once.
            close: the function.

        Raises:
            BaseException: what the function raised; else what a signal handler raised last.
        """
        me = threading.current_thread()
        error: BaseException | None = None
        self.waiters.append(me)
        # Twice the same: the outer one is for what is raised between two turns of the inner one.
        while not self.over:
            try:
                while not self.over:
                    try:
                        if error is not None:
                            interrupted()
                        self._begin(close)
                        if not self._over.wait_in_thread(_LOOP_SECONDS):
                            self._start_here(close)
                        self._over.wait_in_thread()
                    except BaseException as raised:
                        error = raised
            except BaseException as raised:
                error = raised
        if self._error is not None:
            raise self._error
        if error is not None:
            raise error

    async def wait_async(self, close: Callable[[], object]) -> None:
        """Have a function run, and await its end (trio); it may be called again, and has to be if it raised."""
        self._begin(close)
        with trio.move_on_after(_LOOP_SECONDS):
            await self._over.wait()
        if not self.over:
            self._start_here(close)
            await self._over.wait()
        if self._error is not None:
            raise self._error

    def disown(self) -> None:
        """Be over in a forked child."""
        self._over.make()

    def _run(self, close: Callable[[], object]) -> None:
        try:
            self._ticket.pop()
        except IndexError:
            return  # another thread does it
        try:
            close()
        except BaseException as error:
            self._error = error
        finally:
            self._over.make()
