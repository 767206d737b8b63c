"""Bodies of requests: their size, type and form."""

from __future__ import annotations

import json
import re
from typing import Any, Final
from urllib.parse import parse_qsl

from starlette.datastructures import Headers
from starlette.requests import ClientDisconnect, Request
from starlette.types import Receive

from tokengate.admin._connection import Connection
from tokengate.admin._problems import Problem

FORM: Final = "application/x-www-form-urlencoded"

_DEPTH: Final = 32  # of containers in each other
_PARTS: Final = re.compile(rb'"(?:[^"\\]|\\.)*+"?|[\[{]|[\]}]', re.DOTALL)  # texts, whose brackets do not count
_FIELDS: Final = 1_000  # of a form


def checked_size(method: str, headers: Headers, takes_forms: bool) -> int:
    """Return the size of the body of a request.

    Raises:
        Problem: it has none and must, or is too large, or has another type.
    """
    size = headers.get("content-length")
    if method in ("GET", "HEAD"):
        if size not in (None, "0") or "transfer-encoding" in headers:
            raise Problem(400, "BadRequest", f"{method} has no body")
        return 0
    if size is None or "transfer-encoding" in headers:
        raise Problem(411, "NoLength", "the request has no Content-Length", "send the body in one piece")
    if int(size) > Connection.BODY:
        raise Problem(413, "TooLarge", f"the body has {size} bytes; it may have {Connection.BODY}")
    kind, _, parameter = headers.get("content-type", "").lower().partition(";")
    types = ("application/json", FORM) if takes_forms else ("application/json",)
    parameter = parameter.strip().replace('"', "")
    if int(size) and (
        kind.strip() not in types or parameter not in ("", "charset=utf-8") or "content-encoding" in headers
    ):
        raise Problem(415, "WrongType", f"the body must be {' or '.join(types)}, in UTF-8, not compressed")
    return int(size)


async def read(receive: Receive, size: int) -> bytes:
    """Return a body of a size.

    Raises:
        ClientDisconnect: the client has gone.
        Problem: it has another size.
    """
    body, more = b"", True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        body += message.get("body", b"")
        more = message.get("more_body", False)
    if len(body) != size:
        raise Problem(400, "BadRequest", f"the body has {len(body)} bytes, not {size}")
    return body


def check_json(body: bytes) -> None:
    """Check that a body is JSON that is read in one way only: UTF-8, no field twice, no NaN, at most 32 deep.

    Raises:
        Problem: it is not.
    """
    depth = 0
    for part in _PARTS.findall(body):
        depth += part in b"[{" or -(part in b"]}")
        if depth > _DEPTH:
            raise Problem(400, "BadJson", f"the body is deeper than {_DEPTH} containers in each other")
    try:
        json.loads(body.decode(), object_pairs_hook=_once, parse_constant=_constant)
    except ValueError as error:  # of its place, and of no text of the body
        where = f": {error.msg} at character {error.pos}" if isinstance(error, json.JSONDecodeError) else ""
        raise Problem(400, "BadJson", f"the body is no JSON{where}") from None


async def form_of(request: Request) -> dict[str, list[str]]:
    """Return the fields of a form, each with its values.

    Raises:
        Problem: it is none.
    """
    try:
        text = (await request.body()).decode("ascii")
        pairs = parse_qsl(text, True, True, errors="strict", max_num_fields=_FIELDS) if text else []
    except ValueError:
        raise Problem(400, "BadForm", "the body is no form of UTF-8") from None
    fields: dict[str, list[str]] = {}
    for name, value in pairs:
        fields.setdefault(name, []).append(value)
    return fields


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    fields = dict(pairs)
    if len(fields) < len(pairs):
        raise Problem(400, "BadJson", "the body has a field twice")
    return fields


def _constant(_: str) -> None:
    raise Problem(400, "BadJson", "the body has NaN or Infinity, which is no JSON")
