"""Stable priority: the highest first, and first-in first-out within one. No lock: the mailbox has one."""

from __future__ import annotations

from bisect import insort
from collections import deque
from typing import Any

from actors._token import Token

# Entries of withdrawn tokens stay in their lane until they come out, or until this many have gathered.
_STALE_LIMIT = 256


class Lanes:
    """A queue of tokens with one lane for each priority; the common one, 0, pays for a deque only.

    A token that has left the queue otherwise (its `_mailbox` is no longer the owner) leaves a stale entry behind,
    which is skipped. So a token that was withdrawn must not come back into the same queue.

    Args:
        owner: the mailbox whose tokens are here.
    """

    __slots__ = ("_entries", "_lanes", "_order", "_owner", "_stale", "_zero")

    def __init__(self, owner: object) -> None:
        self._owner = owner
        self._zero: deque[Token[Any]] = deque()  # the lane of priority 0
        self._lanes: dict[int, deque[Token[Any]]] = {}  # {any other priority: its lane, never left empty}
        self._order: list[int] = []  # the keys of _lanes, negated: the highest priority first
        self._entries = 0
        self._stale = 0

    def __len__(self) -> int:
        """Return the number of entries, stale ones included."""
        return self._entries

    def append(self, token: Token[Any]) -> None:
        """Add a token at the end of its priority's lane."""
        priority = token.priority
        if not priority:
            lane = self._zero
        else:
            try:
                lane = self._lanes[priority]
            except KeyError:
                lane = self._lanes[priority] = deque()
                insort(self._order, -priority)
        lane.append(token)
        self._entries += 1

    def pop(self) -> Token[Any] | None:
        """Take the first token of the highest priority, or None when there is none."""
        order = self._order
        while True:
            if order and (order[0] < 0 or not self._zero):
                token = self._pop_lane(-order[0])
            elif self._zero:
                token = self._zero.popleft()
            else:
                return None
            self._entries -= 1
            if token._mailbox is self._owner:
                return token
            self._stale -= 1

    def pop_oldest_of_lowest(self, newcomer: int) -> Token[Any] | None:
        """Take the oldest token of the lowest priority, unless even that outranks the newcomer's."""
        self._compact()
        order = self._order
        lowest = -order[-1] if order and (order[-1] > 0 or not self._zero) else 0
        if lowest > newcomer:
            return None
        self._entries -= 1
        return self._pop_lane(lowest) if lowest else self._zero.popleft()

    def note_withdrawn(self) -> None:
        """Count a token that has left the queue, and clear such entries away when there are many."""
        self._stale += 1
        if self._stale > _STALE_LIMIT and 2 * self._stale > self._entries:
            self._compact()

    def _pop_lane(self, priority: int) -> Token[Any]:
        lane = self._lanes[priority]
        token = lane.popleft()
        if not lane:
            del self._lanes[priority]
            self._order.remove(-priority)
        return token

    def _compact(self) -> None:
        """Drop the stale entries."""
        if not self._stale:
            return
        self._zero = deque(token for token in self._zero if token._mailbox is self._owner)
        lanes = {
            priority: deque(token for token in lane if token._mailbox is self._owner)
            for priority, lane in self._lanes.items()
        }
        self._lanes = {priority: lane for priority, lane in lanes.items() if lane}
        self._order = sorted(-priority for priority in self._lanes)
        self._entries -= self._stale
        self._stale = 0
