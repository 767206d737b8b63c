"""What keeps tokens from beginning, as the engine of throttles asks it: delays, throttles, budgets."""

from __future__ import annotations

import math
from time import time
from typing import TYPE_CHECKING, Any, Final

from actors.lowlevel import Rule
from tokengate.policy._budget import Reservation
from tokengate.policy._throttle import ThrottleState
from tokengate.policy._values import Over

if TYPE_CHECKING:
    from actors import Token
    from actors.lowlevel import Drain
    from tokengate.policy._budget import BudgetState
    from tokengate.policy._policy import Budget, Throttle

# Seconds until a look whether the code of the attempt before has let go of its token: a moment after its end.
_LETS_GO: Final = 0.001

# Seconds until another look at the wall clock.
_LOOK: Final = 1.0

# Seconds between two events of one throttle and key.
_QUIET: Final = 1.0


class Delay(Rule):
    """The time before which one token does not begin: its next attempt, or what it was put off to.

    Args:
        at: in seconds of the clock.
        drain: in which the attempt before was, which is to let go of the token first; None: none was.
    """

    __slots__ = ("at", "drain")

    def __init__(self, at: float, drain: Drain | None) -> None:
        super().__init__()
        self.at = at
        self.drain = drain

    def due_at(self, token: Token[Any], now: float) -> float:
        if now < self.at:
            token.queued_at = self.at  # it begins to wait then, for what sheds and measures
            return self.at
        return now + _LETS_GO if self.drain is not None and self.drain.has_taken(token) else -math.inf

    def grant(self, token: Token[Any], now: float) -> None:
        """Do nothing: it is over."""

    def give_back(self, token: Token[Any], now: float) -> None:
        """Do nothing."""

    def note_waits(self, token: Token[Any], waits: bool) -> None:
        """Do nothing."""

    def end(self, token: Token[Any], now: float) -> None:
        """Do nothing."""


class Moment(Delay):
    """The wall time before which one token does not begin; the wall clock is looked at again each second.

    Args:
        moment: in seconds since the epoch.
        now: in seconds of the clock.
    """

    __slots__ = ("moment",)

    def __init__(self, moment: float, now: float) -> None:
        super().__init__(now + max(0.0, moment - time()), None)
        self.moment = moment

    def due_at(self, token: Token[Any], now: float) -> float:
        left = self.moment - time()
        self.at = now + max(0.0, left)
        return min(super().due_at(token, now), now + _LOOK)


class ThrottleRule(Rule):
    """What one key may use of a throttle.

    Args:
        state: of the key.
        key: None for a throttle without keys.

    Attributes:
        is_open: whether it lets tokens go; False while those that began before it are counted.
    """

    __slots__ = ("_counted", "_told_at", "is_open", "key", "state")

    def __init__(self, state: ThrottleState, key: str | int | None) -> None:
        super().__init__()
        self.state, self.key = state, key
        self.is_open = True
        self._counted: set[Token[Any]] | None = None  # tokens that began before it
        self._told_at = -math.inf  # when an event was last published

    @property
    def over(self) -> Over:
        """What happens to a token that cannot begin at once."""
        return self.state.throttle.over

    @property
    def at_once(self) -> bool:
        return self.state.throttle.over != "wait"

    def is_news(self, now: float) -> bool:
        """Tell whether an event is to be published that it is exceeded: the last one was a second ago."""
        if now - self._told_at < _QUIET:
            return False
        self._told_at = now
        return True

    def due_at(self, _token: Token[Any], now: float) -> float:
        return self.state.due_at(now) if self.is_open else math.inf

    def grant(self, _token: Token[Any], _now: float) -> None:
        self.state.grant()

    def count(self, token: Token[Any], _now: float) -> None:
        self.state.count()
        if self._counted is None:
            self._counted = set()
        self._counted.add(token)

    def begin(self, token: Token[Any], now: float) -> None:
        if not self._counted or token not in self._counted:
            self.state.begin(now)

    def give_back(self, token: Token[Any], now: float) -> None:
        if self._counted and token in self._counted:
            self.end(token, now)
        else:
            self.state.give_back()

    def note_waits(self, _token: Token[Any], waits: bool) -> None:
        self.state.note_wait(waits)

    def end(self, token: Token[Any], now: float) -> None:
        if self._counted:
            self._counted.discard(token)
        policy = token._extras.policy
        self.state.end(*(0.0, None) if policy is None else (policy.seconds, policy.good), now)

    def change(self, throttle: Throttle, now: float) -> None:
        """Set other limits; what is used of them stays."""
        self.state.change(throttle, now)

    def is_new(self, now: float) -> bool:
        """Tell whether it may be forgotten."""
        return not self.waiting and self.state.is_new(now)


class BudgetRule(Rule):
    """What one key may spend of a budget.

    Args:
        state: of the key.

    Attributes:
        reservations: {token whose attempt has a grant: what it has reserved}.
    """

    __slots__ = ("reservations", "state")

    def __init__(self, state: BudgetState) -> None:
        super().__init__()
        self.state = state
        self.reservations: dict[Token[Any], Reservation] = {}

    def due_at(self, token: Token[Any], now: float) -> float:
        return self.state.due_at(_estimate(token), now)

    def grant(self, token: Token[Any], now: float) -> None:
        self.reservations[token] = self.state.reserve(_estimate(token), now)

    def give_back(self, token: Token[Any], _now: float) -> None:
        self.reservations.pop(token).settle()

    def note_waits(self, token: Token[Any], waits: bool) -> None:
        """Do nothing: what it has reserved remains reserved."""

    def end(self, token: Token[Any], now: float) -> None:
        self.give_back(token, now)

    def spend(self, token: Token[Any], cost: float, now: float) -> None:
        """Book a cost of a token, first on what its attempt has reserved, if that runs."""
        (self.reservations.get(token) or Reservation(self.state, 0.0)).spend(cost, now)

    def change(self, budget: Budget, _now: float) -> None:
        """Set another limit; what is spent and reserved stays."""
        self.state.budget = budget

    def is_new(self, now: float) -> bool:
        """Tell whether it may be forgotten."""
        return not self.waiting and self.state.is_new(now)


def _estimate(token: Token[Any]) -> float:
    policy = token._extras.policy
    return 0.0 if policy is None else policy.estimate
