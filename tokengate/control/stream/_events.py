"""The public form of what is recorded."""

from __future__ import annotations

from typing import Any, Final

import attrs

from tokengate.control._safe_text import plain
from tokengate.control.messages import Event
from tokengate.control.stream._record import NO_MORE, RETRIED, Entry, Happening, Record
from tokengate.control.stream._stream import Stream

_new: Final = object.__new__
_set: Final = object.__setattr__

_UNKNOWN: Final[dict[str, Any]] = {field.name: field.default for field in attrs.fields(Event)}
"""{field of an event: its value where that is unknown}; those without one are always set."""

_DONE: Final = {
    "token.queued": "was queued",
    "token.started": "began",
    "token.paused": "was paused",
    "token.resumed": "goes on",
}


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
        return Event(
            seq=entry.number, kind=entry.kind, at=at, gate=gate, gate_run=entry.run, text=entry.text,
            details=dict(entry.details) or None, token=entry.token, actor=entry.actor,
            operation=entry.operation or None, uid=None if entry.token is None else f"{entry.run}.{entry.token}",
        )  # fmt: skip
    more, ends = entry.more, entry.is_end
    fields = {
        **_UNKNOWN,
        "seq": entry.number,
        "kind": entry.kind,
        "at": at,
        "gate": gate,
        "gate_run": entry.run,
        "text": text_of(entry),
        "token": entry.token,
        "uid": entry.uid,
        "operation": plain(entry.operation),
        "actor": plain(entry.actor),
        "affinity": entry.affinity,
        "attempt": entry.attempt,
        "state": entry.state,
        "parent": entry.parent,
        "priority": int.__int__(entry.priority),
        "tags": {plain(name): plain(value) for name, value in entry.tags.items()},
        "age": entry.ended - entry.created,
        "worker": entry.worker or None,
        "steps": entry.steps,
    }
    if ends:
        fields["wait"], fields["run"], fields["held"] = entry.wait, entry.took, entry.held
        fields["weight"] = entry.weight
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


def text_of(record: Record) -> str:
    """Return a line that says what a record does."""
    token = f"token {record.token} ({plain(record.operation)} of '{plain(record.actor)}')"
    if not record.is_end:
        return f"{token} {_DONE.get(record.kind, record.kind)}"
    took = record.took
    text = f"{token} {'is tried again' if record.kind == RETRIED else record.state}"
    if took is not None:
        text += f" after {took:.3f} s"
    return f"{text}: {record.more.error}" if record.more.error else text


def _plain(values: Any) -> Any:
    return None if values is None else dict(values)
