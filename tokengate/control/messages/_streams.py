"""Streams: messages with many answers."""

from __future__ import annotations

from typing import Annotated, ClassVar

import attrs
from msgspec import Meta

from tokengate.control.messages._bases import Message


@attrs.frozen
class StreamItem:
    """Something that has happened.

    Attributes:
        at: seconds since the epoch.
        kind: `token_queued`, `token_started`, `token_finished`, `dead_letter`, or the name of an event's class
            (`RestartScheduled`).
        actor: path of the actor or operation that it is about; may be empty.
        token: id of the token that it is about, or None.
        text: a line that says it: `token 7 (resize of '/shop/resize') started`.
        lost: number of items before this one that were left out, because the reader is too slow.
    """

    at: float
    kind: str
    actor: str
    token: int | None
    text: str
    lost: int = 0


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
        gate_run: one opening of the gate, 8 hexadecimal digits.
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
        key: of the token, or a digest of the arguments of an attempt that has failed.
        trace_id, span_id: of its span, in hexadecimal digits.
        age: since the token was made.
        wait, run, held: queued, running, paused by operators; together its time since it was queued.
        worker: name of the thread or process at the end.
        steps: how many of its steps have begun.
        cpu: seconds of processor time.
        memory, memory_end: bytes of its process, the peak and the last.
        deadline: seconds from the making of the token to its deadline.
        limits: of its process, {name: bytes or seconds}.
        features, predicted: see prediction.
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


@attrs.frozen
class Stream(Message[StreamItem]):
    """Base of the messages with many answers, each a `StreamItem`, until the reader closes the stream.

    Returns:
        An iterator that waits for the next item, and misses nothing from now on. Close it with `close`, which wakes a
        thread that waits in it, or use it in a `with` block.
    """

    right: ClassVar[str] = "view"


@attrs.frozen
class Events(Stream):
    """Follow what the gate publishes: reports of supervisors, dead letters, blocked loops."""


@attrs.frozen
class Trace(Stream):
    """Follow the tokens of actors: queued, started, finished; it costs nothing once the stream is closed.

    Raises:
        UnknownActor: no actor has this name.
    """

    name: Annotated[str, Meta(description="A path, the last part of one, or a pattern with `*`.")]


@attrs.frozen
class Watch(Stream):
    """Follow tokens that a selector matches: queued, started, finished.

    Raises:
        BadSelector: the selector cannot be read.
    """

    select: Annotated[str, Meta(description="Which tokens: a selector; empty for all.")] = ""
