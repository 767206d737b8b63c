"""Waiters: done callbacks that wake a thread, a trio task or an asyncio task that waits for an outcome."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Any, Protocol

import trio


class Outcome(Protocol):
    """The outcome that a waiter waits for."""

    def add_done_callback(self, fn: Callable[[Any], object]) -> None: ...

    def _discard_callback(self, fn: Callable[[Any], object]) -> None: ...


class Waiter:
    """A done callback of the runtime, such as one that wakes a thread or a task; calling it twice does no harm."""

    __slots__ = ()

    def __call__(self, reply: Any, /) -> None:
        """Do what follows from the outcome: wake what waits for it."""
        raise NotImplementedError


class ThreadWaiter(Waiter):
    """A thread that waits for a reply."""

    __slots__ = ("_arrived",)

    def __init__(self) -> None:
        self._arrived = threading.Lock()
        self._arrived.acquire()

    def wait(self, seconds: float) -> bool:
        """Wait for at most so many seconds; return whether it was woken."""
        return self._arrived.acquire(timeout=seconds)

    def __call__(self, _reply: object) -> None:
        try:
            self._arrived.release()
        except RuntimeError:
            pass  # it was released before


class AsyncioWaiter(Waiter):
    """A task of asyncio that waits for a reply."""

    __slots__ = ("_loop", "arrived")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self.arrived: asyncio.Future[None] = loop.create_future()

    def __call__(self, _reply: object) -> None:
        if asyncio._get_running_loop() is self._loop:
            self._finish()
            return
        try:
            self._loop.call_soon_threadsafe(self._finish)
        except RuntimeError:
            pass  # the loop is closed, and the task is gone with it

    def _finish(self) -> None:
        if not self.arrived.done():
            self.arrived.set_result(None)


def is_for_the_program(error: BaseException, callback: object) -> bool:
    """Tell whether an error comes from a signal handler that interrupted a done callback on the main thread.

    The runtime's own callbacks raise nothing themselves. A user's callback may raise any `Exception` of its own, so
    only other exceptions count there.
    """
    if threading.current_thread() is not threading.main_thread() or trio.lowlevel.in_trio_run():
        return False
    return isinstance(callback, Waiter) or not isinstance(error, Exception)


class TrioWaiter(Waiter):
    """The task of trio that waits for a reply; called when the outcome is there."""

    __slots__ = ("_arrived", "_loop", "_outcome", "_parked", "_task", "_thread")

    def __init__(self, outcome: Outcome) -> None:
        self._outcome = outcome
        self._task = trio.lowlevel.current_task()
        self._loop = trio.lowlevel.current_trio_token()
        self._thread = threading.get_ident()
        self._arrived = self._parked = False

    async def wait(self) -> None:
        self._outcome.add_done_callback(self)
        if not self._arrived:
            self._parked = True
            await trio.lowlevel.wait_task_rescheduled(self._abort)

    def __call__(self, _reply: object) -> None:
        if threading.get_ident() == self._thread and trio.lowlevel.in_trio_run():
            self._unpark()
            return
        try:
            self._loop.run_sync_soon(self._unpark)
        except trio.RunFinishedError:
            pass  # the waiter's loop has ended, and the waiter with it

    def _unpark(self) -> None:
        self._arrived = True
        if self._parked:
            self._parked = False
            trio.lowlevel.reschedule(self._task)

    def _abort(self, _raise_cancel: object) -> trio.lowlevel.Abort:
        self._parked = False
        self._outcome._discard_callback(self)
        return trio.lowlevel.Abort.SUCCEEDED
