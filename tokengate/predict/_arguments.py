"""Readers of the arguments of rules' verbs, which are text."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from math import inf
from typing import Any, TypeAlias

from actors.lowlevel import AFFINITIES

Values: TypeAlias = Mapping[str, Any]

Reader: TypeAlias = Callable[[str, list[str]], Values]
"""Returns the arguments from the name of a verb and what follows it; ValueError with the remedy if they are wrong."""

_PLACES = f"one of {', '.join(AFFINITIES)}, or the path of an actor"


# --- All arguments of a verb ------------------------------------------------------------------------------------------


def named(example: str = "", **readers: Callable[[str], Any]) -> Reader:
    """Return a reader of arguments `NAME=VALUE`, also with dashes before the name.

    Args:
        example: of the verb, if it needs one argument at least.
        readers: {name: what reads its value}.
    """

    def read(verb: str, given: list[str]) -> Values:
        found: dict[str, Any] = {}
        for one in given:
            name, equals, value = one.lstrip("-").partition("=")
            name = name.replace("-", "_")
            if not equals or name not in readers:
                remedy = " or ".join(f"{each}=..." for each in readers)
                raise ValueError(f"'{one}' is no argument of {verb}; write {remedy}")
            found[name] = _value(verb, name, value, readers[name])
        if example and not found:
            raise ValueError(f"{verb} needs an argument, such as '{example}'")
        return found

    return read


def nothing(verb: str, given: list[str]) -> Values:
    """Read no arguments."""
    if given:
        raise ValueError(f"{verb} takes no arguments here, and '{given[0]}' is one")
    return {}


def priority(verb: str, given: list[str]) -> Values:
    """Read a priority, such as `-1`."""
    if len(given) != 1:
        raise ValueError(f"{verb} needs one priority, such as '{verb} -1'")
    return {"priority": _value(verb, "priority", given[0].removeprefix("priority="), _integer)}


def tags(verb: str, given: list[str]) -> Values:
    """Read tags, such as `speed=slow`."""
    found = {name: value for name, equals, value in (one.partition("=") for one in given) if equals and name}
    if not given or len(found) != len(given):
        raise ValueError(f"{verb} needs tags, such as '{verb} speed=slow'")
    return {"set": found}


def place(verb: str, given: list[str]) -> Values:
    """Read an affinity, or the path of an actor."""
    if len(given) != 1:
        raise ValueError(f"{verb} needs {_PLACES}")
    to = path(given[0].removeprefix("to="))
    return {"affinity" if to in AFFINITIES else "actor": to}


def opening(verb: str, given: list[str]) -> Values:
    """Read that a breaker is opened, which is all that a rule does with one."""
    if given != ["open"]:
        raise ValueError(f"write '{verb} open'")
    return {}


def _value(verb: str, name: str, value: str, read: Callable[[str], Any]) -> Any:
    try:
        return read(value)
    except ValueError as error:
        raise ValueError(f"{name} of {verb} is {value!r}: {error}") from None


# --- Values -----------------------------------------------------------------------------------------------------------


def rate(text: str) -> float | str:
    """Read tokens per time, such as `5/s`."""
    number, slash, per = text.partition("/")
    with suppress(ValueError):
        if 0 < float(number) < inf and (not slash or per in ("s", "m", "h", "d")):
            return text if slash else float(number)
    raise ValueError("write tokens per second, such as 5/s or 100/m")


def concurrency(text: str) -> int:
    """Read how many tokens may run at once."""
    with suppress(ValueError):
        if int(text) >= 1:
            return int(text)
    raise ValueError("write a whole number of at least 1")


def mode(text: str) -> str:
    """Read how a token is ended."""
    if text not in ("cancel", "interrupt", "kill"):
        raise ValueError("write cancel, interrupt or kill")
    return text


def path(text: str) -> str:
    """Read a path; an affinity is one, too."""
    if not is_path(text):
        raise ValueError(f"'{text}' is no place; write {_PLACES}")
    return text


def is_path(text: str) -> bool:
    """Tell whether a place can have this path, or these last parts of it."""
    return all(text.removeprefix("/").split("/"))


def _integer(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise ValueError("write a whole number, such as -1") from None
