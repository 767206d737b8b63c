"""Sketches: how values are spread, within 2.2 %, in little memory; two can be added."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Final

SCALE: Final = 16
"""Buckets for each doubling: number k has the values above 2^((k - 1) / 16), up to 2^(k / 16)."""

LEAST: Final = math.ceil(math.log2(1e-6) * SCALE)
MOST: Final = math.ceil(math.log2(1e6) * SCALE)
ZERO: Final = -100_000
"""The bucket of zero and below; no positive float has it."""

MEBIBYTE: Final = 2.0**20
"""Sizes are kept in these, so that the buckets reach from a byte to a tebibyte."""


def bucket_of(value: float) -> int:
    """Return the number of the bucket that has a value; those beyond the ends are in the outermost ones."""
    if value <= 0.0:
        return ZERO
    return min(MOST, max(LEAST, math.ceil(math.log2(value) * SCALE)))


def within(buckets: Mapping[int, int]) -> dict[int, int]:
    """Return buckets with all that is beyond the ends in the outermost ones."""
    found: dict[int, int] = {}
    for bucket, count in buckets.items():
        inside = ZERO if bucket == ZERO else min(MOST, max(LEAST, bucket))
        found[inside] = found.get(inside, 0) + count
    return found


def value_of(bucket: int) -> float:
    """Return the value that a bucket stands for, which is at most 2.2 % from all that it has."""
    return 0.0 if bucket == ZERO else 2.0 ** ((bucket - 0.5) / SCALE)


def upper_bound(bucket: int) -> float:
    """Return the largest value that a bucket has."""
    return 0.0 if bucket == ZERO else 2.0 ** (bucket / SCALE)


class Sketch:
    """Counts of values in buckets.

    Attributes:
        buckets: {number: how many values}; none is 0.
        count: of all values.
        total: their sum.
    """

    __slots__ = ("buckets", "count", "total")

    def __init__(self) -> None:
        self.buckets: dict[int, int] = {}
        self.count = 0
        self.total = 0.0

    def add(self, value: float, weight: int = 1) -> None:
        """Add a value, so many times."""
        bucket = bucket_of(value)
        self.buckets[bucket] = self.buckets.get(bucket, 0) + weight
        self.count += weight
        self.total += value * weight

    def merge(self, buckets: Mapping[int, int], total: float) -> None:
        """Add the buckets of another sketch, and the sum of its values."""
        own = self.buckets
        for bucket, count in buckets.items():
            own[bucket] = own.get(bucket, 0) + count
            self.count += count
        self.total += total

    def copy(self) -> Sketch:
        """Return one that changes no more."""
        other = Sketch()
        other.buckets, other.count, other.total = dict(self.buckets), self.count, self.total
        return other

    def quantile(self, share: float) -> float | None:
        """Return the value below which so large a share of all is; None without values."""
        bucket = bucket_at(self.buckets, self.count, share)
        return None if bucket is None else value_of(bucket)

    def up_to(self, bounds: Iterable[float]) -> list[int]:
        """Return how many values are at most each of some bounds; exact for powers of 2."""
        found, ordered = [], sorted(self.buckets.items())
        for bound in bounds:
            last = bucket_of(bound)
            found.append(sum(count for bucket, count in ordered if bucket <= last))
        return found


def bucket_at(buckets: Mapping[int, int], count: int, share: float) -> int | None:
    """Return the bucket in which so large a share of all values is reached; None if there are no values."""
    left = share * count
    bucket = None
    for bucket in sorted(buckets):  # the last one is returned
        left -= buckets[bucket]
        if left <= 0:
            break
    return bucket
