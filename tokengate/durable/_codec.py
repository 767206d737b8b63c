"""Arguments and results of durable tokens as JSON, which annotations turn into values again.

What would come back as another value, or as one of another type, is refused where it is sent.
"""

from __future__ import annotations

import contextlib
import dataclasses
import inspect
import json
import math
import sys
import zlib
from collections.abc import Callable, Mapping
from datetime import UTC, date, datetime
from decimal import Decimal
from enum import Enum, Flag
from inspect import Parameter
from pathlib import Path, PurePath
from types import NoneType, SimpleNamespace, UnionType
from typing import Annotated, Any, Final, Union, get_args, get_origin, get_type_hints
from uuid import UUID

import attrs
import msgspec

from actors import NotDurable, Secret

LARGEST: Final = 256 * 1024
"""Bytes of the arguments of a call, or of a result, at most."""

_ALWAYS: Final = None

# {type: whether a value of it comes back as it is, if its annotation is this type}; others are tried.
_SURE: Final[Mapping[Any, Callable[[Any], bool] | None]] = {
    int: _ALWAYS,
    str: _ALWAYS,
    bool: _ALWAYS,
    NoneType: _ALWAYS,
    float: math.isfinite,
    bytes: _ALWAYS,
    Decimal: Decimal.is_finite,
    date: _ALWAYS,
    datetime: lambda value: value.tzinfo is None or value.tzinfo is UTC,
    UUID: _ALWAYS,
}
_PLAIN: Final = {kind: _SURE[kind] for kind in (int, str, bool, NoneType, float)}


def _encoded(value: Any) -> Any:
    """Encode what msgspec has no form for."""
    if isinstance(value, PurePath):
        return str(value)
    raise TypeError(f"`{type(value).__name__}` has no form in JSON")


def _decoded(kind: Any, value: Any) -> Any:
    """Decode what msgspec has no form for."""
    if isinstance(kind, type) and issubclass(kind, PurePath) and type(value) is str:
        return kind(value)
    raise TypeError(f"`{getattr(kind, '__name__', kind)}` has no form in JSON")


_encode: Final = msgspec.json.Encoder(enc_hook=_encoded).encode
_parts: Final = msgspec.json.Decoder(tuple[list[msgspec.Raw], dict[str, msgspec.Raw]]).decode
_decode_plain: Final = msgspec.json.Decoder().decode


@attrs.frozen
class _Values:
    """What the values of one parameter, or results, become in JSON, and become again.

    Attributes:
        sure: {type: whether a value of it comes back as it is}; None: always.
        decode: its values.
        annotation: as text; empty without one.
    """

    sure: Mapping[Any, Callable[[Any], bool] | None]
    decode: Callable[[Any], Any]
    annotation: str = ""

    @classmethod
    def of(cls, hint: Any) -> _Values:
        """Return those of an annotation."""
        if hint is Any or hint is Parameter.empty:
            return _ANYTHING
        text = hint.__name__ if isinstance(hint, type) and not get_args(hint) else str(hint).replace("typing.", "")
        try:
            decode = msgspec.json.Decoder(hint, dec_hook=_decoded).decode
        except (TypeError, RuntimeError) as error:
            return cls({}, _refusing(str(error)), text)
        return cls(_sure(hint), decode, text)


_ANYTHING: Final = _Values(_PLAIN, _decode_plain)


def _refusing(why: str) -> Callable[[Any], Any]:
    """Return what decodes nothing."""

    def refuse(_value: Any) -> Any:
        raise msgspec.ValidationError(why)

    return refuse


def _sure(hint: Any) -> Mapping[Any, Callable[[Any], bool] | None]:
    if get_origin(hint) is Annotated and not any(isinstance(one, msgspec.Meta) for one in hint.__metadata__):
        return _sure(hint.__origin__)
    if get_origin(hint) in (Union, UnionType):
        kinds = get_args(hint)
        return {kind: _PLAIN[kind] for kind in kinds} if set(kinds) <= _PLAIN.keys() else {}
    if isinstance(hint, type) and issubclass(hint, Enum) and not issubclass(hint, Flag):
        return {hint: _ALWAYS} if all(type(one.value) in (int, str) for one in hint) else {}
    return {hint: _SURE[hint]} if hint in _SURE else {}


class Codec:
    """Encodes the calls of one function, and decodes them and its results.

    Args:
        name: of the operation, for errors.
        function: the function.
        bound: whether it is called with one more argument, which is first and is not kept: the instance of an actor.
    """

    def __init__(self, name: str, function: Callable[..., Any], *, bound: bool = False) -> None:
        self.name = name
        signature = inspect.signature(function)
        self._signature = signature.replace(parameters=list(signature.parameters.values())[bound:])
        hints = _hints_of(inspect.unwrap(function))
        result = hints.pop("return", Any)
        if inspect.isgeneratorfunction(function):
            result = (*get_args(result), Any, Any, Any)[2]
        self._result = _Values.of(result)
        self._values: dict[str, _Values] = {}  # {parameter: its values}
        self._rest: _Values | None = None  # those of `*args`
        self._others: _Values | None = None  # those of `**kwargs`
        positional: list[str] = []
        self._fewest = 0  # arguments of a call that has only positional ones
        for key, parameter in self._signature.parameters.items():
            values = _Values.of(hints.get(key, Any))
            if parameter.kind is Parameter.VAR_POSITIONAL:
                self._rest = values
            elif parameter.kind is Parameter.VAR_KEYWORD:
                self._others = values
            else:
                self._values[key] = values
                if parameter.kind is not Parameter.KEYWORD_ONLY:
                    positional.append(key)
                if parameter.default is Parameter.empty:
                    self._fewest = len(positional) if parameter.kind is not Parameter.KEYWORD_ONLY else sys.maxsize
        self._positional = positional
        self._sure = [self._values[key].sure for key in positional]

    @property
    def names(self) -> list[str]:
        """The names of its parameters."""
        return list(self._signature.parameters)

    def encode(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> bytes:
        """Return a call as JSON.

        Raises:
            NotDurable: it would not come back as it is.
        """
        try:
            text = _encode((args, kwargs or {})) if self._is_sure(args, kwargs) else self._encode_each(args, kwargs)
        except (TypeError, ValueError):  # of a text that has no form in UTF-8, for one
            text = self._encode_each(args, kwargs)
        if len(text) > LARGEST:
            raise NotDurable(
                f"arguments of '{self.name}' have {len(text):,} bytes, and at most {LARGEST:,} can be kept; "
                "write the data to a file or a table, and pass its name"
            )
        return text

    def _is_sure(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> bool:
        """Tell whether it is known from the types of the arguments that they come back as they are."""
        if len(args) > len(self._sure):
            return False
        for value, sure in zip(args, self._sure, strict=False):
            test = sure.get(type(value), _never)
            if test is not None and not test(value):
                return False
        for name, value in kwargs.items():
            values = self._values.get(name)
            test = _never if values is None else values.sure.get(type(value), _never)
            if test is not None and not test(value):
                return False
        return True

    def _encode_each(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> bytes:
        first = [self._encode_one(self._name_of(n), n, value) for n, value in enumerate(args)]
        second = [b"%b:%b" % (_encode(name), self._encode_one(name, name, value)) for name, value in kwargs.items()]
        return b"[[%b],{%b}]" % (b",".join(first), b",".join(second))

    def _name_of(self, position: int) -> str:
        positional = self._positional
        return positional[position] if position < len(positional) else f"*{position - len(positional)}"

    def _values_of(self, where: int | str) -> _Values:
        """Return those of a position or a keyword; the call may fit no parameter, and fails then when it runs."""
        if isinstance(where, int):
            known = self._positional[where] if where < len(self._positional) else None
            return (self._rest if known is None else self._values[known]) or _ANYTHING
        return self._values.get(where) or self._others or _ANYTHING

    def _encode_one(self, name: str, where: int | str, value: Any) -> bytes:
        """Return one argument as JSON, or raise `NotDurable` with its name and the remedy."""
        values = self._values_of(where)
        try:
            text = _encode(value)
            back = values.decode(text)
            comes_back = is_same(value, back)
        except Exception as error:
            raise self._refused(name, value, values, str(error)) from None
        if not comes_back:
            raise self._refused(name, value, values, f"it would come back as {_short(back)}")
        return text

    def _refused(self, name: str, value: Any, values: _Values, why: str) -> NotDurable:
        kind = type(value).__name__
        if isinstance(value, Secret):
            why, remedy = "a Secret is not written to disk", "pass its name, and read it where the token runs"
        elif isinstance(value, float) and not math.isfinite(value):
            why, remedy = f"{value} has no form in JSON", "pass None, or a text"
        elif values.annotation:
            remedy = f"its annotation is '{values.annotation}': pass that, or annotate it with what is passed, {kind}"
        elif values is _ANYTHING and type(value) in _FORMS:
            remedy = f"annotate the parameter with its type, such as '{name.lstrip('*')}: {_FORMS[type(value)]}'"
        else:
            remedy = "annotate the parameter with a dataclass, or pass a text or a number that names it"
        return NotDurable(f"argument '{name}' of '{self.name}', {_short(value)}, cannot be kept: {why}; {remedy}")

    def decode(self, text: bytes) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Return the positional arguments and those by keyword.

        Raises:
            msgspec.ValidationError: they do not fit the function.
        """
        args, kwargs = _parts(text)
        if kwargs or not self._fewest <= len(args) <= len(self._positional):
            try:
                self._signature.bind(*args, **kwargs)
            except TypeError as error:
                raise msgspec.ValidationError(str(error)) from None
        return (
            tuple(self._values_of(n).decode(raw) for n, raw in enumerate(args)),
            {name: self._values_of(name).decode(raw) for name, raw in kwargs.items()},
        )

    def is_same(self, one: bytes, other: bytes) -> bool:
        """Tell whether two calls have the same arguments, as they are written, by position or by keyword."""
        if one == other:
            return True
        with contextlib.suppress(TypeError):  # one that was written for earlier parameters
            return self._bound(one) == self._bound(other)
        return False

    def _bound(self, text: bytes) -> dict[str, Any]:
        args, kwargs = _parts(text)
        return self._signature.bind(*map(bytes, args), **{name: bytes(raw) for name, raw in kwargs.items()}).arguments

    def decode_result(self, text: bytes) -> Any:
        """Return a result; as plain JSON, if it does not fit the annotation any more."""
        try:
            return self._result.decode(text)
        except msgspec.ValidationError:
            return _decode_plain(text)


def _never(_value: Any) -> bool:
    return False


# {type that comes back as another one without an annotation: the annotation}
_FORMS: Final[Mapping[type, str]] = {
    tuple: "tuple[int, str]",
    set: "set[int]",
    frozenset: "frozenset[int]",
    dict: "dict[int, str]",
    list: "list[tuple[int, str]]",
    **{kind: kind.__name__ for kind in (bytes, bytearray, Decimal, date, datetime, UUID, type(Path()))},
}


def _hints_of(function: Any) -> dict[str, Any]:
    """Return {parameter: its annotation}, without those that cannot be evaluated here."""
    try:
        return get_type_hints(function, include_extras=True)
    except Exception:  # of one of them, such as a name that is imported for type checkers only
        scope, hints = getattr(function, "__globals__", {}), {}
        for name, annotation in getattr(function, "__annotations__", {}).items():
            one = SimpleNamespace(__annotations__={name: annotation})
            try:
                hints.update(get_type_hints(one, scope, include_extras=True))
            except Exception:
                continue  # as if it had none: what needs it is refused
        return hints


def decoder_of_results(function: Callable[..., Any]) -> Callable[[bytes], Any]:
    """Return what decodes the results of a function, by its annotation; it raises `msgspec.ValidationError`."""
    return _Values.of(_hints_of(inspect.unwrap(function)).get("return", Any)).decode


def is_same(one: Any, other: Any) -> bool:
    """Tell whether two values are equal, and of the same types all through."""
    kind = type(one)
    if kind is not type(other):
        return False
    if kind in _PLAIN:
        return bool(one == other)
    if kind is list or issubclass(kind, tuple):
        return len(one) == len(other) and all(map(is_same, one, other))
    if kind is dict:
        return len(one) == len(other) and all(map(is_same, one.items(), other.items()))
    if kind is set or kind is frozenset:
        return {(type(value), value) for value in one} == {(type(value), value) for value in other}
    names: Any = getattr(kind, "__struct_fields__", None)
    if names is None and dataclasses.is_dataclass(kind):
        names = [field.name for field in dataclasses.fields(kind)]
    elif names is None and attrs.has(kind):
        names = [field.name for field in attrs.fields(kind)]
    if names is not None:
        return all(is_same(getattr(one, name), getattr(other, name)) for name in names)
    return (one == other) is True


def encode_result(name: str, value: Any) -> bytes:
    """Return a result as JSON.

    Raises:
        NotDurable: JSON cannot hold it.
    """
    try:
        text = encode_plain(value)
    except Exception as error:
        raise NotDurable(
            f"the result of '{name}', {_short(value)}, cannot be kept: {error}; return what JSON has a form for"
        ) from error
    if len(text) > LARGEST:
        raise NotDurable(f"the result of '{name}' has {len(text):,} bytes; at most {LARGEST:,} can be kept")
    return text


def encode_plain(value: Any) -> bytes:
    """Return a value as JSON; raises what JSON, or this value, raises if that has no form for it."""
    text = _encode(value)
    if b"null" in text:
        json.dumps(msgspec.to_builtins(value, enc_hook=_encoded), allow_nan=False)  # msgspec writes null for nan
    return text


def _short(value: Any) -> str:
    try:
        text = repr(value)
    except Exception:
        text = object.__repr__(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


_packed: Final = msgspec.msgpack.Encoder().encode  # tells text from bytes, and 1 from 1.0
_crc32: Final = zlib.crc32


def checksum(*values: object) -> int:
    """Return the checksum of values of a row."""
    return _crc32(_packed(values))
