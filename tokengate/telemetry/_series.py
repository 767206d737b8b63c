"""Series: the figures of an operation, or of the gate, each second for two minutes, and each ten for half an hour."""

from __future__ import annotations

import math
from array import array
from collections.abc import Iterator
from typing import Any, Final

import attrs

FINE: Final = 120
"""Points that are a second apart."""
COARSE: Final = 180
"""Points that are ten seconds apart."""
TENFOLD: Final = 10


@attrs.frozen
class Point:
    """The figures of an operation over a second, or over ten.

    Attributes:
        at: its beginning, in seconds since the epoch.
        seconds: 1 or 10.
        rate: tokens that ended, a second.
        failures: of these, those that did not complete, a second.
        wait_p95: seconds in the queue; 19 of 20 attempts were faster. None: none ended.
        run_p50: seconds running; half of them were faster.
        run_p95: 19 of 20 were faster.
        queue: tokens queued at the end; None where that is unknown.
    """

    at: float
    seconds: int
    rate: float
    failures: float
    wait_p95: float | None
    run_p50: float | None
    run_p95: float | None
    queue: float | None


class Ring:
    """The latest points of a series, equally far apart.

    Args:
        size: how many are kept.
        seconds: between two of them.
        fields: values of each.
    """

    __slots__ = ("_fields", "_seconds", "_values", "last")

    def __init__(self, size: int, seconds: int, fields: int = 6) -> None:
        self._values = array("f", [math.nan]) * (size * fields)
        self._seconds = seconds
        self._fields = fields
        self.last = -1  # number of the latest one

    def put(self, number: int, values: tuple[float | None, ...]) -> None:
        """Set a point by its number, which is its time in units of their distance."""
        at = number * self._fields % len(self._values)
        self._values[at : at + self._fields] = array("f", [math.nan if value is None else value for value in values])
        self.last = number

    def values(self, since: int) -> Iterator[tuple[int, tuple[Any, ...]]]:
        """Yield (time, values) of the points from a number on, the oldest first; None is what was not known."""
        size = len(self._values) // self._fields
        for number in range(max(since, self.last - size + 1), self.last + 1):
            at = number * self._fields % len(self._values)
            found = self._values[at : at + self._fields]
            if not math.isnan(found[0]):  # else there was none
                yield number * self._seconds, tuple(None if math.isnan(value) else value for value in found)

    def points(self, since: int, offset: float) -> list[Point]:
        """Return the points from a number on, the oldest first.

        Args:
            since: the number.
            offset: what makes its time one since the epoch.
        """
        return [Point(at + offset, self._seconds, *values) for at, values in self.values(since)]
