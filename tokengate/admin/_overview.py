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

_SECONDS: Final = 120.0  # of the charts


async def screen(_request: Request, view: View) -> Response:
    """Return the overview; what its charts are made of comes apart."""
    overview, charts = await asyncio.gather(view.look(m.Overview()), view.attempt(Charts(seconds=_SECONDS)))
    missing = charts if isinstance(charts, Problem) else None
    waits = {one.row.id: one.waits_for for one in overview.waits}
    return view.render("overview.html", overview=overview, waits=waits, missing=missing)


async def _charts(request: Request) -> Response:
    """Return the series of the charts as JSON, {name: values}; `at` has their times."""
    points = await (await view_of(request)).look(Charts(seconds=_SECONDS))
    names = ("at", "ended", "failed", "wait_p95", "queued", "cpu_saturation", "io_saturation", "memory")
    return JSONResponse({name: [getattr(point, name) for point in points] for name in names})


def routes() -> list[BaseRoute]:
    """Return the route of the charts."""
    return [Route("/ui/charts", _charts, methods=["GET"])]


SCREENS["overview"] = screen
