"""What one key may use of a throttle of a batch operation: a batch counts once as it runs, its tokens for the rate."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol, cast

from tokengate.policy._rules import ThrottleRule
from tokengate.policy._throttle import ThrottleState

if TYPE_CHECKING:
    from actors import Token


class Counted(Protocol):
    """What a token is held to that runs for a batch."""

    def count(self, throttle: int, key: str | int | None, /) -> int:
        """Return how many tokens it runs for that have a key of a throttle, which has this number in the policy."""
        ...


class BatchRule(ThrottleRule):
    """What one key may use of a throttle of a batch operation.

    Args:
        state: of the key.
        key: None for a throttle without keys.
        throttle: number of the throttle in the policy.
    """

    __slots__ = ("_reserved", "_throttle")

    def __init__(self, state: ThrottleState, key: str | int | None, throttle: int) -> None:
        super().__init__(state, key)
        self._throttle = throttle
        self._reserved: dict[Token[Any], int] = {}  # {run with a grant that has not begun: tokens it had then}

    def _count(self, token: Token[Any]) -> int:
        return max(1, cast("Counted", token._extras.policy).count(self._throttle, self.key))

    def due_at(self, token: Token[Any], now: float) -> float:
        return self.state.due_at(now, self._count(token))

    def grant(self, token: Token[Any], _now: float) -> None:
        self._reserved[token] = count = self._count(token)
        self.state.grant(count)

    def begin(self, token: Token[Any], now: float) -> None:
        self.state.begin(now, self._reserved.pop(token, 1), self._count(token))

    def give_back(self, token: Token[Any], _now: float) -> None:
        self.state.give_back(self._reserved.pop(token, 1))
