"""A wait for a lock that many threads take for a moment each, which begins no convoy of them.

A thread that blocks in a lock gets it as soon as it is free, and then waits for the GIL with it. So each other thread
that wants it blocks, too, and all change places each time one of them takes it. A thread that sleeps a little does not.
"""

from __future__ import annotations

import threading
import time
from typing import Final

# Seconds of a sleep, and their number at most. A thread that has the GIL holds such a lock for less than one of them.
_MOMENT: Final = 2e-5
_SLEEPS: Final = 50


def await_free(lock: threading.Lock) -> bool:
    """Sleep until a lock is free; the caller takes it then, in the usual way.

    Returns:
        False if that takes long: the thread that has it may be the calling one, which a finalizer has interrupted.
    """
    for _ in range(_SLEEPS):
        if not lock.locked():
            return True
        time.sleep(_MOMENT)
    return False
