"""The application: all routes behind one guard."""

from __future__ import annotations

from starlette.applications import Starlette
from starlette.routing import BaseRoute

from tokengate.admin import _api, _login, _metrics, _shell, _ticks, _tokens
from tokengate.admin._guard import Guard
from tokengate.admin._site import Site


def application(site: Site) -> Guard:
    """Return the application of a site: each file of routes adds its `routes()` here, and `Guard` stands before all."""
    routes: list[BaseRoute] = [*_login.routes(), *_api.routes(), *_metrics.routes(), *_shell.routes(), *_ticks.routes()]
    app = Starlette(routes=routes)
    app.router.redirect_slashes = False  # to a URL that the client can forge
    app.state.site = site
    return Guard(app, site)
