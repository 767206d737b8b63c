"""Leaks: processes whose memory grows with each token. A slope alone would alarm on every healthy process."""

from __future__ import annotations

import math
from collections import deque
from typing import Final, Literal, TypeAlias
from weakref import WeakKeyDictionary

Verdict: TypeAlias = Literal["suspected", "confirmed"]

_WARM_UP: Final = 30  # tokens that are left out: imports, caches and pools grow with the first ones
_EACH: Final = 10  # tokens of a minimum, in which what a token needs for itself does not show
_SUSPECTED: Final = 8  # minima that rise in a row
_CONFIRMED: Final = 16
_LATER: Final = (
    0.6  # what the later half of these grows at least, as a share of the earlier: caches fill up, leaks go on
)
_LEAST: Final = 2 * 2**20  # bytes that they grow in all


class _Series:
    """The memory of one process.

    Attributes:
        minima: the latest that have risen in a row, bytes.
        verdict: on its leak; None: it has none.
        highest: of the minima since a leak was confirmed.
        flat: how many minima were not above it since.
    """

    __slots__ = ("_lowest", "_tokens", "flat", "highest", "minima", "verdict")

    def __init__(self) -> None:
        self.minima: deque[float] = deque(maxlen=_CONFIRMED)
        self.verdict: Verdict | None = None
        self.highest = 0.0
        self.flat = 0
        self._tokens = -_WARM_UP
        self._lowest = math.inf

    def add(self, size: float) -> None:
        self._tokens += 1
        if self._tokens <= 0:
            return
        self._lowest = min(self._lowest, size)
        if self._tokens % _EACH:
            return
        lowest, self._lowest, minima = self._lowest, math.inf, self.minima
        if minima and lowest <= minima[-1]:
            minima.clear()
        minima.append(lowest)
        if self.verdict == "confirmed":
            self.flat = 0 if lowest > self.highest else self.flat + 1
            self.highest = max(self.highest, lowest)
            if self.flat < _SUSPECTED:
                return
        self.verdict = "suspected" if len(minima) >= _SUSPECTED else None
        if len(minima) == _CONFIRMED:
            earlier, later = minima[_SUSPECTED - 1] - minima[0], minima[-1] - minima[_SUSPECTED]
            if later >= _LATER * earlier and minima[-1] - minima[0] >= _LEAST:
                self.verdict, self.highest, self.flat = "confirmed", lowest, 0


class LeakWatch:
    """Looks for leaks in the memory of workers and process actors. One thread adds; any thread may ask."""

    def __init__(self) -> None:
        self._series: WeakKeyDictionary[object, _Series] = WeakKeyDictionary()

    def add(self, process: object, size: float) -> Verdict | None:
        """Note the memory of a process at the end of a token.

        Args:
            process: identifies it.
            size: its resident memory, bytes.

        Returns:
            What it is suspected of now; None if that is the same as before, or nothing.
        """
        series = self._series.get(process)
        if series is None:
            series = self._series[process] = _Series()
        before = series.verdict
        series.add(size)
        return None if series.verdict == before else series.verdict

    def verdict(self, process: object) -> Verdict | None:
        """Return what a process is suspected of; None: of nothing."""
        series = self._series.get(process)
        return None if series is None else series.verdict

    def tokens_left(self, process: object, limit: float) -> float | None:
        """Return after how many tokens a process that leaks meets a limit, if it goes on; None: it does not leak.

        Args:
            process: identifies it.
            limit: bytes.
        """
        series = self._series.get(process)
        minima = [] if series is None or series.verdict is None else list(series.minima)
        if len(minima) < 2 or minima[-1] <= minima[0]:
            return None
        return max(0.0, limit - minima[-1]) * (len(minima) - 1) * _EACH / (minima[-1] - minima[0])
