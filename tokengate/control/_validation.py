"""Checks of messages, from the gate's own process, where fields may have any value, and from the socket.

The fields of a checked message have exactly the declared types, so that no later use of them runs code of a class that
is derived from `str` or `int`.
"""

from __future__ import annotations

import operator
import sys
import types
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Annotated, Any, Final, Literal, TypeAlias, Union, get_args, get_origin, get_type_hints

import attrs
from msgspec import Meta

from tokengate.control import messages as m
from tokengate.control._exceptions import BadRequest
from tokengate.control._safe_text import class_name, plain, value_in_words
from tokengate.control.registry._kinds import is_declared

# Returns a value as exactly its type, or raises TypeError.
_Check: TypeAlias = Callable[[Any], Any]


def _text(value: Any) -> str:
    if not issubclass(type(value), str):
        raise TypeError("a text")
    return plain(value)


def _whole(value: Any) -> int:
    if not issubclass(type(value), int) or type(value) is bool:
        raise TypeError("an int")
    return int.__int__(value)


def _number(value: Any) -> float:
    if issubclass(type(value), float):
        return float.__float__(value)
    if not issubclass(type(value), int) or type(value) is bool:
        raise TypeError("a number")
    return int.__int__(value)


def _flag(value: Any) -> bool:
    if type(value) is not bool:
        raise TypeError("True or False")
    return value


def _nothing(value: Any) -> None:
    if value is not None:
        raise TypeError("None")


def _within(check: _Check, bounds: Mapping[str, float], wanted: str, value: Any) -> Any:
    """Return a number within the bounds of its declaration, or raise ValueError."""
    try:
        number = check(value)
    except TypeError:
        raise TypeError(wanted) from None
    if not (abs(number) <= sys.float_info.max and all(_BOUNDS[name](number, bound) for name, bound in bounds.items())):
        raise ValueError(wanted)
    return number


def _bounded(kind: Any, metas: Iterable[Meta]) -> _Check:
    """Return the check for values of a type with bounds, if there are any."""
    said = [(name, getattr(meta, name)) for meta in metas for name in _BOUNDS]
    bounds = {name: bound for name, bound in said if bound is not None}
    if not bounds:
        return _check_of(kind)
    noun = "an int" if kind is int else "a number"
    if any((meta.extra or {}).get("metavar") == "SECONDS" for meta in metas):
        noun += " of seconds"
    return partial(_within, _check_of(kind), bounds, f"{noun} {_in_words(**bounds)}")


def _in_words(ge: float | None = None, gt: float | None = None, le: float | None = None) -> str:
    if ge is not None and le is not None:
        return f"from {ge} to {le}"
    bounds = (("of at least", ge), ("above", gt), ("of at most", le))
    return " and ".join(f"{words} {bound}" for words, bound in bounds if bound is not None)


def _choice(allowed: tuple[str, ...], value: Any) -> str:
    if not issubclass(type(value), str) or plain(value) not in allowed:
        raise TypeError(f"one of {', '.join(repr(one) for one in allowed)}")
    return plain(value)


def _items(check: _Check, value: Any) -> tuple[Any, ...]:
    if type(value) is not tuple and type(value) is not list:
        raise TypeError("a tuple")
    return tuple(check(one) for one in value)


def _entries(check_key: _Check, check_value: _Check, value: Any) -> dict[Any, Any]:
    if type(value) is not dict:
        raise TypeError("a dict")
    return {check_key(key): check_value(one) for key, one in list(value.items())}


def _any_of(checks: tuple[_Check, ...], value: Any) -> Any:
    wanted = []
    for check in checks:
        try:
            return check(value)
        except TypeError as error:
            wanted.append(str(error))
    raise TypeError(" or ".join(wanted))


# {a bound of `Meta`: whether a number is within it}
_BOUNDS: Final[Mapping[str, Callable[[float, float], bool]]] = {
    "ge": operator.ge,
    "gt": operator.gt,
    "le": operator.le,
}

_SIMPLE: Final[Mapping[Any, _Check]] = {
    str: _text,
    int: _whole,
    float: _number,
    bool: _flag,
    type(None): _nothing,
}


def _check_of(kind: Any) -> _Check:
    """Return the check for values that are declared as `kind`."""
    if kind in _SIMPLE:
        return _SIMPLE[kind]
    origin, args = get_origin(kind), get_args(kind)
    if origin is Annotated:
        return _bounded(args[0], args[1:])
    if origin is Literal:
        return partial(_choice, args)
    if origin is tuple:
        return partial(_items, _check_of(args[0]))
    if origin is dict:
        return partial(_entries, _check_of(args[0]), _check_of(args[1]))
    if origin is types.UnionType or origin is Union:
        return partial(_any_of, tuple(map(_check_of, args)))
    return lambda value: value  # a function, or a value for an actor, which control only passes on


_CHECKS: dict[type[Any], dict[str, _Check]] = {}


def _checks_of(kind: type[m.Message[Any]]) -> dict[str, _Check]:
    """Return {field: its check}, which is made once for each class."""
    if kind not in _CHECKS:
        hints = get_type_hints(kind, include_extras=True)
        names = sorted((field.name for field in attrs.fields(kind)), key=lambda name: name in m.ENVELOPE)
        _CHECKS[kind] = {name: _check_of(hints[name]) for name in names}
    return _CHECKS[kind]


def checked(message: object) -> m.Message[Any]:
    """Return a message of control with fields of exactly the declared types.

    Raises:
        BadRequest: it is not a message of control, or a field has a value that cannot work.
    """
    kind = type(message)
    if not is_declared(kind):
        raise BadRequest(f"{class_name(type(message))} is not a message of control; see tokengate.control.messages")
    return message_of(kind, {name: getattr(message, name) for name in _checks_of(kind) if hasattr(message, name)})


def message_of(kind: type[m.Message[Any]], given: Mapping[str, object]) -> m.Message[Any]:
    """Return a message with these fields, which have exactly the declared types and are within their bounds.

    Raises:
        BadRequest: a field is missing, is not a field of the message, or has a value that cannot work.
    """
    checks = _checks_of(kind)
    for name in given:
        if name not in checks:
            known = f"its fields are: {', '.join(checks) or 'none'}"
            raise BadRequest(f"'{m.verb_of(kind)}' has no field {value_in_words(name[:60])}; {known}")
    fields = {name: _field(kind, name, checks[name], value) for name, value in given.items()}
    for field in attrs.fields(kind):
        if field.default is attrs.NOTHING and field.name not in fields:
            raise BadRequest(f"'{m.verb_of(kind)}' needs a value for its field '{field.name}'")
    try:
        return kind(**fields)
    except BadRequest:
        raise
    except Exception as error:  # of a validator, say, of a plugin's message
        why = next(iter(error.args), class_name(type(error)))
        raise BadRequest(f"'{m.verb_of(kind)}' cannot be made of these values: {why}") from None


def _field(kind: type[m.Message[Any]], name: str, check: _Check, value: object) -> Any:
    """Return the value of a field as exactly its type."""
    try:
        return check(value)
    except TypeError as error:
        raise BadRequest(f"{name} of {m.verb_of(kind)} is {value_in_words(value)}; it must be {error}") from None
    except ValueError as error:
        raise BadRequest(f"{name} is {value_in_words(value)}; it must be {error}") from None
