"""Thinning: above so many records a second, of the ordinary ones only one in so many is kept."""

from __future__ import annotations

import math
from typing import Final

from tokengate.control.stream._collector import Collector, read

_WINDOW: Final = 0.1  # seconds over which records are counted


class Thinning:
    """Sets, from the rate at which records are made, of how many ordinary ones one is kept.

    Args:
        collector: makes the records.
        most: records a second that are kept, about; those that are not ordinary come on top.
    """

    def __init__(self, collector: Collector, most: int) -> None:
        self._collector = collector
        collector.thins = True
        self._most = most
        self._since = -math.inf
        self._made = self._ordinary = 0

    def look(self, now: float) -> None:
        """Count what has come since the latest look, and adjust."""
        collector = self._collector
        made, every, elapsed = collector.made, collector.every, now - self._since
        if elapsed < _WINDOW and made - self._made <= self._most * _WINDOW:
            return
        ordinary = sum(read(tally.ordinary) for tally in list(collector.tallies.values())) if every > 1 else 0
        kept, looked_at = made - self._made, ordinary - self._ordinary
        self._made, self._since = made, now
        if every == 1:
            wanted = math.ceil(kept / max(elapsed, 1e-3) / self._most)
        else:
            self._ordinary = ordinary
            others = max(0.0, kept - looked_at / every) / max(elapsed, 1e-3)
            room = max(self._most - others, self._most / 2)  # the rest may be too much by itself
            wanted = math.ceil(looked_at / max(elapsed, 1e-3) / room)
        if wanted > every * 1.25 or wanted < every * 0.6:
            collector.every = max(wanted, every // 2, 1)
