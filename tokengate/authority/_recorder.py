"""What is recorded of messages: what is about to be done, what came of it, what was refused."""

from __future__ import annotations

import itertools
import threading
import weakref
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import attrs

from actors import ActorSystem, Token
from tokengate.control import messages as m
from tokengate.control._admission import Admission, Caller
from tokengate.control._exceptions import AuditUnavailable, ControlError
from tokengate.control._safe_text import class_name, plain
from tokengate.control.inspection._feeds import Feed
from tokengate.control.messages import ENVELOPE, ActorOutcome, Change, Message, Outcome, verb_of

if TYPE_CHECKING:  # here, so that a gate that records nothing loads no log
    from tokengate.audit._log import AuditLog
    from tokengate.audit._record import Entry

_Read: TypeAlias = Callable[[bytes], m.Event | None]
"""Returns a line as an event; None if it is not wanted."""

_EVERY: Final = 2**63  # more than the number of any record

_GO_ON: Final = (m.Resume, m.Unsuspend, m.Lift)
"""The verbs that are done while nothing can be recorded; their records follow."""

_KEPT: Final = 1_000  # targets of which values before and after, and other outcomes, are recorded


class Recorder:
    """Records what comes through the door; nothing while it has no log.

    Args:
        gate: its name.
        system: of the gate.

    Attributes:
        gate: its name.
    """

    def __init__(self, gate: str, system: ActorSystem) -> None:
        self.gate = gate
        self._system = system
        self._log: AuditLog | None = None
        self._wanted: tuple[Path | None, bool, float | None] | None = None
        self._requests = itertools.count(1)
        self._lock = threading.Lock()
        self._readers: dict[object, tuple[weakref.ref[Feed[m.Event]], _Read]] = {}

    @property
    def log(self) -> AuditLog | None:
        """The log; None while nothing is recorded."""
        return self._log

    def record_to(self, directory: Path | None, retain: float | None, *, strict: bool) -> None:
        """Record from now on.

        Args:
            directory: of the log; None for the usual one of the gate.
            retain: seconds that records are kept; None: for ever.
            strict: whether what cannot be recorded is refused.
        """
        from tokengate.audit._log import AuditLog

        with self._lock:
            wanted = (directory, strict, retain)
            if wanted == self._wanted or (self._log is not None and not strict):
                return
            before, self._wanted = self._log, wanted
            self._log = AuditLog(directory, self.gate, strict=strict, retain=retain, told=self._tell)
        if before is not None:
            threading.Thread(target=before.close, name=f"{self.gate}-audit-closing").start()

    def close(self) -> None:
        """Write what is left; blocks for two seconds at most."""
        if self._log is not None:
            self._log.close()

    def end_streams(self) -> None:
        """End what follows the log."""
        for found, _ in list(self._readers.values()):
            if (feed := found()) is not None:
                feed.close()

    def disown(self) -> None:
        """Leave the log to the parent process, in a forked child."""
        if self._log is not None:
            self._log.disown()

    async def intend(self, admission: Admission, ids: Sequence[int], path: str, proposal: int | None) -> int | None:
        """Record what is about to be done; return the number of the record, None without a log.

        Raises:
            AuditUnavailable: it is not on disk, so nothing must be done.
        """
        if self._log is None:
            return None
        message = admission.message
        entry = self._entry(
            "intent", admission.caller, message,
            request=admission.caller.request or str(next(self._requests)), targets=tuple(ids),
            paths=(path,) if path else (), proposal=proposal, before=self._values(message, ids),
        )  # fmt: skip
        if isinstance(message, _GO_ON) or entry.break_glass:
            return await self._log.release(entry)
        return await self._log.intend(entry)

    def conclude(
        self, admission: Admission, intent: int, ids: Sequence[int], answer: object, error: BaseException | None
    ) -> None:
        """Record what came of it."""
        if self._log is None:
            return
        outcomes = [one for one in answer if isinstance(one, Outcome)] if isinstance(answer, tuple) else []
        words = Counter(one.outcome for one in outcomes)
        most = words.most_common(1)[0][0] if words else ""
        others = {str(one.token): one.outcome for one in outcomes if one.outcome != most}
        if isinstance(answer, ActorOutcome):
            words[answer.outcome] += 1
        elif not outcomes:
            words["failed" if error is not None else "done"] += 1
        made = self._entry(
            "outcome", admission.caller, admission.message,
            of=intent, after=self._values(admission.message, ids), outcome=dict(words),
            exceptions=dict(itertools.islice(others.items(), _KEPT)),
        )  # fmt: skip
        self._log.add(attrs.evolve(made, args={}, reason="" if error is None else class_name(type(error))))

    def refused(self, caller: Caller, message: Message[Any], why: str) -> None:
        """Record a refusal; those that follow soon are counted."""
        if self._log is not None:
            self._log.refused(attrs.evolve(self._entry("refused", caller, message), args={}, reason=why))

    def note(self, kind: str, caller: Caller, message: Message[Any], **fields: Any) -> None:
        """Record something that needs no answer: a read of values, or what becomes of a proposal."""
        if self._log is not None:
            self._log.add(self._entry(kind, caller, message, **fields))

    async def reading(self, admission: Admission) -> tuple[Path | None, int]:
        """Record that the log is read; return its directory, and the number of the last record before that.

        What was recorded until then is on disk, unless that fails. The directory is None if there is nothing on disk.

        Raises:
            ControlError: there is no log.
        """
        if self._log is None:
            raise ControlError(
                "this gate has no audit log; it has one with [[grant]], [approvals] or [audit] in its file"
            )
        try:
            seq = await self._log.release(self._entry("read", admission.caller, admission.message))
        except AuditUnavailable:  # which prevents no viewing
            seq = 0
        return self._log.path, seq - 1 if seq else _EVERY

    def follow(self, read: _Read) -> Feed[m.Event]:
        """Return a feed of the lines that are written from now on, as far as a function makes events of them."""
        key = object()
        made: Feed[m.Event] = Feed(lambda: self._readers.pop(key, None), lambda event: event)
        self._readers[key] = weakref.ref(made), read
        return made

    def _tell(self, lines: list[bytes]) -> None:
        """Have what follows the log know about lines, in the thread that has written them."""
        for key, (found, read) in list(self._readers.items()):
            feed = found()
            if feed is None:
                self._readers.pop(key, None)
            else:
                feed.put(filter(None, map(read, lines)))

    def _entry(self, kind: str, caller: Caller, message: Message[Any], **fields: Any) -> Entry:
        from tokengate.audit._record import Entry

        select = fields.pop("selector", "") or getattr(message, "select", "")
        if isinstance(message, Change):
            fields = {"reason": message.reason, "break_glass": message.break_glass, **fields}
        fields.setdefault("request", caller.request)
        return Entry(
            kind=kind,
            caller=caller,
            verb=verb_of(type(message)),
            args=_arguments(message),
            selector=select if isinstance(select, str) else "",
            **fields,
        )

    def _values(self, message: Message[Any], ids: Sequence[int]) -> Mapping[str, Any]:
        """Return {id: what the verb changes of that token}, of the first ones that are live."""
        read = _CHANGED.get(type(message))
        if read is None:
            return {}
        live = ((id, self._system.live.get(id)) for id in itertools.islice(ids, _KEPT))
        return {str(id): read(token) for id, token in live if token is not None}


def _arguments(message: Message[Any]) -> dict[str, Any]:
    """Return the arguments of a verb; of those that carry values of a program, the names."""
    found: dict[str, Any] = {}
    for field in attrs.fields(type(message)):
        if field.name in (*ENVELOPE, "select"):
            continue
        value = getattr(message, field.name)
        if field.name in message.unrecorded:
            value = sorted(value) if isinstance(value, dict) else class_name(type(value))
        found[field.name] = value
    return found


def _tags(token: Token[Any]) -> dict[str, str]:
    return {plain(name): plain(value) for name, value in token.tags.items()}


_CHANGED: Final[Mapping[type[Message[Any]], Any]] = {
    m.Renice: lambda token: int.__int__(token.priority),
    m.Retag: _tags,
    m.Reroute: lambda token: plain(token.actor),
    m.Preempt: lambda token: {"attempt": token.attempt, "actor": plain(token.actor)},
}
"""{verb: returns what it changes of a token}."""
