"""A workload: a function that returns a context, which yields the function to measure."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import TypeAlias

# Does a number of operations; returns None, or the figure to report where that is not the time of an operation.
Run: TypeAlias = Callable[[int], float | None]

# What comes before and after the yield is not measured.
Workload: TypeAlias = Callable[[], AbstractContextManager[Run]]


def bursts(number: int, size: int) -> Iterator[int]:
    """Yield the sizes of the bursts that make up a number of operations: `size` each, the last one the rest."""
    for first in range(0, number, size):
        yield min(size, number - first)
