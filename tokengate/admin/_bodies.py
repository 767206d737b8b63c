"""Bodies of requests: their size, type and form."""

from __future__ import annotations

import re
from typing import Final
from urllib.parse import parse_qsl

import msgspec
from starlette.datastructures import Headers
from starlette.requests import ClientDisconnect, Request
from starlette.types import Receive

from tokengate.admin._connection import Connection
from tokengate.admin._problems import Problem

FORM: Final = "application/x-www-form-urlencoded"

_DEPTH: Final = 32  # of containers in each other
_TEXT: Final = re.compile(rb'"(?:[^"\\]|\\.)*+"?', re.DOTALL)
_SQUARE: Final = bytes.maketrans(b"{}", b"[]")
_OTHERS: Final = bytes(one for one in range(256) if one not in b"[]{}")
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
    """Check that a body is JSON that is read in one way only: UTF-8, no field twice, at most 32 deep.

    Raises:
        Problem: it is not.
    """
    plain = _TEXT.sub(b"", body)
    brackets = plain.translate(_SQUARE, _OTHERS)
    for _ in range(_DEPTH):  # each time, the innermost ones go
        brackets = brackets.replace(b"[]", b"")
    try:
        again = msgspec.json.encode(msgspec.json.decode(body)) if not brackets else b""
    except (msgspec.DecodeError, UnicodeError):  # with its text, which may be secret
        again = b""
    if not again:
        raise Problem(400, "BadJson", f"the body is no JSON of UTF-8, or deeper than {_DEPTH} containers in each other")
    if _TEXT.sub(b"", again).count(b":") != plain.count(b":"):  # the last of them would count, or the first
        raise Problem(400, "BadJson", "the body has a field twice")


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
