"""Calls of an ASGI application, with any headers, and what each answer of the admin daemon must have."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Coroutine, Iterable, Iterator, Mapping
from typing import Any, Final

import attrs
import msgspec
from starlette.routing import BaseRoute, Mount, Route
from starlette.types import ASGIApp, Message

Headers = Mapping[str, str] | Iterable[tuple[str, str]]

OF_ALL_ANSWERS: Final = (
    "content-security-policy",
    "x-content-type-options",
    "referrer-policy",
    "cross-origin-opener-policy",
    "cross-origin-resource-policy",
    "cache-control",
    "x-request-id",
)


@attrs.frozen
class Answer:
    """An answer.

    Attributes:
        status: 0 if there was none, since the client had gone.
        headers: names in small letters.
        body: of all parts.
        ended: whether it is whole.
    """

    status: int
    headers: list[tuple[str, str]]
    body: bytes
    ended: bool

    def header(self, name: str) -> str:
        """Return a header, which is there once; empty: it is not there."""
        found = [value for key, value in self.headers if key == name]
        assert len(found) <= 1
        return found[0] if found else ""

    @property
    def problem(self) -> str:
        """Name of the problem."""
        if "application/problem+json" not in self.header("content-type"):
            return ""
        name: str = msgspec.json.decode(self.body)["title"]
        return name


def ask(
    app: ASGIApp,
    method: str,
    path: str,
    headers: Headers = (),
    body: bytes = b"",
    leaves: bool = False,
    query: str = "",
    run: Callable[[Coroutine[Any, Any, None]], None] = asyncio.run,
) -> Answer:
    """Return the answer to a request, and see that it has what all answers have.

    Args:
        app: to be called.
        method, path, headers, body, query: of the request. A body gets its length, unless the headers have one.
        leaves: whether the client goes before its body has ended.
        run: runs a coroutine.
    """
    pairs = [*headers.items()] if isinstance(headers, Mapping) else [*headers]
    names = {name.lower() for name, _ in pairs}
    if method not in ("GET", "HEAD") and not names & {"content-length", "transfer-encoding"}:
        pairs.append(("Content-Length", str(len(body))))
    scope: dict[str, Any] = {
        "type": "http",
        "http_version": "1.1",
        "method": method,
        "path": path,
        "raw_path": path.encode(),
        "query_string": query.encode(),
        "root_path": "",
        "scheme": "http",
        "server": ("127.0.0.1", 8787),
        "client": ("127.0.0.1", 4711),
        "headers": [(name.lower().encode(), value.encode("latin-1")) for name, value in pairs if value is not None],
        "state": {},
    }
    said: list[Message] = []
    parts: list[Message] = [{"type": "http.request", "body": body, "more_body": leaves}]

    async def receive() -> Message:
        return parts.pop() if parts else {"type": "http.disconnect"}

    async def send(message: Message) -> None:
        said.append(message)

    run(app(scope, receive, send))  # type: ignore[arg-type]
    if not said:
        return Answer(0, [], b"", False)
    found = [(name.decode().lower(), value.decode("latin-1")) for name, value in said[0]["headers"]]
    answer = Answer(
        said[0]["status"],
        found,
        b"".join(one.get("body", b"") for one in said[1:]),
        bool(said[1:]) and not said[-1].get("more_body", False),
    )
    _check(answer)
    return answer


def paths_of(routes: Iterable[BaseRoute], above: str = "") -> Iterator[tuple[str, frozenset[str]]]:
    """Yield each path of an application, with `x` for its parameters, and the methods that it takes."""
    for route in routes:
        if isinstance(route, Route):
            yield above + re.sub(r"{[^}]*}", "x", route.path), frozenset(route.methods or ())
        else:
            assert isinstance(route, Mount)
            if route.routes:
                yield from paths_of(route.routes, above + route.path)
            else:
                yield f"{above}{route.path}/x", frozenset({"GET", "HEAD"})


def _check(answer: Answer) -> None:
    names = [name for name, _ in answer.headers]
    assert all(answer.header(name) for name in OF_ALL_ANSWERS), answer
    assert not [name for name in names if name.startswith("access-control") or name in ("server", "location")], answer
    policy = answer.header("content-security-policy")
    assert "default-src 'none'" in policy
    assert "frame-ancestors 'none'" in policy
    assert "unsafe" not in policy
    if answer.status == 405:
        assert answer.header("allow")
    if answer.status == 429:
        assert int(answer.header("retry-after")) > 0
