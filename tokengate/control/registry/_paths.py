"""Paths: the verbs over HTTP, and their description as OpenAPI 3.1. Both follow from the declarations."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final, Literal

import attrs
import msgspec

from tokengate.control.messages import (
    VERBS,
    Call,
    Change,
    CountChildren,
    Describe,
    DescribeActor,
    GetState,
    Lift,
    Message,
    OnActor,
    OnChild,
    OnTokens,
    ResetThrottle,
    SetState,
    SetThrottle,
    Stack,
    Statistics,
    Stream,
    WhichChildren,
    answer_of,
    verb_of,
)
from tokengate.control.registry._kinds import kinds
from tokengate.control.registry._verbs import help_of

_COLLECTIONS: Final[Mapping[str, tuple[type[Message[Any]], ...]]] = {
    "tokens": (OnTokens, Describe, Stack),
    "throttles": (SetThrottle, Lift, ResetThrottle),
    "actors": (OnActor, DescribeActor, Statistics, GetState, SetState, Call),
    "supervisors": (OnChild, WhichChildren, CountChildren),
}
"""{collection: the verbs for what is in it, or a base of them}, of every gate; others have a path of one word."""


@attrs.frozen
class Route:
    """A verb over HTTP: the arguments of one that looks are in the query, those of others a JSON object in the body.

    Attributes:
        method: `get` or `post`.
        path: without that of the gate.
        message: of the verb.
    """

    method: Literal["get", "post"]
    path: str
    message: type[Message[Any]]


def routes() -> tuple[Route, ...]:
    """Return the routes of all verbs, but for streams and what only code of the gate's own process can ask."""
    paths = {message: _path(verb, message) for verb, message in VERBS.items()}
    for kind in kinds():
        paths[kind.rows] = f"/{kind.plural}"
        paths.update((verb, f"/{kind.plural}/{kind.action(verb)}") for verb in kind.verbs)
    return tuple(
        Route("post" if issubclass(message, Change) else "get", path, message)
        for message, path in paths.items()
        if not message.local and not issubclass(message, Stream)
    )


def _path(verb: str, message: type[Message[Any]]) -> str:
    collection = "".join(f"/{name}" for name, verbs in _COLLECTIONS.items() if issubclass(message, verbs))
    return f"{collection}/{re.sub('^[gs]et_|_actor$', '', verb)}".replace("_", "-")


def openapi(version: str) -> dict[str, Any]:
    """Return the OpenAPI document of all routes.

    Args:
        version: of TokenGate.
    """
    found = routes()
    types = [kind for route in found for kind in (route.message, answer_of(route.message))]
    schemas, components = msgspec.json.schema_components(types, ref_template="#/components/schemas/{name}")
    paths: dict[str, dict[str, Any]] = {}
    for route, asked, answer in zip(found, schemas[::2], schemas[1::2], strict=True):
        name = asked["$ref"].rpartition("/")[2]
        paths.setdefault(route.path, {})[route.method] = {
            "operationId": verb_of(route.message),
            "summary": help_of(route.message).partition("\n")[0],
            "description": help_of(route.message),
            "x-tokengate-right": route.message.right,
            **_arguments(route, asked, components[name]),
            "responses": {"200": {"description": "The answer.", "content": {"application/json": {"schema": answer}}}},
        }
        if route.method == "get":
            del components[name]
    return {
        "openapi": "3.1.0",
        "info": {"title": "TokenGate", "version": version},
        "paths": paths,
        "components": {"schemas": components},
    }


def _arguments(route: Route, asked: Mapping[str, Any], schema: dict[str, Any]) -> dict[str, Any]:
    for of_one in schema["properties"].values():
        if of_one.get("type", "null") != "null" and of_one.get("default", "") is None:
            del of_one["default"]  # what a converter makes of None is of the type
    if route.method == "post":
        schema["additionalProperties"] = False
        return {"requestBody": {"required": True, "content": {"application/json": {"schema": asked}}}}
    required = schema.get("required", ())
    return {
        "parameters": [
            {"name": name, "in": "query", "required": name in required, "schema": of_one}
            for name, of_one in schema["properties"].items()
        ]
    }
