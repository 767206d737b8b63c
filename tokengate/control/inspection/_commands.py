"""Commands of actors as they are shown: what forms and schemas of them are made of.

Annotations may run user code, so they are read in threads beside the loop, once for each class.
"""

from __future__ import annotations

import inspect
import weakref
from functools import partial
from inspect import Parameter
from types import FunctionType
from typing import Any, Final, get_args, get_origin, get_type_hints

import msgspec

from actors import Secret
from actors.lowlevel import commands_of, consent_of
from tokengate.control._safe_text import plain
from tokengate.control.inspection._off_loop import OffLoop
from tokengate.control.messages import CommandRow

_SECONDS: Final = 2.0  # for the annotations of a class
_MOST: Final = 16 * 1024  # bytes of a schema
_ANY: Final[dict[str, Any]] = {"type": "object"}
_HIDDEN: Final[dict[str, Any]] = {"format": "password", "writeOnly": True}

_threads: Final = OffLoop("commands of actors", 2)

# By id, since a metaclass may have a hash of its own.
_known: dict[int, tuple[weakref.ref[type], tuple[CommandRow, ...]]] = {}


async def commands_shown(cls: type) -> tuple[CommandRow, ...]:
    """Return the commands of an actor's class; without schemas if its annotations take too long."""
    known = _known.get(id(cls))
    if known is not None and known[0]() is cls:
        return known[1]
    functions = commands_of(cls)
    rows = await _threads.run(_SECONDS, partial(_rows, functions)) if functions else ()
    if rows is None:
        return tuple(CommandRow(plain(name), "", _ANY, consent_of(one)) for name, one in functions.items())
    key = id(cls)
    _known[key] = weakref.ref(cls, lambda _: _known.pop(key, None)), rows
    return rows


def _rows(functions: dict[str, FunctionType]) -> tuple[CommandRow, ...]:
    return tuple(_row(name, function) for name, function in sorted(functions.items()))


def _row(name: str, function: FunctionType) -> CommandRow:
    said: Any = function.__doc__
    summary = plain(said).strip().partition("\n")[0] if issubclass(type(said), str) else ""
    try:
        schema = _schema(function)
        if len(msgspec.json.encode(schema)) > _MOST:
            schema = _ANY
    except Exception:  # of user code
        schema = _ANY
    return CommandRow(plain(name), summary, schema, consent_of(function))


def _schema(function: FunctionType) -> dict[str, Any]:
    """Return the JSON schema of the arguments of a command, by name."""
    hints = get_type_hints(function, include_extras=True)
    _, *parameters = inspect.signature(function).parameters.values()
    definitions: dict[str, Any] = {}
    schema: dict[str, Any] = {"type": "object", "properties": {}, "required": [], "additionalProperties": False}
    for one in parameters:
        found = _schema_of(hints.get(one.name, Any), definitions)
        if one.kind is Parameter.VAR_KEYWORD:
            schema["additionalProperties"] = found
            continue
        if one.kind is Parameter.VAR_POSITIONAL:
            found = {"type": "array", "items": found, "x-tokengate-args": "rest"}
        elif one.kind is Parameter.POSITIONAL_ONLY:
            found = {**found, "x-tokengate-args": "one"}
        if one.default is Parameter.empty and one.kind is not Parameter.VAR_POSITIONAL:
            schema["required"].append(one.name)
        elif type(one.default) in (str, int, float, bool):
            found = {**found, "default": one.default}
        schema["properties"][one.name] = found
    return schema | ({"$defs": definitions} if definitions else {})


def _schema_of(hint: Any, definitions: dict[str, Any]) -> dict[str, Any]:
    """Return the schema of an annotation; that of any value if msgspec has none."""
    if get_origin(hint) is Secret:
        return {**_schema_of(get_args(hint)[0], definitions), **_HIDDEN}
    try:
        [found], components = msgspec.json.schema_components(
            [hint], schema_hook=_of_secret, ref_template="#/$defs/{name}"
        )
    except Exception:  # of a type that it does not know, or of user code
        return {}
    definitions |= components
    return found


def _of_secret(kind: Any) -> dict[str, Any]:
    if kind is not Secret:
        raise NotImplementedError
    return {**_HIDDEN}
