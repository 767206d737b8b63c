"""The application: all routes behind one guard."""

from __future__ import annotations

from starlette.applications import Starlette

from tokengate.admin import (
    _actions,
    _actors,
    _api,
    _kinds,
    _login,
    _metrics,
    _overview,
    _shell,
    _ticks,
    _tokens,
)
from tokengate.admin._guard import Guard
from tokengate.admin._site import Site

_FILES = (_login, _api, _metrics, _shell, _tokens, _ticks, _overview, _actors, _actions)
"""The files of routes."""
_SCREENS = (_kinds,)
"""The file with screens only, which are registered when it is imported."""


def application(site: Site) -> Guard:
    """Return the application of a site: the routes of all files, and `Guard` before them."""
    app = Starlette(routes=[route for file in _FILES for route in file.routes()])
    app.router.redirect_slashes = False  # to a URL that the client can forge
    app.state.site = site
    return Guard(app, site)
