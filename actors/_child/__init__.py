# The code that runs in child processes. It is loaded there by its path, as a package called `tokengate_worker`, and
# imports nothing but the standard library and cloudpickle. The gate imports what both sides must agree on.
#
#   what both sides use    _wire.py (frames), _shared_page.py (shared memory), _payload.py (pickles, large ones in
#                          files)
#   how a child is made    _main.py (the program), _fork_server.py (forks children, and leaves none behind),
#                          _after_fork.py (what a child does first)
#   what a child does      _worker_loop.py (handles one call after the other), _yield_points.py (where a call can be
#                          stopped and ended), _instance.py (an actor's), _connection.py (reads and writes frames),
#                          _pickling.py (what leaves the process), _failures.py (errors that do), _log.py (log records
#                          that do), _stack.py (where its code is)
#   what user code sees    _counterparts.py (`checkpoint` and other names of the runtime), _process_actor.py,
#                          _proxies.py (refs, tokens, operations), _exceptions.py, _current_worker.py (the one worker
#                          of the process)
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
