"""The baseline of all estimators: medians of cells, which are an operation, its tags, and octaves of its features."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Final, TypeAlias

from tokengate.predict._point import Answer, Octaves, Point, Tags
from tokengate.predict._sample import Target
from tokengate.predict._table import Table
from tokengate.telemetry._sketch import SCALE

ENOUGH: Final = 10
"""Records from which on a cell answers."""
MOST: Final = 10_000
"""Cells at most."""

_HALVED: Final = 64  # records after which counts are halved; below, those of the cell of an operation
_HALVED_IN_ALL: Final = 4_096
_NEAR: Final = 16  # buckets that are looked through one by one
_GONE: Final = 0.25  # counts below this are forgotten
_OF_OPERATION: Final = ("operation",)
_OF_TAGS: Final = ("tags", "operation")
_OF_FEATURES: Final = ("features", "operation")
_OF_BOTH: Final = ("features", "tags", "operation")
_BUCKETS: Final = SCALE / math.log(2)  # in a unit of the natural log

Key: TypeAlias = tuple[Target, str, Tags, Octaves]
"""(what is estimated, operation, tags, octaves); without tags or octaves: the cell of all."""


class Cell:
    """A sketch of telemetry's buckets whose old counts fade, and which knows its median.

    Attributes:
        buckets: {number: count}.
        records: how many were added.
        at: the bucket of the median.
        median: its log.
    """

    __slots__ = ("_below", "_count", "at", "buckets", "median", "records")

    def __init__(self) -> None:
        self.buckets: dict[int, float] = {}
        self.records = 0
        self.median = 0.0
        self._count = 0.0
        self.at = 0
        self._below = 0.0  # the count below that

    def add(self, log: float, weight: float, halved: int) -> None:
        """Add a value.

        Args:
            log: its log.
            weight: how often it counts.
            halved: the number of records after which counts are halved.
        """
        bucket = math.ceil(log * _BUCKETS)
        if not self.buckets:
            self.at = bucket
        self.buckets[bucket] = self.buckets.get(bucket, 0.0) + weight
        self._count += weight
        if bucket < self.at:
            self._below += weight
        self.records += 1
        if self.records % halved == 0:
            self.restore({bucket: n / 2 for bucket, n in self.buckets.items() if n / 2 >= _GONE} or self.buckets)
        else:
            self._find_median()

    def restore(self, buckets: Mapping[int, float], records: int | None = None) -> None:
        """Take other counts.

        Args:
            buckets: at least one.
            records: how many they are of; None: as before.
        """
        self.buckets = dict(buckets)
        self.records = self.records if records is None else records
        self._count = sum(self.buckets.values())
        self.at, self._below = min(self.buckets), 0.0
        self._find_median()

    def _find_median(self) -> None:
        """Go from the bucket of the median before to that of the median now; most often it is the same.

        It is the first one up to which there is half of the count.
        """
        buckets, half = self.buckets, self._count / 2
        at, below = self.at, self._below
        here = buckets[at]
        while below + here < half:
            below += here
            at = self._next(at, 1)
            here = buckets[at]
        while below >= half:
            at = self._next(at, -1)
            here = buckets[at]
            below -= here
        self.at, self._below = at, below
        self.median = (at - 1 + (half - below) / here) / _BUCKETS

    def _next(self, at: int, step: int) -> int:
        """Return the next bucket that has a count, upwards or downwards; there is one."""
        buckets = self.buckets
        for near in range(at + step, at + step * _NEAR, step):
            if near in buckets:
                return near
        return step * min([step * far for far in buckets if step * (far - at) > 0])


class Cells:
    """The estimator: the most specific cell that has enough records answers.

    Args:
        table: the cells of all operations and targets.
        target: what is estimated.
    """

    name = "cells"
    is_own = False

    def __init__(self, table: Table[Key, Cell], target: Target) -> None:
        self._table = table
        self._target: Target = target

    def learn(self, point: Point, log: float, weight: int) -> bool:
        """Add a value to its cells; return True."""
        use, target, operation = self._table.use, self._target, point.sample.operation
        use((target, operation, (), ())).add(log, weight, _HALVED_IN_ALL)
        if point.tags:
            use((target, operation, point.tags, ())).add(log, weight, _HALVED)
        if point.octaves:
            use((target, operation, point.tags, point.octaves)).add(log, weight, _HALVED)
        return True

    def predict(self, point: Point) -> float | None:
        """Return the log of the median; None: too few records."""
        get, target, operation, tags = self._table.get, self._target, point.sample.operation, point.tags
        if point.octaves:
            cell = get((target, operation, tags, point.octaves))
            if cell is not None and cell.records >= ENOUGH:
                return cell.median
        if tags:
            cell = get((target, operation, tags, ()))
            if cell is not None and cell.records >= ENOUGH:
                return cell.median
        cell = get((target, operation, (), ()))
        return cell.median if cell is not None and cell.records >= ENOUGH else None

    def explained(self, point: Point) -> Answer | None:
        """Return the same, with what made it."""
        get, target, operation, tags = self._table.get, self._target, point.sample.operation, point.tags
        cell = get((target, operation, (), ()))
        if cell is None or cell.records < ENOUGH:
            return None
        basis: tuple[str, ...] = _OF_OPERATION
        medians = [cell.median] * 3
        if tags:
            cell = get((target, operation, tags, ()))
            if cell is not None and cell.records >= ENOUGH:
                basis, medians[1:] = _OF_TAGS, [cell.median] * 2
        if point.octaves:
            cell = get((target, operation, tags, point.octaves))
            if cell is not None and cell.records >= ENOUGH:
                basis, medians[2] = _OF_BOTH if tags else _OF_FEATURES, cell.median
        return Answer(medians[2], basis, partial(_factors, point, medians))

    def widen(self, operation: str) -> None:
        """Forget all but the median of all calls of an operation: they have changed. Other cells soon follow anyway."""
        cell = self._table.get((self._target, operation, (), ()))
        if cell is not None:
            cell.restore({cell.at: 1.0})


def _factors(point: Point, medians: Sequence[float]) -> dict[str, float]:
    """Return the logs of factors, given the medians of the operation, with its tags, and with its features."""
    tags = ", ".join([f"{name}={value}" for name, value in point.tags])
    return {tags: medians[1] - medians[0], ", ".join(point.names): medians[2] - medians[1]}
