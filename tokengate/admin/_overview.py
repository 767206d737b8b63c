"""The overview of a gate: health in words, charts, states, and what is longest, held up, fullest or restarted."""

from __future__ import annotations

import asyncio
from typing import Final

from starlette.requests import Request
from starlette.responses import Response

from tokengate.admin._shell import SCREENS, View
from tokengate.control import messages as m

_FEW: Final = 8  # rows of each list


async def screen(_request: Request, view: View) -> Response:
    """Return the overview."""
    running, actors, tree, throttles = await asyncio.gather(
        view.look(m.Tokens("state=running", sort="-running", limit=_FEW)),
        view.look(m.Actors()),
        view.look(m.Tree()),
        view.look(m.Throttles()),
    )
    ends = [(node.path, node.last_end) for node in tree if node.last_end is not None]
    ends.sort(key=lambda one: -one[1].at)
    full = sorted((one for one in actors if one.depth), key=lambda one: -one.depth / one.capacity)
    return view.render(
        "overview.html",
        running=running.rows,
        ends=ends[:_FEW],
        full=full[:_FEW],
        throttles=[one for one in throttles if one.waiting and one.key is None][:_FEW],
        stopped=[one for one in actors if one.suspended or one.draining][:_FEW],
        missing=None,
    )


SCREENS["overview"] = screen
