"""The guard before all routes: host, origin, principal, rates, bodies; and the headers of every answer."""

from __future__ import annotations

import logging
import math
import re
import secrets
from collections.abc import Mapping
from typing import Final

import attrs
from starlette.applications import Starlette
from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.routing import BaseRoute, Match, Mount, Route
from starlette.types import Message, Receive, Scope, Send

from tokengate.admin._answers import answer_to, headers_of
from tokengate.admin._bodies import check_json, checked_size, read
from tokengate.admin._principal import Principal
from tokengate.admin._problems import Problem, problem_of
from tokengate.admin._site import Site
from tokengate.control._exceptions import BadRequest

PUBLIC: Final = ("/", "/login", "/static")
"""Paths of routes without a principal, with those below the last one."""

_logger = logging.getLogger("tokengate.admin")

_ONCE: Final = ("authorization", "content-length", "content-type", "cookie", "origin", "sec-fetch-site")
_HOST: Final = re.compile(r"([a-z0-9.-]+|\[[0-9a-f:]+\])(?::[0-9]{1,5})?")
_SAFE: Final = ("GET", "HEAD")
_BY_ITSELF: Final = ("/ui/ticks", "/ui/charts")  # what a page asks for, without a person
_MOST_KNOWN: Final = 1_000  # principals of which rates are kept


def principal_of(request: Request) -> Principal:
    """Return the principal of a request; the guard has let in none without."""
    found: Principal = request.scope["state"]["principal"]
    return found


def nonce_of(request: Request) -> str:
    """Return the nonce of an answer, which its scripts, styles and htmx elements have."""
    found: str = request.scope["state"]["nonce"]
    return found


def peer_of(request: Request) -> str:
    """Return the address of the client of a request, without its port."""
    return request.client.host if request.client else ""


@attrs.define
class Bucket:
    """A token bucket, which holds those of one second; the time is given."""

    rate: float
    at: float
    level: float = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self.level = self.rate

    def take(self, now: float) -> float:
        """Take one, and return 0; if there is none, return the seconds until there is one."""
        self.level = min(self.rate, self.level + (now - self.at) * self.rate)
        self.at = now
        if self.level >= 1:
            self.level -= 1
            return 0.0
        return (1 - self.level) / self.rate


class Guard:
    """The middleware before all routes, which hands a request to the one that matches its path.

    Args:
        app: the routes.
        site: what they work with.
    """

    def __init__(self, app: Starlette, site: Site) -> None:
        self.app = app
        self._site = site
        self._all = Bucket(site.rates[1], site.clock())
        self._each: dict[str, Bucket] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request.

        Raises:
            RuntimeError: it is not of HTTP; nothing else is served.
        """
        if scope["type"] != "http":
            raise RuntimeError(f"the daemon serves http, not {scope['type']!r}; run it by server_config()")
        id, nonce = secrets.token_hex(8), secrets.token_urlsafe(16)
        scope.setdefault("state", {}).update(request_id=id, nonce=nonce, principal=None)
        scope["app"] = self.app
        started = False

        async def send_with_headers(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                MutableHeaders(scope=message).update({**headers_of(nonce), "X-Request-Id": id})
            await send(message)

        request = Request(scope)
        route: BaseRoute | None = None
        try:
            host = self._host(request)
            route, allowed = self._match(scope)
            receive = await self._let_in(request, receive, host, route, allowed)
            assert route is not None
            await route.handle(scope, receive, send_with_headers)
            return
        except ClientDisconnect:
            return
        except Problem as error:
            problem = error
            if error.name == "ForeignOrigin":
                path, peer = getattr(route, "path", "?"), peer_of(request)
                self._site.record(
                    "refused", "", None, f"foreign origin: {request.method} {path}", peer=peer, request=id
                )
        except BadRequest as error:  # of what a form or query says
            problem = problem_of("BadRequest", str(error))
        except HTTPException as error:
            problem = _problem(error.status_code, error.headers)
        except Exception:  # a bug: it is logged, by the path of its route, which has no texts of the request
            _logger.exception("request %s failed: %s %s", id, request.method, getattr(route, "path", "?"))
            problem = Problem(500, "Bug", "the daemon has a bug", "see its log, by the number of the request")
        if not started:  # else the server closes the connection
            await answer_to(problem, id, _navigates(request))(scope, receive, send_with_headers)

    def _host(self, request: Request) -> str:
        """Return the only Host header, without its port; it must be a name of ours."""
        named = request.headers.getlist("host")
        found = _HOST.fullmatch(named[0].lower()) if len(named) == 1 else None
        if found is None or found[1] not in self._site.hosts:
            raise Problem(421, "WrongHost", "this is no name of the daemon", "run 'tokengate admin --open'")
        return found[1]

    def _match(self, scope: Scope) -> tuple[BaseRoute | None, set[str]]:
        """Return the route that matches a path; and, if none takes the method, those that such routes take."""
        partial, allowed = None, set[str]()
        for route in self.app.routes:
            if isinstance(route, Route | Mount) and not route.path_regex.match(scope["path"]):
                continue  # as matches() would say, which takes five times as long
            match, child = route.matches(scope)
            if match is Match.FULL:
                scope.update(child)
                return route, set()
            if match is Match.PARTIAL:
                partial = partial or route
                allowed |= getattr(route, "methods", None) or set()
        return partial, allowed

    async def _let_in(
        self, request: Request, receive: Receive, host: str, route: BaseRoute | None, allowed: set[str]
    ) -> Receive:
        """Check a request by all rules, and return from where its route receives the body."""
        headers, method, path = request.headers, request.method, getattr(route, "path", "")
        if any(len(headers.getlist(name)) > 1 for name in _ONCE):
            raise Problem(400, "BadRequest", "a header that may be there once is there twice")
        site = _site_of(headers)
        if site not in ("", "none", "same-origin") and not (path == "/" and method in _SAFE and _navigates(request)):
            raise Problem(403, "ForeignOrigin", "a page of another origin has sent this request")
        is_public = path in PUBLIC or path.startswith(f"{PUBLIC[-1]}/")
        principal = self._principal(request, host, path, is_public)
        if route is None or allowed:
            raise _problem(405, {"Allow": ", ".join(sorted(allowed))}) if route else _problem(404)
        if method not in _SAFE and site != "same-origin" and ("authorization" not in headers or "cookie" in headers):
            text = "this request does not say that it comes from the page"
            raise Problem(403, "ForeignOrigin", text, "use an API token, and no cookie: 'tokengate admin token create'")
        if any(character < " " or character == "\x7f" for character in request.scope["path"]):
            raise Problem(400, "BadRequest", "the path has control characters")
        if path == "/login" and host != self._site.host:
            raise Problem(421, "WrongHost", "sessions have another name", "run 'tokengate admin login'")
        state = request.scope["state"]
        state["principal"] = principal and attrs.evolve(principal, request=state["request_id"])
        size = checked_size(method, headers, takes_forms=path == "/login" or path.startswith("/ui/"))
        if method in _SAFE:
            return receive
        body = await read(receive, size)
        if body and "json" in headers["content-type"]:
            check_json(body)
        return _again(body, receive)

    def _principal(self, request: Request, host: str, path: str, is_public: bool) -> Principal | None:
        """Return the principal of a request, and take one of its rate."""
        doors, headers = self._site.doors, request.headers
        given, found = headers.get("authorization"), None
        if given is not None:
            scheme, _, token = given.partition(" ")
            found = doors.bearer(token.strip()) if scheme.lower() == "bearer" else None
        elif host == self._site.host and (cookie := request.cookies.get(self._site.cookie)):
            found = doors.session(cookie, used=path not in _BY_ITSELF and "x-idle" not in headers)
        self._take(found.name if found else "")
        if found is None and given is not None:
            raise doors.failed("API token", peer_of(request))
        if found is None and not is_public:
            text, remedy = "nobody is logged in", "run 'tokengate admin login', or use an API token"
            raise Problem(401, "NoPrincipal", text, remedy, {"WWW-Authenticate": "Bearer"})
        return found

    def _take(self, principal: str) -> None:
        now = self._site.clock()
        if len(self._each) > _MOST_KNOWN:
            self._each.clear()
        own = self._each.setdefault(principal, Bucket(self._site.rates[0], now))
        if seconds := own.take(now) or self._all.take(now):
            headers = {"Retry-After": str(math.ceil(seconds))}
            raise Problem(429, "TooManyRequests", "requests come too fast", "send fewer in a second", headers)


def _site_of(headers: Headers) -> str:
    """Return what a browser says about the origin of a request, as in Sec-Fetch-Site; empty: nothing."""
    origin = headers.get("origin")
    if "sec-fetch-site" in headers or origin is None:
        return headers.get("sec-fetch-site", "")
    return "same-origin" if origin.lower() == f"http://{headers['host'].lower()}" else "cross-site"


def _navigates(request: Request) -> bool:
    """Tell whether a browser shows the answer as a page."""
    headers = request.headers
    return request.method in _SAFE and (
        headers.get("sec-fetch-mode") == "navigate" and headers.get("sec-fetch-dest", "document") == "document"
        if "sec-fetch-mode" in headers
        else "text/html" in headers.get("accept", "") and "hx-request" not in headers
    )


def _problem(status: int, headers: Mapping[str, str] | None = None) -> Problem:
    """Return the problem for a status of Starlette's own errors."""
    if status == 405:
        return Problem(405, "BadMethod", "this path takes other methods", "", {"Allow": "GET, HEAD", **(headers or {})})
    if status == 404:
        return Problem(404, "NoRoute", "there is no such path", "see GET /api/v1/openapi.json")
    return Problem(status, "BadRequest", "this request is not taken", "", headers)


def _again(body: bytes, receive: Receive) -> Receive:
    """Return what gives a body that was read, and then whether the client has gone."""
    rest: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def receive_again() -> Message:
        return rest.pop() if rest else await receive()

    return receive_again
