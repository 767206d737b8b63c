# The ground floor: tokens, mailboxes, and the actors that handle them. It imports nothing of supervision or of the
# gate above. Its rooms, each of which imports only those below it:
#
#   system/       the root object: it owns the threads, loops, ids and tables
#   kinds/        the actor classes, and the place of an operation
#   drains/       they take tokens out of mailboxes, on threads and loops
#   processes/    the same in child processes
#   places/       the addresses that tokens are sent to: actors, refs, watches, timers
#   mailboxes/    where tokens wait: lanes, throttles
#   steps/        one step of user code: entered, found on a stack, paused, interrupted
#   tokens/       the token: states, result, hold
#   concurrency/  threads, loops, outcomes; it imports no token
#   _child/       the code that runs in child processes, loaded there by its path
#
#   lowlevel.py      what the floors above need, and users do not
#   _exit_reason.py  why an instance ended
#   _exceptions.py   the errors
#   _in_child.py     unites the names of a child with these, if user code imports the runtime in a child
"""Actors, mailboxes and tokens: the floor that everything else stands on."""

from actors import _in_child
from actors._child._secret import Secret
from actors._exceptions import (
    ActorDead,
    BudgetExceeded,
    DeadlockError,
    IllegalTransition,
    KeyReused,
    LimitExceeded,
    MailboxFull,
    NameTaken,
    NotDurable,
    NotPicklable,
    PlatformWarning,
    StartFailed,
    TokenExpired,
    TokenFailed,
    TokenGateError,
    TokenInterrupt,
    TokenRejected,
    TokenTerminated,
    UnknownActor,
    WaitTimeout,
    WorkerDied,
    WorkerError,
    WouldBlock,
)
from actors._exit_reason import KILLED, NOPROC, NORMAL, SHUTDOWN, ExitReason
from actors.concurrency._dispatcher import DispatcherStatistics
from actors.concurrency._future import Future, Later, Reply
from actors.drains._watchdog import LoopBlocked
from actors.kinds._asyncio_actor import AsyncioActor
from actors.kinds._cpu_actor import CpuActor
from actors.kinds._io_actor import IoActor
from actors.kinds._process_actor import ProcessActor
from actors.mailboxes._mailbox import Overflow
from actors.mailboxes._statistics import MailboxStatistics
from actors.places._actor import BaseActor
from actors.places._proxy import ActorProxy
from actors.places._ref import ActorRef
from actors.places._timers import ReceiveTimeout, Timer
from actors.places._watch import Down, Watch
from actors.processes._limits import Limits
from actors.processes.workers._worker import ProcessFigures
from actors.processes.workers._worker_pool import ProcessPool, ProcessStatistics
from actors.steps._checkpoint import checkpoint
from actors.system import _outside  # noqa: F401  # defines `Cls.start()`
from actors.system._events import DeadLetter, EndedToken
from actors.system._observer import Observer
from actors.system._system import ActorSystem, SystemStatistics
from actors.tokens._as_completed import AsCompleted, Waited, as_completed, wait
from actors.tokens._lifecycle import TERMINAL, TRANSITIONS, TokenState
from actors.tokens._log_context import LogContext
from actors.tokens._prediction import Prediction, Quantiles
from actors.tokens._properties import Guard
from actors.tokens._token import Token, current_token

if _in_child.child is not None:  # user code there that imports this package gets what works there
    _in_child.unite(globals(), ProcessActor, checkpoint, current_token)

__all__ = [
    "KILLED",
    "NOPROC",
    "NORMAL",
    "SHUTDOWN",
    "TERMINAL",
    "TRANSITIONS",
    "ActorDead",
    "ActorProxy",
    "ActorRef",
    "ActorSystem",
    "AsCompleted",
    "AsyncioActor",
    "BaseActor",
    "BudgetExceeded",
    "CpuActor",
    "DeadLetter",
    "DeadlockError",
    "DispatcherStatistics",
    "Down",
    "EndedToken",
    "ExitReason",
    "Future",
    "Guard",
    "IllegalTransition",
    "IoActor",
    "KeyReused",
    "Later",
    "LimitExceeded",
    "Limits",
    "LogContext",
    "LoopBlocked",
    "MailboxFull",
    "MailboxStatistics",
    "NameTaken",
    "NotDurable",
    "NotPicklable",
    "Observer",
    "Overflow",
    "PlatformWarning",
    "Prediction",
    "ProcessActor",
    "ProcessFigures",
    "ProcessPool",
    "ProcessStatistics",
    "Quantiles",
    "ReceiveTimeout",
    "Reply",
    "Secret",
    "StartFailed",
    "SystemStatistics",
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
    "Waited",
    "Watch",
    "WorkerDied",
    "WorkerError",
    "WouldBlock",
    "as_completed",
    "checkpoint",
    "current_token",
    "wait",
]
