"""The timers and watches that an instance in a child process has set: it knows them by numbers."""

from __future__ import annotations

from itertools import count
from typing import Final

from actors.places._timers import Timer
from actors.places._watch import Watch

# Those that are over are let go when so many have gathered, and when these are twice as many, and so on.
_GATHERED: Final = 256


class RemoteTimers:
    """Those of one instance."""

    def __init__(self) -> None:
        self._numbers = count(1)
        self._all: dict[int, Timer | Watch] = {}
        self._limit = _GATHERED

    def add(self, one: Timer | Watch) -> int:
        """Enter one; return its number."""
        if len(self._all) >= self._limit:
            self._all = {number: known for number, known in self._all.items() if not _is_over(known)}
            self._limit = max(_GATHERED, 2 * len(self._all))
        number = next(self._numbers)
        self._all[number] = one
        return number

    def end(self, number: int) -> bool:
        """Cancel one; tell whether that kept it from anything."""
        one = self._all.pop(number, None)
        return one is not None and one.cancel()


def _is_over(one: Timer | Watch) -> bool:
    """Tell whether nothing comes of one any more, whether it is cancelled or not."""
    if isinstance(one, Watch):
        return one._place.closed
    return one.dropped or (one._period is None and one._token is not None and not one._is_queued())
