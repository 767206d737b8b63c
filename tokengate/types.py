"""Classes that programs annotate or pass, and what few programs need: `current_gate`, `LogContext`."""

from typing import TYPE_CHECKING, Any

from actors import ActorProxy, AsCompleted, LogContext, Observer, ProcessPool, ReceiveTimeout, Timer, Waited, Watch
from supervisors import ChildCounts, ChildEnd, ChildInfo, RestartWindow
from tokengate.gate._gate import current_gate
from tokengate.gate._shutdown_report import ShutdownReport
from tokengate.gate._statistics import GateStatistics
from tokengate.operations._bound import BoundAsyncOperation, BoundOperation
from tokengate.operations._command import command
from tokengate.operations._executor import GateExecutor
from tokengate.operations._operation import AsyncOperation, Operation
from tokengate.operations._route import AsyncRoute
from tokengate.policy._undo import Done

if TYPE_CHECKING:
    from tokengate.gate._transaction import TransactionBlock

__all__ = [
    "ActorProxy",
    "AsCompleted",
    "AsyncOperation",
    "AsyncRoute",
    "BoundAsyncOperation",
    "BoundOperation",
    "ChildCounts",
    "ChildEnd",
    "ChildInfo",
    "Done",
    "GateExecutor",
    "GateStatistics",
    "LogContext",
    "Observer",
    "Operation",
    "ProcessPool",
    "ReceiveTimeout",
    "RestartWindow",
    "ShutdownReport",
    "Timer",
    "TransactionBlock",
    "Waited",
    "Watch",
    "command",
    "current_gate",
]


def __getattr__(name: str) -> Any:
    if name == "TransactionBlock":
        from tokengate.gate._transaction import TransactionBlock  # here: it loads all of policies, commands need it not

        return TransactionBlock
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
