"""A limit of how many attempts begin in a time: the generic cell rate algorithm (GCRA), with a burst."""

from __future__ import annotations

import math


class RateLimit:
    """A bucket that each attempt fills by 1 as it begins, and that drains at the rate; its size is the burst.

    In any t seconds at most `rate * t + burst` attempts begin, however late the caller is. The level is
    `taken - rate * (now - since)`: a count, and no sum of times, so that no rounding adds up. This is the
    continuous-state leaky bucket of ITU-T I.371.
    """

    __slots__ = ("_burst", "_rate", "_since", "_taken")

    def __init__(self, rate: float, burst: int) -> None:
        self._rate, self._burst = rate, burst
        self._since = -math.inf  # the time from which `_taken` counts; the bucket has not been empty since
        self._taken: float = 0  # has a fraction after a change of the limits

    def due_at(self, now: float, unbegun: int) -> float:
        """Return when one more attempt may be admitted.

        Each of the `unbegun` attempts, which were admitted and have not begun, has its place in the bucket already.
        While they fill it, the result is the earliest time at which there can be room.
        """
        lacking = unbegun + 1 - self._burst
        due = self._since + (self._taken + lacking) / self._rate
        return due if lacking <= 0 else max(due, now + lacking / self._rate)

    def take(self, now: float, count: int = 1) -> None:
        """Count an attempt that begins; one that was not due leaves the bucket full.

        A batch counts as its tokens: where these are more than fit, the bucket has to drain the longer.
        """
        if self._since + self._taken / self._rate < now:
            self._since, self._taken = now, count
        elif count > 1:
            self._taken += count
        elif self._since + (self._taken + 1 - self._burst) / self._rate > now:
            self._since, self._taken = now, self._burst
        else:
            self._taken += 1

    def change(self, rate: float, burst: int, now: float) -> None:
        """Set other limits; what is left of the burst stays, up to the new burst, and a whole one stays whole."""
        if (rate, burst) != (self._rate, self._burst):
            level = self._taken - (now - self._since) * self._rate
            self._since, self._taken = now, 0 if level <= 0 else max(0, level + burst - self._burst)
            self._rate, self._burst = rate, burst

    def is_new(self, now: float) -> bool:
        """Tell whether the bucket is empty."""
        return self._since + self._taken / self._rate <= now
