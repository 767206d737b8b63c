"""The line: recursive least squares of the log of what calls take on the logs of their features."""

# ruff: noqa: B905  # that lengths are equal would be seen at a third of the cost of a record

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from operator import mul, sub
from typing import Final, NamedTuple

from tokengate.predict._point import Answer, Point

FEW: Final = 10
"""Records from which on there is a line."""
MOST: Final = 8
"""Features at most."""

_FORGETTING: Final = 0.999
_GROWS: Final = 1.0 / _FORGETTING
_CLIPPED: Final = 3.0  # deviations that a residual counts for at most
_UNKNOWN: Final = 10.0  # the variance of a weight of which nothing is known, in that of residuals
_WIDENED: Final = 1_000.0  # by what the covariance is multiplied after a drift
_NARROWEST: Final = 0.05**2  # the least variance, so that a constant may change
_BOUNDED_EACH: Final = 64  # records after which the covariance is bounded
_BASIS: Final = ("features", "operation")
_SLOWEST: Final = 0.01  # the least share of the newest record in the deviation


class Known(NamedTuple):
    """The line at one time.

    Attributes:
        names: of the features.
        origin: the logs of the features of the first record that had them. Features count from there, so that one
            which never changes says nothing.
        weights: of 1, and of each feature.
        usual: the mean of 1, and of each feature.
    """

    names: tuple[str, ...] = ()
    origin: tuple[float, ...] = ()
    weights: tuple[float, ...] = (0.0,)
    usual: tuple[float, ...] = (1.0,)


class Line:
    """The estimator; one for each operation.

    Attributes:
        known: the line; it is replaced as a whole, so that any thread may read it.
        records: how many were learned from.
        covariance: of the weights, in the variance of residuals: its rows, each up to the diagonal.
        variance: of residuals.
    """

    name = "line"
    is_own = False

    def __init__(self) -> None:
        self.known = Known()
        self.records = 0
        self.covariance = [_UNKNOWN]
        self.variance = 0.0

    def predict(self, point: Point) -> float | None:
        """Return the log of what is expected; None: no features, or too few records."""
        known = self.known
        if self.records < FEW or not point.names:
            return None
        return sum(map(mul, known.weights, _inputs(known, point)), 0.0)

    def explained(self, point: Point) -> Answer | None:
        """Return the same, with what made it."""
        known = self.known
        if self.records < FEW or not point.names:
            return None
        inputs = _inputs(known, point)
        return Answer(sum(map(mul, known.weights, inputs), 0.0), _BASIS, partial(_factors, known, inputs))

    def learn(self, point: Point, log: float, weight: int) -> bool:
        """Learn of a record; return whether it has features."""
        if not point.names:
            return False
        known = self._extended(point, log)
        inputs, covariance = _inputs(known, point), self.covariance
        leans, variance = _leans(covariance, inputs)
        spread = _FORGETTING / weight + variance
        if not 0.0 < spread < math.inf:  # roundings, or a file, have made it none of a covariance
            covariance = [_UNKNOWN * (row == column) for row in range(len(leans)) for column in range(row + 1)]
            leans, variance = _leans(covariance, inputs)
            spread = _FORGETTING / weight + variance
        gain = 1.0 / spread
        error = log - sum(map(mul, known.weights, inputs), 0.0)
        if self.records >= FEW:
            most = _CLIPPED * math.sqrt(self.variance)
            error = most if error > most else -most if error < -most else error
        self.records += 1
        newest = 1.0 / self.records
        self.variance += (newest if newest > _SLOWEST else _SLOWEST) * (error * error - self.variance)
        self.variance = max(self.variance, _NARROWEST)
        newest = newest if newest > 1.0 - _FORGETTING else 1.0 - _FORGETTING
        step, scale = gain * error, gain / _FORGETTING
        weights, usual, changed, place = [], [], [], 0
        for row, lean in enumerate(leans):
            weights.append(known.weights[row] + lean * step)
            mean = known.usual[row]
            usual.append(mean + newest * (inputs[row] - mean))
            scaled = lean * scale
            for other in leans[: row + 1]:
                changed.append(covariance[place] * _GROWS - scaled * other)
                place += 1
        self.known = Known(known.names, known.origin, tuple(weights), tuple(usual))
        self.covariance = changed
        if self.records % _BOUNDED_EACH == 0:
            self._bound()
        return True

    def _bound(self) -> None:
        """Bound the covariance of features: that of one which never changes would grow without end."""
        size = len(self.known.weights)
        if (trace := sum(self.variances()[1:])) > (most := _UNKNOWN * (size - 1)):
            scales = [1.0, *[math.sqrt(most / trace)] * (size - 1)]
            pairs = [scales[row] * scales[column] for row in range(size) for column in range(row + 1)]
            self.covariance = list(map(mul, self.covariance, pairs))

    def _extended(self, point: Point, log: float) -> Known:
        """Return the line with those features of a record that it does not have yet."""
        known = self.known if self.records else Known(weights=(log,))
        for name, value in zip(point.names, point.logs) if known.names != point.names else ():
            if name not in known.names and len(known.names) < MOST:
                known = Known((*known.names, name), (*known.origin, value), (*known.weights, 0.0), (*known.usual, 0.0))
                self.covariance = [*self.covariance, *[0.0] * len(known.names), _UNKNOWN]
        return known

    def widen(self, _operation: str) -> None:
        """Take what is known as uncertain: calls have changed."""
        variances = self.variances()
        wider = min(_WIDENED, _UNKNOWN * len(variances) / sum(variances))
        self.covariance = [value * wider for value in self.covariance]

    def variances(self) -> list[float]:
        """Return the diagonal of the covariance."""
        return [self.covariance[triangle(row + 1) - 1] for row in range(len(self.known.weights))]


def triangle(size: int) -> int:
    """Return the number of values of a symmetric matrix up to its diagonal."""
    return size * (size + 1) // 2


def _leans(covariance: Sequence[float], inputs: Sequence[float]) -> tuple[list[float], float]:
    """Return the product of a covariance and inputs, and that of inputs and this."""
    leans: list[float] = []
    variance, place = 0.0, 0
    for value in inputs:
        lean = 0.0
        for row, other in enumerate(leans):
            part = covariance[place]
            place += 1
            lean += part * inputs[row]
            leans[row] = other + part * value
        own = covariance[place] * value
        place += 1
        variance += value * (lean + lean + own)
        leans.append(lean + own)
    return leans, variance


def _inputs(known: Known, point: Point) -> list[float]:
    """Return 1 and the features from their origin on; 0 for those that a point does not have."""
    if known.names == point.names:
        return [1.0, *map(sub, point.logs, known.origin)]
    given = dict(zip(point.names, point.logs))
    origins = zip(known.names, known.origin)
    return [1.0, *[given[name] - origin if name in given else 0.0 for name, origin in origins]]


def _factors(known: Known, inputs: Sequence[float]) -> dict[str, float]:
    parts = zip(known.names, known.weights[1:], inputs[1:], known.usual[1:])
    return {name: weight * (value - mean) for name, weight, value, mean in parts}
