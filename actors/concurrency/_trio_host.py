"""A trio loop that accepts work from other threads: in a thread of its own, or within the caller's run."""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any

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

_logger = logging.getLogger("tokengate.actors")


class TrioHost:
    """One trio run in one daemon thread (`open`), or a part of a run that is there already (`attach`).

    Args:
        name: the name of the thread, or of the task.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self._thread = DaemonThread(self._main, name)
        self._attached = False
        self._ident: int | None = None
        self._opened: Reply[None] = Reply()
        self._ended = Event()
        self._loop: trio.lowlevel.TrioToken | None = None  # while it runs
        self._nursery: trio.Nursery | None = None
        self._pending: deque[Callable[[], object]] = deque()
        self._wakeup_pending = False
        self._cancelled = False
        # Number of tokens that ran in their callers' tasks since other tasks last got a turn, and their seconds.
        self.tokens_here, self.seconds_here = 0, 0.0
        self.progress = 0  # grows with each finished call, task and cancellation; written on the loop only

    def open(self) -> None:
        """Start the thread, and return when its loop runs; do nothing when attached."""
        if not self._attached:
            self._thread.begin()
            self._opened.result()

    async def attach(self) -> None:
        """Run in the trio run of the calling task, out of reach of its cancel scopes, until `cancel`.

        Ctrl-C there is raised in the run's main task, never in what runs here.
        """
        self._attached = True
        trio.lowlevel.spawn_system_task(self._run, name=self.name)
        await self._opened

    def cancel(self) -> None:
        """Cancel all that runs on the loop, and so end it; `join` waits for that."""
        self._cancelled = True
        if self._nursery is not None:
            self.call_soon(self._nursery.cancel_scope.cancel)
            self.recover()  # an interrupted caller may have queued the call without waking the loop

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
        self._ident = self._loop = None
        self._pending.clear()
        self._ended.set()

    @property
    def runs(self) -> bool:
        """Whether the loop calls what it is given."""
        return self._loop is not None

    def on_loop(self) -> bool:
        """Tell whether this code runs on the loop."""
        return threading.get_ident() == self._ident and trio.lowlevel.in_trio_run()

    def in_task(self) -> bool:
        """Tell whether this code runs in a task of the loop; code of a loop whose guest it is does not."""
        return threading.get_ident() == self._ident and trio.lowlevel.in_trio_task()

    def call_soon(self, fn: Callable[[], object]) -> None:
        """Call `fn` on the loop: at once when already there, else soon, with one wake-up for a burst of calls.

        After the loop has ended it does nothing: all that ran there was ended before.
        """
        if self.on_loop():
            fn()
            return
        self._pending.append(fn)
        if not self._wakeup_pending:
            self._wakeup_pending = True
            loop = self._loop
            if loop is not None:
                try:
                    loop.run_sync_soon(self._run_pending, idempotent=True)
                except trio.RunFinishedError:
                    self._pending.clear()

    def recover(self) -> None:
        """Wake the loop if calls are pending: the thread that queued them may have been interrupted before it did."""
        loop = self._loop
        if self._pending and loop is not None:
            try:
                loop.run_sync_soon(self._run_pending, idempotent=True)
            except trio.RunFinishedError:
                pass  # nothing is called there any more

    def start_task(self, async_fn: Callable[[], Awaitable[Any]], name: str) -> None:
        """Start a task on the loop, unless that is about to end; only on its thread."""
        assert self._nursery is not None
        if not self._cancelled:
            self._nursery.start_soon(self._without_interrupts, async_fn, name=name)

    def start_daemon(self, async_fn: Callable[[], Awaitable[Any]], name: str) -> None:
        """Start a background task, from any thread; a loop that is ending starts none."""

        def start() -> None:
            if not self._cancelled:
                self.start_task(async_fn, name)

        self.call_soon(start)

    def run(self, async_fn: Callable[[], Awaitable[Any]]) -> Reply[Any]:
        """Run an async function as a task on the loop, from any thread; the reply is its outcome."""
        reply: Reply[Any] = Reply()

        async def task() -> None:
            try:
                value = await async_fn()
            except BaseException as error:
                reply._set(error=error)
                if isinstance(error, trio.Cancelled):
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
            self._loop.run_sync_soon(self._run_pending, idempotent=True)

    def _main(self) -> None:
        try:
            trio.run(self._run)
        except BaseException as error:
            _logger.exception("loop %s broke", self.name)
            self._opened._set(error=error)

    async def _run(self) -> None:
        self._ident = threading.get_ident()
        self._loop = trio.lowlevel.current_trio_token()
        try:
            async with trio.open_nursery() as nursery:
                self._nursery = nursery
                self._run_pending()
                self._opened._set()
                if self._cancelled:
                    return
                await trio.sleep_forever()
        finally:
            self._ident = self._loop = None
            self._pending.clear()
            self._ended.set()

    @trio.lowlevel.enable_ki_protection
    async def _without_interrupts(self, async_fn: Callable[[], Awaitable[Any]]) -> None:
        """Keep Ctrl-C out of a task: in an attached loop it is meant for the program's main task."""
        try:
            await async_fn()
        finally:
            self.progress += 1
