"""What is recorded: attempts of tokens, and what else happens.

What the threads of tokens make is a tuple of plain values, since that takes them least time: `Raw`. Times are those of
the gate's clock, and no object of a token is in it. A reader of the stream unpacks the tuples, or asks for a `Record`
of each; `event_of` makes the public form of that.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, Final, NamedTuple, TypeAlias

from tokengate.control._uids import parts_of

FINISHED: Final = "token.finished"
RETRIED: Final = "token.retried"
LOST: Final = "telemetry.lost"

ENDS: Final = ("completed", "failed", "terminated", "expired", "rejected")
"""The states in which tokens end."""


class More(NamedTuple):
    """What few attempts have.

    Attributes:
        error: name of the error's class; empty: none.
        reason: why it was refused, expired, joined or is tried again.
        key: of the token, or a digest of the arguments of an attempt that failed; empty: neither.
        trace_id, span_id: of its span, in hexadecimal digits; empty: none.
        kept: seconds for which operators paused it while it was queued.
        parked: the same while it ran.
        steered: whether an operator or a rule has acted on it.
        uid: id of the token that ran for it, of a durable one with its run from bit 40 on; 0: itself.
        deadline: seconds from its making to its deadline.
        cpu: seconds of processor time.
        memory, memory_end: bytes of its process, the peak and the last.
        limits: {name: bytes or seconds} of a process.
        features: {name: number}, by which it is predicted.
        predicted: what was predicted of it before it ran, {field of a selector: number}.
    """

    error: str = ""
    reason: str = ""
    key: str = ""
    trace_id: str = ""
    span_id: str = ""
    kept: float = 0.0
    parked: float = 0.0
    steered: bool = False
    uid: int = 0
    deadline: float | None = None
    cpu: float | None = None
    memory: int | None = None
    memory_end: int | None = None
    limits: Mapping[str, float] | None = None
    features: Mapping[str, Any] | None = None
    predicted: Mapping[str, float] | None = None


NO_MORE: Final = More()


class Measured:
    """What was measured of a token that has not ended.

    Attributes:
        cpu: seconds of processor time; None where that is unknown.
        thread: ident of the thread on which its code runs now; 0: it runs on none, or elsewhere.
        at: processor time of that thread when the code began to run there.
        memory, memory_end: bytes of its process, the peak and the last.
    """

    __slots__ = ("at", "cpu", "memory", "memory_end", "thread")

    def __init__(self, cpu: float | None = None) -> None:
        self.cpu = cpu
        self.thread = 0
        self.at = 0.0
        self.memory: int | None = None
        self.memory_end: int | None = None

    def note_memory(self, size: int) -> None:
        """Note the present memory of its process."""
        self.memory = size if self.memory is None else max(self.memory, size)
        self.memory_end = size

    def values(self) -> tuple[float | None, int | None, int | None]:
        """Return processor time, peak and last memory, at the end of an attempt, on the thread where that is."""
        cpu = self.cpu
        if self.thread == threading.get_ident() and cpu is not None:
            cpu += time.thread_time() - self.at
        elif self.thread:
            cpu = None  # it was ended from elsewhere while its code ran
        return cpu, self.memory, self.memory_end


class Record(NamedTuple):
    """An attempt of a token that has ended, or another moment of a token.

    Attributes:
        number: its place in the stream, from 1 on; what is missing was lost.
        kind: `token.finished`, `token.retried`; `token.queued`, `token.started`, `token.paused`, `token.resumed`.
        token: its id.
        operation, actor, affinity, parent, priority, tags, steps: of the token.
        attempt: 1 for the first one; 0 if none began.
        state: how it ended, or the state that it is in.
        created, queued, started, ended: seconds of the gate's clock; None until then. `ended` is the moment of a kind
            that is no end.
        worker: name of the thread or process at the end; empty where unknown.
        weight: how many attempts it stands for.
        more: what few attempts have.
        run: the opening of the gate, 8 hexadecimal digits.
    """

    number: int
    kind: str
    token: int
    operation: str
    actor: str
    affinity: str
    parent: int | None
    priority: int
    tags: Mapping[str, str]
    steps: int
    attempt: int
    state: str
    created: float
    queued: float | None
    started: float | None
    ended: float
    worker: str
    weight: int
    more: More
    run: str

    @property
    def uid(self) -> str:
        """The token over all runs; those that one token has run for share it."""
        run, id = parts_of(self.more.uid or self.token)
        return f"{run or self.run}.{id}"

    @property
    def is_end(self) -> bool:
        """Whether an attempt has ended."""
        return self.kind in (FINISHED, RETRIED)

    @property
    def held(self) -> float:
        """Seconds paused by operators."""
        return self.more.kept + self.more.parked

    @property
    def wait(self) -> float:
        """Seconds queued, without pauses."""
        since = self.created if self.queued is None else self.queued
        until = self.ended if self.started is None else self.started
        return max(0.0, until - since - self.more.kept)

    @property
    def took(self) -> float | None:
        """Seconds running, without pauses; None if it never began."""
        if self.started is None:
            return None
        return max(0.0, self.ended - self.started - self.more.parked)


class Happening(NamedTuple):
    """Something else that has happened.

    Attributes:
        number: its place in the stream.
        kind: `actor.started`, `supervisor.gave_up`, `loop.blocked`, ...
        ended: when, in seconds of the gate's clock.
        actor: path of the actor or operation that it is about; may be empty.
        token: id of the token that it is about, or None.
        operation: of that token; may be empty.
        text: a line that says it.
        details: values of the kind, of types that JSON has.
        about: what a caller must be allowed to see in order to see this: the token's record, `place` for the actor,
            `gate` for the whole gate.
        run: the opening of the gate.
    """

    number: int
    kind: str
    ended: float
    actor: str
    token: int | None
    operation: str
    text: str
    details: Mapping[str, Any]
    about: Record | str
    run: str


def as_record(one: Happening) -> Record:
    """Return what selectors can ask of something that is no attempt: what it is about, as far as it says so."""
    return Record(
        one.number, one.kind, one.token or 0, one.operation, one.actor, "", None, 0, _NO_TAGS, 0, 0, "", one.ended,
        None, None, one.ended, "", 1, NO_MORE, one.run,
    )  # fmt: skip


Entry: TypeAlias = Record | Happening
"""An item of the stream."""

Raw: TypeAlias = tuple[Any, ...]
"""What a thread makes of a moment of a token; tags and more are None if there are none, `worker` is the thread's ident:
`(number, token, operation, actor, affinity, parent, priority, tags, steps, attempt, state, created, queued, started,
ended, worker, weight, kind, more)`."""

_NO_TAGS: Final[Mapping[str, str]] = MappingProxyType({})
_new: Final = tuple.__new__


def record_of(raw: Raw, run: str, workers: Mapping[int, str]) -> Record:
    """Return the record of a raw one.

    Args:
        raw: what a thread has made.
        run: the opening of the gate.
        workers: {ident of a thread: its name}.
    """
    (
        number, token, operation, actor, affinity, parent, priority, tags, steps, attempt, state, created, queued,
        started, ended, worker, weight, kind, more,
    ) = raw  # fmt: skip
    return _new(
        Record,
        (
            number, kind, token, operation, actor, affinity, parent, priority, tags or _NO_TAGS, steps, attempt, state,
            created, queued, started, ended, workers.get(worker, ""), weight, more or NO_MORE, run,
        ),
    )  # fmt: skip


class Batch:
    """What the thread of the stream passes on at once.

    Args:
        items: what was recorded, in order.
        run: the opening of the gate.

    Attributes:
        items: raw records, and what else has happened.
    """

    def __init__(self, items: Sequence[Raw | Happening], run: str) -> None:
        self.items = items
        self._run = run
        self._entries: list[Entry] | None = None

    @property
    def entries(self) -> list[Entry]:
        """The same with a `Record` in the place of each raw one; made once."""
        if self._entries is None:
            workers, run = _workers(), self._run
            self._entries = [
                item if isinstance(item, Happening) else record_of(item, run, workers) for item in self.items
            ]
        return self._entries


def _workers() -> dict[int, str]:
    return {thread.ident: thread.name for thread in threading.enumerate() if thread.ident is not None}
