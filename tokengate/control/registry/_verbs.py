"""Verbs as methods: each sends its message, and takes its arguments, its types and its text from the message's class.

```python
class TokenVerbs(Asker):
    renice = asks(Renice, outcomes)

class Control(TokenVerbs, Blocking): ...      # control.renice(5, 9) returns Outcomes
class AsyncControl(TokenVerbs, Awaited): ...  # await aio.renice(5, 9)

class Handle(Blocking):
    renice = bound(TokenVerbs.renice)         # handle.renice(9)
```
"""

from __future__ import annotations

import functools
import inspect
import re
import types
from collections.abc import Callable, Coroutine, Iterable, Mapping
from textwrap import TextWrapper
from types import MethodType
from typing import (
    Annotated,
    Any,
    Concatenate,
    Final,
    Literal,
    ParamSpec,
    Protocol,
    Self,
    TypeVar,
    Union,
    cast,
    get_args,
    get_origin,
    get_type_hints,
    overload,
)

import attrs
from msgspec import Meta

from tokengate.control.messages import Message, Waiting, answer_of, verb_of

A = TypeVar("A")
A_co = TypeVar("A_co", covariant=True)
P = ParamSpec("P")
R = TypeVar("R")

# --- What a declaration says ------------------------------------------------------------------------------------------


def metas_of(message: type[Message[Any]]) -> Mapping[str, Mapping[str, Any]]:
    """Return what is declared of each argument.

    Returns:
        {argument: {`description`, `ge`, `gt`, `le`, `choices` or a key of `extra`: value}}.

    Raises:
        ValueError: an argument has no description.
    """
    metas = {field.name: _meta(field.type) for field in attrs.fields(attrs.resolve_types(message))}
    for name, meta in metas.items():
        if not meta.get("description"):
            raise ValueError(f"field '{name}' of {message.__name__} needs Annotated[..., Meta(description=...)]")
    return metas


def _meta(hint: Any) -> dict[str, Any]:
    found: dict[str, Any] = {"choices": get_args(hint)} if get_origin(hint) is Literal else {}
    for part in get_args(hint):
        if isinstance(part, Meta):
            said = {name: getattr(part, name) for name in ("description", "ge", "gt", "le")} | (part.extra or {})
            found |= {name: value for name, value in said.items() if value is not None}
        else:
            found |= _meta(part)  # of a type in a union
    return found


def unchecked_in(hint: Any) -> str:
    """Return what the checks of messages do not know in the type of a field, and what to write; empty if there is none.

    Without a check, a client could send anything there.
    """
    origin, args = get_origin(hint), get_args(hint)
    if hint in (str, int, float, bool, type(None), Any) or (
        origin is Literal and all(isinstance(one, str) for one in args)
    ):
        return ""
    if origin is Annotated:
        bounds = {name for meta in args[1:] for name in _BOUNDS if getattr(meta, name, None) is not None}
        if bounds and (args[0] not in (int, float) or bounds & {*_UNCHECKED}):
            names = ", ".join(sorted(bounds))
            return f"the bound {names} of {_type(args[0])}; write ge, gt or le, of int or float itself"
        return unchecked_in(args[0])
    if origin in (types.UnionType, Union, dict) or (origin is tuple and args[1:] == (...,)):
        return next(filter(None, (unchecked_in(one) for one in args if one is not ...)), "")
    known = "str, int, float, bool, None, Any, Literal of texts, tuple[..., ...], dict, and unions of these"
    return f"the type {_type(hint)}; write one of {known}"


_UNCHECKED: Final = ("lt", "multiple_of", "pattern", "min_length", "max_length", "tz")
_BOUNDS: Final = ("ge", "gt", "le", *_UNCHECKED)


def help_of(message: type[Message[Any]]) -> str:
    """Return what a verb does: the docstring of its message, without `Returns` and `Raises`."""
    return re.split(r"\n(?:Returns|Raises):\n", inspect.cleandoc(message.__doc__ or ""), maxsplit=1)[0].rstrip()


def signature_of(message: type[Message[Any]]) -> inspect.Signature:
    """Return the parameters of a verb, with their types as text; those of its bases come last."""
    fields = {field.name: field for field in attrs.fields(message)}
    types = {name: _type(hint) for name, hint in get_type_hints(message).items()}
    # A converter takes more types than its field has, and has names for them.
    found = [
        one.replace(annotation=_Text(one.annotation if fields[one.name].converter else types[one.name]))
        for one in inspect.signature(message).parameters.values()
    ]
    found.sort(key=lambda one: (one.kind, one.kind is one.KEYWORD_ONLY and fields[one.name].inherited))
    return inspect.Signature(found)


def _documentation(message: type[Message[Any]], arguments: Iterable[str]) -> str:
    """Return the docstring of a verb's method, which has these arguments."""
    metas = metas_of(message)
    texts = [(name, metas[name]["description"]) for name in arguments]
    described = [_ARGUMENT.fill(f"{name}: {text[:1].lower()}{text[1:]}") for name, text in texts]
    parts = [help_of(message), "\n".join(["Args:", *described]) if described else ""]
    return "\n\n".join(filter(None, [*parts, _section(message, "Returns"), _section(message, "Raises")]))


_ARGUMENT: Final = TextWrapper(width=112, initial_indent=" " * 4, subsequent_indent=" " * 8)


def _section(message: type[Message[Any]], heading: str) -> str:
    """Return a part of a message's docstring, or else the one of the nearest base that has it."""
    for base in message.__mro__:
        if found := re.search(rf"^{heading}:(\n +.*)+", inspect.cleandoc(base.__doc__ or ""), re.M):
            return found[0]
    return ""


class _Text(str):
    """A type as text, which signatures show without quotes."""

    __slots__ = ()
    __repr__ = str.__str__


def _type(hint: Any) -> str:
    return hint if isinstance(hint, str) else re.sub(r"\b\w+\.", "", inspect.formatannotation(hint))


# --- Methods ----------------------------------------------------------------------------------------------------------


class Asker:
    """Base of the classes that send verbs."""

    _wait: float  # seconds for which the verbs that wait do so, unless they are given a `wait`

    def _put(self, message: Message[R], read: Callable[[Any, R], A]) -> A:
        """Send a message, and return the verb's result; an `Awaited` returns an awaitable of it.

        Args:
            message: to send.
            read: takes this object and the answer, and returns the result.
        """
        raise NotImplementedError


class Blocking:
    """Marks a class whose verbs return their results."""

    __slots__ = ()


class Awaited:
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


def as_it_is(_owner: object, answer: A) -> A:
    """Return an answer as the result."""
    return answer


@overload
def asks(message: Callable[P, Message[R]]) -> Verb[P, R]: ...
@overload
def asks(message: Callable[P, Message[R]], read: Callable[[Any, R], A]) -> Verb[P, A]: ...
def asks(message: Any, read: Callable[[Any, Any], Any] = as_it_is) -> Any:
    """Make the method of a verb.

    Args:
        message: the class of the message that it sends; its arguments are those of the method.
        read: takes the object that has the method, and the answer, and returns the result; without it, the result is
            the answer.
    """
    waits = issubclass(message, Waiting)

    def method(self: Asker, /, *args: Any, **kwargs: Any) -> Any:
        if waits and kwargs.get("wait") is None:
            kwargs["wait"] = self._wait
        return self._put(message(*args, **kwargs), read)

    return method_of(method, message, answer_of(message) if read is as_it_is else read.__annotations__["return"])


def by_hand(method: Callable[Concatenate[Any, P], A]) -> Verb[P, A]:
    """Make a verb of a method that returns what `_put` returns."""
    return cast("Verb[P, A]", method)


def bound(verb: Verb[Concatenate[Any, P], A]) -> Verb[P, A]:
    """Make the method of a handle: the verb of its `_control`, without the first argument, which is its `_subject`."""
    source: Any = verb

    def method(self: Any, /, *args: Any, **kwargs: Any) -> Any:
        return getattr(self._control, source.__name__)(self._subject, *args, **kwargs)

    def describe() -> tuple[inspect.Signature, str]:
        signature = inspect.signature(source)
        this, first, *others = signature.parameters.values()
        text = re.sub(rf"\n    {first.name}: .*(\n {{8}}.*)*", "", inspect.getdoc(source) or "")
        return signature.replace(parameters=[this, *others]), re.sub(r"\n\nArgs:(?=\n\n|$)", "", text)

    return cast("Verb[P, A]", Method(method, source.__name__, describe))


def method_of(method: Callable[..., Any], message: type[Message[Any]], result: Any) -> Any:
    """Return a method with the name, the text and the signature that its message declares."""

    def describe() -> tuple[inspect.Signature, str]:
        parameters = signature_of(message).parameters
        this = inspect.Parameter("self", inspect.Parameter.POSITIONAL_ONLY)
        signature = inspect.Signature([this, *parameters.values()], return_annotation=_Text(_type(result)))
        return signature, _documentation(message, parameters)

    return Method(method, verb_of(message), describe)


class Method:
    """A method whose signature and text are made when they are looked at: a program that only calls it needs neither.

    A call that does not fit the signature is a `TypeError` that names the method.

    Args:
        call: the method as a function.
        name: of its verb; in a class, it gets the name that it has there.
        describe: returns its signature and its text.
    """

    def __init__(
        self, call: Callable[..., Any], name: str, describe: Callable[[], tuple[inspect.Signature, str]]
    ) -> None:
        self.__name__ = self.__qualname__ = name
        self._call = call
        self._described = functools.cache(describe)

    def __set_name__(self, _owner: type[object], name: str) -> None:
        self.__name__ = self.__qualname__ = name

    def __get__(self, owner: object, kind: type[object] | None = None) -> Any:
        return self if owner is None else MethodType(self, owner)

    def __call__(self, /, *args: Any, **kwargs: Any) -> Any:
        try:
            return self._call(*args, **kwargs)
        except TypeError:
            wrong = self._misfit(args, kwargs)
            if not wrong:
                raise
        raise TypeError(f"{self.__name__}() {wrong}")

    def _misfit(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> str:
        """Return why a call does not fit the signature; empty if it does."""
        try:
            self.__signature__.bind(*args, **kwargs)
        except TypeError as error:
            text = str(error)
            return text if text.startswith(("missing", "got")) else f"got {text}"
        return ""

    @property
    def __signature__(self) -> inspect.Signature:
        return self._described()[0]

    @property
    def __doc__(self) -> str:  # type: ignore[override]  # of the method, not of this class
        return self._described()[1]
