"""Failure rates: of an operation, and of each class of error."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

CLASSES: Final = 32
"""Of errors, at most; the rarest goes."""

_FAILED: Final = 1.0  # Beta(1, 9): what is believed before the first record, one failure in ten
_CALLS: Final = 10.0
_HALF_LIFE: Final = 200  # records
_KEEPS: Final = 0.5 ** (1 / _HALF_LIFE)


class Failures:
    """How often calls of an operation fail; old ones fade.

    Attributes:
        rate: the probability that a call fails.
        calls: how many count.
        failed: how many of them failed.
        classes: {class of error: how many failed with it}; replaced as a whole, so that any thread may read it.
    """

    __slots__ = ("calls", "classes", "failed", "rate")

    def __init__(self, calls: float = 0.0, failed: float = 0.0, classes: Mapping[str, float] | None = None) -> None:
        self.calls = calls
        self.failed = failed
        self.classes = dict(classes or {})
        self.rate = (_FAILED + failed) / (_CALLS + calls)

    def learn(self, error: str, weight: int) -> None:
        """Learn of a call.

        Args:
            error: the class of the error that it failed with; empty: it did not.
            weight: the number of calls that it stands for.
        """
        keeps = _KEEPS**weight
        self.calls = self.calls * keeps + weight
        self.failed = self.failed * keeps + (weight if error else 0)
        self.rate = (_FAILED + self.failed) / (_CALLS + self.calls)
        if self.classes or error:
            classes = {name: count * keeps for name, count in self.classes.items()}
            if error:
                before = classes.pop(error, 0.0)
                if len(classes) == CLASSES:
                    del classes[min(classes, key=classes.__getitem__)]
                classes[error] = before + weight
            self.classes = classes

    def shares(self) -> dict[str, float]:
        """Return {class of error: the probability that a call fails with it}."""
        classes = self.classes
        scale = self.rate / max(sum(classes.values()), 1e-9)
        return {name: count * scale for name, count in classes.items()}
