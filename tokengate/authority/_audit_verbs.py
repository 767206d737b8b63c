"""The answers to verbs about the audit log. Its files are read in threads, as a disk and long logs take their time."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from functools import partial
from itertools import islice
from operator import attrgetter
from pathlib import Path
from typing import Any, Final, TypeVar, cast

import attrs

from tokengate.authority._recorder import Recorder
from tokengate.control import messages as m
from tokengate.control._admission import admission
from tokengate.control._exceptions import ControlError
from tokengate.control.inspection._feeds import Feed
from tokengate.control.inspection._off_loop import OffLoop
from tokengate.control.inspection._selector import Fields, Selector, parse

A = TypeVar("A")

_SECONDS = 5.0  # for the search of records
_SHOWN = 60  # characters of ids in a row
_ALL: Final = 2**63  # no record has a higher number
_MOST: Final = 1_000_000  # ids of a record that are compared

_threads = OffLoop("reading of audit logs", 2)


@attrs.frozen
class _Targets:
    count: int = 0
    ids: str = ""


@attrs.frozen
class _Record:
    """What rows and selectors have of a record."""

    seq: int
    at: float
    kind: str
    principal: str = ""
    owner: int | None = None
    via: str = ""
    verb: str = ""
    request: str = ""
    targets: _Targets = _Targets()
    paths: tuple[str, ...] = ()
    outcome: dict[str, Any] = attrs.field(factory=dict)
    of: int | None = None
    proposal: int | None = None
    reason: str = ""
    break_glass: str = ""


def _ids(one: _Record, _now: float) -> Iterator[int]:
    """Return the ids of tokens, which are in a record as ranges: `3-7,12`."""
    ranges = (found.groups() for found in re.finditer(r"(\d{1,18})(?:-(\d{1,18}))?", one.targets.ids))
    return islice((id for first, last in ranges for id in range(int(first), int(last or first) + 1)), _MOST)


def _reading(*names: str) -> dict[str, Callable[[Any, float], Any]]:
    def read(name: str) -> Callable[[Any, float], Any]:
        get = attrgetter(name)
        return lambda one, _now: None if (found := get(one)) == "" else found

    return {name: read(name) for name in names}


_FIELDS: Final = Fields(
    texts={
        **_reading("principal", "kind", "verb", "via", "request", "outcome"),
        "actor": lambda one, _now: one.paths,
    },
    numbers={**_reading("seq", "owner", "proposal", "of"), "token": _ids},
    seconds={"age": lambda one, now: now - one.at},
    many=("outcome", "actor", "token"),
)


class AuditVerbs:
    """The verbs about the audit log.

    Args:
        recorder: of the gate.
    """

    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder

    async def audit_records(self, message: m.AuditRecords) -> tuple[m.AuditRecordRow, ...]:
        selector = parse(message.select, _FIELDS)
        directory, through = await self._recorder.reading(admission())
        found = await _read(partial(_search, directory, through, selector, message.limit))
        return tuple(map(_row, found))

    async def show_audit_record(self, message: m.ShowAuditRecord) -> m.AuditRecord:
        from tokengate.audit._read import decoded, newest

        directory, _ = await self._recorder.reading(admission())
        line = await _read(lambda: next(newest(directory, message.seq), b"") if directory is not None else b"")
        record, fields = decoded(line, _Record), decoded(line, dict)
        if record is None or fields is None or record.seq != message.seq:
            raise ControlError(f"the audit log has no record {message.seq}; 'tokengate audit' lists the newest ones")
        return m.AuditRecord(_row(record), fields)

    async def follow_audit(self, message: m.FollowAudit) -> Feed[m.Event]:
        selector = parse(message.select, _FIELDS)
        await self._recorder.reading(admission())
        return self._recorder.follow(partial(_event, self._recorder.gate, selector))


def rows_of(directory: Path | None, select: str, limit: int) -> tuple[m.AuditRecordRow, ...]:
    """Return the newest records of a log that match, the newest last; of a gate that does not run.

    Raises:
        OSError: the log cannot be read.
        ControlError: the search takes too long.
    """
    found = _search(directory, _ALL, parse(select, _FIELDS), limit)
    if found is None:
        raise ControlError(f"the audit log is too long to be searched in {_SECONDS:g} s")
    return tuple(map(_row, found))


async def _read(function: Callable[[], A | None]) -> A:
    """Return what a function reads of the log in a thread.

    Raises:
        ControlError: it cannot, or it takes too long.
    """
    try:
        found = await _threads.run(_SECONDS, function)
    except OSError as error:
        raise ControlError(f"the audit log cannot be read: {error}") from error
    if found is None:
        raise ControlError(
            f"the audit log is too long to be searched in {_SECONDS:g} s; add seq>N, or use a lower limit"
        )
    return found


def _search(directory: Path | None, through: int, selector: Selector, limit: int) -> list[_Record] | None:
    """Return the newest records that match, the newest last; None if the time is over."""
    from tokengate.audit._read import decoded, newest  # here, so that a gate that records nothing loads no log

    found: list[_Record] = []
    now, until = time.time(), time.monotonic() + _SECONDS
    after = [part.test for part in selector.parts if part.name == "seq" and part.op in (">", ">=")]
    for line in newest(directory, through) if directory is not None else ():
        one = decoded(line, _Record)
        if one is not None and _matches(selector, one, now):
            found.append(one)
        if len(found) == limit or (one is not None and not all(test(cast("Any", one), now) for test in after)):
            break
        if time.monotonic() > until:
            return None
    return found[::-1]


def _matches(selector: Selector, one: _Record, now: float) -> bool:
    return selector.matches(cast("Any", one), now)


def _row(one: _Record) -> m.AuditRecordRow:
    ids = one.targets.ids if len(one.targets.ids) <= _SHOWN else f"{one.targets.count:,} tokens"
    outcome = ", ".join(f"{count} {word}" for word, count in one.outcome.items())
    glass = f"broken glass: {one.break_glass}" if one.break_glass else ""
    return m.AuditRecordRow(
        one.seq, one.at, one.kind, one.principal, one.owner, one.via, one.verb, ", ".join(one.paths) or ids,
        outcome, one.of, one.proposal, "; ".join(filter(None, (one.reason, glass))),
    )  # fmt: skip


def _event(gate: str, selector: Selector, line: bytes) -> m.Event | None:
    """Return a record as an event; None if it does not match."""
    from tokengate.audit._read import decoded

    one = decoded(line, _Record)
    if one is None or not _matches(selector, one, time.time()):
        return None
    row = _row(one)
    text = " ".join(filter(None, (f"record {row.seq}:", row.principal, row.verb, row.target, row.outcome)))
    token = int(one.targets.ids) if one.targets.count == 1 and one.targets.ids.isdecimal() else None
    return m.Event(
        seq=row.seq, kind=f"audit.{row.kind}", at=row.at, gate=gate, gate_run="", token=token,
        actor=", ".join(one.paths) or None, text=f"{text} ({row.reason})" if row.reason else text,
    )  # fmt: skip
