"""A cancel scope for asyncio: what `asyncio.timeout` does, without the time."""

from __future__ import annotations

import asyncio
from types import TracebackType


class CancelScope:
    """Cancels what a task does within a block, and nothing that it does after the block.

    Args:
        task: the one that is in the block already; None for the one that enters the `with` block.
        before: its cancellations before the block.

    Cancelling is an edge, as everywhere in asyncio: each call of `cancel` raises one `CancelledError`, at the start of
    the block if it came before. After a block that was cancelled, await `settle`.

    Attributes:
        cancels: how often `cancel` was called.
    """

    __slots__ = ("_before", "_task", "cancels")

    def __init__(self, task: asyncio.Task[object] | None = None, before: int = 0) -> None:
        self._task = task  # of the block
        self._before = before  # cancellations of the task before the block
        self.cancels = 0

    def cancel(self) -> None:
        """Cancel the block; only on its loop."""
        self.cancels += 1
        if self._task is not None:
            self._task.cancel()

    @property
    def cancel_called(self) -> bool:
        """Whether the task was cancelled within the block, here or by others."""
        return self.cancels > 0 or (self._task is not None and self._task.cancelling() > self._before)

    @property
    def cancelled_alone(self) -> bool:
        """Whether the task was cancelled within the block by `cancel` only."""
        task = self._task
        return task is not None and self.cancels > 0 and task.cancelling() - self.cancels <= self._before

    def __enter__(self) -> None:
        self._task = task = asyncio.current_task()
        if task is not None:
            self._before = task.cancelling()
            for _ in range(self.cancels):
                task.cancel()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> bool:
        """Take the cancellations back, and swallow the exception that they have caused."""
        if not self.cancels or self._task is None:
            return False
        alone = self.cancelled_alone
        self.take_back()
        return alone and isinstance(error, asyncio.CancelledError)

    def take_back(self) -> None:
        """End the block: take its cancellations back."""
        if self._task is not None:
            for _ in range(self.cancels):
                self._task.uncancel()

    async def settle(self) -> None:
        """Absorb a cancellation that came in the last step of the block, and so has not been raised.

        Raises:
            CancelledError: the task was cancelled by others, too.
        """
        try:
            await asyncio.sleep(0)
        except asyncio.CancelledError:
            if self._task is not None and self._task.cancelling() > self._before:
                raise
