"""Ticks: the one stream of a page, which says once a second that it is time to look again."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import BaseRoute, Route

from tokengate.admin._guard import principal_of
from tokengate.admin._shell import site_of


async def _ticks(request: Request) -> Response:
    principal, doors = principal_of(request), site_of(request).doors

    async def events() -> AsyncIterator[str]:
        while doors.lives(principal):
            yield "event: tick\ndata: 1\n\n"
            await asyncio.sleep(1.0)
        yield "event: tick\ndata: over\n\n"  # the next request is answered with 401

    return StreamingResponse(events(), media_type="text/event-stream")


def routes() -> list[BaseRoute]:
    """Return the route of the stream."""
    return [Route("/ui/ticks", _ticks, methods=["GET"])]
