"""The wish that a gate be closed: said from anywhere, a signal handler included, and waited for."""

from __future__ import annotations

import math
import time
from queue import Empty, SimpleQueue

from actors import ActorSystem, Reply

# Seconds after which a thread that waits for the wish looks up. Python runs a signal handler between two instructions
# of the main thread: one that came just before the wait would else be seen only at its end.
_LOOK_UP = 0.5


class StopRequest:
    """Whether somebody has asked for a gate's end.

    Args:
        system: of the gate.
    """

    def __init__(self, system: ActorSystem) -> None:
        self.made = False
        self._host = system.system_host
        self._marks: SimpleQueue[None] = SimpleQueue()
        self._reply: Reply[None] = Reply()  # for those who await it; set on the system loop only

    def make(self) -> None:
        """Ask; nothing here waits for a lock, whatever the interrupted thread does and holds."""
        self.made = True
        self._marks.put(None)
        self._host.call_soon(self._reply._set)

    def wait_in_thread(self, timeout: float | None) -> bool:
        """Block until somebody has asked, or `timeout` seconds; tell whether somebody did."""
        end = math.inf if timeout is None else time.monotonic() + timeout
        while True:
            left = end - time.monotonic()
            try:
                self._marks.get(timeout=max(0.0, min(left, _LOOK_UP)))
            except Empty:
                if left <= _LOOK_UP:
                    return False
            else:
                self._marks.put(None)  # for others who wait
                return True

    async def wait(self) -> None:
        """Await it (trio and asyncio)."""
        await self._reply
