"""The OpenAPI 3.1 document of the paths."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, get_type_hints

import attrs
import msgspec

from tokengate.control.messages import Event, OnTokens, ProposalDetails, Propose, answer_of, verb_of
from tokengate.control.registry._paths import DEFAULT_ROWS, GATES, MOST_ROWS, Route, is_repeated, routes
from tokengate.control.registry._verbs import help_of

_JSON: Final = "application/json"

_PROBLEMS: Final[Mapping[int, str]] = {
    400: "The body is no JSON.",
    401: "Nobody is logged in.",
    403: "The caller may not do this.",
    404: "There is no such gate, token, actor or proposal; or the gate does not have this verb.",
    409: "It was refused, or has ended before.",
    411: "The body has no length.",
    413: "The body is too long.",
    415: "The body is not `application/json`.",
    421: "The host is another one.",
    422: "`BadArguments`: the arguments do not fit this description. Other names: the gate cannot work with a value "
    "that fits, such as a selector with a mistake, a time, or the name of a field.",
    429: "Too many requests, or streams.",
    431: "The headers are too long.",
    503: "The gate closes, has gone or does not answer; or its audit log cannot be written.",
}
"""{status: what it means}."""

_OF_BODIES: Final = (400, 411, 413, 415)

_PROBLEM: Final[Mapping[str, Any]] = {
    "title": "Problem",
    "description": "An error, as of RFC 9457.",
    "type": "object",
    "properties": {
        "type": {"type": "string", "description": "`urn:tokengate:error:NAME`."},
        "title": {"type": "string", "description": "The name of the error."},
        "status": {"type": "integer"},
        "detail": {"type": "string", "description": "What is wrong, with the value."},
        "request": {"type": "string", "description": "The id of the request, as in `X-Request-Id` and the audit log."},
        "remedy": {"type": "string", "description": "What to do about it; may be empty."},
    },
    "required": ["type", "title", "status", "detail", "request", "remedy"],
}

_PAGING: Final[Mapping[str, Mapping[str, Any]]] = {
    "limit": {
        "type": "integer",
        "minimum": 1,
        "maximum": MOST_ROWS,
        "default": DEFAULT_ROWS,
        "description": "Maximum number of rows.",
    },
    "offset": {"type": "integer", "minimum": 0, "default": 0, "description": "Rows to skip."},
}


def openapi(version: str, gate: type[Any], cookie: str = "tokengate") -> dict[str, Any]:
    """Return the OpenAPI document of all routes.

    Args:
        version: of TokenGate.
        gate: class of the rows of the list of gates.
        cookie: name of the session's cookie.
    """
    found = routes()
    asked = [route.message for route in found]
    answers = [_answer(route) for route in found]
    schemas, components = msgspec.json.schema_components(
        [*asked, *answers, gate, ProposalDetails], ref_template="#/components/schemas/{name}"
    )
    inputs, outputs = schemas[: len(found)], schemas[len(found) :]
    paths: dict[str, dict[str, Any]] = {
        "/api/v1/openapi.json": {"get": _plain("openapi", "Show this document.", {"type": "object"})},
        "/metrics": {"get": _plain("all_metrics", _METRICS, {"type": "string"}, "text/plain")},
        GATES: {"get": _plain("gates", "List the gates.", _page(outputs[-2]), parameters=_paging())},
    }
    for route, reference, answer in zip(found, inputs, outputs, strict=False):
        name = reference["$ref"].rpartition("/")[2]
        schema = components[name]
        _tidy(route, schema)
        made = {
            "operationId": f"{verb_of(route.message)}",
            "summary": help_of(route.message).partition("\n")[0],
            "description": schema.pop("description", ""),
            "tags": [route.path.split("/")[1]],
            "x-tokengate-right": route.message.right,
            **_arguments(route, reference, schema),
            "responses": _responses(route, answer, outputs[-1]),
        }
        paths.setdefault(f"{GATES}/{{gate}}{route.path}", {"parameters": [_GATE]})[route.method] = made
        if route.method == "get":
            components.pop(name)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "TokenGate",
            "version": version,
            "description": "Looks into the gates of a user on a host, and steers them. Follows from the verbs that "
            "`tokengate help` lists.",
        },
        "servers": [{"url": "/"}],
        "security": [{"session": []}, {"token": []}],
        "paths": paths,
        "components": {
            "schemas": {**components, "Problem": _PROBLEM},
            "responses": {f"{status}": _problem(text) for status, text in _PROBLEMS.items()},
            "securitySchemes": {
                "session": {
                    "type": "apiKey",
                    "in": "cookie",
                    "name": cookie,
                    "description": "Of `tokengate admin login`; its name is the first label of the daemon's host name.",
                },
                "token": {
                    "type": "http",
                    "scheme": "bearer",
                    "description": "Of `tokengate admin token create`.",
                },
            },
        },
    }


_METRICS: Final = (
    "Show the metrics of all gates with `Telemetry`, in the text format of Prometheus, with a label `gate`. It needs "
    "the right `view` without a selector."
)

_EVENTS: Final = (
    'Server-sent events: `event` is the kind, `data` the event as JSON. `lost` with `{"lost": N}` says how many were '
    "left out before the next one, since the reader is too slow; `problem` why the stream ends. It cannot be resumed."
)

_GATE: Final[Mapping[str, Any]] = {
    "name": "gate",
    "in": "path",
    "required": True,
    "schema": {"type": "string", "minLength": 1},
    "description": "Its name, as the list of gates has it.",
}


def _answer(route: Route) -> Any:
    """Return the type of the answer: of a stream, that of its events; of a list, that of its rows."""
    answer = Event if route.shape == "stream" else answer_of(route.message)
    return get_type_hints(answer)["rows"] if route.shape == "list" and attrs.has(answer) else answer


def _plain(
    name: str, text: str, schema: Mapping[str, Any], media: str = _JSON, parameters: list[Any] | None = None
) -> dict[str, Any]:
    """Return an operation that is about no single gate."""
    return {
        "operationId": name,
        "summary": text.partition(".")[0] + ".",
        "description": text,
        "x-tokengate-right": "view",
        **({"parameters": parameters} if parameters else {}),
        "responses": {"200": _content("The answer.", schema, media), **_refusals((401, 403, 421, 422, 429, 431, 503))},
    }


def _tidy(route: Route, schema: dict[str, Any]) -> None:
    """Leave what the arguments of a route are, of the schema of its message."""
    properties = schema["properties"]
    schema["properties"] = {name: properties[field] for name, field in route.arguments.items()}
    for of_one in schema["properties"].values():
        if of_one.get("type", "null") != "null" and of_one.get("default", "") is None:
            del of_one["default"]  # what a converter makes of None is of the type


def _arguments(route: Route, reference: Mapping[str, Any], schema: dict[str, Any]) -> dict[str, Any]:
    if route.method == "post":
        schema["additionalProperties"] = False
        return {"requestBody": {"required": True, "content": {_JSON: {"schema": reference}}}}
    required = schema.get("required", ())
    found = []
    for name, field in route.arguments.items():
        if not (route.shape == "list" and name in _PAGING):
            made = {"name": name, "in": "query", "required": field in required, "schema": schema["properties"][name]}
            found.append(made | ({"explode": True} if is_repeated(route.hints[field]) else {}))
    if route.shape == "list":
        found += [one for one in _paging() if one["name"] == "limit" or route.pages]
    return {"parameters": found} if found else {}


def _paging() -> list[dict[str, Any]]:
    return [{"name": name, "in": "query", "required": False, "schema": schema} for name, schema in _PAGING.items()]


def _page(rows: Mapping[str, Any]) -> dict[str, Any]:
    count = {"type": "integer", "minimum": 0}
    return {
        "type": "object",
        "properties": {
            "rows": {"type": "array", "items": rows, "maxItems": MOST_ROWS},
            "matching": {**count, "description": "Number of rows on all pages."},
            "total": {**count, "description": "Of tokens, all that have not ended; of others, as `matching`."},
            "offset": {**count, "description": "Rows before this page."},
        },
        "required": ["rows", "matching", "total", "offset"],
    }


def _responses(route: Route, answer: Mapping[str, Any], proposal: Mapping[str, Any]) -> dict[str, Any]:
    refusals = _refusals(status for status in _PROBLEMS if route.method == "post" or status not in _OF_BODIES)
    if route.shape == "list":
        return {"200": _content("A page of the list.", _page(answer["items"])), **refusals}
    if route.shape == "stream":
        return {"200": _content(_EVENTS, {"type": "string"}, "text/event-stream", answer), **refusals}
    found = {"200": _content("The answer.", answer)}
    if route.message is Propose:
        found["201"] = _proposed("The proposal was made.", proposal)
    if route.shape == "action" and "dry_run" in route.arguments:
        if issubclass(route.message, OnTokens):
            text = "The answer; of a dry run in which there is nothing to do, a proposal with the number 0."
            found["200"] = _content(text, {"anyOf": [answer, proposal]})
        found["201"] = _proposed("Nothing was done; a proposal of it was made.", proposal)
        found["202"] = _proposed("Another person must approve it, or some of it; the rest was done.", answer)
    return found | refusals


def _proposed(text: str, schema: Mapping[str, Any]) -> dict[str, Any]:
    location = {"description": "Path of the proposal.", "schema": {"type": "string"}}
    return {**_content(text, schema), "headers": {"Location": location}}


def _content(
    text: str, schema: Mapping[str, Any], media: str = _JSON, item: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    content = {"schema": schema, **({"x-tokengate-item": item} if item else {})}
    return {"description": text, "content": {media: content}}


def _problem(text: str) -> dict[str, Any]:
    return _content(text, {"$ref": "#/components/schemas/Problem"}, "application/problem+json")


def _refusals(statuses: Any) -> dict[str, Any]:
    return {f"{status}": {"$ref": f"#/components/responses/{status}"} for status in statuses}
