"""Shedding: which tokens are rejected at their turn, since all have waited too long for some time."""

from __future__ import annotations

import math
from typing import Final, TypeAlias

_Lane: TypeAlias = tuple[int, str | int | None]  # priority, key

FORGET: Final = 20  # times `shed` without a token end a run, too; that is the deadline, if `shed` is its twentieth part
RUNS: Final = 1_000  # at most; of more, the one whose last token is the oldest is forgotten


class Shedding:
    """The judge of the waits of an operation's tokens, for each priority.

    When the shortest wait of the last `2 * shed` seconds was over `shed`, each token that waited longer than `shed` is
    shed at its turn, until one comes that did not. That is so when a run of long waits has lasted for `2 * shed`, and
    only such runs are kept. Source: CoDel (RFC 8289), with an interval of twice the target.

    Where keys take turns, each key is judged by itself, too: the short waits of others say nothing of one that has sent
    too much.

    Args:
        shed: seconds; 0: nothing is shed.

    Attributes:
        runs: {priority and key: when the first token of a run of long waits came, and the last one}, by the latter.
    """

    __slots__ = ("runs", "shed")

    def __init__(self, shed: float) -> None:
        self.shed = shed
        self.runs: dict[_Lane, tuple[float, float]] = {}

    def judge(self, priority: int, wait: float, now: float, key: str | int | None = None) -> bool:
        """Return whether to shed a token at its turn.

        Args:
            priority: the token's.
            wait: seconds that it waited for its turn.
            now: seconds of the clock.
            key: of its turns; None: it has none.
        """
        shed = self._judge((priority, None), wait, now)
        return shed if key is None else self._judge((priority, key), wait, now) or shed

    def _judge(self, lane: _Lane, wait: float, now: float) -> bool:
        first, last = self.runs.pop(lane, (now, now))
        if wait <= self.shed or not self.shed:
            return False
        if now - last > FORGET * self.shed:
            first = now
        self.runs[lane] = first, now
        if len(self.runs) > RUNS:
            del self.runs[next(iter(self.runs))]
        return now - first >= 2 * self.shed

    def is_overloaded(self, priority: int) -> bool:
        """Return whether the last token of a priority was shed."""
        first, last = self.runs.get((priority, None), (math.inf, 0.0))
        return last - first >= 2 * self.shed
