"""The guard before all routes: host, origin, principal, limits; and the headers of every answer."""

from __future__ import annotations

import secrets
from typing import Final

import attrs
import msgspec
from starlette.datastructures import MutableHeaders
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tokengate.admin._principal import Principal
from tokengate.admin._problems import Problem
from tokengate.admin._site import Site

PUBLIC: Final = ("/", "/login")
"""Paths without a principal; with those below `/static/`."""


def principal_of(request: Request) -> Principal:
    """Return the principal of a request; the guard has let in none without."""
    found: Principal = request.scope["state"]["principal"]
    return found


def nonce_of(request: Request) -> str:
    """Return the nonce of an answer, which its scripts, styles and htmx elements have."""
    found: str = request.scope["state"]["nonce"]
    return found


def answer_to(problem: Problem, request_id: str) -> Response:
    """Return a problem as an answer."""
    body = {
        "type": f"urn:tokengate:error:{problem.name}",
        "title": problem.name,
        "status": problem.status,
        "detail": problem.detail,
        "request": request_id,
        "remedy": problem.remedy,
    }
    return Response(
        msgspec.json.encode(body), problem.status, headers=problem.headers, media_type="application/problem+json"
    )


class Guard:
    """The middleware before all routes.

    Args:
        app: the routes.
        site: what they work with.
    """

    def __init__(self, app: ASGIApp, site: Site) -> None:
        self._app = app
        self._site = site

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request = Request(scope)
        id, nonce = secrets.token_hex(8), secrets.token_urlsafe(16)
        state = scope.setdefault("state", {})
        state.update(request_id=id, nonce=nonce, principal=None)

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers["X-Request-Id"] = id
                for name, value in _headers(nonce).items():
                    headers[name] = value
            await send(message)

        try:
            found = self._let_in(request)
            state["principal"] = found and attrs.evolve(found, request=id)
            await self._app(scope, receive, send_with_headers)
        except Problem as problem:
            await answer_to(problem, id)(scope, receive, send_with_headers)

    def _let_in(self, request: Request) -> Principal | None:
        path: str = request.scope["path"]
        bearer = request.headers.get("authorization", "").removeprefix("Bearer ")
        cookie = request.cookies.get(self._site.cookie, "")
        found = self._site.doors.bearer(bearer) if bearer else self._site.doors.session(cookie) if cookie else None
        if found is None and path not in PUBLIC and not path.startswith("/static/"):
            raise Problem(401, "NoPrincipal", "nobody is logged in", "run 'tokengate admin login'")
        return found


def _headers(nonce: str) -> dict[str, str]:
    policy = (
        f"default-src 'none'; script-src 'nonce-{nonce}' 'strict-dynamic'; style-src 'self' 'nonce-{nonce}'; "
        "img-src 'self' data:; connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'; "
        "require-trusted-types-for 'script'; trusted-types htmx default"
    )
    return {
        "Content-Security-Policy": policy,
        "X-Content-Type-Options": "nosniff",
        "Referrer-Policy": "no-referrer",
        "Cross-Origin-Opener-Policy": "same-origin",
        "Cross-Origin-Resource-Policy": "same-origin",
        "Cache-Control": "no-store",
    }
