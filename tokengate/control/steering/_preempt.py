"""Preempt one token: the attempt that runs ends, and the token is queued again; what has not begun is only moved."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import attrs

from actors import KILLED, Limits, Token
from actors.lowlevel import LOOP_AFFINITIES, ActorPlace, DurableToken, Place, ProcessDrain, place_of, process_drain
from tokengate.control._ports import ControlledGate
from tokengate.control._safe_text import plain
from tokengate.control.messages import Outcome
from tokengate.control.steering import _limits, _steering
from tokengate.control.steering._outcomes import Pending, ended, outcome
from tokengate.policy._governed import Governed
from tokengate.policy._place_rules import PlaceRules
from tokengate.policy._policies import policies_in
from tokengate.policy._preemption import Preemption
from tokengate.policy._resumed import preempt as begin
from tokengate.policy._transaction import State

_ONCE: Final = "it was preempted before, and that is done once"
_ENDS: Final = "it was asked to end"
_NO_LIMITS: Final = "its next attempt is in no child process, and only there a limit holds; add to=process"


def preempt(
    gate: ControlledGate, token: Token[Any], to: Place | None, changes: Mapping[str, float | None], reason: str
) -> Outcome | Pending:
    """Preempt a token that has not ended.

    Args:
        gate: the gate.
        token: the token.
        to: where its next attempt is to be; None: where it is.
        changes: {name of a limit of that attempt: its value}, None for no limit.
        reason: of the operator; may be empty.
    """
    if token.started_at is None:
        if token._extras.preempted and to is None and not changes:
            return outcome(token, "refused", _ONCE)
        found = _change_queued(token, to, changes)
        if token.started_at is None or found.outcome not in ("refused", "noted"):
            return found  # else it has begun just now
    refusal = _why_not(gate, token) or _misfit(token, to, changes)
    if refusal:
        return outcome(token, "refused", refusal)
    if isinstance(token, DurableToken) and token.is_recording:
        return outcome(token, "ended", "its end is being written")
    system, target = gate._open_system, to or place_of(token)
    limits = _new_limits(token, target, changes)
    why = f"it was preempted: {reason}" if reason else "it was preempted"
    preemption = begin(policies_in(system), token, why, None if target is place_of(token) else target, limits)
    if preemption is None:
        if token.done():
            return ended(token)
        if token.started_at is None:
            return outcome(token, "unchanged", "its attempt has ended by itself, and it waits for the next one")
        return outcome(token, "refused", _ENDS)
    return Pending(preemption.reached, lambda: _so_far(token, preemption))


def _so_far(token: Token[Any], preemption: Preemption) -> Outcome:
    if preemption.error is not None:
        return outcome(token, "preempted", f"its next attempt is number {token.attempt}, at '{token.actor}'")
    if token.done():
        return ended(token)
    if preemption.is_over:
        return outcome(token, "unchanged", "its attempt has ended by itself, and it waits for the next one")
    if token._extras.cancel_requested is not preemption.why:
        return outcome(token, "refused", "it was asked to end meanwhile")
    if process_drain(token) is not None:
        note = "its process is about to be killed"
    elif not token._place.properties.interruptible:
        note = "code of pykka's own actors is never interrupted"
    elif token.affinity in LOOP_AFFINITIES:
        note = "its attempt was cancelled, and has not ended yet"
    else:
        note = "it runs no Python code now, or its code catches the interrupt"
    return outcome(token, "preempt_requested", note)


def _change_queued(token: Token[Any], to: Place | None, changes: Mapping[str, float | None]) -> Outcome:
    """Move a token that has not begun, and set its limits."""
    moved = outcome(token, "unchanged", "it has not begun")
    if to is not None:
        moved = _steering.reroute(token, to)
    if not changes or moved.outcome not in ("unchanged", "rerouted"):
        return moved
    limited = _limits.limit(token, changes)
    if moved.outcome == "unchanged" or limited.outcome != "limited":
        return limited
    return attrs.evolve(moved, note=f"{moved.note}; {limited.note}")


def _why_not(gate: ControlledGate, token: Token[Any]) -> str:
    """Return why a token that runs cannot have another attempt; empty if it can."""
    extras, place = token._extras, place_of(token)
    policy = extras.policy
    if extras.preempted:
        return _ONCE
    if isinstance(policy, Governed):
        if policy.preemption is not None and not policy.preemption.is_over:
            return "it is being preempted, and that is done once"
        if policy.falls_back:
            return "its fallback runs, and not its own code"
    if extras.cancel_requested or (extras.hold is not None and extras.hold.ending):
        return _ENDS
    if place.runs_at_caller(token):
        return "it is a direct call and runs on the thread, or in the task, of its caller, where it cannot begin anew"
    if not _may_run_twice(token):
        return f"{plain(token.operation)} is not idempotent, so running it twice may do harm"
    ledger = gate._transactions
    transaction = None if ledger is None else ledger.of(token.id)
    if transaction is not None and transaction.state is not State.OPEN:
        return f"its transaction '{transaction.name}' is being rolled back"
    if isinstance(place, ActorPlace) and isinstance(place.drain, ProcessDrain) and place.ends_for_good(KILLED):
        return f"its process would be killed, and '{place.path}' is not started again"
    return ""


def _may_run_twice(token: Token[Any]) -> bool:
    place, policy = place_of(token), token._extras.policy
    rules = policy.governor if isinstance(policy, Governed) else place.governor
    return rules.may_run_twice(token) if isinstance(rules, PlaceRules) else place.is_idempotent(token._call)


def _misfit(token: Token[Any], to: Place | None, changes: Mapping[str, float | None]) -> str:
    """Return why a next attempt cannot be at a place, or have limits there; empty if it can."""
    place = to or place_of(token)
    if changes and not isinstance(place.drain, ProcessDrain):
        return _NO_LIMITS
    return "" if place is place_of(token) else _steering.misfit(token, place)


def _new_limits(token: Token[Any], place: Place, changes: Mapping[str, float | None]) -> Limits | None:
    drain = place.drain
    if not changes or not isinstance(drain, ProcessDrain):
        return None
    return attrs.evolve(drain.limits_of(token), **changes)  # type: ignore[arg-type]
