"""Find the CPU threads that block outside of the runtime's sight, in a `time.sleep` or a socket, while others wait."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING

import trio

if TYPE_CHECKING:
    from actors._dispatcher import CpuThread, Dispatcher
    from actors._trio_host import TrioHost

# Seconds between two looks; a thread that has used no CPU time from one to the next, in one quantum, is stalled.
_LOOK = 0.02
# Looks that it takes while the process computes: the thread may just be waiting for the interpreter lock.
_PATIENCE = 5
# CPU seconds that count as none.
_NONE = 0.0005
# Looks at an idle dispatcher after which nobody looks any more, until it has work again.
_IDLE_LOOKS = 50


class StallWatch:
    """Looks at a dispatcher's threads from a loop, as long as the dispatcher has work.

    Args:
        dispatcher: whose threads.
        host: the loop, which runs no user code.
        contended: tells whether threads had to wait for the interpreter lock since it was called last.
    """

    def __init__(self, dispatcher: Dispatcher, host: TrioHost, contended: Callable[[], bool] | None = None) -> None:
        self._dispatcher = dispatcher
        self._host = host
        self._contended = contended or Contention()
        # {thread at work: (its quantum, its CPU seconds, looks at which both were the same)}
        self._readings: dict[CpuThread, tuple[int, float, int]] = {}

    def begin(self) -> None:
        """Start to look; called by whoever gives an idle dispatcher work."""
        self._host.start_daemon(self._watch, "stall watch")

    async def _watch(self) -> None:
        idle = 0
        while idle < _IDLE_LOOKS:
            await trio.sleep(_LOOK)
            idle = 0 if self.look() else idle + 1
        self._readings.clear()
        self._dispatcher.watched = False  # first this, then the look: whoever submits does it the other way round
        if self._dispatcher.waiting():
            self._dispatcher.watch()

    def look(self) -> bool:
        """Look once, and tell the dispatcher which threads are stalled; return whether any is at work."""
        patience = _PATIENCE if self._contended() else 1
        readings = {}
        for thread in self._dispatcher.at_work():
            quantum, seconds = thread.quantum, thread.cpu_seconds()
            before = self._readings.get(thread)
            same = before is not None and before[0] == quantum and seconds - before[1] < _NONE
            readings[thread] = (quantum, seconds, before[2] + 1 if before is not None and same else 0)
        self._readings = readings
        wanted = self._dispatcher.waiting()
        self._dispatcher.set_stalled({one for one, (*_, looks) in readings.items() if wanted and looks >= patience})
        return bool(readings)


class Contention:
    """Tells whether the process has computed for half of the time or more since it was asked last."""

    def __init__(self) -> None:
        self._at, self._used = time.monotonic(), time.process_time()

    def __call__(self) -> bool:
        at, used = time.monotonic(), time.process_time()
        busy = used - self._used > (at - self._at) / 2
        self._at, self._used = at, used
        return busy
