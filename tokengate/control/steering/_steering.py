"""What the verbs do to one token that has not ended: pause it, step it, end it, move it; and the outcome.

All of it runs on the system loop. A verb first does to all its tokens what is possible at once; then it waits, for at
most the given time, until its effect on the others is complete (`_outcomes.py`), and answers how far each one is. An
effect that is not complete is still pursued after the answer (`Reconciler`).
"""

from __future__ import annotations

from collections.abc import Iterable
from inspect import CO_COROUTINE
from types import FunctionType, MappingProxyType
from typing import Any, Final, cast, get_args

from actors import ActorDead, Guard, MailboxFull, Token, TokenGateError, TokenState
from actors.lowlevel import (
    LOOP_AFFINITIES,
    MAX_WAITING,
    ActorPlace,
    DurablePlace,
    DurableToken,
    Hold,
    Kill,
    OneWay,
    OperationPlace,
    Place,
    Reconciler,
    hold_in_queue,
    monitor,
    move,
    note_change,
    place_of,
    process_drain,
)
from tokengate.control._admission import admission
from tokengate.control._ports import ControlledGate
from tokengate.control._safe_text import plain
from tokengate.control.inspection._selector import steps_of
from tokengate.control.inspection._views import class_attribute
from tokengate.control.messages import Mode, Outcome
from tokengate.control.steering._outcomes import NOT_BEGUN, Pending, ended, outcome
from tokengate.policy._governed import Governed

_GUARDS: Final = get_args(Guard)  # the least strict one first


def joined(token: Token[Any]) -> Outcome | None:
    """Return the refusal of a verb for a token that another one runs for; None for others."""
    run = token._run
    if run is None or token.done():
        return None
    if not admission().sees(run):
        return outcome(token, "refused", "another token runs for it")
    return outcome(token, "refused", f"token {run.id} runs for it: do that to token {run.id}")


def pause(reconciler: Reconciler, token: Token[Any], *, stop_clock: bool) -> Outcome | Pending:
    """Pause a token, queued or running."""
    hold = Hold.of(token)
    hold.paused_by = token._extras.steered_by
    if hold.ending:
        if token.done():
            return ended(token)
        return outcome(token, "refused", "it was asked to end, and runs on for that")
    dispatcher = place_of(token).system.dispatcher
    if token.affinity == "cpu" and token.started_at is not None and not hold.word and not dispatcher.may_wait:
        limit = f"{MAX_WAITING:,} steps of its gate wait or are paused"
        return outcome(token, "refused", f"{limit}, which is the limit; resume or end some first")
    clock = "its clock is stopped" if stop_clock else "its clock runs on"
    if hold.word == "paused" and hold.stop_clock is stop_clock:
        return outcome(token, "unchanged", f"it was paused already; {clock}")
    reached = hold.pause(stop_clock=stop_clock)
    if hold_in_queue(hold):
        return outcome(token, "paused", f"it has not begun; {clock}")

    def conclude() -> Outcome:
        if token.done():
            return ended(token)
        if hold.word == "paused":
            return outcome(token, "paused", f"{_stopped_process(token)}{clock}")
        if not hold.word:
            return outcome(token, "refused", "another operator has resumed it meanwhile")
        return outcome(token, "pause_requested", f"{_where_it_stops(token)}; {clock}")

    if process_drain(token) is None:  # else the reconciler begins with that
        place_of(token).drain.hold_changed(token)
    reconciler.begin(hold)
    return Pending(reached, conclude)


def _stopped_process(token: Token[Any]) -> str:
    drain = process_drain(token)
    worker = None if drain is None else drain.worker_of(token)
    return "" if worker is None else f"process {worker.pid} is stopped; "


def _where_it_stops(token: Token[Any]) -> str:
    if token.started_at is None:
        return "it is about to begin"
    if token.affinity in LOOP_AFFINITIES:
        return "it stops at its next await, as soon as its loop is free"
    if process_drain(token) is not None:
        return "its process was asked to stop, and has not stopped yet"
    if monitor is None:
        return "this Python stops it at its next checkpoint() or yield only"
    if monitor.blind:
        return "other tools have all tool ids of sys.monitoring, so it stops at its next checkpoint() or yield only"
    return "it stops as soon as it runs Python code of its own, or at its next checkpoint() or yield"


def resume(token: Token[Any]) -> Outcome:
    """Resume a token that is held."""
    hold = token._extras.hold
    if hold is None or not hold.word:
        return outcome(token, "unchanged", "it is not held")
    place_of(token).mailbox.release(token)
    hold.resume()
    place_of(token).mailbox.release(token)  # an attempt may have ended in between, and the token been held again
    if monitor is not None:
        monitor.disarm(hold)
    place_of(token).drain.hold_changed(token)
    return outcome(token, "resumed")


def step(reconciler: Reconciler, token: Token[Any], n: int) -> Outcome | Pending:
    """Let a token run some steps, and pause it again."""
    hold = Hold.of(token)
    if hold.word != "paused" and token.state is not TokenState.QUEUED:
        first = pause(reconciler, token, stop_clock=hold.stop_clock)
        if isinstance(first, Outcome):
            return first
        return Pending(first.reached, lambda: _paused_first(token, hold))
    before = steps_of(token)
    place_of(token).mailbox.release(token)  # first: the mailbox makes it `paused`, not the hold
    reached = hold.step(n)
    in_process = process_drain(token) is not None
    if in_process:
        reconciler.begin(hold)  # a process stops by itself after its steps, which must be noticed
    else:
        place_of(token).drain.hold_changed(token)

    def conclude() -> Outcome:
        if token.done():
            return outcome(token, "stepped", f"it has ended: it is {token.state}")
        if hold.word == "paused":
            return outcome(token, "stepped", f"{steps_of(token)} steps so far")
        if token.started_at is None:
            return outcome(token, "step_requested", "it is queued, and has not begun")
        after = "; a step in a process ends at a checkpoint() or yield" if in_process else ""
        return outcome(token, "step_requested", f"it has run {steps_of(token) - before} of {n} so far{after}")

    return Pending(reached, conclude)


def _paused_first(token: Token[Any], hold: Hold) -> Outcome:
    if token.done():
        return ended(token)
    if hold.word == "paused":
        return outcome(token, "paused", "it was running, and so was paused first; step it again")
    return outcome(token, "pause_requested", f"it runs, and will be paused first; {_where_it_stops(token)}")


def terminate(reconciler: Reconciler, token: Token[Any], mode: Mode, reason: str) -> Outcome | Pending:
    """End a token, as far as `mode` allows; for a child process `interrupt` and `kill` are the same, without grace."""
    if process_drain(token) is not None and mode != "cancel":
        kill = reconciler.kill(token, reason)
        return Pending(token, lambda: killed(kill))
    if reconciler.ask_to_end(token, reason, interrupt=mode != "cancel") and token.done():  # else that is being written
        return outcome(token, "terminated", "it never ran")
    interruptible = token._place.properties.interruptible

    def conclude() -> Outcome:
        if not token.done() and mode == "kill":
            return _abandon(reconciler, token, reason)
        if token.state is TokenState.TERMINATED:
            return outcome(token, "terminated")
        if token.done():
            return ended(token)
        if token.started_at is None:
            return outcome(token, "cancel_requested", NOT_BEGUN)
        if mode == "cancel":
            return outcome(token, "cancel_requested", "it has not reached a yield point yet")
        if not interruptible:
            return outcome(token, "cancel_requested", "code of pykka's own actors is never interrupted")
        if token.affinity in LOOP_AFFINITIES:
            return outcome(token, "cancel_requested", "it was cancelled, and has not ended yet")
        return outcome(token, "interrupt_requested", "it runs no Python code now, or its code catches the interrupt")

    return Pending(token, conclude)


def killed(kill: Kill) -> Outcome:
    """Return the outcome of a kill so far."""
    token = kill.token
    if kill.pid is not None:
        drain = process_drain(token)
        actor = drain is not None and drain.own
        after = "its supervisor decides whether to restart" if actor else "another one replaces it"
        return outcome(token, "killed", f"process {kill.pid} was killed; {after}")
    if kill.over:
        return outcome(token, "terminated", "it never ran" if kill.never_ran else "")
    if token.done():
        return ended(token)
    return outcome(token, "cancel_requested", NOT_BEGUN)


def _abandon(reconciler: Reconciler, token: Token[Any], reason: str) -> Outcome:
    affinity = token.affinity
    threads = reconciler.leave_behind(token, reason)
    if token.state is TokenState.TERMINATED:
        if threads:
            return outcome(token, "abandoned", f"its code runs on in {', '.join(threads)}, and its result is dropped")
        if threads is not None and affinity in LOOP_AFFINITIES:
            note = "its task ignored its cancellation, and may run on; its result is dropped"
            return outcome(token, "abandoned", note)
        return outcome(token, "terminated")
    if token.done():
        return ended(token)
    if token.started_at is None:
        return outcome(token, "cancel_requested", NOT_BEGUN)
    note = "it runs on the thread of its caller, which cannot be left behind; it was asked to end"
    return outcome(token, "interrupt_requested", note)


def renice(token: Token[Any], priority: int) -> Outcome:
    """Change the priority of a token."""
    if token.priority == priority:
        return outcome(token, "unchanged", f"its priority was {priority} already")
    if place_of(token).mailbox.renice(token, priority):
        note_change(token)
        return outcome(token, "reniced")
    if token.done():
        return ended(token)
    token.priority = priority
    note_change(token)
    where = "it is about to begin" if token.started_at is None else "it has begun"
    return outcome(token, "noted", f"{where}; its priority counts at its next attempt")


def retag(token: Token[Any], new: dict[str, str], remove: Iterable[str]) -> Outcome:
    """Change the tags of a token."""
    before = {plain(name): plain(value) for name, value in token.tags.items()}  # no code of classes derived from `str`
    tags = {**before, **new}
    for tag in remove:
        tags.pop(tag, None)
    if tags == before:
        return outcome(token, "unchanged", "it has these tags already")
    token.tags = MappingProxyType(tags)
    note_change(token)
    place_of(token).mailbox.ask_again(token)  # its tags may decide which throttles hold it
    return outcome(token, "retagged")


def destination(gate: ControlledGate, token: Token[Any], to: Place | str) -> Place | Outcome:
    """Return where a token is to go, or why it cannot.

    Args:
        gate: the gate.
        token: the token.
        to: the place of an actor, or an affinity.
    """
    place = place_of(token)
    if isinstance(to, str) and not isinstance(place, OperationPlace):
        return outcome(token, "refused", "only tokens of operations can change their affinity")
    try:
        found = to if isinstance(to, Place) else gate._place_with(cast("OperationPlace", place), to)
    except TokenGateError as error:
        return outcome(token, "refused", str(error))
    return admission().elsewhere(token, found) or found


def reroute(token: Token[Any], target: Place) -> Outcome:
    """Move a queued token to another place; the next attempt of one that runs."""
    if place_of(token) is target:
        return outcome(token, "unchanged", f"it is at '{target.path}' already")
    problem = misfit(token, target)
    if problem:
        return outcome(token, "refused", problem)
    policy = token._extras.policy
    try:
        moved = move(token, target)
        noted = not moved and isinstance(policy, Governed) and policy.go_on_at(target)
        moved = moved or (noted and move(token, target))  # its next attempt may have been queued in between
    except (MailboxFull, ActorDead) as error:
        return outcome(token, "refused", str(error))
    if moved:
        return outcome(token, "rerouted", f"to '{target.path}'")
    if token.done():
        return ended(token)
    if noted:
        return outcome(token, "noted", f"it has begun; its next attempt, if one follows, is at '{target.path}'")
    where = "is about to begin" if token.started_at is None else "has begun"
    return outcome(token, "refused", f"it {where}, and stays where it is")


def misfit(token: Token[Any], target: Place) -> str:
    """Return why a place cannot handle a token; an empty text if it can."""
    source = place_of(token)
    if target.properties.guard == "never":
        return f"the guard of '{target.path}' is 'never', so no token is moved there"
    if _GUARDS.index(source.properties.guard) > _GUARDS.index(target.properties.guard):
        guards = f"its guard is '{source.properties.guard}', and that of '{target.path}' '{target.properties.guard}'"
        return f"{guards}, so it would lose it there"
    if isinstance(token, DurableToken) and not (isinstance(target, DurablePlace) and target.is_durable(token._call)):
        return f"it is durable, and its tokens would not be at '{target.path}'"
    if isinstance(source, OperationPlace) and isinstance(target, OperationPlace):
        return ""
    if isinstance(source, OperationPlace) or isinstance(target, OperationPlace):
        return f"'{source.path}' and '{target.path}' are an operation and an actor, which handle different things"
    call = token._call
    if type(call) is OneWay:
        call = call.call
    if call is None:
        return ""  # a plain message, which every actor accepts
    if type(call) is not tuple or not isinstance(target, ActorPlace):
        return f"only '{source.path}' can run {plain(token.operation)}"
    found = class_attribute(target.actor_class, plain(call[0]))
    if found is None:
        return f"'{target.path}' has no '{plain(call[0])}'"
    coroutine = type(found) is FunctionType and found.__code__.co_flags & CO_COROUTINE
    if coroutine and target.affinity not in LOOP_AFFINITIES:
        kind = f"a {target.affinity} actor"
        return f"'{plain(call[0])}' of '{target.path}' is a coroutine function, which {kind} cannot await"
    return ""
