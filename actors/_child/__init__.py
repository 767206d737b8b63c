# The code that runs in child processes. It is loaded there by its path, as a package called `tokengate_worker`, and
# imports nothing but the standard library and cloudpickle. The gate imports what both sides must agree on.
#
#   what both sides use    _wire.py (frames), _page.py (shared memory), _parcel.py (pickles, large ones in files)
#   how a child is made    _main.py (the program), _server.py (forks children, and sees to it that none is left),
#                          _birth.py (what a child does first)
#   what a child does      _loop.py (handles one call after the other), _steps.py (where a call can be stopped and
#                          ended), _stage.py (an actor's instance), _link.py (reads and writes frames), _pickling.py
#                          (what leaves the process), _failures.py (errors that do), _records.py (log records that do),
#                          _spot.py (where it is)
#   what user code sees    _twins.py (`checkpoint` and other names of the runtime), _process_actor.py, _remote.py (refs,
#                          tokens, operations), _exceptions.py, _here.py (how it finds the gate)
"""Child processes: how they are made, what they do, and what user code sees there instead of the runtime."""

from ._counterparts import Down, ExitReason, Limits, ReceiveTimeout, checkpoint, context_variable, current_token
from ._exceptions import *  # noqa: F403  # the names are those of the runtime, one for one
from ._process_actor import ProcessActor, Timer, Watch
from ._proxies import Operation, Proxy, Ref, RemoteToken

__all__ = [
    "Down",
    "ExitReason",
    "Limits",
    "Operation",
    "ProcessActor",
    "Proxy",
    "ReceiveTimeout",
    "Ref",
    "RemoteToken",
    "Timer",
    "Watch",
    "checkpoint",
    "context_variable",
    "current_token",
]
