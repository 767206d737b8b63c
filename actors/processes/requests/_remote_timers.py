"""Timers and watches of an actor's instance in a child process, which refers to them by number."""

from __future__ import annotations

from itertools import count
from typing import Final

from actors.places._timers import Timer
from actors.places._watch import Watch

# The number of entries at which those that are over are removed; or twice what the last removal left, if that is more.
_CLEAN_AT: Final = 256


class RemoteTimers:
    """The timers and watches of one instance."""

    def __init__(self) -> None:
        self._numbers = count(1)
        self._all: dict[int, Timer | Watch] = {}
        self._limit = _CLEAN_AT

    def add(self, one: Timer | Watch) -> int:
        """Add a timer or watch; return its number."""
        if len(self._all) >= self._limit:
            self._all = {number: known for number, known in self._all.items() if not _is_over(known)}
            self._limit = max(_CLEAN_AT, 2 * len(self._all))
        number = next(self._numbers)
        self._all[number] = one
        return number

    def cancel(self, number: int) -> bool:
        """Cancel a timer or watch; tell whether it was still active."""
        one = self._all.pop(number, None)
        return one is not None and one.cancel()


def _is_over(one: Timer | Watch) -> bool:
    """Tell whether a timer or watch can send nothing any more."""
    if isinstance(one, Watch):
        return one._place.closed
    return one.dropped or (one._period is None and one._token is not None and not one._is_queued())
