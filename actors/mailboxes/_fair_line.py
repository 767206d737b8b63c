"""A line of waiting tokens in which, within a priority, keys take turns."""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable, Hashable, Iterator
from typing import Generic, Protocol, TypeVar


class _Prioritized(Protocol):
    priority: int


T = TypeVar("T", bound=_Prioritized)


class FairLine(Generic[T]):
    """A line of waiting tokens: the highest priority first; within it keys take turns, and order holds per key.

    A key whose first token arrives takes its turn after all keys that wait. `key_of` returns the key of a token, always
    the same one; tokens without the key (None) take turns as one. To change a token's priority, remove it and append it
    again. Numbers, from one counter, order the turns of several lines. All but the iteration takes constant time, for
    any number of keys; for one thread at a time.
    """

    __slots__ = ("_key_of", "_lanes", "_places")

    def __init__(self, key_of: Callable[[T], Hashable]) -> None:
        self._key_of = key_of
        # {priority: {key: {token: number}}}, none empty: keys in the order of their turns; the first number of a key is
        # that of its turn. An OrderedDict finds its first key in constant time, even after removals; a dict does not.
        self._lanes: dict[int, OrderedDict[Hashable, OrderedDict[T, int]]] = {}
        self._places: dict[T, tuple[int, Hashable]] = {}  # {token: its priority and key}

    def __len__(self) -> int:
        """Return the number of tokens."""
        return len(self._places)

    def __contains__(self, token: object) -> bool:
        """Tell whether a token waits."""
        return token in self._places

    def __iter__(self) -> Iterator[T]:
        """Iterate over the tokens, in the order in which they would be taken now."""
        for priority in sorted(self._lanes, reverse=True):
            turns = deque(map(iter, self._lanes[priority].values()))
            while turns:
                queue = turns.popleft()
                for token in queue:
                    yield token
                    turns.append(queue)
                    break

    def append(self, token: T, number: int = 0) -> None:
        """Add a token behind those of its priority and key; `number` is that of its key's turn if none waits."""
        priority, key = self._places[token] = token.priority, self._key_of(token)
        lane = self._lanes.get(priority)
        if lane is None:
            lane = self._lanes[priority] = OrderedDict()
        queue = lane.get(key)
        if queue is None:
            queue = lane[key] = OrderedDict()
        queue[token] = number

    def remove(self, token: T) -> bool:
        """Remove a token that does not begin; its key keeps its turn. Return whether the token was there."""
        place = self._places.pop(token, None)
        if place is None:
            return False
        queue = self._lanes[place[0]][place[1]]
        is_first = next(iter(queue)) is token
        number = queue.pop(token)
        if not queue:
            self._drop(*place)
        elif is_first:
            queue[next(iter(queue))] = number
        return True

    def first(self) -> tuple[int, int, T]:
        """Return the negated priority, the turn's number and the token of the next one; the line must not be empty."""
        priority = max(self._lanes)
        token, number = next(iter(next(iter(self._lanes[priority].values())).items()))
        return -priority, number, token

    def pop(self, number: int = 0) -> T:
        """Take the next token; `number` is that of its key's next turn. The line must not be empty."""
        priority = max(self._lanes)
        lane = self._lanes[priority]
        key, queue = next(iter(lane.items()))
        token, _ = queue.popitem(last=False)
        del self._places[token]
        if queue:
            queue[next(iter(queue))] = number
            lane.move_to_end(key)
        else:
            self._drop(priority, key)
        return token

    def oldest_of_lowest(self) -> T | None:
        """Return the next token of the lowest priority, if there is one."""
        return next(iter(next(iter(self._lanes[min(self._lanes)].values())))) if self._lanes else None

    def last_behind(self, newcomer: T) -> T | None:
        """Return the last token of the lowest priority and of the key with most of these, if it is to go after another.

        A newcomer of that priority goes before it if its own key has fewer tokens, even with this one.
        """
        priority = min(self._lanes, default=newcomer.priority + 1)
        if priority > newcomer.priority:
            return None
        lane = self._lanes[priority]
        longest = max(lane.values(), key=len)
        own = lane.get(self._key_of(newcomer), ()) if priority == newcomer.priority else ()
        return next(reversed(longest)) if priority < newcomer.priority or len(longest) > len(own) + 1 else None

    def number_of(self, key: Hashable) -> int:
        """Return how many tokens of a key wait."""
        return sum(len(lane.get(key, ())) for lane in self._lanes.values())

    def _drop(self, priority: int, key: Hashable) -> None:
        lane = self._lanes[priority]
        del lane[key]
        if not lane:
            del self._lanes[priority]
