"""Streams of server-sent events."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from contextlib import AsyncExitStack
from typing import Any, Final, TypeAlias, cast

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from tokengate.admin._feeds import Reader
from tokengate.admin._guard import principal_of
from tokengate.admin._problems import Problem, read_as
from tokengate.admin._site import site_of
from tokengate.control.messages import Message, Stream

STREAMS: Final = 64  # in all
STREAMS_EACH: Final = 8  # of a principal
_COMMENT_SECONDS: Final = 15.0
_CHECK_SECONDS: Final = 1.0  # between two questions whether the session still holds
_LAST_SECONDS: Final = 1.0  # for the reader to take the end of a stream

Put: TypeAlias = Callable[[bytes], Awaitable[None]]
"""Sends bytes of a stream; waits as long as the reader does not take them."""


class _Kind(msgspec.Struct):
    kind: str


async def watch(request: Request, message: Message[Any]) -> Response:
    """Return the events of a gate as an answer.

    Raises:
        Problem: the gate refuses the stream, or there are too many.
    """
    stack = AsyncExitStack()
    try:
        answer = event_stream(request, lambda put: _events(reader, put), stack)
        stream = site_of(request).gates.follow(
            request.path_params["gate"], cast("Stream", message), principal_of(request)
        )
        reader = await stack.enter_async_context(stream)
    except BaseException:
        await stack.aclose()
        raise
    return answer


async def _events(reader: Reader, put: Put) -> None:
    """Send what a reader gets, until it ends."""
    async for item in reader:
        kind = b" ".join(
            read_as(_Kind, item).kind.encode().split()
        )  # a line, as the item is but for what no gate sends
        await put(b"%bevent: %b\ndata: %b\n\n" % (_loss(reader), kind, item.replace(b"\r", b" ")))
    await put(_loss(reader))


def _loss(reader: Reader) -> bytes:
    lost = reader.take_lost()
    return b'event: lost\ndata: {"lost":%d}\n\n' % lost if lost else b""


def event_stream(
    request: Request, events: Callable[[Put], Awaitable[None]], stack: AsyncExitStack, last: bytes = b""
) -> Response:
    """Return an answer that is a stream; it ends with its session, within a second.

    Args:
        request: that it answers.
        events: sends its events, until the stream ends.
        stack: is closed at its end; has the stream counted from now on.
        last: what is sent when it ends without an error.

    Raises:
        Problem: there are too many streams.
    """
    site = site_of(request)
    principal, open_ = principal_of(request), site.streams
    if open_.total() >= STREAMS or open_[principal.name] >= STREAMS_EACH:
        most = f"{STREAMS_EACH} streams of one principal, and {STREAMS} in all, may be open"
        raise Problem(429, "TooManyStreams", most, "close one", {"Retry-After": "15"})
    open_[principal.name] += 1
    stack.callback(open_.subtract, [principal.name])
    return _EventStream(events, lambda: site.doors.lives(principal), stack, last)


class _EventStream(Response):
    media_type = "text/event-stream"

    def __init__(
        self,
        events: Callable[[Put], Awaitable[None]],
        lives: Callable[[], bool],
        stack: AsyncExitStack,
        last: bytes,
    ) -> None:
        super().__init__(headers={"X-Accel-Buffering": "no"})
        del self.headers["content-length"]
        self._events = events
        self._lives = lives
        self._stack = stack
        self._last = last

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def put(part: bytes, more: bool = True) -> None:
            await send({"type": "http.response.body", "body": part, "more_body": more})

        async with self._stack:
            await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
            if scope["method"] == "HEAD":  # its client takes no events, and may send the next request at once
                await put(b"", more=False)
                return
            await put(b"retry: 2000\n\n")
            ends = self._events(put), self._comments(put), self._session(), _leaves(receive)
            tasks = [asyncio.ensure_future(one) for one in ends]
            try:
                await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for task in tasks:
                    task.cancel()
                done = await asyncio.gather(*tasks, return_exceptions=True)
            last = _last(done) or self._last
            try:
                async with asyncio.timeout(_LAST_SECONDS):
                    await put(last, more=False)
            except TimeoutError:
                pass  # it does not read; the server closes the connection, since the answer is not whole

    async def _comments(self, put: Put) -> None:
        while True:
            await asyncio.sleep(_COMMENT_SECONDS)
            await put(b":\n\n")

    async def _session(self) -> None:
        while self._lives():
            await asyncio.sleep(_CHECK_SECONDS)


def _last(done: Iterable[object]) -> bytes:
    """Return the event that ends a stream: a problem, if one has ended it; raise any other error."""
    last = b""
    for error in done:
        if isinstance(error, Problem):
            said = msgspec.json.encode({"name": error.name, "detail": error.detail, "remedy": error.remedy})
            last = b"event: problem\ndata: %b\n\n" % said
        elif isinstance(error, Exception):
            raise error
    return last


async def _leaves(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
