"""Login by a code, and logout."""

from __future__ import annotations

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from tokengate.admin._bodies import form_of
from tokengate.admin._guard import peer_of, principal_of
from tokengate.admin._principal import Principal
from tokengate.admin._problems import Problem
from tokengate.admin._site import site_of


class _Login(msgspec.Struct, forbid_unknown_fields=True):
    code: str


def routes() -> list[BaseRoute]:
    """Return the routes `POST /login` and `POST /logout`."""
    return [Route("/login", _login, methods=["POST"]), Route("/logout", _logout, methods=["POST"])]


async def _login(request: Request) -> Response:
    """Answer a code with the cookie of a new session, in the place of the one that the browser had."""
    site = site_of(request)
    code = await _code_of(request)
    found = site.doors.redeem(code, peer_of(request))
    if found is None:
        raise site.doors.failed("code", peer_of(request))
    before: Principal | None = request.scope["state"]["principal"]
    if before is not None and site.doors.end(before.login, before.owner):
        site.record("logout", before.name, before.owner, "another login", session=before.login)
    answer = Response(status_code=204)
    answer.set_cookie(site.cookie, found[0], httponly=True, samesite="strict")
    return answer


async def _logout(request: Request) -> Response:
    site = site_of(request)
    principal = principal_of(request)
    if not site.doors.end(principal.login, principal.owner):
        text = f"'{principal.name}' is an API token, which has no session"
        raise Problem(409, "NoSession", text, "run 'tokengate admin token revoke'")
    site.record("logout", principal.name, principal.owner, session=principal.login)
    answer = Response(status_code=204)
    answer.delete_cookie(site.cookie, httponly=True, samesite="strict")
    return answer


async def _code_of(request: Request) -> str:
    try:
        if "json" in request.headers.get("content-type", ""):
            return msgspec.json.decode(await request.body(), type=_Login).code
        return msgspec.convert({name: value[-1] for name, value in (await form_of(request)).items()}, _Login).code
    except msgspec.DecodeError as error:  # of a value or its type, never with the text of the body
        status = 422 if isinstance(error, msgspec.ValidationError) else 400
        raise Problem(status, "BadRequest", "a login has one field, 'code'", "run 'tokengate admin login'") from None
