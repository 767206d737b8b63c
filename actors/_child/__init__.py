# The code that runs in child processes. It is loaded there by its path, as a package called `tokengate_worker`, and
# imports only the standard library and cloudpickle. The gate imports the modules that both sides use.
#
#   both sides             _wire.py (frames), _shared_page.py (shared memory), _payload.py (pickles; large ones are in
#                          files), _secret.py (`Secret`),
#                          _command.py (commands of actors)
#   how a child starts     _main.py (the program), _fork_server.py (forks children, and kills them when the gate ends),
#                          _orphans.py (reaps what workers leave behind), _after_fork.py (the first steps of a child)
#   what a child does      _worker_loop.py (handles one call after the other), _yield_points.py (where a call can be
#                          stopped and ended), _yields.py (checks yielded values), _instance.py (the instance of an
#                          actor), _connection.py (reads and writes frames), _pickling.py (pickles for the gate),
#                          _failures.py (errors for the gate), _log.py (log records for the gate), _stack.py (writes
#                          the stack), _headers.py (the trace that a call belongs to)
#   names for user code    _counterparts.py (`checkpoint` and others), _process_actor.py, _proxies.py (refs, tokens,
#                          operations), _exceptions.py, _current_worker.py (the worker of this process)
"""Child processes: how they start, what they do, and the counterparts of the runtime's names for user code."""

from ._counterparts import Down, ExitReason, Limits, ReceiveTimeout, checkpoint, context_variable, current_token
from ._exceptions import *  # noqa: F403  # the names are those of the runtime, one for one
from ._process_actor import ProcessActor, Timer, Watch
from ._proxies import Operation, Proxy, Ref, RemoteToken
from ._secret import Secret

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
    "Secret",
    "Timer",
    "Watch",
    "checkpoint",
    "context_variable",
    "current_token",
]
