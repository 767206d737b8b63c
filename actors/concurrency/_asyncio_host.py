"""Asyncio loops that accept work from other threads: one in a thread of its own, and those of the program."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable, Coroutine
from contextvars import Context
from typing import Any

from actors.concurrency._blocking import hosted_loops
from actors.concurrency._future import Reply
from actors.concurrency._loop_host import LoopHost

_logger = logging.getLogger("tokengate.actors")


class AsyncioHost(LoopHost):
    """One asyncio loop in one daemon thread, made when it is first needed, or a loop of the program.

    Args:
        name: the name of the thread.
        loop_factory: makes the loop of the thread; None makes one of asyncio's own.

    Attributes:
        on_loss: called by recovery, again and again until `cancel`, when the loop of the program has been closed.
    """

    _loop: asyncio.AbstractEventLoop | None

    def __init__(self, name: str, loop_factory: Callable[[], asyncio.AbstractEventLoop] | None = None) -> None:
        super().__init__(name)
        self._loop_factory = loop_factory
        self.on_loss: Callable[[], object] = bool
        self._hosted = True  # whether code that blocks the loop is refused
        self._tasks: set[asyncio.Task[Any]] = set()
        self._over: Reply[None] = Reply()  # set on the loop, when no task is left of one that was cancelled

    def open(self) -> None:
        """Have the thread started, if it has not been; do nothing when attached."""
        if self._loop is None and not self._attached and not self._cancelled:
            self._thread.begin()

    async def attach(self) -> None:
        """Run in the loop of the calling task, in tasks of its own, until `cancel`."""
        self._attached = True
        self._begin(asyncio.get_running_loop())

    def visit(self, loop: asyncio.AbstractEventLoop) -> None:
        """Do as `attach` does, in a running loop that may end before, and whose thread may block."""
        self._attached, self._hosted = True, False
        self._begin(loop)

    def join(self, deadline: float) -> list[str]:
        # A loop of the program may have stopped, or stop meanwhile: then nothing of it is to be waited for.
        late = super().join(deadline) if self.runs or not self._attached else []
        return late if self.runs or not self._attached else []

    @property
    def runs(self) -> bool:
        return self._loop is not None and self._loop.is_running()

    def recover(self) -> None:
        super().recover()
        if self._attached and not self._cancelled and self.over:
            self.on_loss()

    @property
    def over(self) -> bool:
        """Whether the loop has ended, and calls nothing any more."""
        if self._loop is not None and self._loop.is_closed():
            self._note_end()
        return self._ended.is_set()

    def cancel(self) -> None:
        self._cancelled = True
        if self.over or self._loop is None:
            self._ended.set()
        else:
            self.call_soon(self._cancel_tasks)
            self.recover()  # an interrupted caller may have queued the call without waking the loop

    @property
    def attached(self) -> bool:
        """Whether the loop is the program's."""
        return self._attached

    def on_loop(self) -> bool:
        loop = self._loop
        return loop is not None and asyncio._get_running_loop() is loop

    def in_task(self) -> bool:
        return self.on_loop() and asyncio.current_task() is not None

    def start_task(self, async_fn: Callable[[], Coroutine[Any, Any, Any]], name: str) -> asyncio.Task[Any] | None:
        """Start a task on the loop, in a context of its own, unless the loop is about to end; only on its thread."""
        if self._cancelled or self._loop is None:
            return None
        # No factory of the loop makes it: an eager one would run tokens within the code that submits them.
        task = asyncio.Task(async_fn(), loop=self._loop, name=name, context=Context())
        task._log_destroy_pending = False  # type: ignore[attr-defined]  # recovery ends what a closed loop leaves behind
        self._tasks.add(task)
        task.add_done_callback(self._forget)
        return task

    def _wake(self) -> None:
        loop = self._loop
        if loop is not None:
            try:
                loop.call_soon_threadsafe(self._run_pending, context=Context())
            except RuntimeError:
                self._pending.clear()  # it is closed: nothing is called there any more

    def _main(self) -> None:
        try:
            with asyncio.Runner(loop_factory=self._loop_factory) as runner:
                runner.run(self._run())
        except BaseException as error:
            _logger.exception("loop %s broke", self.name)
            self._opened._set(error=error)
        finally:
            self._note_end()

    async def _run(self) -> None:
        self._begin(asyncio.get_running_loop())
        await self._over.wait()

    def _begin(self, loop: asyncio.AbstractEventLoop) -> None:
        self.ident = threading.get_ident()
        self._loop = loop
        if self._hosted:
            hosted_loops[loop] = hosted_loops.get(loop, 0) + 1
        self._run_pending()
        self._opened._set()
        if self._cancelled:
            self._cancel_tasks()

    def _cancel_tasks(self) -> None:
        for task in self._tasks:
            task.cancel()
        self._end_if_idle()

    def _forget(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        self.progress += 1
        if not task.cancelled() and task.exception() is not None:
            _logger.error("a task of %s broke", self.name, exc_info=task.exception())
        self._end_if_idle()

    def _end_if_idle(self) -> None:
        if self._cancelled and not self._tasks and self._loop is not None:
            if self._hosted:
                hosted_loops[self._loop] -= 1
            self._note_end()
            self._over._set()


class AsyncioHosts:
    """The hosts of a system's asyncio loops: of its own, and of those in which the program calls it.

    Attributes:
        own: the host of its own loop.
        on_visit: called with each host of a loop of the program, in that loop.
    """

    def __init__(self, own: AsyncioHost) -> None:
        self.own = own
        self.on_visit: Callable[[AsyncioHost], object] = bool
        self._visits: dict[asyncio.AbstractEventLoop, AsyncioHost] = {}

    def here(self) -> AsyncioHost:
        """Return the host of the loop that runs this code, made for the first call; of its own, if none runs."""
        loop = asyncio._get_running_loop()
        return self.own if loop is None else self.of(loop)

    def of(self, loop: asyncio.AbstractEventLoop) -> AsyncioHost:
        """Return the host of a loop, which runs this code."""
        if loop is self.own._loop:
            return self.own
        host = self._visits.get(loop)
        return self._visit(loop) if host is None else host

    def all(self) -> list[AsyncioHost]:
        """Return all hosts."""
        return [self.own, *list(self._visits.values())]

    def _visit(self, loop: asyncio.AbstractEventLoop) -> AsyncioHost:
        for other in list(self._visits):
            if other.is_closed():
                self._visits.pop(other, None)
        host = AsyncioHost(f"{self.own.name} in {threading.current_thread().name}")
        host.visit(loop)
        self._visits[loop] = host
        self.on_visit(host)
        return host
