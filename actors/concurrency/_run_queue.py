"""A queue for threads that are to go on at once: who finds it empty looks around for a moment before going to sleep.

To wake a sleeping thread takes longer than most steps, and the longer it has slept, the longer. So the latest to sleep
is woken first, and one that has just run out of work does not sleep yet, but looks again and again, for 50 us.
"""

from __future__ import annotations

import os
import threading
import time
from collections import deque
from collections.abc import Callable
from operator import methodcaller
from typing import Any, Generic, TypeVar

T = TypeVar("T")

# Seconds.
_LOOKING = 0.00005

# Lets other threads run, and comes back soon.
_pass: Callable[[], Any] = getattr(os, "sched_yield", lambda: time.sleep(0))


def look_around(ready: Callable[[], Any]) -> bool:
    """Ask `ready` again and again for a moment; return whether it has said yes."""
    clock = time.perf_counter
    end = clock() + _LOOKING
    while True:
        _pass()
        if ready():
            return True
        if clock() >= end:
            return False


class RunQueue(Generic[T]):
    """First in, first out, for any number of threads, without a lock.

    Whoever puts an item looks then for a thread that has to be woken; whoever goes to sleep says so, and looks then
    for an item: one of the two sees the other. One thread at a time looks around, and needs no waking. When it has
    found an item, it wakes another thread if there are more.
    """

    __slots__ = ("_items", "_looking", "_sleepers", "_wake_one")

    def __init__(self) -> None:
        self._items: deque[T] = deque()
        self._sleepers: list[threading.Lock] = []  # released to wake; the latest last
        self._looking = False
        # Takes the latest sleeper and releases it, in one call that runs no Python code: no signal handler can raise in
        # between, which would leave a thread asleep for ever that no list has.
        self._wake_one = map(methodcaller("release"), iter(self._sleepers.pop, None)).__next__

    def __len__(self) -> int:
        return len(self._items)

    def items(self) -> list[T]:
        """Return what is there, in order, and leave it where it is."""
        return list(self._items)

    def put(self, item: T) -> None:
        """Add an item."""
        self._items.append(item)
        if not self._looking:
            self.wake()

    def recover(self) -> None:
        """Wake a thread if there is an item, since what put it may have been interrupted before it did."""
        if self._items:
            self.wake()

    def wake(self) -> None:
        """Wake a sleeping thread, if there is one."""
        try:
            self._wake_one()
        except IndexError:
            pass  # all are awake

    def take(self, timeout: float | None = None) -> T | None:
        """Take the next item; wait until there may be one, for `timeout` seconds at most.

        Returns:
            None when there was none after all.
        """
        items = self._items
        if not items:
            self._wait(timeout)
        try:
            item = items.popleft()
        except IndexError:
            return None
        if items and not self._looking:
            self.wake()  # for those that came while a thread looked around
        return item

    def clear(self) -> None:
        """Forget all items."""
        self._items.clear()

    def _wait(self, timeout: float | None) -> None:
        items = self._items
        if not self._looking:
            self._looking = True
            look_around(items.__len__)
            self._looking = False
            if items:
                return
        asleep = threading.Lock()
        asleep.acquire()
        self._sleepers.append(asleep)
        if items or not asleep.acquire(timeout=-1 if timeout is None else timeout):
            try:
                self._sleepers.remove(asleep)
            except ValueError:
                pass  # somebody has just woken this thread, which is awake
