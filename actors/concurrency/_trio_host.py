"""A trio loop that accepts work from other threads: in a thread of its own, or within the caller's run."""

from __future__ import annotations

import logging
import threading
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

import trio
from trio.lowlevel import in_trio_task

from actors.concurrency._loop_host import LoopHost

_logger = logging.getLogger("tokengate.actors")


class TrioHost(LoopHost):
    """One trio run in one daemon thread (`open`), or a part of a run that is there already (`attach`)."""

    _loop: trio.lowlevel.TrioToken | None

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self._nursery: trio.Nursery | None = None

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
        self._cancelled = True
        if self._nursery is not None:
            self.call_soon(self._nursery.cancel_scope.cancel)
            self.recover()  # an interrupted caller may have queued the call without waking the loop

    def disown(self) -> None:
        super().disown()
        self.ident = None

    def on_loop(self) -> bool:
        return threading.get_ident() == self.ident and trio.lowlevel.in_trio_run()

    def in_task(self) -> bool:
        return threading.get_ident() == self.ident and in_trio_task()

    def start_task(self, async_fn: Callable[[], Coroutine[Any, Any, Any]], name: str) -> None:
        assert self._nursery is not None
        if not self._cancelled:
            self._nursery.start_soon(self._without_interrupts, async_fn, name=name)

    def start_worker(self, work: Callable[[], Coroutine[Any, Any, None]], name: str) -> None:
        assert self._nursery is not None
        if not self._cancelled:
            self._nursery.start_soon(work, name=name)

    def _wake(self) -> None:
        loop = self._loop
        if loop is not None:
            try:
                loop.run_sync_soon(self._run_pending, idempotent=True)
            except trio.RunFinishedError:
                self._pending.clear()  # nothing is called there any more

    def _main(self) -> None:
        try:
            trio.run(self._run)
        except BaseException as error:
            _logger.exception("loop %s broke", self.name)
            self._opened._set(error=error)

    async def _run(self) -> None:
        self.ident = threading.get_ident()
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
            self.ident = None
            self._note_end()

    @trio.lowlevel.enable_ki_protection
    async def _without_interrupts(self, async_fn: Callable[[], Awaitable[Any]]) -> None:
        """Keep Ctrl-C out of a task: in an attached loop it is meant for the program's main task."""
        try:
            await async_fn()
        finally:
            self.progress += 1
