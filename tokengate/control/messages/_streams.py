"""Streams: what is answered by one item after the other."""

from __future__ import annotations

from typing import Any, ClassVar

import attrs

from tokengate.control.messages._bases import Message


@attrs.frozen
class StreamItem:
    """One thing that has happened.

    Attributes:
        at: seconds since the epoch.
        kind: `token_queued`, `token_started`, `token_finished`, `dead_letter`, or the name of an event's class
            (`RestartScheduled`).
        actor: path of the place it is about; may be empty.
        token: id of the token it is about, or None.
        text: all of it in words, on one line: `token 7 (resize of '/shop/resize') started`.
        lost: how many items before this one were left out, since whoever listens is too slow.
    """

    at: float
    kind: str
    actor: str
    token: int | None
    text: str
    lost: int = 0


@attrs.frozen
class Stream(Message):
    """Base of what is answered by one `StreamItem` after the other until whoever listens goes."""

    answer: ClassVar[Any] = StreamItem


@attrs.frozen
class Events(Stream):
    """Follow what is published: reports of supervisors, dead letters, blocked loops."""


@attrs.frozen
class Trace(Stream):
    """Follow the tokens of one actor: queued, started, finished; off again when nobody listens.

    Attributes:
        name: a path, the last part of one, or a pattern with `*`.
    """

    name: str


@attrs.frozen
class Watch(Stream):
    """Follow tokens that a selector matches: queued, started, finished."""

    selector: str = ""
