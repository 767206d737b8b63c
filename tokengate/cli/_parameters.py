"""Types of arguments: numbers, sizes and times."""

from __future__ import annotations

import math
from typing import Any

import click

from tokengate.control._exceptions import BadRequest
from tokengate.control.messages import NO_LIMIT
from tokengate.control.steering._limits import limit_in


class Number(click.FloatRange):
    """A number within bounds; infinity and nan are refused."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        number: float = super().convert(value, param, ctx)
        if not math.isfinite(number):
            self.fail(f"{value!r} is not a finite number, such as 1.5.", param, ctx)
        return number


class LimitValue(click.ParamType):  # type: ignore[type-arg]  # older ones of click are not generic
    """The value of a limit: a number with a unit, or `none`.

    Args:
        limit: name of the limit.
        unit: name of the value in the help.
    """

    def __init__(self, limit: str, unit: str) -> None:
        self.name = unit
        self._limit = limit

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float | str:
        try:
            found = limit_in(self._limit, value)
        except BadRequest as error:
            self.fail(str(error), param, ctx)
        return NO_LIMIT if found is None else found


SECONDS = Number(min=0)
