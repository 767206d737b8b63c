"""Streams of what happens, in a thread or in a task."""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Protocol, Self

from tokengate.control.api._in_thread import in_thread
from tokengate.control.messages import StreamItem


class Source(Protocol):
    """Where what happens comes from: `next` waits for it; `close`, in any thread, ends that."""

    def __iter__(self) -> Iterator[StreamItem]: ...
    def __next__(self) -> StreamItem: ...
    def close(self) -> None: ...


class Following(Iterator[StreamItem]):
    """What happens from the moment on at which this was made, one thing after the other: `next` waits.

    Leave it with `close`, or at the end of its block.
    """

    def __init__(self, source: Source) -> None:
        self._source = source
        self._closed = False

    def __next__(self) -> StreamItem:
        if self._closed:
            raise StopIteration
        item = next(self._source)
        if self._closed:  # by another thread, meanwhile
            raise StopIteration
        return item

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Follow no more, and wake a thread that waits for the next thing; again does nothing."""
        self._closed = True
        self._source.close()


class AsyncFollowing(AsyncIterator[StreamItem]):
    """What happens, one thing after the other; for `async with` and `async for`.

    It follows from the start of its block, or else from the first item that is asked for. A wait that is cancelled may
    take an item with it, so close it then.
    """

    def __init__(self, follow: Callable[[], Following]) -> None:
        self._follow = follow
        self._lock = threading.Lock()
        self._closed = False
        self._following: Following | None = None

    async def __anext__(self) -> StreamItem:
        item = await in_thread(self._next)
        if item is None:
            raise StopAsyncIteration
        return item

    async def __aenter__(self) -> Self:
        try:
            await in_thread(self._open)
        except BaseException:
            self.close()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Follow no more, and wake whoever waits for the next thing; again does nothing."""
        with self._lock:
            self._closed = True
            following = self._following
        if following is not None:
            following.close()

    def _next(self) -> StreamItem | None:
        following = self._open()
        return None if following is None else next(following, None)

    def _open(self) -> Following | None:
        """Follow, unless that is done already; nothing when it is closed."""
        with self._lock:
            if self._closed or self._following is not None:
                return None if self._closed else self._following
        made = self._follow()
        with self._lock:
            if not self._closed:
                self._following = made
                return made
        made.close()  # whoever wanted it has gone meanwhile
        return None
