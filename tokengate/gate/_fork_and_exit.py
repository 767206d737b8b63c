"""Open gates when the process forks or exits."""

from __future__ import annotations

import atexit
import os
import threading

from tokengate._exceptions import GateState
from tokengate.gate import _collector, _switch_interval
from tokengate.operations import _current


def _disown() -> None:
    """Leave all gates to the parent, in a forked child, where none is open and new ones may be opened."""
    # Threads that held these locks do not exist in the child.
    _switch_interval._lock, _collector._lock = threading.Lock(), threading.Lock()
    _switch_interval.forget()
    _collector.forget()
    while _current.open_gates:
        _current.open_gates.pop()._disown()


def _close_all() -> None:
    """Stop the open gates in order, without waiting for tokens: no code is left that could read their results."""
    for gate in reversed(list(_current.open_gates)):
        try:
            gate.close(drain=False)
        except GateState:
            pass  # a thread was still opening it


os.register_at_fork(after_in_child=_disown)
atexit.register(_close_all)
