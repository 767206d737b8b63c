"""A line of waiting tokens, by priority and then by age."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from typing import Any

from actors.tokens._token import Token


class Line:
    """A line of waiting tokens, the highest priority first, with constant-time removal; for one thread at a time."""

    __slots__ = ("_lanes", "_priorities")

    def __init__(self) -> None:
        # An OrderedDict finds its first key in constant time, even after removals; a dict does not.
        self._lanes: dict[int, OrderedDict[Token[Any], int]] = {}  # {priority: {token: its number}}, no lane is empty
        self._priorities: dict[Token[Any], int] = {}  # {token: its lane}

    def __len__(self) -> int:
        """Return the number of tokens."""
        return len(self._priorities)

    def __contains__(self, token: object) -> bool:
        """Tell whether a token waits."""
        return token in self._priorities

    def __iter__(self) -> Iterator[Token[Any]]:
        """Iterate over the tokens, in order."""
        for priority in sorted(self._lanes, reverse=True):
            yield from self._lanes[priority]

    def append(self, token: Token[Any], number: int = 0) -> None:
        """Add a token at the end of its priority's lane; of two lines, the lower number came first."""
        self._priorities[token] = token.priority
        self._lanes.setdefault(token.priority, OrderedDict())[token] = number

    def remove(self, token: Token[Any]) -> bool:
        """Remove a token; return whether it was there."""
        priority = self._priorities.pop(token, None)
        if priority is None:
            return False
        lane = self._lanes[priority]
        del lane[token]
        if not lane:
            del self._lanes[priority]
        return True

    def first(self) -> tuple[int, int, Token[Any]]:
        """Return the negated priority, the number and the token of the next one; the line must not be empty."""
        priority = max(self._lanes)
        token, number = next(iter(self._lanes[priority].items()))
        return -priority, number, token

    def oldest_of_lowest(self) -> Token[Any] | None:
        """Return the first token of the lowest priority, if there is one."""
        return next(iter(self._lanes[min(self._lanes)])) if self._lanes else None
