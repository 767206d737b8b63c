"""Samples of tokens that take long: processor time, memory and steps, in 128 points for any life."""

from __future__ import annotations

from typing import Final, NamedTuple

LONG: Final = 1.0
"""Seconds after which a token that runs is sampled."""
POINTS: Final = 128


class Sample(NamedTuple):
    """A token at one moment.

    Attributes:
        age: seconds since it began.
        cpu: seconds of processor time that it has used; None where that is unknown.
        memory: bytes of its process; None for others.
        steps: how many it has begun.
    """

    age: float
    cpu: float | None
    memory: int | None
    steps: int


class Samples:
    """The samples of a token; when they are too many every second one goes, and the distance doubles.

    Attributes:
        points: the samples, the oldest first.
    """

    __slots__ = ("_every", "_seen", "points")

    def __init__(self) -> None:
        self.points: list[Sample] = []
        self._every = 1  # of so many samples one is kept
        self._seen = 0

    def add(self, sample: Sample) -> None:
        """Add one."""
        if self._seen % self._every == 0:
            self.points.append(sample)
            if len(self.points) > POINTS:
                self.points = self.points[::2]
                self._every *= 2
        self._seen += 1
