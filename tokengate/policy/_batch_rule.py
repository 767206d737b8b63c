"""What one key may use of a throttle of a batch operation: a batch counts once as it runs, its tokens for the rate."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Protocol, cast

from tokengate.policy._rules import ThrottleRule
from tokengate.policy._throttle import ThrottleState

if TYPE_CHECKING:
    from actors import Token
    from tokengate.policy._values import Key


class Counted(Protocol):
    """What a token is held to that runs for a batch."""

    def count(self, name: Key | None, key: str | int | None, /) -> int:
        """Return how many tokens it runs for that have this value of a key; None: the throttle has no keys."""
        ...


class BatchRule(ThrottleRule):
    """What one key may use of a throttle of a batch operation.

    Args:
        state: of the key.
        key: None for a throttle without keys.
    """

    __slots__ = ("_reserved",)

    def __init__(self, state: ThrottleState, key: str | int | None) -> None:
        super().__init__(state, key)
        self._reserved: dict[Token[Any], int] = {}  # {run with a grant that has not begun: tokens it had then}

    def _count(self, token: Token[Any]) -> int:
        return max(1, cast("Counted", token._extras.policy).count(self.state.throttle.key, self.key))

    def due_at(self, token: Token[Any], now: float) -> float:
        return self.state.due_at(now, self._count(token)) if self.is_open else math.inf

    def grant(self, token: Token[Any], _now: float) -> None:
        self._reserved[token] = count = self._count(token)
        self.state.grant(count)

    def begin(self, token: Token[Any], now: float) -> None:
        granted = self._reserved.pop(token, 0)
        if granted:  # else it began before there was a limit
            self.state.begin(now, granted, self._count(token))

    def give_back(self, token: Token[Any], now: float) -> None:
        granted = self._reserved.pop(token, 0)
        if granted:
            self.state.give_back(granted)
        else:
            super().give_back(token, now)
