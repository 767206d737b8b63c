"""A table of bounded size."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import TypeVar

K = TypeVar("K")
V = TypeVar("V")


class Table(OrderedDict[K, V]):
    """A table that has at most so many entries: the one that was not used for longest goes.

    One thread uses entries; any may read them by `get`, which is no use.

    Args:
        most: entries.
        make: makes the entry of a key.
    """

    def __init__(self, most: int, make: Callable[[K], V]) -> None:
        super().__init__()
        self._most = most
        self._make = make

    def use(self, key: K) -> V:
        """Return the entry of a key, which is made if there is none."""
        found = self.get(key)
        if found is not None:
            self.move_to_end(key)
            return found
        found = self[key] = self._make(key)
        if len(self) > self._most:
            self.popitem(last=False)
        return found

    def rows(self) -> list[tuple[K, V]]:
        """Return all entries, the longest unused first; on any thread."""
        while True:
            try:
                return list(self.items())
            except RuntimeError:  # one came or went meanwhile
                continue
