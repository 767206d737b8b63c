"""The end of a gate: on a thread of its own, where no signal handler raises, however many callers wait for it."""

from __future__ import annotations

import threading
from collections.abc import Callable

from tokengate._mark import Mark


class Closing:
    """Runs a function once, on a thread of its own, and lets callers wait for its end.

    Args:
        name: of the thread.

    Attributes:
        waiters: the threads that wait for the end, which therefore cannot end before it.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._ticket: list[None] = [None]  # the first thread that takes it runs the function
        self._over = Mark(lambda tell: tell())
        self._error: BaseException | None = None
        self.waiters: list[threading.Thread] = []

    @property
    def over(self) -> bool:
        """Whether it has returned."""
        return self._over.made

    def begin(self, close: Callable[[], object]) -> None:
        """Have a function run, unless one runs or has run. It may be called again, and has to be if it raised."""
        if not self._ticket:
            return
        try:
            threading.Thread(target=self._run, args=(close,), name=self._name, daemon=True).start()
        except RuntimeError:  # the interpreter exits, or there are too many threads
            self._run(close)

    def wait(self, interrupted: Callable[[], object], close: Callable[[], object]) -> None:
        """Have a function run, and block until it has; whatever signal handlers raise meanwhile is raised after that.

        Args:
            interrupted: called each time when one has raised, perhaps more than once.
            close: the function, for `begin`.

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
                        self.begin(close)
                        self._over.wait_in_thread()
                    except BaseException as raised:
                        error = raised
            except BaseException as raised:
                error = raised
        if self._error is not None:
            raise self._error
        if error is not None:
            raise error

    async def wait_async(self) -> None:
        """Await the end (trio)."""
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
