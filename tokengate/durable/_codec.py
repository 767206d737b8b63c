"""Arguments and results of durable tokens as JSON, which annotations turn into values again."""

from __future__ import annotations

import inspect
import zlib
from collections.abc import Callable, Mapping
from typing import Any, Final, get_type_hints

import msgspec

from actors import NotDurable

LARGEST: Final = 256 * 1024
"""Bytes of the arguments of a call, or of a result, at most."""

_encode: Final = msgspec.json.Encoder().encode


class Codec:
    """Encodes the calls of one function, and decodes them.

    Args:
        name: of the operation, for errors.
        function: the function.
    """

    def __init__(self, name: str, function: Callable[..., Any]) -> None:
        self.name = name
        self._signature = inspect.signature(function)
        try:
            self._hints = get_type_hints(function, include_extras=True)
        except Exception:  # of annotations that cannot be evaluated
            self._hints = {}

    def encode(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> bytes:
        """Return a call as JSON.

        Raises:
            NotDurable: it would not come back as it is.
        """
        try:
            text = msgspec.json.encode([args, dict(kwargs)])
            back = self.decode(text)
        except (TypeError, ValueError, msgspec.ValidationError) as error:
            raise NotDurable(f"arguments of '{self.name}' cannot be kept: {error}") from error
        if len(text) > LARGEST:
            raise NotDurable(f"arguments of '{self.name}' have {len(text):,} bytes; at most {LARGEST:,} can be kept")
        if back != (args, dict(kwargs)):
            raise NotDurable(f"arguments of '{self.name}' would not come back as they are; annotate its parameters")
        return text

    def decode(self, text: bytes) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Return the positional arguments and those by keyword.

        Raises:
            msgspec.ValidationError: they do not fit the function.
        """
        args, kwargs = msgspec.json.decode(text)
        try:
            bound = self._signature.bind(*args, **kwargs)
        except TypeError as error:
            raise msgspec.ValidationError(str(error)) from error
        for name, value in bound.arguments.items():
            if name in self._hints:
                bound.arguments[name] = msgspec.convert(value, self._hints[name])
        names = list(bound.arguments)
        values = dict(zip(names, bound.arguments.values(), strict=True))
        positional = [values[name] for name in names if name not in kwargs]
        return tuple(positional), {name: values[name] for name in kwargs}


def encode_result(name: str, value: Any) -> bytes:
    """Return a result as JSON.

    Raises:
        NotDurable: JSON cannot hold it.
    """
    try:
        text = msgspec.json.encode(value)
    except (TypeError, ValueError) as error:
        raise NotDurable(f"the result of '{name}' cannot be kept: {error}") from error
    if len(text) > LARGEST:
        raise NotDurable(f"the result of '{name}' has {len(text):,} bytes; at most {LARGEST:,} can be kept")
    return text


def checksum(*values: object) -> int:
    """Return the checksum of values of a row."""
    return zlib.crc32(_encode(values))
