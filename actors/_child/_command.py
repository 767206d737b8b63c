"""Commands: the methods of an actor's class that are marked for operators. No other one is found here."""

from __future__ import annotations

from collections.abc import Callable
from types import FunctionType, MethodType
from typing import Any, Final

COMMAND: Final = ""
"""The first part of a path to an attribute, if the second one is the name of a command."""

_MARK: Final = "__tokengate_command__"


def mark(function: FunctionType, consent: str) -> None:
    """Make a function a command of the class that it is in.

    Args:
        function: the method.
        consent: what a call of it needs.
    """
    function.__dict__[_MARK] = consent


def consent_of(command: FunctionType) -> str:
    """Return what a call of a command needs."""
    consent: str = command.__dict__[_MARK]
    return consent


def commands_of(cls: type) -> dict[str, FunctionType]:
    """Return {name: command} of a class; a method that overrides one is one only if it is marked itself."""
    methods = {name: value for base in reversed(_bases(cls)) for name, value in _namespace(base).items()}
    return {
        name: value
        for name, value in methods.items()
        if type(value) is FunctionType and _MARK in value.__dict__ and type(name) is str and not name.startswith("_")
    }


def command_of(instance: object, name: str) -> Callable[..., Any]:
    """Return a command of an instance: of its class, though the instance may have an attribute of that name.

    Raises:
        AttributeError: there is none.
    """
    found = commands_of(type(instance)).get(name)
    if found is None:
        raise AttributeError(f"{type(instance).__name__} has no command '{name}'")
    return MethodType(found, instance)


def _bases(cls: type) -> tuple[type, ...]:
    bases: tuple[type, ...] = type.__dict__["__mro__"].__get__(cls)
    return bases


def _namespace(cls: type) -> dict[str, Any]:
    """Return what a class defines itself, without code of a metaclass."""
    namespace: dict[str, Any] = type.__dict__["__dict__"].__get__(cls)
    return namespace
