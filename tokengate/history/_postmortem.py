"""One zip with all that is known of a token: from a gate that runs, or from the files of one that does not.

Each part is the answer to a verb. So it has what the caller would see, and a part that it may not see is left out.
"""

from __future__ import annotations

import time
import zipfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import IO, Any, Final, TypeAlias

import attrs
import msgspec

from actors import TokenGateError
from tokengate.control import messages as m
from tokengate.control._exceptions import BadRequest, Refused, Unreachable
from tokengate.control._uids import uid_in
from tokengate.control.stream._events import json_of
from tokengate.durable._kinds import DurableTokens
from tokengate.history._kinds import HistoryRecords, Opening, ShowHistoryRecord, ShowOpening, ShowTokenLog
from tokengate.history._reader import Reader

Ask: TypeAlias = Callable[[m.Message[Any]], Any]
"""Sends a message of control, and returns the answer."""

_MINUTE: Final = 60.0
_MOST: Final = 5_000  # events of a part; an answer has a maximum of bytes
_PARENTS: Final = 32
_README: Final = (
    "Parts with the ending jsonl have an object a line: events in the form of `tokengate watch --json`, log lines, "
    "audit records. Times are seconds since the epoch. 'left_out' says which parts are missing, and why."
)


class Postmortem:
    """Collects the parts of a postmortem.

    Args:
        ask: sends messages; each has the rights of the caller.

    Attributes:
        index: what is in it: `token`, `gate`, `made`, `parts` with their numbers of entries, `left_out` with reasons.
    """

    def __init__(self, ask: Ask) -> None:
        self._ask = ask
        self._parts: dict[str, bytes] = {}
        self._counts: dict[str, int] = {}
        self._left_out: dict[str, str] = {}
        self.index: dict[str, Any] = {}

    def collect(self, name: str) -> None:
        """Collect all parts.

        Args:
            name: the token's uid, or its id.

        Raises:
            BadRequest: nothing is known of it, or an id is of several runs.
            TokenGateError: the gate does not answer.
        """
        opening: Opening | None = self._asked("gate.json", ShowOpening())
        here = None if opening is None else opening.gate_run
        events: tuple[m.Event, ...] = ()
        problem: BadRequest | None = None
        try:
            events = tuple(self._ask(ShowHistoryRecord(name)))
        except BadRequest as error:
            problem = error
        ran = [one for one in events if one.token is not None]
        runs = list(dict.fromkeys(one.gate_run for one in ran))
        durable = next((uid for uid in (name, *(one.uid or "" for one in ran)) if uid_in(uid)), "")
        if len(runs) > 1 and not durable:
            tokens = ", ".join(f"{run}.{name}" for run in sorted(runs))
            raise BadRequest(f"token {name} is of several runs: {tokens}; give one of these")
        run, id = _run_and_id(name, ran, here or "", is_durable=bool(durable))
        live: Any = None
        if durable or (here == run and id >= 0):
            live = self._asked("live.json", m.Describe(durable or id))
        if durable and live is not None:
            run, id = here or "", live.row.id
        rows = self._asked("", DurableTokens(durable), "journal") if durable else ()
        if problem is not None and live is None and not rows:
            raise problem
        if here != run:
            self._asked("gate.json", ShowOpening(run))
        self._put("token.jsonl", events)
        since = min((one.at - (one.age or 0.0) for one in events), default=time.time() - _MINUTE)
        until = time.time() if live is not None else max((one.at for one in ran), default=time.time())
        if live is not None:
            self._asked("stack.json", m.Stack(id))
            rights = self._asked("", m.Whoami(), "rights of the caller")
            if rights is not None and "arguments" not in rights.rights:
                self._leave_out("arguments", "they need the right 'arguments'; names, types and sizes are in live.json")
        else:
            self._leave_out("arguments", "history keeps none")
        self._relatives(events, live, run, id, since)
        minute = self._records(f"gate_run={run}", until - _MINUTE, until)
        self._put("minute.jsonl", [one for one in minute or () if one.token != id])
        audit = self._asked("", m.AuditRecords(f"token={id}", limit=1_000), "audit.jsonl")
        if audit is not None:  # ids begin anew in each run of a gate
            self._put("audit.jsonl", [one for one in audit if since - 1 <= one.at <= until + _MINUTE])
        if here != run:
            self._leave_out("log.jsonl", "log lines are in the memory of the process, which is another one, or gone")
        elif (log := self._asked("", ShowTokenLog(id), "log.jsonl")) is not None:
            self._put("log.jsonl", log)
        self._asked("tree.json", m.Tree("/", system=True))
        self._asked("figures.json", m.Info())
        self._put_row(durable, rows)
        self.index = {
            "v": 1, "token": durable or f"{run}.{id}", "gate": next((one.gate for one in events), ""),
            "made": time.time(), "about": _README, "parts": self._counts, "left_out": self._left_out,
        }  # fmt: skip

    def write(self, file: IO[bytes]) -> None:
        """Write the zip.

        Raises:
            OSError: it cannot be written.
        """
        with zipfile.ZipFile(file, "w") as zipped:
            self._write_parts(zipped)

    def _write_parts(self, zipped: zipfile.ZipFile) -> None:
        for name, data in {"index.json": _pretty(self.index), **self._parts}.items():
            zipped.writestr(name, data, zipfile.ZIP_DEFLATED)

    # Parts

    def _put_row(self, uid: str, rows: Sequence[Any] | None) -> None:
        """Keep the row of a durable token, or why there is none; None: that is said already."""
        if rows:
            self._put("journal.jsonl", rows)
        elif rows is not None:
            self._leave_out("journal", "its row was removed after the retention" if uid else "it is not durable")

    def _relatives(self, events: Iterable[m.Event], live: Any, run: str, id: int, since: float) -> None:
        parents: list[m.Event] = []
        parent = live.row.parent if live is not None else next((one.parent for one in events if one.parent), None)
        while parent is not None and len(parents) < _PARENTS:
            try:
                found = self._ask(ShowHistoryRecord(f"{run}.{parent}"))
            except TokenGateError as error:
                self._leave_out(f"parent {parent}", str(error))
                break
            parents += found
            parent = next((one.parent for one in found if one.token == parent and one.parent), None)
        self._put("parents.jsonl", parents)
        self._put("children.jsonl", self._records(f"gate_run={run},parent={id}", since, None) or ())

    def _records(self, select: str, since: float, until: float | None) -> tuple[m.Event, ...] | None:
        """Return records of a time; those that are missing are named in it, too."""
        times = ["" if at is None else datetime.fromtimestamp(at, UTC).isoformat() for at in (since, until)]
        asked = HistoryRecords(select, since=times[0], until=times[1], limit=_MOST)
        found: tuple[m.Event, ...] | None = self._asked("", asked, select)
        if found is not None and len(found) >= _MOST:
            self._leave_out(f"older records of {select}", f"only the newest {_MOST:,} are here")
        return found

    def _asked(self, part: str, message: m.Message[Any], what: str = "") -> Any:
        """Return an answer, and have it be a part; None, if the caller does not get it, with the reason."""
        try:
            answer = self._ask(message)
        except Unreachable:
            raise
        except TokenGateError as error:
            self._leave_out(part or what, f"{'not allowed: ' if isinstance(error, Refused) else ''}{error}")
            return None
        if part:
            self._parts[part], self._counts[part] = _pretty(answer), 1
            self._left_out.pop(part, None)
        return answer

    def _leave_out(self, part: str, why: str) -> None:
        self._left_out[part] = why

    def _put(self, part: str, entries: Iterable[Any]) -> None:
        lines = [_json({name: value for name, value in _fields(one).items() if value is not None}) for one in entries]
        self._parts[part], self._counts[part] = b"".join(line + b"\n" for line in lines), len(lines)


class Offline:
    """Answers what the files of a gate that does not run say.

    Args:
        reader: of its history.
        audit: returns so many rows of the audit log of a gate that a selector matches.
    """

    def __init__(self, reader: Reader, audit: Callable[[str, str, int], tuple[m.AuditRecordRow, ...]]) -> None:
        self._reader = reader
        self._audit = audit
        self._gate = ""

    def ask(self, message: m.Message[Any]) -> Any:
        """Answer a message.

        Raises:
            BadRequest: nothing is known.
            TokenGateError: only a gate that runs can answer it.
        """
        match message:
            case ShowHistoryRecord():
                found = self._reader.show(message.name)
                self._gate = found[0].gate
                return found
            case HistoryRecords():
                times: Mapping[str, Any] = {"since": message.since, "until": message.until, "limit": message.limit}
                return self._reader.records(message.select, **times)
            case DurableTokens():
                from tokengate.durable._offline import ask  # here: few have a journal

                return ask(self._reader.directory, message)
            case ShowOpening() if message.gate_run:
                return self._reader.opening(message.gate_run)
            case m.AuditRecords():
                try:
                    return self._audit(self._gate, message.select, message.limit)
                except OSError as error:
                    why = f"{error.filename}: {error.strerror}" if error.filename else error
                    raise TokenGateError(f"no audit log can be read: {why}; --audit names another directory") from None
        raise TokenGateError("the gate does not run, and its files do not have it")


def _run_and_id(name: str, ran: Sequence[m.Event], here: str, *, is_durable: bool) -> tuple[str, int]:
    """Return the last run of a token by what is known of it, and its id there; -1 if it is unknown."""
    prefix, _, number = name.rpartition(".")
    run = ran[-1].gate_run if ran else here if is_durable else prefix or here
    if is_durable:
        return run, (ran[-1].token if ran else None) or -1
    return run, int(number) if number.isdecimal() and len(number) <= 18 else -1


def _fields(one: Any) -> Mapping[str, Any]:
    return json_of(one) if isinstance(one, m.Event) else attrs.asdict(one, recurse=False)


def _json(value: Any) -> bytes:
    return msgspec.json.encode(value, enc_hook=str)


def _pretty(value: Any) -> bytes:
    return msgspec.json.format(_json(value)) + b"\n"
