"""The drain that runs a place's tokens in tasks of an asyncio loop."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable
from functools import partial
from typing import Any, cast

from actors.concurrency._asyncio_host import AsyncioHost
from actors.concurrency._cancel_scope import CancelScope
from actors.concurrency._loop_host import LoopHost
from actors.drains._io_drain import IoDrain
from actors.drains._io_worker import IoWorker
from actors.tokens._log_context import drained_places
from actors.tokens._token import Token


class AsyncioDrain(IoDrain):
    """Keeps workers as an `IoDrain` does, in asyncio."""

    __slots__ = ()

    def _new_worker(self) -> AsyncioWorker:
        worker = AsyncioWorker(self, self.host, self.parked)
        self.workers.add(worker)
        return worker

    async def call_here(self, token: Token[Any]) -> bool:
        try:
            if not self._may_run_here(token) or not self.run_here(token):
                return False
            if token.finished_at is not None and self._must_give_way(token):
                await asyncio.sleep(0)
            return True
        finally:
            del token  # as in `IoWorker._begin`

    def wake(self, worker: IoWorker) -> None:
        worker.host.open()
        super().wake(worker)


class AsyncioWorker(IoWorker):
    """A task of asyncio that handles tokens one after the other, and parks when there are none."""

    __slots__ = ("_wakeup",)

    def __init__(self, drain: IoDrain, host: LoopHost, lot: dict[IoWorker, None]) -> None:
        super().__init__(drain, host, lot)
        self._wakeup: asyncio.Future[None] | None = None  # while it is parked

    def come(self) -> None:
        if self._started:
            super().come()
            return
        self.called, self._started = False, True
        task = cast("AsyncioHost", self.host).start_task(self.work, self._place.path)
        if task is not None:
            drained_places[task] = self._place
            task.add_done_callback(self._note_end)

    def arrive(self) -> None:
        self.come()  # in a callback of asyncio there is no current task

    def cancel_current(self) -> None:
        if self._wakeup is None or not self._wakeup.done():
            super().cancel_current()
            return
        item = self.current  # its task has been called, and must take the item up first: asyncio would cancel the wait
        asyncio.get_running_loop().call_soon(lambda: self.cancel_current() if self.current is item else None)

    def _note_end(self, _task: object) -> None:
        """Leave the mailbox if the task was cancelled before its first step."""
        self._end()

    # What differs between loops

    _of_other_loop = (
        "must be called from async context",
        "This is trio code and it ran in asyncio: use @token(affinity='io') or an IoActor.",
    )

    _why_cancelled = "its task was cancelled, as asyncio.run does with all tasks when its main coroutine has returned"

    _pass_turn = _checkpoint = staticmethod(partial(asyncio.sleep, 0))

    def _new_scope(self) -> CancelScope:
        return CancelScope()

    @property
    def _was_cancelled(self) -> bool:
        return cast("bool", self._scope.cancel_called)

    async def _settle(self) -> None:
        self.host.progress += 1
        await self._scope.settle()
        task = asyncio.current_task()
        while task is not None and task.cancelling():
            task.uncancel()  # its code has cancelled itself, and gone on

    async def _park(self) -> None:
        self._wakeup = asyncio.get_running_loop().create_future()
        try:
            await self._wakeup
        finally:
            self._wakeup = None

    @property
    def is_parked(self) -> bool:
        return self._wakeup is not None and not self._wakeup.done()

    def _unpark(self) -> None:
        if self._wakeup is not None and not self._wakeup.done():
            self._wakeup.set_result(None)

    def _end(self) -> None:
        self.lot.pop(self, None)
        super()._end()

    def _is_cancelled(self) -> bool:
        return self._was_cancelled

    # Tokens

    def _fail(self, token: Token[Any], error: BaseException) -> Awaitable[None] | None:
        host = cast("AsyncioHost", self.host)
        if isinstance(error, KeyboardInterrupt) and host.attached and host.ident == threading.main_thread().ident:
            asyncio.get_running_loop().call_soon(_raise, error)  # it is for the program
        return super()._fail(token, error)


def _raise(error: BaseException) -> None:
    raise error
