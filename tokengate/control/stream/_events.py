"""The public form of what is recorded."""

from __future__ import annotations

from typing import Any, Final

from tokengate.control._safe_text import plain
from tokengate.control.messages import Event
from tokengate.control.stream._record import RETRIED, Entry, Happening, Record
from tokengate.control.stream._stream import Stream

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
    more = entry.more
    ends = entry.is_end
    return Event(
        seq=entry.number,
        kind=entry.kind,
        at=at,
        gate=gate,
        gate_run=entry.run,
        text=text_of(entry),
        token=entry.token,
        uid=entry.uid,
        operation=plain(entry.operation),
        actor=plain(entry.actor),
        affinity=entry.affinity,
        attempt=entry.attempt,
        state=entry.state,
        error=more.error or None,
        reason=more.reason or None,
        parent=entry.parent,
        priority=int.__int__(entry.priority),
        tags={plain(name): plain(value) for name, value in entry.tags.items()},
        key=more.key or None,
        trace_id=more.trace_id or None,
        span_id=more.span_id or None,
        age=entry.ended - entry.created,
        wait=entry.wait if ends else None,
        run=entry.took if ends else None,
        held=entry.held if ends else None,
        worker=entry.worker or None,
        steps=entry.steps,
        cpu=more.cpu,
        memory=more.memory,
        memory_end=more.memory_end,
        deadline=more.deadline,
        limits=_plain(more.limits),
        features=_plain(more.features),
        predicted=_plain(more.predicted),
        weight=entry.weight if ends else None,
        steered=(more.steered or None) if ends else None,
    )


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
