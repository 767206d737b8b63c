"""A count of the events of the last seconds."""

from __future__ import annotations

import attrs


@attrs.define(eq=False)
class _Bucket:
    start: float  # when the first of its events was
    events: int = 0
    bad: int = 0


class Window:
    """A count of the events of the last seconds, and of the bad ones of them, in buckets of time.

    An event counts for less than `length` seconds, and for at least `length - width`. There are at most
    `length / width` buckets, and none while no event counts.

    Args:
        length: seconds, above 0.
        width: seconds of a bucket; its events stop counting together.

    Attributes:
        bad: how many bad ones counted at the last call.
    """

    __slots__ = ("_buckets", "_total", "bad", "length", "width")

    def __init__(self, length: float, width: float) -> None:
        self.length = length
        self.width = width
        self.bad = 0
        self._total = 0
        self._buckets: list[_Bucket] = []  # oldest first

    def add(self, now: float, bad: bool = False) -> int:
        """Count an event; return how many count now, it included."""
        buckets = self._buckets
        if buckets and buckets[0].start <= now - self.length:
            self.count(now)
        total = self._total = self._total + 1
        if not buckets or now >= buckets[-1].start + self.width:
            buckets.append(_Bucket(now))
        bucket = buckets[-1]
        bucket.events += 1
        if bad:
            bucket.bad += 1
            self.bad += 1
        return total

    def count(self, now: float) -> int:
        """Return how many events count."""
        while self._buckets and self._buckets[0].start <= now - self.length:
            bucket = self._buckets.pop(0)
            self._total -= bucket.events
            self.bad -= bucket.bad
        return self._total

    def clear(self) -> None:
        """Count no event of the past any more."""
        self._buckets.clear()
        self._total = self.bad = 0
