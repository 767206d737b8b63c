"""Checks of the values of policies; each raises `BadPolicy`: place, field, value and remedy."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import Any, Final, Literal, TypeAlias

from tokengate._exceptions import BadPolicy

Key: TypeAlias = str | Callable[..., Any]
"""Name of a tag or of a parameter, or a function of the arguments, which returns a text, an int or None."""

_PERIODS: Final[Mapping[str, Decimal]] = {
    "ms": Decimal("0.001"), "s": Decimal(1), "m": Decimal(60), "h": Decimal(3_600), "d": Decimal(86_400),
    "w": Decimal(604_800),
}  # fmt: skip
_RATE: Final = re.compile(r"\s*([0-9]{1,15}(?:\.[0-9]{1,9})?)\s*/\s*([smhd])\s*")
_PERIOD: Final = re.compile(r"\s*([0-9]{1,15}(?:\.[0-9]{1,9})?)\s*(ms|[smhdw])\s*")


def number(
    place: str,
    field: str,
    value: object,
    *,
    above: float | None = None,
    least: float | None = None,
    most: float = math.inf,
) -> float:
    """Return a number as a float.

    Args:
        place: what has the field, for the error.
        field: its name.
        value: the value that was given.
        above: it must be greater than this.
        least: it must be at least this.
        most: it must be at most this.

    Raises:
        BadPolicy: it is no such number.
    """
    try:
        found = float(value) if isinstance(value, int | float) and not isinstance(value, bool) else math.nan
    except OverflowError:  # an int that no float can be
        found = math.nan
    if (above is None or found > above) and (least is None or found >= least) and found <= most:  # not so for nan
        return found
    low = f"above {above:g}" if above is not None else f"of at least {least:g}" if least is not None else ""
    high = "" if math.isinf(most) else f"{' and' if low else ''} at most {most:g}"
    raise BadPolicy(place, field, value, f"use a number{' ' if low or high else ''}{low}{high}")


def finite(place: str, field: str, value: object) -> float:
    """Return a number that can be added up; raise `BadPolicy` unless it is finite and at least 0."""
    found = number(place, field, value, least=0)
    if math.isinf(found):
        raise BadPolicy(place, field, value, "use a finite number of at least 0")
    return found


def seconds(place: str, field: str, value: object) -> float:
    """Return a time in seconds; raise `BadPolicy` unless it is a number above 0."""
    return number(place, field, value, above=0)


def whole(place: str, field: str, value: object, least: int) -> int:
    """Return a whole number; raise `BadPolicy` unless it is an int of at least `least`."""
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise BadPolicy(place, field, value, f"use a whole number of at least {least}")
    return int(value)


def key(place: str, field: str, value: object) -> Key:
    """Return a key; raise `BadPolicy` unless it is a name or a function."""
    if callable(value) or (isinstance(value, str) and value):
        return value
    raise BadPolicy(place, field, value, "use the name of a tag or of a parameter, or a function of the arguments")


def one_of(place: str, field: str, value: object, choices: tuple[str, ...]) -> str:
    """Return a text; raise `BadPolicy` unless it is one of the choices."""
    if isinstance(value, str) and value in choices:
        return value
    raise BadPolicy(place, field, value, f"use one of {', '.join(map(repr, choices))}")


def per_second(place: str, field: str, value: object) -> float:
    """Return a rate as a number per second.

    Args:
        place: what has the field.
        field: its name.
        value: a number, or a text such as `100/s`, `5/m`, `1000/h`, `10/d`.

    Raises:
        BadPolicy: it is neither, or not above 0.
    """
    if isinstance(value, str):
        found = _RATE.fullmatch(value)
        if found is not None and Decimal(found[1]) > 0:
            return float(Decimal(found[1]) / _PERIODS[found[2]])
        raise BadPolicy(place, field, value, "use a number per second, or a text such as '100/s', '5/m', '1000/h'")
    rate = number(place, field, value, above=0)
    if math.isinf(rate):
        raise BadPolicy(place, field, value, "use a finite number per second, or no rate")
    return rate


def period(place: str, field: str, value: object) -> float:
    """Return a period in seconds: a number of seconds, or a text such as `1d`, `12h`.

    Raises:
        BadPolicy: it is neither, or not above 0.
    """
    if isinstance(value, str):
        found = _PERIOD.fullmatch(value)
        if found is not None and Decimal(found[1]) > 0:
            return float(Decimal(found[1]) * _PERIODS[found[2]])
        raise BadPolicy(place, field, value, "use seconds, or a text such as '30s', '5m', '12h', '1d'")
    return seconds(place, field, value)


Errors: TypeAlias = tuple[type[BaseException], ...]
Over: TypeAlias = Literal["wait", "reject", "lower", "warn"]


def error_classes(place: str, field: str, value: object) -> Errors:
    """Return error classes as a tuple.

    Args:
        place: what has the field.
        field: its name.
        value: an error class, or several.

    Raises:
        BadPolicy: there is none, or another object among them.
    """
    classes: tuple[Any, ...] = tuple(value) if isinstance(value, tuple | list | set | frozenset) else (value,)
    if classes and all(isinstance(one, type) and issubclass(one, Exception) for one in classes):
        return classes
    raise BadPolicy(place, field, value, "use error classes, such as (ConnectionError, TimeoutError)")
