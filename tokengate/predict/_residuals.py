"""Residuals: how far values were from their predictions, as logs; the bounds that follow, and drift."""

from __future__ import annotations

from array import array
from bisect import bisect_left, bisect_right
from collections import deque
from collections.abc import Iterable
from math import ceil, sqrt
from typing import Final, TypeAlias

KEPT: Final = 300
"""Residuals that bounds are made from."""
AFTER_DRIFT: Final = 25
"""Those that are left after a drift, the newest."""
COVERED: Final = 0.95
"""The share of values that are to stay below their bounds."""
GAMMA: Final = 0.01
"""The step of adaptive conformal inference (Gibbs and Candès, 2021)."""
SAME: Final = 1e-9
"""Logs that are nearer than this are equal."""

_LOWEST: Final = 0.9  # what the level is corrected to at most, so that it soon comes back
_HIGHEST: Final = 1.2
_DELTA: Final = 0.25  # Page-Hinkley: what a mean may be off, and the sum that tells of a drift, in deviations
_LAMBDA: Final = 25.0
_FARTHEST: Final = 4.0  # deviations that one residual counts for at most, so that one outlier is no drift
_NARROWEST: Final = 0.05**2  # the least variance: constant durations differ by clocks and roundings


Residuals: TypeAlias = "tuple[array[float], array[int] | None]"
"""(logs of value / prediction, sorted; how often each counts, or None: once). They do not change."""


def quantile(residuals: Residuals, level: float, first: int = 0) -> float:
    """Return the conformal quantile of those residuals from a position on, which is below their number.

    Args:
        residuals: at least one.
        level: the share of coming values that are to stay below it; with too few residuals for it, the largest is
            returned.
        first: the position.
    """
    values, weights = residuals
    number = len(values) - first
    if weights is None:
        rank = ceil(level * (number + 1) - SAME)
        return values[first + (1 if rank < 1 else number if rank > number else rank) - 1]
    total = sum(weights[first:])
    above = total - level * total * (number + 1) / number + SAME  # the weight that may be above it
    for position in range(len(values) - 1, first, -1):
        above -= weights[position]
        if above < 0:
            return values[position]
    return values[first]


def share_above(residuals: Residuals, limit: float) -> float:
    """Return the share of residuals, of which there is one at least, that is above a limit."""
    values, weights = residuals
    first = bisect_right(values, limit)
    return 1 - first / len(values) if weights is None else sum(weights[first:]) / sum(weights)


NONE: Final[Residuals] = (array("d"), None)


class Window:
    """The newest residuals.

    Attributes:
        newest: (residual, weight), the oldest first.
        known: the same sorted. It is replaced as a whole, so any thread may read it.
    """

    __slots__ = ("known", "newest")

    def __init__(self, newest: Iterable[tuple[float, int]] = ()) -> None:
        self.newest: deque[tuple[float, int]] = deque()
        self.known: Residuals = NONE
        for residual, weight in newest:
            self.add(residual, weight)

    def add(self, residual: float, weight: int) -> None:
        """Add a residual; if they are too many, the oldest goes."""
        newest, (known, weights) = self.newest, self.known
        values = known[:]
        if weights is not None or weight != 1:
            weights = array("q", weights or [1] * len(values))
        if len(newest) == KEPT:
            old, its_weight = newest.popleft()
            position = bisect_left(values, old)
            if weights is not None:
                while weights[position] != its_weight:
                    position += 1
                del weights[position]
            del values[position]
        newest.append((residual, weight))
        position = bisect_right(values, residual)
        values.insert(position, residual)
        if weights is not None:
            weights.insert(position, weight)
            if sum(weights) == len(weights):
                weights = None
        self.known = (values, weights)


def corrected(level: float, covered: float, weight: float = 1.0) -> float:
    """Return the level of the next bound, by adaptive conformal inference.

    Args:
        level: of the bound before.
        covered: 1 if the value was below it, 0 if it was above, and the share that is wanted if it was just there.
        weight: of the value, as a multiple of the mean one.
    """
    level += GAMMA * weight * (COVERED - covered)
    return level if _LOWEST <= level <= _HIGHEST else _LOWEST if level < _LOWEST else _HIGHEST


class Drift:
    """The test of Page and Hinkley, both ways, on residuals in standard deviations from their mean.

    Attributes:
        known: how many residuals the mean is of, since the latest drift.
        mean: of residuals; old ones fade.
        variance: of them.
        up: the sum of what they were above the mean.
        down: the sum of what they were below it.
    """

    __slots__ = ("down", "known", "mean", "up", "variance")

    def __init__(
        self, known: int = 0, mean: float = 0.0, variance: float = 0.0, up: float = 0.0, down: float = 0.0
    ) -> None:
        self.known = known
        self.mean = mean
        self.variance = variance
        self.up = up
        self.down = down

    def add(self, residual: float) -> bool:
        """Tell whether residuals have changed all at once, given one more. The first 25 after a drift only teach."""
        off, known, variance = residual - self.mean, self.known + 1, self.variance
        self.known = known
        if known > AFTER_DRIFT:
            away = off / sqrt(variance if variance > _NARROWEST else _NARROWEST)
            if not -_FARTHEST < away < _FARTHEST:
                away = _FARTHEST if away > 0 else -_FARTHEST
            up, down = self.up + away - _DELTA, self.down - away - _DELTA
            if up > _LAMBDA or down > _LAMBDA:
                return True
            self.up, self.down = up if up > 0.0 else 0.0, down if down > 0.0 else 0.0
        step = 1.0 / (known if known < KEPT else KEPT)
        self.mean += off * step
        self.variance = variance + (off * off * (1.0 - step) - variance) * step
        return False
