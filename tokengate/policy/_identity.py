"""What two calls of the same work share: the key, and arguments that are equal."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any


def same_arguments(
    function: Callable[..., Any],
    one: tuple[tuple[Any, ...], Mapping[str, Any]],
    other: tuple[tuple[Any, ...], Mapping[str, Any]],
) -> bool:
    """Tell whether two calls of a function have equal arguments, however they are passed; runs users' `==`.

    Args:
        function: the function.
        one: positional and keyword arguments of a call.
        other: those of the other one.
    """
    first, second = ({**dict(enumerate(args)), **kwargs} for args, kwargs in (one, other))
    if first.keys() != second.keys():  # passed in other ways, by position or by keyword
        first, second = _bound(function, *one), _bound(function, *other)
    return first.keys() == second.keys() and all(_is_equal(first[name], second[name]) for name in first)


def _is_equal(one: object, other: object) -> bool:
    """Tell whether two values are equal; what raises, or is no plain bool, is other."""
    try:
        return (one == other) is True
    except Exception:
        return False


def _bound(function: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> dict[Any, Any]:
    """Return {parameter: its value, or its default}; a key that no other call has, if they do not fit the function."""
    try:
        bound = inspect.signature(function).bind(*args, **kwargs)
    except (TypeError, ValueError):
        return {object(): None}
    bound.apply_defaults()
    return dict(bound.arguments)
