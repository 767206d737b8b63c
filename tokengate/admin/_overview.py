"""The overview of a gate: health in words, charts, states, and what is longest, held up, fullest or restarted."""

from __future__ import annotations

import asyncio
from typing import Final

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route

from tokengate.admin._problems import Problem
from tokengate.admin._shell import SCREENS, View, view_of
from tokengate.control import messages as m
from tokengate.telemetry._kinds import Charts

_FEW: Final = 8  # rows of each list
_SECONDS: Final = 120.0  # of the charts
_MANY: Final = 5_000  # live tokens, of which a description looks at all, for children


async def screen(_request: Request, view: View) -> Response:
    """Return the overview; what its charts are made of comes apart."""
    running, actors, tree, throttles, missing = await asyncio.gather(
        view.look(m.Tokens("state=running", sort="-running", limit=_FEW)),
        view.look(m.Actors()),
        view.look(m.Tree()),
        view.look(m.Throttles()),
        _missing(view),
    )
    described: list[m.TokenDescription | None] = [None] * len(running.rows)
    if running.live <= _MANY:
        described = await asyncio.gather(*(_described(view, row.id) for row in running.rows))
    ends = [(node.path, node.last_end) for node in tree if node.last_end is not None]
    ends.sort(key=lambda one: -one[1].at)
    full = sorted((one for one in actors if one.depth), key=lambda one: -one.depth / one.capacity)
    return view.render(
        "overview.html",
        running=sorted(zip(running.rows, described, strict=True), key=lambda one: bool(one[1] and one[1].waits_for)),
        ends=ends[:_FEW],
        full=full[:_FEW],
        throttles=[one for one in throttles if one.waiting and one.key is None][:_FEW],
        stopped=[one for one in actors if one.suspended or one.draining][:_FEW],
        missing=missing,
    )


async def _described(view: View, token: int) -> m.TokenDescription | None:
    try:
        return await view.look(m.Describe(token))
    except Problem as problem:
        if problem.status == 503:
            raise
        return None  # it has ended since


async def _missing(view: View) -> Problem | None:
    """Return why there are no charts."""
    try:
        await view.look(Charts(seconds=_SECONDS))
    except Problem as problem:
        if problem.status == 503:
            raise
        return problem
    return None


async def _charts(request: Request) -> Response:
    """Return the series of the charts as JSON, {name: values}; `at` has their times."""
    points = await (await view_of(request)).look(Charts(seconds=_SECONDS))
    names = ("at", "ended", "failed", "wait_p95", "queued", "cpu_saturation", "io_saturation", "memory")
    return JSONResponse({name: [getattr(point, name) for point in points] for name in names})


def routes() -> list[BaseRoute]:
    """Return the route of the charts."""
    return [Route("/ui/charts", _charts, methods=["GET"])]


SCREENS["overview"] = screen
