"""How a verb becomes a method: it builds a question, which is sent and waited for, or awaited."""

from __future__ import annotations

import functools
from collections.abc import Callable, Coroutine
from typing import Any, Concatenate, Generic, ParamSpec, Protocol, Self, TypeVar, cast, overload

import attrs

from tokengate.control.messages import Message

A = TypeVar("A")
A_co = TypeVar("A_co", covariant=True)
P = ParamSpec("P")
S = TypeVar("S", bound="Asker")


@attrs.frozen
class Question(Generic[A]):
    """The message that a verb sends, and what it makes of the answer.

    Attributes:
        message: to send; None when there is nothing to ask.
        read: makes the verb's result of the answer.
    """

    message: Message[Any] | None
    read: Callable[[Any], A] = attrs.field(default=lambda answer: answer)


class Asker:
    """Base of the classes that have verbs."""

    _local: bool  # whether the gate is in this process
    _wait: float  # seconds that `pause`, `step` and `terminate` wait unless they are given a `wait`

    def _put(self, question: Question[Any]) -> Any:
        """Send a question, and return the verb's result, or an awaitable of it."""
        raise NotImplementedError


class Blocking(Asker):
    """Marks a class whose verbs return their results."""


class Awaited(Asker):
    """Marks a class whose verbs return awaitables of their results."""


class Verb(Protocol[P, A_co]):
    """How a type checker sees a verb: it returns its result in a `Blocking` class, and is awaited in an `Awaited`."""

    @overload
    def __get__(self, owner: None, kind: type[object], /) -> Self: ...
    @overload
    def __get__(self, owner: Blocking, kind: type[object], /) -> Callable[P, A_co]: ...
    @overload
    def __get__(self, owner: Awaited, kind: type[object], /) -> Callable[P, Coroutine[Any, Any, A_co]]: ...
    def __get__(self, owner: object, kind: type[object], /) -> Any: ...


def verb(build: Callable[Concatenate[S, P], Question[A]]) -> Verb[P, A]:
    """Make a method of a function that returns a question: it sends the question in the way of its class."""
    # help() shows the verb's result, not the question.
    build.__annotations__["return"] = build.__annotations__["return"].removeprefix("Question[").removesuffix("]")

    @functools.wraps(build)
    def method(self: S, /, *args: P.args, **kwargs: P.kwargs) -> Any:
        return self._put(build(self, *args, **kwargs))

    return cast("Verb[P, A]", method)
