"""Events of JSON lines, as `watch --json` and `history --json` print them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, Final

import msgspec

from tokengate.control import parse
from tokengate.control.inspection._selector import RECORD_FIELDS
from tokengate.control.messages import Event
from tokengate.control.stream._record import More, Record

_REMEDY: Final = "each line must be an event, as 'tokengate watch --json' and 'tokengate history --json' print them"


def events_of(lines: Iterable[bytes], name: str, lacks: list[str]) -> Iterator[Event]:
    """Return the events of the lines of a file, as they are read; empty lines are left out.

    Args:
        lines: each with its newline.
        name: of the file, for errors.
        lacks: gets a line if the last event was not written completely.

    Raises:
        ValueError: a line is no event, or of a later version; the message has the file, the line's number and the
            remedy.
    """
    decode = msgspec.json.Decoder(Event).decode
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            event = decode(line)
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            if not line.endswith(b"\n") and isinstance(error, msgspec.DecodeError) and "truncated" in str(error):
                lacks.append(f"the last line of {name}, which is not whole")
                return
            raise ValueError(f"{name}, line {number}: {error}; {_REMEDY}") from None
        if event.v != 1:
            raise ValueError(f"{name}, line {number}: version {event.v} of events; this tokengate reads version 1")
        yield event


def chosen(events: Iterable[Event], select: str, now: float) -> Iterator[Event]:
    """Return those events of tokens whose records a selector matches, and all that are of no token.

    Args:
        events: all.
        select: the selector, of records.
        now: seconds since the epoch, from which `finished` counts back.

    Raises:
        BadSelector: the selector cannot be read.
    """
    selector = parse(select, RECORD_FIELDS)
    return (
        event
        for event in events
        if event.token is None or selector.all or selector.matches(record_of_event(event), now)
    )


def record_of_event(event: Event) -> Any:
    """Return the `Record` of an event of a token; which pauses were before its run is not known."""
    held = event.held or 0.0
    started = None if event.run is None else event.at - event.run - held
    since = (event.at if started is None else started) - (event.wait or 0.0)
    more = More(
        error=event.error or "", reason=event.reason or "", key=event.key or "", kept=0.0 if started else held,
        parked=held if started else 0.0, steered=bool(event.steered), deadline=event.deadline, cpu=event.cpu,
        memory=event.memory, features=event.features, predicted=event.predicted,
    )  # fmt: skip
    return Record(
        event.seq, event.kind, event.token or 0, event.operation or "", event.actor or "", event.affinity or "",
        event.parent, event.priority or 0, event.tags or {}, event.steps or 0, event.attempt or 0, event.state or "",
        event.at - (event.age or 0.0), since, started, event.at, event.worker or "", event.weight or 1, more,
        event.gate_run,
    )  # fmt: skip
