"""Classes that programs annotate or pass, and what few programs need: `current_gate`, `LogContext`."""

from actors import ActorProxy, LogContext, Observer, ProcessPool, ReceiveTimeout, Timer, Watch
from supervisors import ChildCounts, ChildInfo
from tokengate.gate._gate import current_gate
from tokengate.gate._shutdown_report import ShutdownReport
from tokengate.gate._statistics import GateStatistics
from tokengate.operations._bound import BoundAsyncOperation, BoundOperation
from tokengate.operations._executor import GateExecutor
from tokengate.operations._operation import AsyncOperation, Operation

__all__ = [
    "ActorProxy",
    "AsyncOperation",
    "BoundAsyncOperation",
    "BoundOperation",
    "ChildCounts",
    "ChildInfo",
    "GateExecutor",
    "GateStatistics",
    "LogContext",
    "Observer",
    "Operation",
    "ProcessPool",
    "ReceiveTimeout",
    "ShutdownReport",
    "Timer",
    "Watch",
    "current_gate",
]
