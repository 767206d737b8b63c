"""How long a thread may keep the interpreter while others want it: shorter while a gate is open.

At Python's default of 5 ms a trio loop beside two busy threads wakes up tens of milliseconds late; at 0.5 ms it is
1 ms. The interval belongs to the process: the smallest that an open gate asks for holds, and the last gate restores it.
"""

from __future__ import annotations

import sys
import threading

_SHORTEST = 1e-6  # seconds; Python refuses 0

_lock = threading.Lock()
_wanted: dict[object, float] = {}  # {open gate: seconds that it asked for}
_before: list[float] = []  # the interval before the first gate; empty when none is open


def want(gate: object, seconds: float) -> None:
    """Ask for an interval of at most `seconds`."""
    with _lock:
        if not _before:
            _before.append(sys.getswitchinterval())
        _wanted[gate] = seconds or _SHORTEST
        sys.setswitchinterval(min(_wanted.values()))


def release(gate: object) -> None:
    """Undo the `want` of a gate, if it was called."""
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
