"""Numbers as arguments, and times as options."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, TypeVar

import click

from tokengate.control._units import seconds_in

F = TypeVar("F", bound=Callable[..., Any])


class Number(click.FloatRange):
    """A number within bounds; infinity and nan are refused."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        try:
            finite = math.isfinite(float(value))
        except ValueError:
            finite = False
        if not finite:
            unit = " of seconds" if param is not None and param.metavar == "SECONDS" else ""
            self.fail(f"{value!r} is not a finite number{unit}, such as 1.5.", param, ctx)
        number: float = super().convert(value, param, ctx)
        return number


class Rate(Number):
    """A number per second; a text such as `100/s` is for the gate to check."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        try:
            float(value)
        except ValueError:
            return value
        return super().convert(value, param, ctx)


class Time(click.ParamType):  # type: ignore[type-arg]  # older ones of click are not generic
    """A time as text, such as `5m`, in seconds.

    Args:
        most: seconds.
    """

    name = "time"

    def __init__(self, most: float) -> None:
        self._most = most

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        try:
            seconds = seconds_in(str(value))
        except ValueError as error:
            self.fail(f"{error}.", param, ctx)
        if seconds > self._most:
            self.fail(f"{value!r} is more than {self._most:g} s.", param, ctx)
        return seconds


class AtOnce(click.IntRange):
    """A whole number within bounds, or `adaptive`."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if value == "adaptive":
            return value
        try:
            return super().convert(int(value), param, ctx)
        except ValueError:
            self.fail(f"{value!r} is neither a whole number nor 'adaptive'.", param, ctx)


class Whole(click.ParamType):  # type: ignore[type-arg]  # older ones of click are not generic
    """A whole number.

    Args:
        remedy: what the error says in addition; may be empty.
    """

    name = "whole number"

    def __init__(self, remedy: str) -> None:
        self._remedy = remedy

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        try:
            return int(value)
        except ValueError:
            self.fail("; ".join(filter(None, (f"{value!r} is not a whole number", self._remedy))), param, ctx)


SECONDS = Number(min=0)


def seconds_option(name: str, default: float, help: str, *, least: float = 0) -> Callable[[F], F]:
    """Return an option for a number of seconds, which must be at least `least`."""
    return click.option(name, type=Number(least), default=default, show_default=True, metavar="SECONDS", help=help)
