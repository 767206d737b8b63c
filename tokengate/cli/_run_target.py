"""The TARGET of `run`: a gate that is not open yet, or a function that takes an open gate."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from tokengate import Gate
from tokengate.cli._errors import UsageProblem
from tokengate.control.registry._modules import load_module


def load_target(target: str) -> Gate | Callable[[Gate], Any]:
    """Import `module:attribute` or `file.py:attribute`.

    Raises:
        UsageProblem: it does not exist, or is neither a gate nor a function.
    """
    found = load_object(target)
    if isinstance(found, Gate):
        return found
    if callable(found) and not isinstance(found, type):
        _check_function(target, found)
        return found
    raise UsageProblem(f"'{target}' is {type(found).__name__}; it must be a Gate, or a function that takes one")


def load_object(target: str) -> object:
    """Import `module:attribute` or `file.py:attribute`.

    Raises:
        UsageProblem: it does not exist.
    """
    where, colon, attribute = target.rpartition(":")
    if not colon or not where or not attribute:
        raise UsageProblem(f"'{target}' names no attribute; write module:attribute or file.py:attribute")
    try:
        found: object = load_module(where)
    except ImportError as error:
        raise UsageProblem(str(error)) from None
    for name in attribute.split("."):
        try:
            found = getattr(found, name)
        except AttributeError:
            raise UsageProblem(f"'{where}' has no attribute '{attribute}'") from None
    return found


def _check_function(target: str, function: Callable[..., Any]) -> None:
    if inspect.iscoroutinefunction(function):
        raise UsageProblem(f"'{target}' is a coroutine function; it must be a plain function that takes a Gate")
    try:
        inspect.signature(function).bind(None)
    except TypeError:
        raise UsageProblem(f"'{target}' must take one argument, the open Gate") from None
