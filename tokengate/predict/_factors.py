"""Factors: what makes a call longer than a usual one of its operation."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping


class Factors(Mapping[str, float]):
    """{what: by how much it makes a call longer}; computed when it is first looked at, since that is rare.

    Their product is the ratio of what is expected to what is expected of a usual call. None of them is 1.

    Args:
        logs: returns their logs.
    """

    __slots__ = ("_found", "_logs")

    def __init__(self, logs: Callable[[], Mapping[str, float]]) -> None:
        self._logs = logs
        self._found: dict[str, float] | None = None

    @property
    def _all(self) -> dict[str, float]:
        if self._found is None:
            self._found = {what: math.exp(log) for what, log in self._logs().items() if log}
        return self._found

    def __getitem__(self, what: str) -> float:
        return self._all[what]

    def __iter__(self) -> Iterator[str]:
        return iter(self._all)

    def __len__(self) -> int:
        return len(self._all)

    def __repr__(self) -> str:
        return repr(self._all)
