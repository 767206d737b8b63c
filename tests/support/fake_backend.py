"""A backend for a control socket in tests: answers, refuses and streams as the test sets it up."""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import attrs
import trio

from tokengate.control._admission import Caller
from tokengate.control.messages import Event, Message, Stream


@attrs.define
class FakeBackend:
    """A backend. It answers None to messages that the test has not set up. It may serve in another thread.

    Attributes:
        answers: {message class: the answer, an error to raise, or a function to await with the message}.
        items: what each stream yields first.
        last: raised by a stream after these; None lets it go on with the items of `send`.
        send: for more items; streams end when it is closed.
        asked: the messages, in order.
        followed: the streams that are open.
        opened: number of streams that have been opened.
        left: set when a stream is closed.
    """

    answers: dict[type[Message[Any]], Any] = attrs.field(factory=dict)
    items: tuple[Event, ...] = ()
    last: BaseException | None = None
    send: trio.MemorySendChannel[Event] = attrs.field(init=False)
    _more: trio.MemoryReceiveChannel[Event] = attrs.field(init=False)
    asked: list[Message[Any]] = attrs.field(factory=list)
    followed: list[Stream] = attrs.field(factory=list)
    opened: int = 0
    left: threading.Event = attrs.field(factory=threading.Event)

    def __attrs_post_init__(self) -> None:
        self.send, self._more = trio.open_memory_channel[Event](0)

    async def ask(self, message: Message[Any], _caller: Caller) -> Any:
        self.asked.append(message)
        await trio.lowlevel.checkpoint()
        return await self._answer(message)

    @asynccontextmanager
    async def follow(self, stream: Stream, _caller: Caller) -> AsyncIterator[AsyncIterator[Event]]:
        await trio.lowlevel.checkpoint()
        await self._answer(stream)
        self.followed.append(stream)
        self.opened += 1
        try:
            yield self._items()
        finally:
            self.followed.remove(stream)
            self.left.set()

    async def _answer(self, message: Message[Any]) -> Any:
        answer = self.answers.get(type(message))
        if isinstance(answer, BaseException):
            raise answer
        return await answer(message) if callable(answer) else answer

    async def _items(self) -> AsyncIterator[Event]:
        for item in self.items:
            await trio.lowlevel.checkpoint()
            yield item
        if self.last is not None:
            raise self.last
        async for item in self._more:
            yield item
