"""The queue from which CPU threads take work. A thread that finds it empty after a burst spins before it sleeps.

Waking a sleeping thread takes longer than most steps, and takes longer the longer it has slept. So the thread that fell
asleep last is woken first, and a thread that runs out of work after a burst spins for 50 us before it sleeps. After a
single item it lets other threads run once: its sender is likely to wait for the answer, and two threads that spin at
once, one for work and one for an answer, keep taking the interpreter lock from each other.
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

# Seconds for which a thread spins.
_LOOKING = 0.00005

# Lets other threads run, and comes back soon.
_pass: Callable[[], Any] = getattr(os, "sched_yield", lambda: time.sleep(0))


def look_around(ready: Callable[[], Any]) -> bool:
    """Spin until `ready` returns true, for a moment at most; return whether it did."""
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

    `put` appends an item, then checks for a sleeper to wake; `take` registers as a sleeper, then checks for an item. So
    one of the two sees the other. One thread at a time spins, and needs no waking. When it has found an item, it wakes
    another thread if there are more.
    """

    __slots__ = ("_burst", "_items", "_looking", "_sleepers", "_wake_one")

    def __init__(self) -> None:
        self._items: deque[T] = deque()
        self._sleepers: list[threading.Lock] = []  # released to wake; the latest last
        self._looking = False
        self._burst = False  # whether there was more than one item at once since a thread looked around
        # Takes the latest sleeper and releases it, in one call that runs no Python code: a signal handler that raised
        # in between would leave a thread asleep for ever, in no list.
        self._wake_one = map(methodcaller("release"), iter(self._sleepers.pop, None)).__next__

    def __len__(self) -> int:
        return len(self._items)

    def items(self) -> list[T]:
        """Return what is there, in order, and leave it where it is."""
        return list(self._items)

    def put(self, item: T) -> None:
        """Add an item."""
        self._items.append(item)
        if self._sleepers and not self._looking:
            self.wake()

    def recover(self) -> None:
        """Wake a thread if there is an item, since the thread that put it may have been interrupted before it did."""
        if self._items:
            self.wake()

    def wake(self) -> None:
        """Wake a sleeping thread, if there is one."""
        if self._sleepers:
            try:
                self._wake_one()
            except IndexError:
                pass  # another thread was faster

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
        if items:
            self._burst = True
            if self._sleepers and not self._looking:
                self.wake()  # for items that came while a thread was spinning
        return item

    def clear(self) -> None:
        """Forget all items."""
        self._items.clear()

    def _wait(self, timeout: float | None) -> None:
        items = self._items
        if not self._looking:
            self._looking = True
            if self._burst:
                self._burst = False
                look_around(items.__len__)
            else:
                _pass()
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
                pass  # another thread has just woken this one
