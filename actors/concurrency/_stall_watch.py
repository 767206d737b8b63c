"""Finds CPU threads that block in calls the runtime cannot see (`time.sleep`, a socket) while work waits."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING

import trio

if TYPE_CHECKING:
    from actors.concurrency._dispatcher import CpuThread, Dispatcher, Runnable
    from actors.concurrency._trio_host import TrioHost

# Seconds between two looks; a thread that has used no CPU time from one to the next, in one quantum, is stalled.
_LOOK = 0.02
# CPU seconds that count as none: a blocked thread may wake up now and then to check whether it can go on.
_LITTLE = 0.0005
# Looks without CPU time after which a thread is stalled while the process computes: it may be waiting for the
# interpreter lock. Such a thread wakes up in each switch interval, so it always uses a little CPU time.
_PATIENCE = 5
# CPU seconds of all threads between two looks, below which waiting work is not explained by computing threads.
_COMPUTING = 0.005
# Looks at an idle dispatcher after which the watch ends, until there is work again.
_IDLE_LOOKS = 50


class StallWatch:
    """Looks at a dispatcher's threads from a loop, as long as the dispatcher has work.

    Args:
        dispatcher: the owner of the threads.
        host: the loop, which runs no user code.
        contended: tells whether threads had to wait for the interpreter lock since it was called last.
    """

    def __init__(self, dispatcher: Dispatcher, host: TrioHost, contended: Callable[[], bool] | None = None) -> None:
        self._dispatcher = dispatcher
        self._host = host
        self._contended = contended or Contention()
        # {thread: (its quantum, its CPU seconds, looks at which both were the same)}
        self._readings: dict[CpuThread, tuple[int, float, int]] = {}
        self._latest: Runnable | None = None  # the last of the queue at the latest look

    def begin(self) -> None:
        """Start to look; called when an idle dispatcher gets work."""
        self._host.start_daemon(self._watch, "stall watch")

    async def _watch(self) -> None:
        idle = 0
        while idle < _IDLE_LOOKS:
            await trio.sleep(_LOOK)
            idle = 0 if self.look() else idle + 1
        self._readings.clear()
        self._latest = None
        self._dispatcher.watched = False  # set before the check; `submit` queues work, then reads this
        if self._dispatcher.waiting():
            self._dispatcher.watch()

    def look(self) -> bool:
        """Look once, and have the dispatcher replace the stalled threads; return whether any thread is at work.

        The replacements may block as well, and so on. So when the work that waited at the latest look still waits, and
        not because other threads compute, each runnable gets a thread.
        """
        contended = self._contended()
        readings, stalled = {}, set()
        at_work = starved = False
        computed = 0.0
        for thread in self._dispatcher.threads():
            quantum, seconds = thread.quantum, thread.cpu_seconds()
            its_quantum, its_seconds, looks = self._readings.get(thread, (-1, seconds, 0))
            used = seconds - its_seconds
            still = thread.busy and quantum == its_quantum and used < _LITTLE
            looks = looks + 1 if still else 0
            readings[thread] = (quantum, seconds, looks)
            computed += used
            at_work = at_work or thread.busy
            if still and (looks >= _PATIENCE or not used or not contended):
                stalled.add(thread)
            elif still:
                starved = True
        self._readings = readings
        waiting = self._dispatcher.waiting()
        self._dispatcher.set_stalled(stalled if waiting else set())
        if self._latest in waiting and computed < _COMPUTING and not starved:
            self._dispatcher.help()
        self._latest = waiting[-1] if waiting else None
        return at_work


class Contention:
    """Tells whether the process has used the CPU for more than half of the time since the latest call."""

    def __init__(self) -> None:
        self._at, self._used = time.monotonic(), time.process_time()

    def __call__(self) -> bool:
        at, used = time.monotonic(), time.process_time()
        busy = used - self._used > (at - self._at) / 2
        self._at, self._used = at, used
        return busy
