"""Waiters: done callbacks that wake a thread, a trio task or an asyncio task that waits for an outcome."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, Final, Protocol

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


# {thread that sets many outcomes: {what calls something in a loop: what to call there}}; see `waking_together`.
_groups: Final[dict[int, dict[Callable[..., object], list[Callable[[], object]]]]] = {}


@contextmanager
def waking_together() -> Iterator[None]:
    """Wake the tasks of a loop together, for outcomes that this thread sets: a wake-up of a loop costs a system call.

    Within, nothing may wait for such a task. One within another one is a part of that.
    """
    me = threading.get_ident()
    if me in _groups:
        yield
        return
    _groups[me] = {}
    try:
        yield
    finally:
        wake_now()
        del _groups[me]


def wake_now() -> None:
    """Wake the tasks that this thread has yet to wake."""
    group = _groups.get(threading.get_ident())
    while group:
        call_soon, calls = group.popitem()
        _call_in(call_soon, calls[0] if len(calls) == 1 else partial(_call_all, calls))


def _call_soon(call_soon: Callable[..., object], call: Callable[[], object]) -> None:
    """Have something called in a loop, by its method for other threads."""
    group = _groups.get(threading.get_ident()) if _groups else None
    if group is None:
        _call_in(call_soon, call)
    else:
        group.setdefault(call_soon, []).append(call)


def _call_in(call_soon: Callable[..., object], call: Callable[[], object]) -> None:
    try:
        call_soon(call)
    except RuntimeError:  # `trio.RunFinishedError` is one
        pass  # the loop is closed, and the tasks are gone with it


def _call_all(calls: list[Callable[[], object]]) -> None:
    for call in calls:
        call()


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
        _call_soon(self._loop.call_soon_threadsafe, self._finish)

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
        _call_soon(self._loop.run_sync_soon, self._unpark)

    def _unpark(self) -> None:
        self._arrived = True
        if self._parked:
            self._parked = False
            trio.lowlevel.reschedule(self._task)

    def _abort(self, _raise_cancel: object) -> trio.lowlevel.Abort:
        self._parked = False
        self._outcome._discard_callback(self)
        return trio.lowlevel.Abort.SUCCEEDED
