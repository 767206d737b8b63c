"""Iterators over streams, in a thread or in a task."""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any, ParamSpec, Protocol, Self, overload

from tokengate.control._ports import Source
from tokengate.control.api._in_thread import in_thread
from tokengate.control.messages import Event, Stream
from tokengate.control.registry._verbs import Awaited, Blocking, method_of

P = ParamSpec("P")


class Following(Iterator[Event]):
    """The events of a stream, from the moment at which this was made: `next` waits for one.

    Close it with `close`, or use it in a `with` block.
    """

    def __init__(self, source: Source) -> None:
        self._source = source
        self._closed = False

    def __next__(self) -> Event:
        if self._closed:
            raise StopIteration
        item = next(self._source)
        if self._closed:  # closed by another thread meanwhile
            raise StopIteration
        return item

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the stream, and wake a thread that waits for an item; a second call does nothing."""
        self._closed = True
        self._source.close()


class AsyncFollowing(AsyncIterator[Event]):
    """The events of a stream, for `async with` and `async for`.

    The stream begins at the start of the block, or else when the first item is awaited. A wait that is cancelled may
    lose an item; close the stream then.
    """

    def __init__(self, follow: Callable[[], Following]) -> None:
        self._follow = follow
        self._lock = threading.Lock()
        self._closed = False
        self._following: Following | None = None

    async def __anext__(self) -> Event:
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
        """End the stream, and wake a task that waits for an item; a second call does nothing."""
        with self._lock:
            self._closed = True
            following = self._following
        if following is not None:
            following.close()

    def _next(self) -> Event | None:
        following = self._open()
        return None if following is None else next(following, None)

    def _open(self) -> Following | None:
        """Open the stream, unless it is open already; return None if it is closed."""
        with self._lock:
            if self._closed or self._following is not None:
                return None if self._closed else self._following
        made = self._follow()
        with self._lock:
            if not self._closed:
                self._following = made
                return made
        made.close()  # this was closed while the stream was opened
        return None


class StreamVerb(Protocol[P]):
    """How a type checker sees the verb of a stream."""

    @overload
    def __get__(self, owner: None, kind: type[object], /) -> Self: ...
    @overload
    def __get__(self, owner: Blocking, kind: type[object], /) -> Callable[P, Following]: ...
    @overload
    def __get__(self, owner: Awaited, kind: type[object], /) -> Callable[P, AsyncFollowing]: ...
    def __get__(self, owner: object, kind: type[object], /) -> Any: ...


def follows(message: Callable[P, Stream]) -> StreamVerb[P]:
    """Make the method of a stream's verb, as `asks` does."""

    def method(self: Any, /, *args: P.args, **kwargs: P.kwargs) -> Any:
        return self.follow(message(*args, **kwargs))

    kind: Any = message
    verb: StreamVerb[P] = method_of(method, kind, "Following")
    return verb
