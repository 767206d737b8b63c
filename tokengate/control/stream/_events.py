"""The public form of what is recorded."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import attrs

from tokengate.control._safe_text import plain
from tokengate.control.messages import Event
from tokengate.control.stream._record import FINISHED, NO_MORE, RETRIED, Entry, Happening, Record

if TYPE_CHECKING:  # here, so that a command of the command line loads no engine
    from tokengate.control.stream._stream import Stream

_new: Final = object.__new__
_set: Final = object.__setattr__

_UNKNOWN: Final[dict[str, Any]] = {field.name: field.default for field in attrs.fields(Event)}
"""{field of an event: its value where that is unknown}; those without one are always set."""


def event_of(entry: Entry, stream: Stream) -> Event:
    """Return the public form of an entry of a gate's stream.

    Args:
        entry: its times are those of the gate's clock.
        stream: of the gate.
    """
    return event_at(entry, stream.utc(entry.ended), stream.gate)


def event_at(entry: Entry, at: float, gate: str) -> Event:
    """Return the public form of an entry.

    Args:
        entry: the entry.
        at: its moment, in seconds since the epoch.
        gate: name of the gate.
    """
    if isinstance(entry, Happening):
        event = Event(
            seq=entry.number, kind=entry.kind, at=at, gate=gate, gate_run=entry.run, text=entry.text,
            details=dict(entry.details) or None, token=entry.token, actor=entry.actor or None,
            operation=entry.operation or None, uid=None if entry.token is None else f"{entry.run}.{entry.token}",
        )  # fmt: skip
        about = entry.about
        if isinstance(about, Record) and about.affinity:  # of one that was read from a file, less is known
            event = attrs.evolve(event, **_of_token(about))
        return event
    more, kind, started, queued = entry.more, entry.kind, entry.started, entry.queued
    ends = kind in (FINISHED, RETRIED)
    fields = {
        **_UNKNOWN,
        **_of_token(entry),
        "seq": entry.number,
        "kind": kind,
        "at": at,
        "gate": gate,
        "gate_run": entry.run,
        "text": text_of(entry),
        "age": entry.ended - entry.created,
        "worker": entry.worker or None,
        "steps": entry.steps,
    }
    if ends:
        fields["weight"] = entry.weight
        if more is NO_MORE and started is not None and queued is not None:  # as nearly always
            fields["wait"], fields["run"] = max(0.0, started - queued), max(0.0, entry.ended - started)
            fields["held"] = 0.0
        else:
            fields["wait"], fields["run"], fields["held"] = entry.wait, entry.took, entry.held
    if more is not NO_MORE:
        fields |= {
            "error": more.error or None,
            "reason": more.reason or None,
            "key": more.key or None,
            "trace_id": more.trace_id or None,
            "span_id": more.span_id or None,
            "cpu": more.cpu,
            "memory": more.memory,
            "memory_end": more.memory_end,
            "deadline": more.deadline,
            "limits": _plain(more.limits),
            "features": _plain(more.features),
            "predicted": _plain(more.predicted),
            "steered": (more.steered or None) if ends else None,
        }
    event = _new(Event)
    _set(event, "__dict__", fields)  # its `__init__` would set 40 fields one by one, which takes four times as long
    return event


def _of_token(record: Record) -> dict[str, Any]:
    return {
        "token": record.token,
        "uid": record.uid,
        "operation": plain(record.operation),
        "actor": plain(record.actor),
        "affinity": record.affinity,
        "attempt": record.attempt,
        "state": record.state,
        "parent": record.parent,
        "priority": int.__int__(record.priority),
        "tags": {plain(name): plain(value) for name, value in record.tags.items()} if record.tags else None,
    }


def json_of(event: Event) -> dict[str, Any]:
    """Return an event as JSON has it: what is unknown is absent."""
    found = {name: value for name, value in vars(event).items() if value is not None}
    if not event.lost:
        del found["lost"]
    return found


def text_of(record: Record) -> str:
    """Return a line that says what a record does."""
    token = f"token {record.token} ({plain(record.operation)} of '{plain(record.actor)}')"
    if not record.is_end:
        return f"{token} {record.kind.rpartition('.')[2]}"
    took = record.took
    text = f"{token} {'is tried again' if record.kind == RETRIED else record.state}"
    if took is not None:
        text += f" after {took:.3f} s"
    return f"{text}: {record.more.error}" if record.more.error else text


def _plain(values: Any) -> Any:
    return None if values is None else dict(values)
