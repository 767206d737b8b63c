"""A mark that is made once, from anywhere, a signal handler included, and that threads and tasks wait for."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from queue import Empty, SimpleQueue

from actors import Reply

# Seconds after which a thread that waits looks for itself. Python runs a signal handler between two instructions of the
# main thread: a mark that is made there just before the wait would else be seen only at its end.
_LOOK_UP = 0.5


class Mark:
    """Something that has happened, or has not yet.

    Args:
        call: calls what it is given, which tells the tasks that wait, where no lock is held that it needs.
    """

    def __init__(self, call: Callable[[Callable[[], object]], object]) -> None:
        self.made = False
        self._call = call
        self._marks: SimpleQueue[None] = SimpleQueue()
        self._reply: Reply[None] = Reply()  # for those that await it

    def make(self) -> None:
        """Make it; nothing here waits for a lock, whatever the interrupted thread does and holds."""
        self.made = True
        self._marks.put(None)
        self._call(self._reply._set)

    def wait_in_thread(self, timeout: float | None = None) -> bool:
        """Block until it is made, or `timeout` seconds; tell whether it is."""
        end = math.inf if timeout is None else time.monotonic() + timeout
        while not self.made:
            left = end - time.monotonic()
            try:
                self._marks.get(timeout=max(0.0, min(left, _LOOK_UP)))
            except Empty:
                if left <= _LOOK_UP:
                    return self.made
            else:
                self._marks.put(None)  # for others that wait
        return True

    async def wait(self) -> None:
        """Await it (trio and asyncio)."""
        await self._reply
