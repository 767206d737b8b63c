"""Work that may take long, or hang: done in threads beside the loop, and left behind there when its time is over."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import trio

A = TypeVar("A")


class OffLoop:
    """Threads of one kind of work; one that hangs keeps its place.

    Args:
        what: what they do.
        threads: how many there may be.
    """

    def __init__(self, what: str, threads: int) -> None:
        self._threads = threads
        self._limiter: trio.lowlevel.RunVar[trio.CapacityLimiter | None] = trio.lowlevel.RunVar(what, None)

    async def run(self, seconds: float, function: Callable[[], A]) -> A | None:
        """Return what a function returns; None if that takes longer."""
        limiter = self._limiter.get()
        if limiter is None:
            limiter = trio.CapacityLimiter(self._threads)
            self._limiter.set(limiter)
        with trio.move_on_after(seconds):
            return await trio.to_thread.run_sync(function, abandon_on_cancel=True, limiter=limiter)
        return None
