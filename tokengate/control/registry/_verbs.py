"""Verbs as methods: each sends its message, and takes its arguments, its types and its text from the message's class.

class TokenVerbs(Asker):
renice = asks(Renice, outcomes)

class Control(TokenVerbs, Blocking): ...      # control.renice(5, 9) returns Outcomes
class AsyncControl(TokenVerbs, Awaited): ...  # await aio.renice(5, 9)

class Handle(Bound):
renice = bound(TokenVerbs.renice)         # handle.renice(9)
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Coroutine, Iterable, Mapping
from typing import Any, Concatenate, ParamSpec, Protocol, Self, TypeVar, get_args, get_type_hints, overload

import attrs
from msgspec import Meta

from tokengate.control.messages import Message, Waiting, answer_of, verb_of

A = TypeVar("A")
A_co = TypeVar("A_co", covariant=True)
P = ParamSpec("P")
R = TypeVar("R")

# --- What a declaration says ------------------------------------------------------------------------------------------


def metas_of(message: type[Message[Any]]) -> Mapping[str, Mapping[str, Any]]:
    """Return what is declared of each argument: {argument: {`description`, a bound, or a key of `extra`: value}}."""
    hints = get_type_hints(message, include_extras=True)
    return {field.name: _meta(hints[field.name]) for field in attrs.fields(message)}


def _meta(hint: Any) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for part in get_args(hint):
        if isinstance(part, Meta):
            said = {name: getattr(part, name) for name in ("description", "ge", "gt", "le")} | (part.extra or {})
            found |= {name: value for name, value in said.items() if value is not None}
        else:
            found |= _meta(part)  # of a type in a union
    return found


def help_of(message: type[Message[Any]]) -> str:
    """Return what a verb does: the docstring of its message, without `Returns` and `Raises`."""
    return _sections(message)[0]


def signature_of(message: type[Message[Any]]) -> inspect.Signature:
    """Return the parameters of a verb, with their types as text; those of its bases come last."""
    fields = {field.name: field for field in attrs.fields(message)}
    types = {name: _type(hint) for name, hint in get_type_hints(message).items()}
    # A converter takes more types than its field has, and has names for them.
    found = [
        one if fields[one.name].converter else one.replace(annotation=types[one.name])
        for one in inspect.signature(message).parameters.values()
    ]
    found.sort(key=lambda one: (one.kind, one.kind is one.KEYWORD_ONLY and fields[one.name].inherited))
    return inspect.Signature([one.replace(annotation=_Text(one.annotation)) for one in found])


def _documentation(message: type[Message[Any]], arguments: Iterable[str]) -> str:
    """Return the docstring of a verb's method, which has these arguments."""
    metas = metas_of(message)
    texts = [(name, metas[name]["description"]) for name in arguments]
    described = "\n".join(f"    {name}: {text[:1].lower()}{text[1:]}" for name, text in texts)
    ends = next((more for base in message.__mro__ if (more := _sections(base)[1])), "")
    return "\n\n".join(part for part in (help_of(message), described and f"Args:\n{described}", ends) if part)


def _sections(kind: type[Any]) -> tuple[str, str]:
    """Return the text of a docstring, and the rest of it, from `Returns` or `Raises` on."""
    text = inspect.cleandoc(kind.__doc__ or "")
    heading = re.search(r"^(Returns|Raises):$", text, re.MULTILINE)
    end = heading.start() if heading else len(text)
    return text[:end].rstrip(), text[end:]


class _Text(str):
    """A type as text, which signatures show without quotes."""

    __slots__ = ()
    __repr__ = str.__str__


def _type(hint: Any) -> str:
    return re.sub(r"\b\w+\.", "", inspect.formatannotation(hint))


# --- Methods ----------------------------------------------------------------------------------------------------------


class Asker:
    """Base of the classes that have verbs."""

    _wait: float  # seconds for which the verbs that wait do so, unless they are given a `wait`

    def _put(self, message: Message[Any], read: Callable[[Any, Any], Any]) -> Any:
        """Send a message, and return the verb's result, or an awaitable of it.

        Args:
            message: to send.
            read: takes this object and the answer, and returns the result.
        """
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


def _as_it_is(_owner: object, answer: Any) -> Any:
    return answer


@overload
def asks(message: Callable[P, Message[R]]) -> Verb[P, R]: ...
@overload
def asks(message: Callable[P, Message[R]], read: Callable[[Any, R], A]) -> Verb[P, A]: ...
def asks(message: Any, read: Callable[[Any, Any], Any] = _as_it_is) -> Any:
    """Make the method of a verb.

    Args:
        message: the class of the message that it sends; its arguments are those of the method.
        read: takes the object that has the method, and the answer, and returns the result; without it, the result is
            the answer.
    """
    waits = issubclass(message, Waiting)

    def method(self: Asker, /, *args: Any, **kwargs: Any) -> Any:
        if waits:
            kwargs.setdefault("wait", self._wait)
        return self._put(message(*args, **kwargs), read)

    result = _type(answer_of(message)) if read is _as_it_is else read.__annotations__["return"]
    return _dressed(method, message, result, first=0)


def bound(verb: Verb[Concatenate[Any, P], A]) -> Verb[P, A]:
    """Make the method of a handle: the verb of its control, without the first argument, which is what it is for.

    Args:
        verb: as it was made by `asks`; a handle has a `_control` and a `_subject`.
    """
    source: Any = verb
    name = source.__name__

    def method(self: Any, /, *args: Any, **kwargs: Any) -> Any:
        return getattr(self._control, name)(self._subject, *args, **kwargs)

    dressed: Verb[P, A] = _dressed(method, source.message, source.__signature__.return_annotation, first=1)
    return dressed


def _dressed(method: Any, message: type[Message[Any]], result: str, *, first: int) -> Any:
    """Give a method its name, text and signature, from the given argument of its message on."""
    this = inspect.Parameter("self", inspect.Parameter.POSITIONAL_ONLY)
    parameters = list(signature_of(message).parameters.values())[first:]
    method.message = message
    method.__name__ = method.__qualname__ = verb_of(message)
    method.__doc__ = _documentation(message, [one.name for one in parameters])
    method.__signature__ = inspect.Signature([this, *parameters], return_annotation=_Text(result))
    return method
