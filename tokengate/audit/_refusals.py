"""Refusals, folded: of each principal the first is recorded, and those of the next ten seconds are counted."""

from __future__ import annotations

from collections import Counter
from typing import Final

import attrs

from tokengate.audit._record import Entry

_SECONDS: Final = 10.0
_MOST: Final = 100  # principals that are counted apart


@attrs.define
class _Fold:
    entry: Entry
    until: float
    verbs: Counter[str] = attrs.field(factory=Counter)


class Refusals:
    """Counts refusals; the time of the monotonic clock is given."""

    def __init__(self) -> None:
        self._folds: dict[str, _Fold] = {}  # {principal: what follows its first}

    @property
    def due(self) -> float:
        """When the next count is over; infinity if nothing is counted."""
        return min((fold.until for fold in self._folds.values()), default=float("inf"))

    def add(self, entry: Entry, now: float) -> bool:
        """Tell whether a refusal is to be recorded itself; else it is counted."""
        principal = entry.caller.principal if entry.caller else ""
        if principal not in self._folds and len(self._folds) >= _MOST:
            principal, entry = "", attrs.evolve(entry, caller=None)
        fold = self._folds.get(principal)
        if fold is None:
            self._folds[principal] = _Fold(entry, now + _SECONDS)
            return True
        fold.verbs[f"{entry.kind} {entry.verb}".strip()] += 1
        return False

    def over(self, now: float) -> list[Entry]:
        """Return the records of the counts that are over, and end these."""
        ended = [principal for principal, fold in self._folds.items() if fold.until <= now]
        folds = [self._folds.pop(principal) for principal in ended]
        return [
            Entry(
                kind=fold.entry.kind,
                caller=fold.entry.caller,
                args={"folded": dict(fold.verbs)},
                outcome={"refused": fold.verbs.total()},
            )
            for fold in folds
            if fold.verbs
        ]
