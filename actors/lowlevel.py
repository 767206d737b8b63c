"""Parts of the runtime for the floors above, which users do not need."""

from actors._child._command import commands_of, consent_of, mark
from actors._child._yields import refuse_yield
from actors._in_child import ask_gate, gates_operation, submits_to_gate
from actors.concurrency._alarm import Alarm
from actors.concurrency._blocking import (
    any_loop_here,
    blocking,
    current_turn,
    lend_this_thread,
    loop_here,
    nesting,
    refusal,
)
from actors.concurrency._condition import Condition
from actors.concurrency._container import Share, cores, memory
from actors.concurrency._convoy import await_free
from actors.concurrency._daemon_thread import DaemonThread
from actors.concurrency._dispatcher import MAX_WAITING, CpuThread
from actors.concurrency._loop_host import LoopHost
from actors.concurrency._thread_frames import frame_of, thread_frames, variables_of
from actors.concurrency._trio_host import TrioHost
from actors.concurrency._waiters import Waiter, waking_together
from actors.drains._asyncio_operation_drain import at_home
from actors.drains._cpu_drain import CpuDrain, Meter
from actors.drains._io_drain import IoDrain
from actors.drains._io_worker import is_cancellation
from actors.kinds._jobs import Jobs
from actors.kinds._operation_place import OperationPlace
from actors.kinds._pykka_actor import cpu_actor_class
from actors.kinds._task_actor import TaskActor
from actors.mailboxes._durable_mailbox import FIRST, DurableMailbox, Position
from actors.mailboxes._fair_lanes import fair_text
from actors.mailboxes._fair_line import FairLine
from actors.mailboxes._mailbox import DEFAULT_CAPACITY, Mailbox, Put
from actors.mailboxes._rule import Rule
from actors.mailboxes._signals import Crash, Signal, Visit
from actors.mailboxes._throttles import Throttles
from actors.places._actor_place import ActorPlace, Status, method_of
from actors.places._drain import Drain
from actors.places._durable_place import DurableActorPlace, DurablePlace, accepted_together, place_class
from actors.places._moves import move, note_change
from actors.places._notice import Notice, attach
from actors.places._place import AFFINITIES, LOOP_AFFINITIES, Place, place_of
from actors.places._ref import CommandCall, OneWay
from actors.processes._limits import NO_LIMITS, UNITS
from actors.processes._process_drain import ProcessDrain, process_drain
from actors.processes.pickling._carrier import carried_as, counterpart_object, operation_finders
from actors.processes.pickling._ports import ProcessSystem
from actors.processes.workers._process_state import cpu_seconds
from actors.processes.workers._worker import Worker
from actors.steps._frames import find_step, tokens_of
from actors.steps._interrupt import interrupt
from actors.steps._monitoring import monitor
from actors.steps._step import in_context, run_in
from actors.system._outside import Starter, homes
from actors.system._place_table import ROOT, SYSTEM, path_below
from actors.system._reconciler import Kill, Reconciler, hold_in_queue
from actors.system._system import listed, system_of
from actors.tokens._extras import NO_EXTRAS
from actors.tokens._hold import Hold
from actors.tokens._ports import Predictor
from actors.tokens._properties import INSTEAD, Properties, checked_properties
from actors.tokens._token import NO_KWARGS, NO_TAGS, DurableToken, made_by, make_token

__all__ = [
    "AFFINITIES",
    "DEFAULT_CAPACITY",
    "FIRST",
    "INSTEAD",
    "LOOP_AFFINITIES",
    "MAX_WAITING",
    "NO_EXTRAS",
    "NO_KWARGS",
    "NO_LIMITS",
    "NO_TAGS",
    "ROOT",
    "SYSTEM",
    "UNITS",
    "ActorPlace",
    "Alarm",
    "CommandCall",
    "Condition",
    "CpuDrain",
    "CpuThread",
    "Crash",
    "DaemonThread",
    "Drain",
    "DurableActorPlace",
    "DurableMailbox",
    "DurablePlace",
    "DurableToken",
    "FairLine",
    "Hold",
    "IoDrain",
    "Jobs",
    "Kill",
    "LoopHost",
    "Mailbox",
    "Meter",
    "Notice",
    "OneWay",
    "OperationPlace",
    "Place",
    "Position",
    "Predictor",
    "ProcessDrain",
    "ProcessSystem",
    "Properties",
    "Put",
    "Reconciler",
    "Rule",
    "Share",
    "Signal",
    "Starter",
    "Status",
    "TaskActor",
    "Throttles",
    "TrioHost",
    "Visit",
    "Waiter",
    "Worker",
    "accepted_together",
    "any_loop_here",
    "ask_gate",
    "at_home",
    "attach",
    "await_free",
    "blocking",
    "carried_as",
    "checked_properties",
    "commands_of",
    "consent_of",
    "cores",
    "counterpart_object",
    "cpu_actor_class",
    "cpu_seconds",
    "current_turn",
    "fair_text",
    "find_step",
    "frame_of",
    "gates_operation",
    "hold_in_queue",
    "homes",
    "in_context",
    "interrupt",
    "is_cancellation",
    "lend_this_thread",
    "listed",
    "loop_here",
    "made_by",
    "make_token",
    "mark",
    "memory",
    "method_of",
    "monitor",
    "move",
    "nesting",
    "note_change",
    "operation_finders",
    "path_below",
    "place_class",
    "place_of",
    "process_drain",
    "refusal",
    "refuse_yield",
    "run_in",
    "submits_to_gate",
    "system_of",
    "thread_frames",
    "tokens_of",
    "variables_of",
    "waking_together",
]
