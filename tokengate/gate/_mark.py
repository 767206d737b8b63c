"""An event that is set once, in signal handlers too, and that threads and tasks wait for."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from queue import Empty, SimpleQueue

from actors import Reply

# Seconds after which a waiting thread looks at the mark. Python runs a signal handler between two instructions of the
# main thread: without this, a mark made there just before the wait would be seen only when the wait ends.
_LOOK_UP = 0.5


class Mark:
    """An event, like `threading.Event`, whose `make` takes no lock.

    Args:
        call: calls a function soon, where the locks that it takes are free; the function wakes the tasks that wait.
    """

    def __init__(self, call: Callable[[Callable[[], object]], object]) -> None:
        self.made = False
        self._call = call
        self._marks: SimpleQueue[None] = SimpleQueue()
        self._reply: Reply[None] = Reply()  # for tasks that await it

    def make(self) -> None:
        """Set the event. It waits for no lock, so a signal handler may call it in any thread."""
        self.made = True
        self._marks.put(None)
        self._call(self._reply._set)

    def wait_in_thread(self, timeout: float | None = None) -> bool:
        """Block until the event is set, or for `timeout` seconds; return whether it is set."""
        end = math.inf if timeout is None else time.monotonic() + timeout
        while not self.made:
            left = end - time.monotonic()
            try:
                self._marks.get(timeout=max(0.0, min(left, _LOOK_UP)))
            except Empty:
                if left <= _LOOK_UP:
                    return self.made
            else:
                self._marks.put(None)  # for other threads that wait
        return True

    async def wait(self) -> None:
        """Await it (trio and asyncio)."""
        await self._reply
