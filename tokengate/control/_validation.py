"""Checks of messages from the gate's own process, where fields may have any value; for the socket see `_protocol.py`.

The fields of a checked message have exactly the declared types, so that no later use of them runs code of a class that
is derived from `str` or `int`.
"""

from __future__ import annotations

import math
import types
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Final, Literal, TypeAlias, Union, get_args, get_origin, get_type_hints

import attrs

from tokengate.control import messages as m
from tokengate.control._exceptions import BadRequest
from tokengate.control._safe_text import class_name, plain, value_in_words

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
    if origin is Literal:
        return partial(_choice, args)
    if origin is tuple:
        return partial(_items, _check_of(args[0]))
    if origin is dict:
        return partial(_entries, _check_of(args[0]), _check_of(args[1]))
    if origin is types.UnionType or origin is Union:
        return partial(_any_of, tuple(map(_check_of, args)))
    return lambda value: value  # a function, or a value for an actor, which control only passes on


def _fields_of(kind: type[m.Message]) -> dict[str, _Check]:
    hints = get_type_hints(kind)
    return {field.name: _check_of(hints[field.name]) for field in attrs.fields(kind)}


# {id of a message's class: (the class, {field: its check})}; by id, since a metaclass may have a hash of its own.
_KINDS: Final = {id(kind): (kind, _fields_of(kind)) for kind in m.VERBS.values()}


def checked(message: object) -> m.Message:
    """Return a message of control with fields of exactly the declared types.

    Raises:
        BadRequest: it is not a message of control, or a field has a value that cannot work.
    """
    found = _KINDS.get(id(type(message)))
    if found is None:
        raise BadRequest(f"{class_name(type(message))} is not a message of control; see tokengate.control.messages")
    kind, checks = found
    fields: dict[str, Any] = {}
    for name, check in checks.items():
        value = getattr(message, name)
        try:
            fields[name] = check(value)
        except TypeError as error:
            raise BadRequest(f"{name} of {m.verb_of(kind)} is {value_in_words(value)}; it must be {error}") from None
    return kind(**fields)


# Maximum number of seconds for which a message may delay its answer.
_LONGEST_WAIT: Final = 3600.0


def seconds(field: str, value: object) -> float:
    """Return a number of seconds to wait.

    Raises:
        BadRequest: it is not a number, or out of range.
    """
    try:
        number = _number(value)
    except TypeError:
        number = math.nan
    if not 0 <= number <= _LONGEST_WAIT:
        raise BadRequest(
            f"{field} is {value_in_words(value)}; it must be a number of seconds from 0 to {_LONGEST_WAIT:g}"
        )
    return number
