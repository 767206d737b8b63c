"""How long a thread may keep the interpreter while others want it: shorter while a gate is open.

At Python's default of 5 ms a trio loop beside two busy threads wakes up tens of milliseconds late; at 0.5 ms it is
1 ms. The interval is the process's, so the smallest of all open gates holds, and the last to close restores it.
"""

from __future__ import annotations

import sys
import threading

_lock = threading.Lock()
_wanted: list[float] = []  # by the open gates
_before: list[float] = []  # what it was before the first of them; empty when none is open


def want(seconds: float) -> None:
    """Ask for an interval of at most `seconds`."""
    with _lock:
        if not _before:
            _before.append(sys.getswitchinterval())
        _wanted.append(seconds)
        sys.setswitchinterval(min(_wanted))


def release(seconds: float) -> None:
    """Take back one `want(seconds)`."""
    with _lock:
        _wanted.remove(seconds)
        sys.setswitchinterval(min(_wanted) if _wanted else _before.pop())


def forget() -> None:
    """Restore the interval in a forked child, where no gate is open."""
    _wanted.clear()
    if _before:
        sys.setswitchinterval(_before.pop())
