"""The application: all routes behind one guard."""

from __future__ import annotations

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute
from starlette.types import ASGIApp

from tokengate.admin._guard import Guard, answer_to
from tokengate.admin._problems import Problem
from tokengate.admin._site import Site


def application(site: Site) -> ASGIApp:
    """Return the application of a site: each file of routes adds its `routes()` here, and `Guard` stands before all."""
    routes: list[BaseRoute] = []
    app = Starlette(routes=routes, exception_handlers={Problem: _answer, HTTPException: _answer})
    app.state.site = site
    return Guard(app, site)


async def _answer(request: Request, error: Exception) -> Response:
    if isinstance(error, HTTPException):
        error = Problem(error.status_code, "NoRoute" if error.status_code == 404 else "BadMethod", error.detail)
    assert isinstance(error, Problem)
    return answer_to(error, request.scope["state"]["request_id"])
