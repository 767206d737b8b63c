"""Open gates when the process forks or exits."""

from __future__ import annotations

import atexit
import os
import sys
import threading
from typing import Final

from tokengate._exceptions import GateState
from tokengate.gate import _collector, _switch_interval
from tokengate.operations import _current

_FIRST: Final = 100  # before queues and managers of `multiprocessing` end


def _disown() -> None:
    """Leave all gates to the parent, in a forked child, where none is open and those that open lazily are new."""
    # Threads that held these locks do not exist in the child.
    _switch_interval._lock, _collector._lock = threading.Lock(), threading.Lock()
    _switch_interval.forget()
    _collector.forget()
    gates = list(_current.open_gates)
    _current.open_gates.clear()
    for gate in gates:
        gate._disown()


def _close_all() -> None:
    """Stop the open gates in order, without waiting for tokens: no code is left that could read their results."""
    for gate in reversed(list(_current.open_gates)):
        try:
            gate.close(drain=False)
        except GateState:
            pass  # a thread was still opening it


def close_at_exit() -> None:
    """Have the open gates closed at the exit of a child of `multiprocessing`, which does not call what `atexit` has."""
    if "multiprocessing.util" in sys.modules:  # as in each such child
        from multiprocessing import parent_process, util

        if parent_process() is not None:
            util.Finalize(None, _close_all, exitpriority=_FIRST)


os.register_at_fork(after_in_child=_disown)
atexit.register(_close_all)
