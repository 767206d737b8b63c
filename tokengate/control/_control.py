"""The verbs of control as methods: blocking ones (`Control`), and the same ones to await (`AsyncControl`)."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterable, Iterator, Mapping, Sequence
from typing import Any, Concatenate, Generic, Literal, ParamSpec, Protocol, Self, TypeAlias, TypeVar, cast, overload

import attrs
import trio

from actors import Token, UnknownActor
from tokengate.control import messages as m
from tokengate.control._exceptions import BadRequest, NotSteerable
from tokengate.control._handles import ActorHandle, ActorList, Following, Outcomes, TokenHandle, TokenList
from tokengate.control.messages import (
    ActorOutcome,
    ChildCountsRow,
    ChildRow,
    GateInfo,
    Message,
    Mode,
    OnTokens,
    Stream,
    StreamItem,
    ThrottleRow,
    TokenDescription,
    TokenRow,
    TokenStack,
    TreeRow,
)

A = TypeVar("A")
A_co = TypeVar("A_co", covariant=True)
P = ParamSpec("P")

OneToken: TypeAlias = int | Token[Any] | TokenHandle | TokenRow
"""A token: its id, itself, or what a list has of it."""

Target: TypeAlias = OneToken | str | Iterable[OneToken]
"""Tokens: one, or several; or a selector (`*` for all). A string of digits is an id."""


def whom(target: Target) -> tuple[str, tuple[int, ...]]:
    """Return the selector that a target is, or else the ids.

    Raises:
        BadRequest: it names no token.
    """
    if isinstance(target, str):
        if not target.strip():
            raise BadRequest("an empty selector would name every token; write '*' if you mean all of them")
        return ("", (int(target),)) if target.strip().isdecimal() else (target, ())
    if isinstance(target, Iterable) and not isinstance(target, Token):  # a token can be iterated over, as in pykka
        return "", tuple(_id(one) for one in target)
    return "", (_id(target),)


def _id(token: OneToken | str) -> int:
    if isinstance(token, (Token, TokenHandle, TokenRow)):
        return token.id
    if isinstance(token, str) and token.strip().isdecimal():
        return int(token)
    if not isinstance(token, int) or isinstance(token, bool):
        raise BadRequest(f"{token!r} is no token; give its id, a Token, or one of those that tokens() lists")
    return token


@attrs.frozen
class Question(Generic[A]):
    """What a verb asks, and what it makes of the answer.

    Attributes:
        message: what is asked; None when there is nothing to ask.
        read: makes the verb's result of the answer.
    """

    message: Message | None
    read: Callable[[Any], A] = attrs.field(default=lambda answer: answer)


class _Verb(Protocol[P, A_co]):
    """How a type checker sees a verb: its result at once from a `Control`, to be awaited from an `AsyncControl`."""

    @overload
    def __get__(self, owner: None, kind: type[object], /) -> Self: ...
    @overload
    def __get__(self, owner: Control, kind: type[object], /) -> Callable[P, A_co]: ...
    @overload
    def __get__(self, owner: AsyncControl, kind: type[object], /) -> Callable[P, Coroutine[Any, Any, A_co]]: ...
    def __get__(self, owner: object, kind: type[object], /) -> Any: ...


def _verb(build: Callable[Concatenate[_Verbs, P], Question[A]]) -> _Verb[P, A]:
    """Make a method that asks the question which `build` returns, in the way of the class that it is called on."""

    @functools.wraps(build)
    def verb(self: _Verbs, *args: P.args, **kwargs: P.kwargs) -> Any:
        return self._put(build(self, *args, **kwargs))

    verb.__annotations__["return"] = build.__annotations__["return"].removeprefix("Question[").removesuffix("]")
    del verb.__dict__["__wrapped__"]  # so that help() shows the result that the caller gets, not the question
    verb.__signature__ = _signature(build, verb.__annotations__["return"])  # type: ignore[attr-defined]
    return cast("_Verb[P, A]", verb)
