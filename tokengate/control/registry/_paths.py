"""Paths: the verbs over HTTP, which follow from the declarations."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any, Final, Literal, TypeAlias, get_type_hints

import attrs

from tokengate.control.messages import (
    ENVELOPE,
    VERBS,
    Actors,
    Apply,
    Approve,
    Call,
    Change,
    CountChildren,
    Deny,
    Describe,
    DescribeActor,
    FollowAudit,
    GetState,
    Lift,
    Message,
    OnActor,
    OnChild,
    OnTokens,
    Propose,
    ResetThrottle,
    SetState,
    SetThrottle,
    Stack,
    Statistics,
    Stream,
    Throttles,
    Tokens,
    WaitApproval,
    WhichChildren,
)
from tokengate.control.registry._kinds import kinds

GATES: Final = "/api/v1/gates"
"""The path that lists the gates; that of a gate has its name behind it."""

DEFAULT_ROWS: Final = 100
MOST_ROWS: Final = 1_000
"""Rows of a list, if nothing else is asked for, and at most."""

_COLLECTIONS: Final[Mapping[str, tuple[type[Message[Any]], ...]]] = {
    "tokens": (OnTokens, Describe, Stack),
    "throttles": (SetThrottle, Lift, ResetThrottle),
    "actors": (OnActor, DescribeActor, Statistics, GetState, SetState, Call),
    "supervisors": (OnChild, WhichChildren, CountChildren),
    "proposals": (Propose, Apply, Approve, Deny, WaitApproval),
    "audit-records": (FollowAudit,),
}
"""{collection: the verbs for what is in it, or a base of them}, of every gate; others have a path of one word."""

_ACTIONS: Final[Mapping[type[Message[Any]], str]] = {
    SetThrottle: "set",
    ResetThrottle: "reset",
    DescribeActor: "describe",
    GetState: "state",
    SetState: "state",
    FollowAudit: "follow",
}
"""{verb: its word in the path, if that is not its name}."""

Shape: TypeAlias = Literal["list", "view", "action", "stream"]


@attrs.frozen
class Route:
    """A verb over HTTP: the arguments of one that looks are in the query, those of others a JSON object in the body.

    Attributes:
        path: without that of the gate.
        message: of the verb.
        shape: what its answer is: a `list` of rows, cut to `limit` of them; one answer (`view`); what it has done
            (`action`); or a `stream` of events.
    """

    path: str
    message: type[Message[Any]]
    shape: Shape

    @property
    def method(self) -> Literal["get", "post"]:
        """How it is asked."""
        return "post" if self.shape == "action" else "get"

    @property
    def cut_by_gate(self) -> bool:
        """Whether the message of a list says how many rows there are at most; others are cut when the gate has them."""
        return hasattr(attrs.fields(self.message), "limit")

    @property
    def pages(self) -> bool:
        """Whether a list has an offset; those without one have the newest rows only."""
        return not self.cut_by_gate or hasattr(attrs.fields(self.message), "offset")

    @functools.cached_property
    def hints(self) -> Mapping[str, Any]:
        """{field of the message: its type}."""
        return get_type_hints(self.message)

    @functools.cached_property
    def arguments(self) -> Mapping[str, str]:
        """{name of an argument over HTTP: the field of the message}: one that can be repeated is in the singular."""
        names, message = [field.name for field in attrs.fields(self.message)], self.message
        if issubclass(message, Change):
            return {name: name for name in names if name not in ENVELOPE or name in message.takes}
        return {name.removesuffix("s") if is_repeated(self.hints[name]) else name: name for name in names}


def is_repeated(hint: Any) -> bool:
    """Tell whether a field has several values, each of which is a parameter of the query."""
    return getattr(hint, "__origin__", None) is tuple


def routes() -> tuple[Route, ...]:
    """Return the routes of all verbs, but for what only code of the gate's own process can ask."""
    paths = {message: _path(verb, message) for verb, message in VERBS.items()}
    lists: set[type[Message[Any]]] = {Tokens, Actors, Throttles}
    for kind in kinds():
        lists.add(kind.rows)
        paths[kind.rows] = f"/{kind.plural}"
        paths.update((verb, f"/{kind.plural}/{kind.action(verb)}") for verb in kind.verbs)
    return tuple(
        Route(path, message, "list" if message in lists else _shape(message))
        for message, path in paths.items()
        if not message.local
    )


def _shape(message: type[Message[Any]]) -> Shape:
    return "action" if issubclass(message, Change) else "stream" if issubclass(message, Stream) else "view"


def _path(verb: str, message: type[Message[Any]]) -> str:
    collection = "".join(f"/{name}" for name, verbs in _COLLECTIONS.items() if issubclass(message, verbs))
    return f"{collection}/{_ACTIONS.get(message, verb).replace('_', '-')}"
