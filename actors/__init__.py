# The ground floor: tokens, mailboxes, and the actors that handle them. It knows nothing of supervision or of the
# gate above.
#
#   what is sent       _token.py (the message), _lifecycle.py (its states), _reply.py (waiting for an outcome),
#                      _future.py (an outcome that is set by hand, or made of others)
#   where it waits     _mailbox.py (user lane, control lane), _lanes.py (stable priority), _signals.py (messages of
#                      the control lane)
#   who it is sent to  _ref.py, _proxy.py (an actor as an object), _place.py (an address), _actor_place.py (an actor's,
#                      over all its instances), _operation_place.py (a function's)
#   who handles it     _actor.py (what all share), _cpu_actor.py, _io_actor.py, _task_actor.py (a function),
#                      _foreign.py (a class that was written for pykka)
#   what it is told    _timers.py (of time), _monitor.py (of deaths), _notice.py (how such a message gets there),
#                      _alarm.py (what is due wakes a loop)
#   what operators do  _controls.py (what they may), _hold.py (pause, step), _interrupt.py (code that runs), _frames.py
#                      (whose code that is), _checkpoint.py, _throttles.py, _moves.py (send a queued token elsewhere)
#   how it is run      _step.py (one step), _cpu_drain.py on the threads of _dispatcher.py or on one of
#                      _pinned_dispatcher.py, _io_drain.py on the loop of _trio_host.py, _run_queue.py (who wakes
#                      whom), _daemon_thread.py (a thread that starts once), _blocking.py (one that waits), _stalls.py
#                      (one that blocks unseen), _waits_for.py (who waits for whom)
#   in processes       _process_drain.py (what all there share), _operation_drain.py, _process_actor.py and
#                      _process_actor_drain.py (actors), _process_host.py (the thread that hears them), _listening.py
#                      (to many at once), _worker_pool.py (who has which), _worker.py (one of them), _fork_server.py
#                      (what makes them), _process_state.py and _remote_stack.py (how one is, and where), _carry.py (how
#                      calls get there), _limits.py and _limit_watch.py (what a token may use), _child (the code that
#                      runs there), _in_child.py (a gate of its own there)
#   what those ask     _requests.py, _request.py (one of these until it is answered), _known.py (what they may ask for),
#                      _remote_log.py (their log records), _remote_timers.py (their timers), _deadlines.py (what is done
#                      later)
#   what holds it all  _system.py, _open_systems.py (fork and exit of the process); _log_context.py (log records),
#                      _watchdog.py (of the io loop), _recovery.py (of interrupted senders), _observer.py (who is
#                      told), _events.py, _exit_reason.py, _exceptions.py
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
from actors.concurrency._future import Future
from actors.concurrency._reply import Later, Reply
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
from actors.places._moves import move
from actors.places._place import AFFINITIES, Drain, Place
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
