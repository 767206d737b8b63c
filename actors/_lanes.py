"""Stable priority: the highest first, and first-in first-out within one."""

from __future__ import annotations

from bisect import insort
from collections import deque
from collections.abc import Iterator
from typing import Any

from actors._token import Token


class Lanes:
    """A queue of tokens with one lane for each priority; the common one, 0, pays for a deque only.

    Lane 0 may be used by anyone at any time, in single operations of its deque, which are atomic. All else is for
    one thread at a time: the mailbox has a lock for that.

    Attributes:
        zero: the lane of priority 0.
        others: how many tokens are in all the other lanes.
    """

    __slots__ = ("_lanes", "_order", "others", "zero")

    def __init__(self) -> None:
        self.zero: deque[Token[Any]] = deque()
        self.others = 0
        self._lanes: dict[int, deque[Token[Any]]] = {}  # {any other priority: its lane, never left empty}
        self._order: list[int] = []  # the keys of _lanes, negated: the highest priority first

    def __len__(self) -> int:
        """Return the number of tokens."""
        return len(self.zero) + self.others

    def __iter__(self) -> Iterator[Token[Any]]:
        """Go through the tokens, in no order."""
        yield from tuple(self.zero)
        for lane in self._lanes.values():
            yield from lane

    def append(self, token: Token[Any]) -> None:
        """Add a token at the end of its priority's lane."""
        self._lane(token.priority).append(token)

    def append_first(self, token: Token[Any]) -> None:
        """Add a token at the start of its priority's lane."""
        self._lane(token.priority).appendleft(token)

    def pop(self) -> Token[Any] | None:
        """Take the first token of the highest priority, or None when there is none."""
        order = self._order
        if order and order[0] < 0:
            return self._pop_other(-order[0])
        if self.zero:
            try:
                return self.zero.popleft()
            except IndexError:
                pass  # another thread was faster
        return self._pop_other(-order[0]) if order else None

    def pop_oldest_of_lowest(self, newcomer: int) -> Token[Any] | None:
        """Take the oldest token of the lowest priority, unless even that outranks the newcomer's."""
        order = self._order
        if order and order[-1] > 0 and -order[-1] <= newcomer:
            return self._pop_other(-order[-1])
        if newcomer >= 0:
            try:
                return self.zero.popleft()
            except IndexError:
                pass
        if order and not self.zero and -order[-1] <= newcomer:
            return self._pop_other(-order[-1])
        return None

    def remove(self, token: Token[Any]) -> bool:
        """Take a token out from wherever it stands; tell whether it was there."""
        priority = token.priority
        lane = self._lanes.get(priority) if priority else self.zero
        try:
            if lane is None:
                return False
            lane.remove(token)
        except ValueError:
            return False
        if priority:
            self._note_popped(priority)
        return True

    def _lane(self, priority: int) -> deque[Token[Any]]:
        """Return the lane that a token is about to be added to."""
        if not priority:
            return self.zero
        self.others += 1
        lane = self._lanes.get(priority)
        if lane is None:
            lane = self._lanes[priority] = deque()
            insort(self._order, -priority)
        return lane

    def recover(self) -> None:
        """Count again, and put the lanes in order: what changed them last may have been interrupted."""
        self._lanes = {priority: lane for priority, lane in self._lanes.items() if lane}
        self._order = sorted(-priority for priority in self._lanes)
        self.others = sum(map(len, self._lanes.values()))

    def _pop_other(self, priority: int) -> Token[Any] | None:
        lane = self._lanes.get(priority)
        if not lane:
            self.recover()
            return self.pop()
        token = lane.popleft()
        self._note_popped(priority)
        return token

    def _note_popped(self, priority: int) -> None:
        self.others -= 1
        if not self._lanes[priority]:
            self._order.remove(-priority)
            del self._lanes[priority]
