# The top floor: the gate, and what its users type. It stands on `supervisors` and `actors`.
#
#   what is decorated   _operation.py (`@token`)
#   what is opened      _gate.py (`Gate`), _current.py (which gate a call belongs to), _switch_interval.py
#   what is closed      _stop_request.py (the wish), _shutdown.py (the stages), _shutdown_report.py, _process_end.py
#                       (fork and exit)
#   what speaks of it   _executor.py (`concurrent.futures`)
#   what goes wrong     _exceptions.py
#   what is typed       cli/ (the `tokengate` command)
#   what is shown       demo/ (the first example: an indexer as a service hierarchy)
"""TokenGate: an actor runtime in which every call is a token that can be seen and steered while it runs."""

from actors import (
    ActorDead,
    ActorProxy,
    ActorRef,
    CpuActor,
    DeadLetter,
    DeadlockError,
    Down,
    ExitReason,
    IoActor,
    LogContext,
    MailboxFull,
    NameTaken,
    Observer,
    ReceiveTimeout,
    StartFailed,
    Timer,
    Token,
    TokenExpired,
    TokenFailed,
    TokenGateError,
    TokenInterrupt,
    TokenRejected,
    TokenState,
    TokenTerminated,
    UnknownActor,
    WaitTimeout,
    Watch,
    WouldBlock,
    checkpoint,
    current_token,
)
from supervisors import (
    BadSpec,
    ChildEnded,
    ChildError,
    ChildRestarting,
    ChildSpec,
    ChildStarted,
    ChildStartFailed,
    DynamicSupervisor,
    GaveUp,
    ShutdownError,
    Supervisor,
)
from tokengate import _process_end  # noqa: F401  # it sees to open gates when the process forks or exits
from tokengate._current import current_gate
from tokengate._exceptions import AmbiguousGate, BadOperation, GateState, NeedsGate, NeedsTrio
from tokengate._executor import GateExecutor
from tokengate._gate import Gate, GateStatistics
from tokengate._operation import AsyncOperation, Operation, token
from tokengate._shutdown_report import ShutdownReport

__all__ = [
    "ActorDead",
    "ActorProxy",
    "ActorRef",
    "AmbiguousGate",
    "AsyncOperation",
    "BadOperation",
    "BadSpec",
    "ChildEnded",
    "ChildError",
    "ChildRestarting",
    "ChildSpec",
    "ChildStartFailed",
    "ChildStarted",
    "CpuActor",
    "DeadLetter",
    "DeadlockError",
    "Down",
    "DynamicSupervisor",
    "ExitReason",
    "Gate",
    "GateExecutor",
    "GateState",
    "GateStatistics",
    "GaveUp",
    "IoActor",
    "LogContext",
    "MailboxFull",
    "NameTaken",
    "NeedsGate",
    "NeedsTrio",
    "Observer",
    "Operation",
    "ReceiveTimeout",
    "ShutdownError",
    "ShutdownReport",
    "StartFailed",
    "Supervisor",
    "Timer",
    "Token",
    "TokenExpired",
    "TokenFailed",
    "TokenGateError",
    "TokenInterrupt",
    "TokenRejected",
    "TokenState",
    "TokenTerminated",
    "UnknownActor",
    "WaitTimeout",
    "Watch",
    "WouldBlock",
    "checkpoint",
    "current_gate",
    "current_token",
    "token",
]
