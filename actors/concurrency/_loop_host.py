"""What hosts of trio's and of asyncio's loops have in common: calls and tasks that come from other threads."""

from __future__ import annotations

import abc
import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable, Collection, Coroutine
from typing import Any, Final

import trio

from actors.concurrency._condition import Event
from actors.concurrency._daemon_thread import DaemonThread
from actors.concurrency._future import Reply

# A loop that is to end is stuck if so many looks at it find no progress. Looks are counted, and not their time, since a
# garbage collection holds them up as well.
_LOOKS = 5
_LOOK_SECONDS = 0.05

# Seconds beyond its deadline that an ending loop may take as long as it is not stuck.
_LONGER_AT_MOST = 30.0

# Maximum number of calls before the tasks of the loop get their turn. What a burst of calls starts can end meanwhile,
# so that neither the other tasks nor the garbage collector meet all of it at once.
_CALLS_AT_ONCE = 16

CANCELLATIONS: Final = (trio.Cancelled, asyncio.CancelledError)
"""The exceptions by which loops end their tasks."""

_logger = logging.getLogger("tokengate.actors")


def _unknown() -> None:
    return None


class LoopHost(abc.ABC):
    """A loop in one daemon thread (`open`), or a part of a loop that is there already (`attach`).

    Args:
        name: the name of the thread, or of the task.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        # Returns when its present round began, in seconds of `time.monotonic`; None: it sleeps, or is not watched.
        self.busy_since: Callable[[], float | None] = _unknown
        self._thread = DaemonThread(self._main, name)
        self._attached = False
        self._opened: Reply[None] = Reply()
        self._ended = Event()
        self._loop: Any = None  # while it runs
        self._pending: deque[Callable[[], object]] = deque()
        self._wakeup_pending = False
        self._cancelled = False
        self.ident: int | None = None  # of the thread of the loop
        self._recovered_at = -1  # the progress at which `recover` has woken it last
        self.queued: Collection[Callable[[], object]] = ()  # calls that were pending at the latest look of recovery
        # Number of tokens that ran in their callers' tasks since other tasks last got a turn, and their seconds.
        self.tokens_here, self.seconds_here = 0, 0.0
        self.progress = 0  # grows with each finished call, task and cancellation; written on the loop only

    @abc.abstractmethod
    def open(self) -> None:
        """Start the thread; do nothing when attached."""

    @abc.abstractmethod
    async def attach(self) -> None:
        """Run in the loop of the calling task, until `cancel`."""

    @abc.abstractmethod
    def cancel(self) -> None:
        """Cancel all that runs on the loop, and so end it; `join` waits for that."""

    @abc.abstractmethod
    def on_loop(self) -> bool:
        """Tell whether this code runs on the loop."""

    @abc.abstractmethod
    def in_task(self) -> bool:
        """Tell whether this code runs in a task of the loop, and in no callback of it or of its host loop."""

    @abc.abstractmethod
    def start_task(self, async_fn: Callable[[], Coroutine[Any, Any, Any]], name: str) -> object:
        """Start a task on the loop, unless that is about to end; only on its thread."""

    def start_worker(self, work: Callable[[], Coroutine[Any, Any, None]], name: str) -> object:
        """Do as `start_task` does, for a function that keeps Ctrl-C out of itself, and notes its end as progress."""
        return self.start_task(work, name)

    @abc.abstractmethod
    def _main(self) -> None:
        """Run the loop, on the thread."""

    @abc.abstractmethod
    def _wake(self) -> None:
        """Have the loop, if it runs, call `_run_pending`."""

    def join(self, deadline: float) -> list[str]:
        """Wait for the loop's end, or, when attached, for the end of all that ran on it.

        Args:
            deadline: when to stop waiting, in seconds of `time.monotonic`; up to 30 seconds later as long as the loop
                makes progress in ending its tasks.

        Returns:
            the name, if code that blocks the loop kept it from ending.
        """
        if self._has_ended(deadline):
            return []
        progress, looks = self.progress, 0
        while looks < _LOOKS and time.monotonic() < deadline + _LONGER_AT_MOST:
            if self._has_ended(time.monotonic() + _LOOK_SECONDS):
                return []
            looks = looks + 1 if self.progress == progress else 0
            progress = self.progress
        return [self.name]

    def _has_ended(self, deadline: float) -> bool:
        """Wait for the end until a time of `time.monotonic`; return whether it has come."""
        if self._attached:
            return self._ended.wait(max(0.0, deadline - time.monotonic()))
        return self._thread.gone(deadline)

    def disown(self) -> None:
        """Mark as ended in a forked child, where the loop belongs to the parent and must not be woken."""
        self._loop = None
        self._cancelled = True
        self._pending.clear()
        self._ended.set()

    @property
    def runs(self) -> bool:
        """Whether the loop calls what it is given."""
        return self._loop is not None

    def call_soon(self, fn: Callable[[], object]) -> None:
        """Call `fn` on the loop: at once when already there, else soon, with one wake-up for a burst of calls.

        After the loop has ended it does nothing: all that ran there was ended before.
        """
        if self.on_loop():
            fn()
        else:
            self.later(fn)

    def later(self, fn: Callable[[], object]) -> None:
        """Call `fn` on the loop, on its own thread not before this code has returned.

        Any code may call this: a finalizer or a signal handler that has interrupted other code, too.
        """
        self._pending.append(fn)
        if not self._wakeup_pending:
            self._wakeup_pending = True
            self._wake()

    def recover(self) -> None:
        """Wake the loop if calls are pending, since an interrupted sender may not have, and note which these are."""
        self.queued = set(self._pending.copy())
        if self._pending and self._recovered_at != self.progress:  # else it has been woken, and is busy
            self._recovered_at = self.progress
            self._wake()

    def start_daemon(self, async_fn: Callable[[], Coroutine[Any, Any, Any]], name: str) -> None:
        """Start a background task, from any thread; a loop that is ending starts none."""

        def start() -> None:
            if not self._cancelled:
                self.start_task(async_fn, name)

        self.call_soon(start)

    def run(self, async_fn: Callable[[], Coroutine[Any, Any, Any]]) -> Reply[Any]:
        """Run an async function as a task on the loop, from any thread; the reply is its outcome."""
        reply: Reply[Any] = Reply()

        async def task() -> None:
            try:
                value = await async_fn()
            except BaseException as error:
                reply._set(error=error)
                if isinstance(error, CANCELLATIONS):
                    raise
            else:
                reply._set(value)

        self.call_soon(lambda: self.start_task(task, getattr(async_fn, "__qualname__", "task")))
        return reply

    def _run_pending(self) -> None:
        pending = self._pending
        more = len(pending) > _CALLS_AT_ONCE
        if not more:
            self._wakeup_pending = False  # reset before the calls: a thread that appends later wakes the loop again
        if self._loop is None:  # it has ended, but not the run that it was attached to
            pending.clear()
            return
        for _ in range(min(len(pending), _CALLS_AT_ONCE)):
            fn = pending.popleft()
            self.progress += 1
            try:
                fn()
            except Exception:
                _logger.exception("%s could not call %r", self.name, fn)
        if more or (pending and not self._wakeup_pending):
            self._wakeup_pending = True
            self._wake()

    def _note_end(self) -> None:
        """Note that the loop calls nothing any more."""
        self._loop = None
        self._pending.clear()
        self._ended.set()
