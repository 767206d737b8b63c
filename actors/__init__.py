# The ground floor: tokens, mailboxes, and the actors that handle them. It knows nothing of supervision or of the
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
#   concurrency/  threads, loops, outcomes; no token is known there
#   _child/       the code that runs in child processes, loaded there by its path
#
#   lowlevel.py      what the floors above need, and users do not
#   _exit_reason.py  why an instance ended
#   _exceptions.py   the errors
#   _in_child.py     a gate that user code opens in a child process
"""Actors, mailboxes and tokens: the floor that everything else stands on."""

from actors import _in_child
from actors._exceptions import (
    ActorDead,
    DeadlockError,
    IllegalTransition,
    LimitExceeded,
    MailboxFull,
    NameTaken,
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
from actors.concurrency._blocking import current_turn
from actors.concurrency._daemon_thread import DaemonThread
from actors.concurrency._dispatcher import MAX_WAITING, CpuThread, DispatcherStatistics
from actors.concurrency._future import Future, Later, Reply
from actors.concurrency._trio_host import TrioHost
from actors.drains._io_drain import IoDrain, is_cancellation
from actors.drains._watchdog import LoopBlocked
from actors.kinds._cpu_actor import CpuActor
from actors.kinds._io_actor import IoActor
from actors.kinds._operation_place import OperationPlace
from actors.kinds._process_actor import ProcessActor
from actors.kinds._pykka_actor import cpu_actor_class
from actors.kinds._task_actor import TaskActor
from actors.mailboxes._mailbox import DEFAULT_CAPACITY, Mailbox, MailboxStatistics, Overflow, Put
from actors.mailboxes._signals import Crash, Signal, Visit
from actors.mailboxes._throttles import Throttle
from actors.places._actor import BaseActor
from actors.places._actor_place import ActorPlace, Status
from actors.places._drain import Drain
from actors.places._moves import move
from actors.places._place import AFFINITIES, Place
from actors.places._proxy import ActorProxy
from actors.places._ref import ActorRef
from actors.places._timers import ReceiveTimeout, Timer
from actors.places._watch import Down, Watch
from actors.processes._limits import NO_LIMITS, Limits
from actors.processes._process_drain import ProcessDrain
from actors.processes.workers._worker import ProcessFigures, Worker
from actors.processes.workers._worker_pool import ProcessPool, ProcessStatistics
from actors.steps._checkpoint import checkpoint
from actors.steps._frames import find_step
from actors.steps._interrupt import interrupt, monitor
from actors.system._events import DeadLetter, EndedToken
from actors.system._observer import Observer
from actors.system._system import ROOT, SYSTEM, ActorSystem, SystemStatistics, cores, listed, path_below
from actors.tokens._controls import Controls
from actors.tokens._hold import Hold
from actors.tokens._lifecycle import TERMINAL, TRANSITIONS, TokenState
from actors.tokens._log_context import LogContext
from actors.tokens._token import NO_TAGS, Token, current_token

if _in_child.child is not None:  # user code there that imports this package gets what works there
    _in_child.unite(globals(), ProcessActor, checkpoint, current_token)

__all__ = [
    "AFFINITIES",
    "DEFAULT_CAPACITY",
    "KILLED",
    "MAX_WAITING",
    "NOPROC",
    "NORMAL",
    "NO_LIMITS",
    "NO_TAGS",
    "ROOT",
    "SHUTDOWN",
    "SYSTEM",
    "TERMINAL",
    "TRANSITIONS",
    "ActorDead",
    "ActorPlace",
    "ActorProxy",
    "ActorRef",
    "ActorSystem",
    "BaseActor",
    "Controls",
    "CpuActor",
    "CpuThread",
    "Crash",
    "DaemonThread",
    "DeadLetter",
    "DeadlockError",
    "DispatcherStatistics",
    "Down",
    "Drain",
    "EndedToken",
    "ExitReason",
    "Future",
    "Hold",
    "IllegalTransition",
    "IoActor",
    "IoDrain",
    "Later",
    "LimitExceeded",
    "Limits",
    "LogContext",
    "LoopBlocked",
    "Mailbox",
    "MailboxFull",
    "MailboxStatistics",
    "NameTaken",
    "NotPicklable",
    "Observer",
    "OperationPlace",
    "Overflow",
    "Place",
    "PlatformWarning",
    "ProcessActor",
    "ProcessDrain",
    "ProcessFigures",
    "ProcessPool",
    "ProcessStatistics",
    "Put",
    "ReceiveTimeout",
    "Reply",
    "Signal",
    "StartFailed",
    "Status",
    "SystemStatistics",
    "TaskActor",
    "Throttle",
    "Timer",
    "Token",
    "TokenExpired",
    "TokenFailed",
    "TokenGateError",
    "TokenInterrupt",
    "TokenRejected",
    "TokenState",
    "TokenTerminated",
    "TrioHost",
    "UnknownActor",
    "Visit",
    "WaitTimeout",
    "Watch",
    "Worker",
    "WorkerDied",
    "WorkerError",
    "WouldBlock",
    "checkpoint",
    "cores",
    "cpu_actor_class",
    "current_token",
    "current_turn",
    "find_step",
    "interrupt",
    "is_cancellation",
    "listed",
    "monitor",
    "move",
    "path_below",
]
