"""Keys of calls: the value of a tag, of a parameter, or of a function of the arguments."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Mapping
from inspect import Parameter
from typing import Any, TypeAlias

from tokengate._exceptions import BadPolicy
from tokengate.policy._values import Key

KeyReader: TypeAlias = Callable[[tuple[Any, ...], Mapping[str, Any], Mapping[str, str]], str | int | None]
"""Returns the key of a call, given its positional arguments, its keyword arguments and its tags. None: it has none."""


class CallKeys:
    """The keys of the calls of one function, whose signature is looked at once.

    Args:
        operation: its name, for errors.
        function: what is called; if it has no signature, parameters are found by keyword only.
        is_method: the arguments of calls lack the first parameter, the instance.
    """

    def __init__(self, operation: str, function: Callable[..., object], *, is_method: bool = False) -> None:
        self._place = f"operation '{operation}'"
        try:
            parameters = list(inspect.signature(function).parameters.values())[1 if is_method else 0 :]
        except (TypeError, ValueError):
            parameters = []
        # {name: its position, whether it is found by keyword, its default}
        self._parameters: dict[str, tuple[int, bool, Any]] = {}
        for position, one in enumerate(parameters):
            if one.kind not in (Parameter.VAR_POSITIONAL, Parameter.VAR_KEYWORD):
                self._parameters[one.name] = (
                    sys.maxsize if one.kind is Parameter.KEYWORD_ONLY else position,
                    one.kind is not Parameter.POSITIONAL_ONLY,
                    None if one.default is Parameter.empty else one.default,
                )

    def reader(self, rule: str, key: Key) -> KeyReader:
        """Return what reads a key: it raises `BadPolicy` unless the value is a text, an int or None.

        Args:
            rule: the field that has the key, such as `throttle.key`, for errors.
            key: the name of a tag, else of a parameter; or a function of the arguments, whose errors come out.
        """
        if callable(key):
            function = key
            return lambda args, kwargs, _tags: self._plain(rule, function(*args, **kwargs))
        name = key
        position, by_keyword, default = self._parameters.get(name, (sys.maxsize, True, None))

        def read(args: tuple[Any, ...], kwargs: Mapping[str, Any], tags: Mapping[str, str]) -> str | int | None:
            value: Any = tags.get(name)
            if value is None:
                value = args[position] if position < len(args) else kwargs.get(name, default) if by_keyword else default
            if type(value) is str or type(value) is int or value is None:
                return value
            return self._plain(rule, value)

        return read

    def _plain(self, rule: str, value: Any) -> str | int | None:
        """Return a value as a plain text or int, so that no method of its class is called later."""
        if isinstance(value, str):
            return str.__str__(value)
        if isinstance(value, int):
            return int.__int__(value)
        if value is None:
            return None
        raise BadPolicy(self._place, f"the value of {rule}", value, "use a text, an int, or None for no key")
