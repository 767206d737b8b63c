"""What is published, as the stream has it: its kind, a line that says it, and details.

No code of users is run: errors, and events of unknown classes, are shown by the names of their classes.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, TypeAlias, cast

import attrs

from actors import ExitReason, LoopBlocked, Token
from supervisors import (
    AutoShutdown,
    ChildDeclined,
    ChildEnded,
    ChildStarted,
    ChildStartFailed,
    ChildStopFailed,
    GaveUp,
    Report,
    RestartScheduled,
)
from tokengate.control._safe_text import class_name, plain
from tokengate.policy._events import PolicyEvent, TokenRetried, TransactionStuck

Details: TypeAlias = Mapping[str, str | int | float | bool]

_REPORTS: Final = (
    (ChildStarted, "supervisor.child_started"),
    (ChildDeclined, "supervisor.child_declined"),
    (ChildStartFailed, "supervisor.child_start_failed"),
    (ChildEnded, "supervisor.child_ended"),
    (RestartScheduled, "supervisor.restart_scheduled"),
    (ChildStopFailed, "supervisor.child_stop_failed"),
    (GaveUp, "supervisor.gave_up"),
    (AutoShutdown, "supervisor.auto_shutdown"),
)


@attrs.frozen
class Said:
    """What an event says.

    Attributes:
        kind: one of `KINDS`.
        text: a line.
        actor: path of the actor or operation that it is about; empty: it is about the whole gate.
        token: the one that it is about, or its id, or None.
        details: values of the kind.
    """

    kind: str
    text: str
    actor: str = ""
    token: Token[Any] | int | None = None
    details: Details = attrs.field(factory=dict)


def said_by(event: object) -> Said:
    """Return what an event says that was published; it may be any object."""
    kind = type(event)  # compared by identity: `isinstance` would ask the object for its `__class__`
    if kind is LoopBlocked:
        return _of_loop(cast("LoopBlocked", event))
    for report, name in _REPORTS:
        if kind is report:
            return _of_report(name, cast("Report", event))
    if type.__subclasscheck__(PolicyEvent, kind):
        return _of_policy(cast("PolicyEvent", event))
    if kind is TransactionStuck:
        stuck = cast("TransactionStuck", event)
        left = len(stuck.failed) + len(stuck.running)
        text = f"the rollback of transaction '{plain(stuck.name)}' has left {left} tokens that it could not undo"
        details: Details = {
            "transaction": plain(stuck.name),
            "failed": len(stuck.failed),
            "running": len(stuck.running),
        }
        return Said("policy.transaction_stuck", text, details=details)
    name = class_name(kind)
    return Said(f"event.{name.rpartition('.')[2]}", name)


def why_of(reason: ExitReason) -> str:
    """Return how an actor has ended; an error, whose text may have values of arguments, by the name of its class."""
    return reason.kind if reason.error is None else f"error({class_name(type(reason.error))})"


def words_of(token: Token[Any]) -> str:
    """Return a token as texts name it."""
    return f"token {token.id} ({plain(token.operation)} of '{plain(token.actor)}')"


def _of_loop(event: LoopBlocked) -> Said:
    token, seconds = event.token, event.seconds
    if not event.stack:
        text = f"many short steps in a row have let other tasks of the {event.loop} loop wait for {seconds:.2f} s"
    else:
        code = "code outside of tokens" if token is None else words_of(token)
        text = f"{code} has blocked the {event.loop} loop for {seconds:.2f} s"
    return Said("loop.blocked", text, token=token, details={"loop": event.loop, "seconds": seconds})


def _of_policy(event: PolicyEvent) -> Said:
    place = plain(event.place)
    path = place if "/" in place or not place else f"operations/{place}"
    token = event.token if type(event) is TokenRetried else None
    return Said(event.kind, plain(event.text), path, token, _details(event, "place", "token"))


def _of_report(kind: str, report: Report) -> Said:
    return Said(kind, _text(report), plain(report.child), None, _details(report, "child"))


def _details(event: Any, *left_out: str) -> Details:
    """Return the fields of an event that JSON has; an error by the name of its class."""
    found: dict[str, Any] = {}
    for field in attrs.fields(type(event)):
        value = getattr(event, field.name)
        if field.name in left_out or value is None:
            continue
        if type(value) is dict:
            found |= {name: "" if one is None else one for name, one in value.items()}
        elif type(value) is ExitReason:
            found[field.name] = why_of(value)
        elif issubclass(type(value), BaseException):
            found[field.name] = class_name(type(value))
        elif issubclass(type(value), str):
            found[field.name] = plain(value)
        else:
            found[field.name] = value if issubclass(type(value), int | float) else str(value)
    return found


def _text(report: Report) -> str:
    child, supervisor = f"'{report.child}'", f"'{report.supervisor}'"
    match report:
        case ChildStarted(restart=0):
            return f"{child} has started"
        case ChildStarted(restart=restart):
            return f"{child} has started again (restart {restart})"
        case ChildStartFailed(error=error):
            return f"{child} did not start: {class_name(type(error))}"
        case ChildEnded(reason=reason):
            return f"{child} has ended: {why_of(reason)}"
        case RestartScheduled(reason=reason, attempt=attempt, delay=delay):
            return f"{supervisor} restarts {child} in {delay:.2f} s (attempt {attempt}), after {why_of(reason)}"
        case ChildDeclined():
            return f"{child} declined to start"
        case ChildStopFailed(seconds=seconds):
            return f"{child} did not stop in {seconds:g} s, and was killed"
        case GaveUp(intensity=intensity, period=period):
            return f"{supervisor} gives up: {child} needed more than {intensity} restarts in {period:g} s"
        case _:
            return f"{supervisor} ends in order, since {child} has ended for good"
