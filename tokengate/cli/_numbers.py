"""Numbers that a user types."""

from __future__ import annotations

import math
from typing import Any

import click


class Number(click.FloatRange):
    """A number within bounds, neither infinite nor nan, which is within all bounds."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        number: float = super().convert(value, param, ctx)
        if not math.isfinite(number):
            self.fail(f"{value!r} is no number to count with; give a finite one, such as 1.5.", param, ctx)
        return number


SECONDS = Number(min=0)
