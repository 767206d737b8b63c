"""Task actors: an async function as one trio task, started, watched and ended like any other actor."""

from __future__ import annotations

import inspect
import math
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import Any, ClassVar

import trio

from actors._exit_reason import NORMAL
from actors.concurrency._future import Reply
from actors.drains._io_worker import is_cancellation
from actors.kinds._io_actor import IoActor
from actors.mailboxes._signals import Crash
from actors.places._notice import attach
from actors.steps._step import without_runtime_frames
from actors.tokens._log_context import drained_place


class TakesNoMessages(TypeError):
    """A message was sent to a function that runs as a task; such an actor takes no messages."""


class TaskActor(IoActor):
    """Runs an async function as a task of the io loop; the actor ends when the function does.

    It has started when its task has; or, if the function has a parameter `task_status`, once it has called
    `task_status.started()`, as with `trio.Nursery.start`. Stopping it cancels the task.

    Args:
        function: the function to run.
        args: its positional arguments.
        kwargs: its keyword arguments.
    """

    expected: ClassVar[tuple[type[BaseException], ...]] = (TakesNoMessages,)

    def __init__(
        self,
        function: Callable[..., Awaitable[Any]],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        self._call = partial(function, *args, **(kwargs or {}))
        self._reports_start = "task_status" in inspect.signature(function).parameters
        self._scope = trio.CancelScope()
        self._started: Reply[Any] = Reply()
        self._ended: Reply[None] = Reply()

    async def on_start(self) -> None:  # type: ignore[override]
        attach(self._place, self, self)
        self._place.system.io_host.start_task(self._run, self._place.path)
        try:
            await self._started
        except BaseException:
            self.cancel()
            raise

    async def on_stop(self) -> None:  # type: ignore[override]
        self.cancel()
        await self._ended.wait()

    async def on_failure(self, *_error: object) -> None:  # type: ignore[override]
        await self.on_stop()

    def on_receive(self, message: Any) -> None:  # noqa: ARG002  # its name is pykka's
        raise TakesNoMessages(f"'{self._place.path}' is a function that runs as a task; it takes no messages")

    def cancel(self) -> None:
        """Cancel the task, from any thread."""
        self._place.system.io_host.call_soon(self._scope.cancel)

    async def _run(self) -> None:
        drained_place.set(self._place)
        error: BaseException | None = None
        try:
            with self._scope:
                if self._reports_start:
                    await self._call(task_status=self)
                else:
                    self._started._set()
                    await self._call()
        except BaseException as raised:
            if is_cancellation(raised) and trio.current_effective_deadline() == -math.inf:
                raise  # the loop is ending
            error = without_runtime_frames(raised)
        finally:
            self._ended._set()
        if not self._started.done():
            self._started._set(error=error or RuntimeError("the function ended before it called task_status.started()"))
        elif error is not None:
            self._place.signal(Crash(error, self))
        elif not self._scope.cancel_called:
            self._place.stop(NORMAL, drain=False, administrative=False)

    def started(self, _value: object = None) -> None:
        """Note that the function has started; it calls this as `task_status.started()`."""
        self._started._set()
