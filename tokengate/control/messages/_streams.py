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
