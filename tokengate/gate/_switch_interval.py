"""How long a thread may keep the interpreter while others want it: shorter while a gate is open.

At Python's default of 5 ms a trio loop beside two busy threads wakes up tens of milliseconds late; at 0.5 ms it is
1 ms. The interval is the process's, so the smallest of all open gates holds, and the last to close restores it.
"""

from __future__ import annotations

import sys
import threading

_SHORTEST = 1e-6  # seconds; Python refuses 0

_lock = threading.Lock()
_wanted: dict[object, float] = {}  # {open gate: what it wants}
_before: list[float] = []  # what it was before the first of them; empty when none is open


def want(gate: object, seconds: float) -> None:
    """Ask for an interval of at most `seconds`."""
    with _lock:
        if not _before:
            _before.append(sys.getswitchinterval())
        _wanted[gate] = seconds or _SHORTEST
        sys.setswitchinterval(min(_wanted.values()))


def release(gate: object) -> None:
    """Take back the `want` of a gate, if it has got so far."""
    with _lock:
        _wanted.pop(gate, None)
        if _wanted:
            sys.setswitchinterval(min(_wanted.values()))
        elif _before:
            sys.setswitchinterval(_before.pop())


def forget() -> None:
    """Restore the interval in a forked child, where no gate is open."""
    _wanted.clear()
    if _before:
        sys.setswitchinterval(_before.pop())
