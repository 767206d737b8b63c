"""Streams of gates, which equal readers share."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from typing import Final, Self

from tokengate.admin._problems import Problem

ROOM: Final = 256 * 1024  # bytes of items that wait for a reader


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
        self._end: Exception | None = None
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
        if self._items and self._bytes + len(item) > ROOM:
            self._lost += 1
        else:
            self._items.append(item)
            self._bytes += len(item)
            self._told.set()

    def end(self, error: Problem | None) -> None:
        """End after the items that wait: with an error, if there is one."""
        self._end = error or StopAsyncIteration()
        self._told.set()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        while not self._items:
            if self._end is not None:
                raise self._end
            self._told.clear()
            await self._told.wait()
        item = self._items.popleft()
        self._bytes -= len(item)
        return item
