"""What rows call: names on disk, paths of places, and what encodes and decodes the calls."""

from __future__ import annotations

import inspect
from functools import partial
from typing import Any

import msgspec

from actors import NotDurable
from actors.lowlevel import ActorPlace, Place, method_of
from tokengate.durable._codec import Codec
from tokengate.operations._operation import operation_named


def name_of(operation: Any) -> str:
    """Return the name of an operation, or its function: `module:qualified name`."""
    return f"{operation.__module__}:{operation.__qualname__}"


def name_of_call(place: Place, call: Any) -> str:
    """Return the name of the call of a token: that of its operation, or `path:method` of an actor's."""
    return f"{place.path}:{method_of(call)}" if isinstance(place, ActorPlace) else name_of(_function_of(call))


def path_of(name: str) -> str:
    """Return the path of the place of an operation with a name."""
    known = operation_named(name)
    return f"operations/{name.rpartition(':')[2].rpartition('.')[2] if known is None else known._spec.name}"


def codec_of(name: str, place: Place, call: Any) -> Codec:
    """Return what encodes and decodes the calls of a place, or of a method there.

    Raises:
        NotDurable: it is an operation that another process would not find by its name.
        msgspec.ValidationError: the class of the actor has no such method.
    """
    if isinstance(place, ActorPlace):
        method = method_of(call) or ""
        if not hasattr(place.actor_class, method):
            raise msgspec.ValidationError(f"class '{place.actor_class.__name__}' has no method '{method}'")
        plain = not isinstance(inspect.getattr_static(place.actor_class, method), staticmethod | classmethod)
        return Codec(name, getattr(place.actor_class, method), bound=plain)
    found = operation_named(name)
    if found is None or found._function is not _function_of(call):
        raise NotDurable(
            f"'{name}' is {'nothing' if found is None else 'something else'} in its module, so no other process would "
            "find the operation; define it at the top of a module, and keep it under its own name"
        )
    return Codec(name, found._function)


def _function_of(call: Any) -> Any:
    return call.func if isinstance(call, partial) else call  # for a loop of the program
