"""Ticks: the one stream of a page, which says once a second that it is time to look again."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from tokengate.admin._streams import Put, event_stream


async def _ticks(request: Request) -> Response:
    """Return the ticks as a stream, which counts as one; its last one has the page ask, and learn that it is over."""
    return event_stream(request, _tick, AsyncExitStack(), b"event: tick\ndata: over\n\n")


async def _tick(put: Put) -> None:
    while True:
        await put(b"event: tick\ndata: 1\n\n")
        await asyncio.sleep(1.0)


def routes() -> list[BaseRoute]:
    """Return the route of the stream."""
    return [Route("/ui/ticks", _ticks, methods=["GET"])]
