"""Streams of gates, which equal readers share."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from typing import Final, Self

from tokengate.admin._link import Link, key_of
from tokengate.admin._principal import Principal
from tokengate.admin._problems import Problem
from tokengate.control.messages import Stream

_ROOM = 256 * 1024  # bytes of items that wait for a reader
_TURN = _ROOM // 8  # bytes of items after which readers get a turn
_STREAMS: Final = 32  # of a gate that are no equals: each has a connection, of which the gate has 64


class Reader(AsyncIterator[bytes]):
    """What one reader gets of a stream: its items, each as the JSON of an `Event`.

    It ends as the stream does. Waiting for an item may be cancelled, as `asyncio.timeout` does: no item is lost by
    that, and the reader may go on. Items for which it has no room are left out, and counted.

    Raises:
        Problem: while an item is waited for: the gate has gone, or has ended the stream with an error.
    """

    def __init__(self) -> None:
        self._items: deque[bytes] = deque()
        self._bytes = 0
        self._lost = 0
        self._end: BaseException | None = None
        self._told = asyncio.Event()

    def take_lost(self) -> int:
        """Return how many items were left out since this was last asked, here and by the gate, and count from 0.

        An item that follows others which the gate has left out has their number as its `lost`, too.
        """
        lost, self._lost = self._lost, 0
        return lost

    def put(self, item: bytes, lost: int) -> None:
        """Add an item, before which the gate has left out so many, if there is room."""
        self._lost += lost
        if self._items and self._bytes + len(item) > _ROOM:
            self._lost += 1
        else:
            self._items.append(item)
            self._bytes += len(item)
            self._told.set()

    def end(self, error: BaseException | None) -> None:
        """End after the items that wait: with an error, if there is one."""
        self._end = error or StopAsyncIteration()
        self._told.set()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        while not self._items:
            if self._end is not None:
                raise self._end.with_traceback(None)
            self._told.clear()
            await self._told.wait()
        item = self._items.popleft()
        self._bytes -= len(item)
        return item


class Feeds:
    """The streams of a gate. Equal ones, with the same message, principal and rights, are one.

    Args:
        link: to the gate.
    """

    def __init__(self, link: Link) -> None:
        self._link = link
        self._open: dict[bytes, _Feed] = {}

    @asynccontextmanager
    async def follow(self, stream: Stream, principal: Principal) -> AsyncGenerator[Reader]:
        """Read a stream, until the block ends; nothing is missing from its beginning on.

        Raises:
            Problem: the gate's error; it has gone, or does not answer; or it has too many streams (503).
        """
        key = key_of(stream, principal)
        feed = self._open.get(key)
        if feed is None or feed.ended:
            if len(self._open) >= _STREAMS:
                text = f"gate '{self._link.path.stem}' has {_STREAMS} streams already, no two of which are equal"
                raise Problem(503, "GateBusy", text, "close one, or follow the same as others", {"Retry-After": "5"})
            feed = self._open[key] = _Feed(self._link, stream, principal)
        reader = Reader()
        feed.readers.add(reader)
        try:
            await feed.opened.wait()
            if feed.error is not None:
                raise feed.error.with_traceback(None)
            yield reader
        finally:
            feed.readers.discard(reader)
            if not feed.readers:
                if self._open.get(key) is feed:
                    del self._open[key]
                await feed.close()

    async def close(self) -> None:
        """End all streams."""
        for feed in list(self._open.values()):
            await feed.close()


class _Feed:
    """A stream of a gate, and its readers.

    Attributes:
        readers: that get its items.
        opened: set when it is open, or has ended.
        error: with which it has ended.
    """

    def __init__(self, link: Link, stream: Stream, principal: Principal) -> None:
        self.readers: set[Reader] = set()
        self.opened = asyncio.Event()
        self.error: BaseException | None = None
        self._task = asyncio.create_task(self._read(link, stream, principal))
        self._task.add_done_callback(self._ended)

    @property
    def ended(self) -> bool:
        return self._task.done()

    async def close(self) -> None:
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    async def _read(self, link: Link, stream: Stream, principal: Principal) -> None:
        async with link.follow(stream, principal) as items:
            self.opened.set()
            await self._deal(items)

    async def _deal(self, items: AsyncIterator[tuple[bytes, int]]) -> None:
        unread = 0
        async for item, lost in items:
            for reader in self.readers:
                reader.put(item, lost)
            unread += len(item)
            if unread > _TURN:  # many may have come at once, and readers get their turn
                unread = 0
                await asyncio.sleep(0)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self.error = None if task.cancelled() else task.exception()
        self.opened.set()
        for reader in self.readers:
            reader.end(self.error)
