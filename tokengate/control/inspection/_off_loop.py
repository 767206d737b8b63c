"""Blocking calls that may hang: run in threads beside the loop, and abandoned there after a time limit."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import trio

A = TypeVar("A")


class OffLoop:
    """Threads for one kind of call; a call that hangs keeps its thread.

    Args:
        what: name of the calls.
        threads: maximum number of threads.
    """

    def __init__(self, what: str, threads: int) -> None:
        self._threads = threads
        self._limiter: trio.lowlevel.RunVar[trio.CapacityLimiter | None] = trio.lowlevel.RunVar(what, None)

    async def run(self, seconds: float, function: Callable[[], A]) -> A | None:
        """Return the result of a function; None if it takes longer than so many seconds."""
        limiter = self._limiter.get()
        if limiter is None:
            limiter = trio.CapacityLimiter(self._threads)
            self._limiter.set(limiter)
        with trio.move_on_after(seconds):
            return await trio.to_thread.run_sync(function, abandon_on_cancel=True, limiter=limiter)
        return None
