"""A stable priority queue of tokens: the highest priority first, and first in, first out within one."""

from __future__ import annotations

from bisect import insort
from collections import OrderedDict, deque
from collections.abc import Callable, Hashable, Iterator
from itertools import repeat
from typing import Any, Final

from actors.tokens._token import Token

# Number of linear searches in a lane 0 longer than `_LONG` after which the lane is indexed.
_SEARCHES: Final = 8
_LONG: Final = 64


# Shared by all queues with no lane but lane 0; nothing is added to them.
_NO_LANES: Final[dict[int, OrderedDict[Token[Any], None]]] = {}
_NO_ORDER: Final[list[int]] = []


class Lanes:
    """A queue of tokens with one lane for each priority; the common priority, 0, costs a deque only.

    Lane 0 may be used by any thread at any time, in single operations of its deque, which are atomic. All else is for
    one thread at a time: the mailbox has a lock for that. A deque finds a token by a linear search, so a lane 0 from
    which many tokens are removed is indexed: all its tokens go to another lane of the same priority, which is ahead of
    it. Each token is moved at most once; so the time to remove many tokens is proportional to their number.

    Args:
        zero: the lane of priority 0, if there is one already.

    Attributes:
        zero: the lane of priority 0.
        others: number of tokens in all other lanes.
    """

    __slots__ = ("_lanes", "_order", "_searches", "others", "zero")

    def __init__(self, zero: deque[Token[Any]] | None = None) -> None:
        self.zero: deque[Token[Any]] = deque() if zero is None else zero
        self.others = 0
        # {priority: its lane, never empty}; at 0, the tokens ahead of `zero`. An OrderedDict finds its first key in
        # constant time, even after removals; a dict does not.
        self._lanes = _NO_LANES
        self._order = _NO_ORDER  # negated keys of _lanes: the highest priority first
        self._searches = 0  # linear searches in `zero` while it was long

    def __len__(self) -> int:
        """Return the number of tokens."""
        return len(self.zero) + self.others

    def __iter__(self) -> Iterator[Token[Any]]:
        """Go through the tokens, in no order."""
        yield from tuple(self.zero)
        for lane in self._lanes.values():
            yield from lane

    def others_in_order(self) -> list[Token[Any]]:
        """Return the tokens that are not in lane 0, in order."""
        return [token for order in self._order for token in self._lanes[-order]]

    def append(self, token: Token[Any]) -> None:
        """Add a token at the end of its priority's lane."""
        if token.priority:
            self.append_other(token)
        else:
            self.zero.append(token)

    def append_other(self, token: Token[Any]) -> None:
        """Add a token at the end of its priority's lane, or, if that is lane 0, ahead of it."""
        self._lane(token.priority)[token] = None

    def append_first(self, token: Token[Any]) -> None:
        """Add a token at the start of its priority's lane."""
        if token.priority or self._lanes.get(0):
            lane = self._lane(token.priority)
            lane[token] = None
            lane.move_to_end(token, last=False)
        else:
            self.zero.appendleft(token)

    def pop(self) -> Token[Any] | None:
        """Take the first token of the highest priority, or None when there is none."""
        order = self._order
        if order and order[0] <= 0:
            return self._pop_other(-order[0])
        if self.zero:
            try:
                return self.zero.popleft()
            except IndexError:
                pass  # another thread was faster
        return self._pop_other(-order[0]) if order else None

    def pop_oldest_of_lowest(self, newcomer: int) -> Token[Any] | None:
        """Take the oldest token of the lowest priority, unless that priority is above the newcomer's."""
        order = self._order
        if order and order[-1] > 0 and -order[-1] <= newcomer:
            return self._pop_other(-order[-1])
        if newcomer >= 0:
            if self._lanes.get(0):
                return self._pop_other(0)
            try:
                return self.zero.popleft()
            except IndexError:
                pass
        if order and not self.zero and -order[-1] <= newcomer:
            return self._pop_other(-order[-1])
        return None

    def pop_last_behind(self, newcomer: Token[Any], may_leave: Callable[[Token[Any]], bool]) -> Token[Any] | None:
        """Take the last token of the lowest priority, if that is below the newcomer's and the token may leave."""
        order, zero = self._order, self.zero
        lowest = 0 if zero and not (order and order[-1] > 0) else -order[-1] if order else newcomer.priority
        if lowest >= newcomer.priority:
            return None
        if lowest or not zero:
            last = next(reversed(self._lanes[lowest]))
            return last if may_leave(last) and self.remove(last) else None
        try:
            last = zero.pop()
        except IndexError:
            return None
        if may_leave(last):
            return last
        zero.append(last)
        return None

    def number_of(self, key: Hashable) -> int:  # noqa: ARG002
        """Return how many tokens of a fair key wait here; 0 where keys do not take turns."""
        return 0

    def remove(self, token: Token[Any]) -> bool:
        """Remove a token; return whether it was there."""
        priority = token.priority
        lane = self._lanes.get(priority)
        if lane is not None and token in lane:
            del lane[token]
            self._note_popped(priority)
            return True
        if priority:
            return False
        self._searches += len(self.zero) > _LONG
        try:
            self.zero.remove(token)
        except ValueError:
            return False
        return True

    @property
    def index_is_due(self) -> bool:
        """Whether lane 0 is to be indexed before the next removal, after many linear searches."""
        return self._searches >= _SEARCHES and len(self.zero) > _LONG

    def index(self) -> None:
        """Move all tokens of lane 0 to a lane with constant-time removal; no thread may be about to take one meanwhile.

        One C call moves them, so that no exception of a signal handler can lose one on the way.
        """
        self._searches = 0
        self._make_own()
        front = self._lanes.setdefault(0, OrderedDict())
        try:
            front.update(zip(iter(self.zero.popleft, None), repeat(None)))
        except IndexError:
            pass  # it is empty
        finally:
            self.recover()

    def _lane(self, priority: int) -> OrderedDict[Token[Any], None]:
        """Return the lane (not `zero`) to which a token is about to be added, and count the token."""
        self.others += 1
        lane = self._lanes.get(priority)
        if lane is None:
            self._make_own()
            lane = self._lanes[priority] = OrderedDict()
            insort(self._order, -priority)
        return lane

    def _make_own(self) -> None:
        """Make the table of lanes, before the first one is added."""
        if self._lanes is _NO_LANES:
            self._lanes, self._order = {}, []

    def recover(self) -> None:
        """Recompute the counts and the order of the lanes: the latest change may have been interrupted."""
        if not self._lanes:
            self._lanes, self._order, self.others = _NO_LANES, _NO_ORDER, 0
            return
        self._lanes = {priority: lane for priority, lane in self._lanes.items() if lane}
        self._order = sorted(-priority for priority in self._lanes)
        self.others = sum(map(len, self._lanes.values()))

    def _pop_other(self, priority: int) -> Token[Any] | None:
        lane = self._lanes.get(priority)
        if not lane:
            self.recover()
            return self.pop()
        token, _ = lane.popitem(last=False)
        self._note_popped(priority)
        return token

    def _note_popped(self, priority: int) -> None:
        self.others -= 1
        if not self._lanes[priority]:
            self._order.remove(-priority)
            del self._lanes[priority]
