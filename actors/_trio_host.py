"""A trio loop in a thread of its own, that other threads can give work to."""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any

import trio

from actors._reply import Reply

_logger = logging.getLogger("tokengate.actors")


class TrioHost:
    """One trio run in one daemon thread.

    Args:
        name: the thread's name.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self._thread = threading.Thread(target=self._main, name=name, daemon=True)
        self._ident: int | None = None
        self._opened: Reply[None] = Reply()
        self._loop: trio.lowlevel.TrioToken | None = None
        self._nursery: trio.Nursery | None = None
        self._pending: deque[Callable[[], object]] = deque()
        self._wakeup_pending = False
        self._cancelled = False

    def open(self) -> None:
        """Start the thread, and return when its loop runs."""
        self._thread.start()
        self._opened.result()

    def cancel(self) -> None:
        """Cancel all that runs on the loop, and so end it; `join` waits for that."""
        self._cancelled = True
        if self._nursery is not None:
            self.call_soon(self._nursery.cancel_scope.cancel)

    def join(self, deadline: float) -> list[str]:
        """Wait for the loop's end.

        Args:
            deadline: when to stop waiting, in seconds of `time.monotonic`.

        Returns:
            the thread's name, if code that blocks the loop kept it from ending by then.
        """
        if self._thread.ident is None:  # it was never opened
            return []
        self._thread.join(max(0.0, deadline - time.monotonic()))
        return [self.name] if self._thread.is_alive() else []

    def on_loop(self) -> bool:
        """Tell whether this is the loop's thread."""
        return threading.get_ident() == self._ident

    def call_soon(self, fn: Callable[[], object]) -> None:
        """Call `fn` on the loop: at once when already there, else soon, with one wake-up for a burst of calls.

        After the loop has ended it does nothing: whoever runs there has been ended before that.
        """
        if threading.get_ident() == self._ident:
            fn()
            return
        self._pending.append(fn)
        if not self._wakeup_pending:
            self._wakeup_pending = True
            loop = self._loop
            if loop is not None:
                try:
                    loop.run_sync_soon(self._run_pending)
                except trio.RunFinishedError:
                    self._pending.clear()

    def start_task(self, async_fn: Callable[[], Awaitable[Any]], name: str) -> None:
        """Start a task on the loop; only on its thread."""
        assert self._nursery is not None
        self._nursery.start_soon(async_fn, name=name)

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
        self._wakeup_pending = False  # before the look: whoever appends later wakes us again
        pending = self._pending
        for _ in range(len(pending)):
            fn = pending.popleft()
            try:
                fn()
            except Exception:
                _logger.exception("%s could not call %r", self.name, fn)
        if pending and not self._wakeup_pending and self._loop is not None:
            self._wakeup_pending = True
            self._loop.run_sync_soon(self._run_pending)

    def _main(self) -> None:
        try:
            trio.run(self._run)
        except BaseException as error:
            _logger.exception("loop %s broke", self.name)
            self._opened._set(error=error)

    async def _run(self) -> None:
        self._ident = threading.get_ident()
        self._loop = trio.lowlevel.current_trio_token()
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            self._run_pending()
            self._opened._set()
            if self._cancelled:
                return
            await trio.sleep_forever()
