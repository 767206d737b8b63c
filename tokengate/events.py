"""What a gate publishes to its subscribers (`gate.subscribe`), and the values that its events have.

The reports of supervisors say what became of a child; a `DeadLetter` is a message that no actor handled.
"""

from actors import DeadLetter, ExitReason, LoopBlocked
from supervisors import (
    AutoShutdown,
    ChildDeclined,
    ChildEnded,
    ChildStarted,
    ChildStartFailed,
    ChildStopFailed,
    GaveUp,
    Phase,
    Report,
    RestartScheduled,
)
from tokengate.policy._undo import TransactionStuck

__all__ = [
    "AutoShutdown",
    "ChildDeclined",
    "ChildEnded",
    "ChildStartFailed",
    "ChildStarted",
    "ChildStopFailed",
    "DeadLetter",
    "ExitReason",
    "GaveUp",
    "LoopBlocked",
    "Phase",
    "Report",
    "RestartScheduled",
    "TransactionStuck",
]
