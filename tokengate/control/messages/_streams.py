"""Streams: messages with many answers."""

from __future__ import annotations

from typing import Annotated, ClassVar, Final

import attrs
from msgspec import Meta

from tokengate.control.messages._bases import Message


@attrs.frozen(kw_only=True, slots=False)  # so that all fields of one can be set at once
class Event:
    """Something that has happened: an attempt of a token that has ended (its record), or anything else.

    `at` is seconds since the epoch, durations are seconds, sizes bytes. What is unknown is None, and absent in JSON.

    Attributes:
        v: version of this form; within one, fields are added and never changed.
        seq: its place in the stream of this gate, from 1 on.
        kind: `token.finished`, `token.retried`; `token.queued`, `token.started`, `token.paused`, `token.resumed`,
            `token.dead_letter`; `actor.*`, `supervisor.*`, `policy.*`, `loop.blocked`, `gate.*`, `control.acted`, ...
        at: when; of a record, its end.
        gate: name of the gate.
        gate_run: one opening of the gate, 8 hexadecimal digits; empty for records of the audit log.
        text: a line that says it.
        lost: how many events before this one were left out of this feed, since its reader is too slow.
        details: values of a kind that is no token's, {name: text, number or truth value}.
        token: id of the token, or None.
        uid: the token over all runs of all gates; tokens that one token has run for share it.
        operation, affinity, parent, priority, tags: of the token.
        actor: path of the actor or operation; may be empty.
        attempt: 1 for the first one; 0 if none began.
        state: the token's; of a record, how it ended: `queued` if another attempt follows.
        error: name of the class of its error.
        reason: why it was refused, expired, joined or is tried again.
        key: of the token, or a digest of the arguments of an attempt that has failed, which is the same for equal
            arguments within one process.
        trace_id, span_id: of its span, in hexadecimal digits.
        age: since the token was made.
        wait, run, held: queued, running, paused by operators; together its time since it was queued.
        worker: name of the thread or process at the end.
        steps: how many of its steps have begun.
        cpu: seconds of processor time.
        memory, memory_end: bytes of its process, the peak and the last.
        deadline: seconds from the making of the token to its deadline.
        limits: of its process, {name: bytes or seconds}.
        features: {name: number}, by which it is predicted.
        predicted: what was predicted of it before it ran, {field of a selector: number}.
        weight: how many attempts the record stands for.
        steered: whether an operator or a rule has acted on it.
    """

    v: int = 1
    seq: int
    kind: str
    at: float
    gate: str
    gate_run: str
    text: str = ""
    lost: int = 0
    details: dict[str, str | int | float | bool] | None = None
    token: int | None = None
    uid: str | None = None
    operation: str | None = None
    actor: str | None = None
    affinity: str | None = None
    attempt: int | None = None
    state: str | None = None
    error: str | None = None
    reason: str | None = None
    parent: int | None = None
    priority: int | None = None
    tags: dict[str, str] | None = None
    key: str | None = None
    trace_id: str | None = None
    span_id: str | None = None
    age: float | None = None
    wait: float | None = None
    run: float | None = None
    held: float | None = None
    worker: str | None = None
    steps: int | None = None
    cpu: float | None = None
    memory: int | None = None
    memory_end: int | None = None
    deadline: float | None = None
    limits: dict[str, float] | None = None
    features: dict[str, str | int | float | bool] | None = None
    predicted: dict[str, float] | None = None
    weight: int | None = None
    steered: bool | None = None


KINDS: Final[dict[str, str]] = {
    "token.queued": "a mailbox has accepted it",
    "token.started": "its code begins, or another attempt of it",
    "token.paused": "none of its code runs until an operator lets it go on",
    "token.resumed": "it goes on, or is queued again",
    "token.retried": "an attempt has ended that another one is to follow: the record of the attempt",
    "token.finished": "it has ended: the record of its last attempt",
    "token.dead_letter": "it was not handled: refused, dropped, or queued when its actor ended",
    "actor.started": "an instance runs",
    "actor.ended": "an instance has ended",
    "supervisor.child_started": "a child has started, or has started again",
    "supervisor.child_declined": "a child has declined to start",
    "supervisor.child_start_failed": "a child did not start",
    "supervisor.child_ended": "a child has ended",
    "supervisor.restart_scheduled": "a child is restarted",
    "supervisor.child_stop_failed": "a child did not stop in its time, and was killed",
    "supervisor.gave_up": "a supervisor has given up",
    "supervisor.auto_shutdown": "a supervisor ends, since a significant child has",
    "loop.blocked": "code has held up a loop",
    "policy.breaker_changed": "a breaker has opened, has closed, or lets attempts probe",
    "policy.overload_changed": "tokens wait too long, or do no longer",
    "policy.policy_changed": "fields of a policy have other values",
    "policy.token_retried": "when the next attempt of a token is due",
    "policy.throttle_exceeded": "a token has begun beyond a throttle that only warns",
    "policy.transaction_stuck": "a rollback has left something that it could not undo",
    "control.acted": "a verb has changed something",
    "control.glass_broken": "a caller acts at once where another person's approval is needed",
    "journal.changed": "the journal cannot write, or accepts nothing; or this is over",
    "model.drifted": "what calls of an operation take has changed all at once",
    "model.estimator_off": "an estimator of the program is switched off, since it fails or is slow",
    "model.features_off": "features of an operation are switched off, since they fail or are slow",
    "model.leak": "the memory of a child process grows with each of its tokens",
    "rule.demoted": "a rule only observes from now on, since what it did was undone or did no good",
    "rule.frozen": "what rules ask for is refused from now on",
    "intervention": "what a rule did, or would have done, `intervention.` with what became of it",
    "gate.opened": "the gate is open",
    "gate.closing": "the gate begins to close",
    "clock.stepped": "the system's time was set",
    "telemetry.lost": "records were lost, by whom and how many",
    "event": "what code of the program publishes, `event.` with the name of its class",
}
"""{kind of an event: what has happened}. Rooms above add theirs; what stands before a dot means all that begin so."""


@attrs.frozen
class Stream(Message[Event]):
    """Base of the messages with many answers, each an `Event`, until the reader closes the stream.

    Returns:
        An iterator that waits for the next event, and misses nothing from now on. Close it with `close`, which wakes a
        thread that waits in it, or use it in a `with` block.
    """

    right: ClassVar[str] = "view"


@attrs.frozen
class Watch(Stream):
    """Follow what happens, until the stream is closed; after that it costs nothing.

    Without kinds, these are the events of tokens if there is a selector; without one all others, and
    `token.dead_letter`. An event comes within a tenth of a second.

    Raises:
        BadSelector: the selector cannot be read.
        BadRequest: there is no such kind.
    """

    examples: ClassVar[tuple[str, ...]] = (
        "watch",
        "watch tenant=acme,error=*",
        "watch actor=mailer --kind token.finished -n 10",
        "watch --kind supervisor --json >> restarts.jsonl",
    )
    select: Annotated[str, Meta(description="Which tokens: a selector of records, `*` for all.")] = ""
    kinds: Annotated[
        tuple[str, ...],
        Meta(description="Kinds of events, or what they begin with: `token.finished`, `supervisor`; none: see above."),
    ] = attrs.field(default=(), kw_only=True)
    buffer: Annotated[
        int, Meta(ge=1, le=100_000, description="Events that wait for a slow reader; `lost` counts what follows.")
    ] = attrs.field(default=1_000, kw_only=True)
