"""Properties of a callable: its name, its kind, and the look-up by its name."""

from __future__ import annotations

import importlib
import inspect
import sys
from collections.abc import Callable
from contextvars import Context
from functools import WRAPPER_ASSIGNMENTS, partial
from types import BuiltinFunctionType, MethodType
from typing import Any


def innermost(function: Any) -> Any:
    """Return the function inside partials, also inside the partial of `Context.run` that `asyncio.to_thread` makes."""
    while isinstance(function, partial):
        function = function.func if context_of(function) is None else function.args[0]
    return function


def context_of(function: partial[Any]) -> Context | None:
    """Return the context of a partial of `Context.run` with a function as its argument; None for other partials."""
    inner: Any = function.func
    if type(inner) is BuiltinFunctionType and type(inner.__self__) is Context and inner.__name__ == "run":
        return inner.__self__ if function.args else None
    return None


def name_of(function: object) -> str:
    """Return the name of a callable: that of a partial is its function's, that of an object its class's."""
    return str(_named(function).__name__)


def is_coroutine_function(function: object) -> bool:
    """Tell whether calling it returns a coroutine, as far as that is known before the call."""
    return _is(inspect.iscoroutinefunction, function)


def is_generator_function(function: object) -> bool:
    """Tell whether calling it returns a generator, as far as that is known before the call."""
    return _is(inspect.isgeneratorfunction, function)


def is_async_generator_function(function: object) -> bool:
    """Tell whether calling it returns an async generator, as far as that is known before the call."""
    return _is(inspect.isasyncgenfunction, function)


def _is(asks: Callable[[Any], bool], function: object) -> bool:
    inner = innermost(function)
    return asks(inner) or asks(type(inner).__call__)


def binds(function: object) -> bool:
    """Tell whether a callable that is an attribute of a class binds to instances, as plain functions do."""
    return hasattr(type(function), "__get__") and not isinstance(function, MethodType)


def qualified_name_of(function: object) -> str:
    """Return the name of a callable with its module and, if it has one, its class."""
    named = _named(function)
    return f"{_module_of(named)}.{getattr(named, '__qualname__', named.__name__)}"


def copy_metadata(operation: Any, function: Callable[..., Any]) -> None:
    """Give an operation the names, the docstring and the annotations of its function."""
    # As `update_wrapper` does; but CPython 3.11 looks up attributes slowly once the `__dict__` of an object was used.
    # Methods of a cache are copied, too.
    for name in (*WRAPPER_ASSIGNMENTS, "cache_info", "cache_clear"):
        if hasattr(function, name):
            setattr(operation, name, getattr(function, name))
    if getattr(function, "__dict__", None):
        vars(operation).update(vars(function))
    operation.__wrapped__ = function
    named = _named(function)
    operation.__module__ = _module_of(named)
    if named is not function:
        operation.__name__, operation.__doc__ = named.__name__, named.__doc__
        operation.__qualname__ = getattr(named, "__qualname__", named.__name__)


def _module_of(named: object) -> str:
    return getattr(named, "__module__", None) or type(named).__module__


def _named(function: object) -> Any:
    inner = innermost(function)
    return inner if hasattr(inner, "__name__") else type(inner)


def found_at(module: str, name: str) -> Any:
    """Return the object at a dotted name of a module; None if there is none, or the module cannot be imported."""
    try:
        importlib.import_module(module)
    except (ImportError, AttributeError, ValueError):
        return None
    return loaded_at(module, name)


def loaded_at(module: str, name: str) -> Any:
    """Return the object at a dotted name of a module that has been imported, or is being; None if there is none.

    The call does not wait for the import, as one of the module would.
    """
    found: Any = sys.modules.get(module)
    try:
        for part in name.split("."):
            found = getattr(found, part)
    except (ImportError, AttributeError):
        return None
    return found
