"""The API: a path for each verb, generated from the registry."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any, Final, get_args

import attrs
import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute
from starlette.routing import Route as Path

from tokengate.admin._gates import GateEntry
from tokengate.admin._guard import principal_of
from tokengate.admin._problems import Problem, problem_of, read_as
from tokengate.admin._site import site_of
from tokengate.admin._streams import watch
from tokengate.control._exceptions import BadRequest
from tokengate.control._validation import message_of
from tokengate.control.messages import (
    ActorOutcome,
    Called,
    Change,
    Message,
    OnTokens,
    Outcome,
    ProposalDetails,
    Propose,
    answer_of,
)
from tokengate.control.messages._authority import proposing
from tokengate.control.registry._modules import import_nouns
from tokengate.control.registry._openapi import openapi
from tokengate.control.registry._paths import DEFAULT_ROWS, GATES, MOST_ROWS, Route, is_repeated
from tokengate.control.registry._paths import routes as all_routes


def routes() -> list[BaseRoute]:
    """Return the routes of the API: those of the nouns of our rooms, of `TOKENGATE_PLUGINS`, and of this process.

    Raises:
        ImportError: a module that the variable names cannot be imported.
    """
    import_nouns()
    paths: dict[str, dict[str, Route]] = {}
    for route in all_routes():
        paths.setdefault(route.path, {})[route.method.upper()] = route
    return [
        Path("/api/v1/openapi.json", _document),
        Path(GATES, _gates),
        *(Path(f"{GATES}/{{gate}}{path}", _endpoint(found), methods=[*found]) for path, found in paths.items()),
    ]


def _endpoint(found: Mapping[str, Route]) -> Callable[[Request], Awaitable[Response]]:
    async def answer(request: Request) -> Response:
        route = found["GET" if request.method == "HEAD" else request.method]
        if route.shape == "action":
            return await _act(request, route)
        message, page = _asked(route, request.query_params.multi_items())
        if route.shape == "stream":
            return await watch(request, message)
        said = await site_of(request).gates.ask(request.path_params["gate"], message, principal_of(request))
        return _json(said if route.shape == "view" else page.of(said))

    return answer


def _json(body: bytes, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    return Response(body, status, headers, "application/json")


async def _document(request: Request) -> Response:
    site = site_of(request)
    return _json(msgspec.json.encode(openapi(site.version, GateEntry, site.cookie)))


async def _gates(request: Request) -> Response:
    page = _Page.read(dict(_singles(request.query_params.multi_items())))
    rows = await site_of(request).gates.listed()
    return _json(page.of(msgspec.json.encode(rows)))


# --- What is asked for ------------------------------------------------------------------------------------------------


def _bad(text: str) -> Problem:
    """Return the problem for arguments that are not those of the schema."""
    return problem_of("BadArguments", text)


def _message(route: Route, given: Mapping[str, Any]) -> Message[Any]:
    if unknown := given.keys() - route.arguments.values():
        known = ", ".join(route.arguments) or "none"
        raise _bad(f"'{route.path}' has no argument '{min(unknown)[:60]}'; its arguments are: {known}")
    given = {name: _whole(route.hints[name], value) for name, value in given.items()}
    try:
        return message_of(route.message, given)
    except BadRequest as error:
        raise _bad(str(error)) from None


def _asked(route: Route, query: Iterable[tuple[str, str]]) -> tuple[Message[Any], _Page]:
    """Return the message of a query, and the page of its list."""
    hints = route.hints
    repeated: dict[str, list[str]] = {}
    single = []
    for name, text in query:
        if (field := route.arguments.get(name)) is not None and is_repeated(hints[field]):
            repeated.setdefault(field, []).append(text)
        else:
            single.append((route.arguments.get(name, name), text))
    given: dict[str, Any] = {name: _value(hints.get(name, str), text) for name, text in _singles(single)}
    given |= {name: [_value(get_args(hints[name])[0], text) for text in texts] for name, texts in repeated.items()}
    page = _Page()
    if route.shape == "list":
        named = {"limit", "offset"} if route.pages else {"limit"}
        page = _Page.read({name: given.pop(name) for name in named & given.keys()})
        if route.cut_by_gate:
            given["limit"] = page.limit
            given |= {"offset": page.offset} if route.pages else {}
    return _message(route, given), attrs.evolve(page, cut=not route.cut_by_gate)


def _singles(query: Iterable[tuple[str, str]]) -> Iterable[tuple[str, str]]:
    """Yield the parameters of a query; each may be there once."""
    seen = set()
    for name, text in query:
        if name in seen:
            raise _bad(f"'{name[:60]}' is there twice; give it once")
        seen.add(name)
        yield name, text


def _value(hint: Any, text: str) -> Any:
    """Return the value of a parameter: text where that is one of its types, else JSON; what is none stays text."""
    if hint is str or str in get_args(hint):
        return text
    try:
        return msgspec.json.decode(text)
    except (ValueError, RecursionError):
        return text  # which the check of the message refuses, with its name


def _whole(hint: Any, value: Any) -> Any:
    """Return a number such as `5.0` as an int where the type wants one: JSON has one kind of numbers."""
    if type(value) is list:
        return [_whole(hint, one) for one in value]
    is_whole = type(value) is float and value.is_integer() and {int, float} & _types(hint) == {int}
    return int(value) if is_whole else value


def _types(hint: Any) -> set[Any]:
    """Return the types that a type is of: of `int | None`, also these."""
    return {hint}.union(*map(_types, get_args(hint)))


async def _body(request: Request) -> dict[str, Any]:
    """Return the JSON object of a body, which the guard has checked."""
    body = await request.body()
    if not body:
        raise Problem(400, "BadJson", "there is no body", "send a JSON object")
    given = msgspec.json.decode(body)
    if not isinstance(given, dict):
        raise _bad("the body is no JSON object; send the arguments as an object")
    return given


# --- What is answered -------------------------------------------------------------------------------------------------


class _TokenPage(msgspec.Struct):
    rows: msgspec.Raw
    matching: int
    live: int
    offset: int


@attrs.frozen
class _Page:
    """A part of a list.

    Attributes:
        cut: whether the rows of the answer are to be cut; the gate has done it otherwise.
    """

    limit: int = DEFAULT_ROWS
    offset: int = 0
    cut: bool = True

    @classmethod
    def read(cls, given: Mapping[str, Any]) -> _Page:
        """Return the page that a query asks for."""
        numbers = {name: _value(int, text) if isinstance(text, str) else text for name, text in given.items()}
        for name, number in numbers.items():
            if name not in ("limit", "offset"):
                raise _bad(f"there is no argument '{name[:60]}'; the arguments are: limit, offset")
            low, high = (1, MOST_ROWS) if name == "limit" else (0, math.inf)
            if type(number) is not int or not low <= number <= high:
                bounds = f"from {low} to {high}" if name == "limit" else "of at least 0"
                raise _bad(f"{name} is {number!r:.60}; it must be an int {bounds}")
        return cls(**numbers)

    def of(self, said: bytes) -> bytes:
        """Return the rows of a list with their numbers; rows stay as the gate has written them."""
        rows: Any
        if said.startswith(b"{"):
            page = read_as(_TokenPage, said)
            rows, matching, total, offset = page.rows, page.matching, page.live, page.offset
        else:
            rows = read_as(list[msgspec.Raw], said)
            matching = total = len(rows)
            offset = self.offset
            if self.cut:
                rows = rows[offset : offset + self.limit]
        return msgspec.json.encode({"rows": rows, "matching": matching, "total": total, "offset": offset})


class _Made(msgspec.Struct):
    number: int


class _Outcome(msgspec.Struct):
    """What the status of an answer needs of what was done to one target."""

    outcome: str = ""
    note: str = ""
    proposal: _Made | int | None = None


class _Proposed(msgspec.Struct):
    """The same of a proposal that was made."""

    row: _Made
    outcomes: list[_Outcome]


_OUTCOMES: Final = (tuple[Outcome, ...], ActorOutcome, Called)
"""Answers that say what was done to each target, or to one."""


async def _act(request: Request, route: Route) -> Response:
    message = _message(route, await _body(request))
    assert isinstance(message, Change)
    gate, asked = request.path_params["gate"], proposing(message) if message.dry_run else message
    said = await site_of(request).gates.ask(gate, asked, principal_of(request))
    done, number = _done(asked, said)
    if number:
        status = 201 if isinstance(asked, Propose) else 202
        return _json(said, status, {"Location": f"{GATES}/{gate}/proposals/show?number={number}"})
    if isinstance(message, OnTokens) and isinstance(message.select, tuple) and len(message.select) == 1:
        _check_one(message.select[0], done[0])
    return _json(said)


def _done(asked: Message[Any], said: bytes) -> tuple[list[_Outcome], int | None]:
    """Return what was done to each target, as far as the answer says so, and the number of its proposal."""
    kind = answer_of(type(asked))
    if kind is ProposalDetails:
        made = read_as(_Proposed, said)
        return made.outcomes, made.row.number
    if kind not in _OUTCOMES:
        return [], None
    found = read_as(list[_Outcome] | _Outcome, said)
    done = [found] if isinstance(found, _Outcome) else found
    proposals = (one.proposal for one in done if one.proposal is not None)
    number = next((one.number if isinstance(one, _Made) else one for one in proposals), None)
    return done, number


def _check_one(token: int, done: _Outcome) -> None:
    """Raise the problem that the outcome of a single token is, if it is one."""
    if done.outcome == "unknown":
        raise Problem(404, "UnknownToken", f"no token has had the id {token}", "see the list of tokens")
    if done.outcome in ("refused", "ended"):
        raise Problem(409, done.outcome.title(), done.note or f"token {token} has ended before")
