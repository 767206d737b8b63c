"""What a gate publishes to its subscribers (`gate.subscribe`), and the values that its events have.

The reports of supervisors say what became of a child; a `DeadLetter` is a message that no actor handled. Breakers,
overload, changes of policies, further attempts and the glass that a caller breaks are told of as they happen, on the
thread where they do. An `Event` is what `gate.control.watch` and `tokengate watch` have of all of these, and of tokens.
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
from tokengate.authority._events import BreakGlassUsed
from tokengate.control.messages import Event
from tokengate.policy._events import BreakerChanged, OverloadChanged, PolicyChanged, TokenRetried, TransactionStuck
from tokengate.policy._over import ThrottleExceeded

__all__ = [
    "AutoShutdown",
    "BreakGlassUsed",
    "BreakerChanged",
    "ChildDeclined",
    "ChildEnded",
    "ChildStartFailed",
    "ChildStarted",
    "ChildStopFailed",
    "DeadLetter",
    "Event",
    "ExitReason",
    "GaveUp",
    "LoopBlocked",
    "OverloadChanged",
    "Phase",
    "PolicyChanged",
    "Report",
    "RestartScheduled",
    "ThrottleExceeded",
    "TokenRetried",
    "TransactionStuck",
]
