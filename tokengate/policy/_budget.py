"""What one key spends of a budget: reservations, costs, periods."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Final

from actors import BudgetExceeded
from tokengate.policy import _values
from tokengate.policy._policy import Budget

# Sums of floats are off by less than this share: 2,000 times 0.05 must not exceed 100.
_ROUNDING: Final = 1e-9


class BudgetState:
    """What the attempts of one key spend of a budget.

    The caller has the lock. For each attempt it calls `due_at`, until that time has come; `reserve`; then
    `Reservation.spend` for each cost, and `Reservation.settle` when its code has ended or never began.

    Attributes:
        budget: the limit and the period, those of this key; others can be set at any time.
        reserved: what attempts have reserved and not spent.
        spent: what was spent in the period.
    """

    __slots__ = ("_began_at", "_key", "_open", "budget", "reserved", "spent")

    def __init__(self, budget: Budget, key: str | int | None) -> None:
        self.budget, self._key = budget, key
        self.reserved = self.spent = 0.0
        self._open = 0  # reservations that are not settled
        self._began_at: float | None = None  # the first use in the period

    def due_at(self, estimate: float, now: float) -> float:
        """Return when an attempt that reserves `estimate` may begin; `inf` when another one has to end first."""
        self._end_period(now)
        if self._has_room(self.spent + self.reserved, estimate):
            return -math.inf
        if self._began_at is None or not self._has_room(self.reserved, estimate):
            return math.inf
        return self._began_at + self.budget.per

    def reserve(self, estimate: float, now: float) -> Reservation:
        """Return the reservation of an attempt, which is let begin."""
        self._use(now)
        self.reserved += estimate
        self._open += 1
        return Reservation(self, estimate)

    def reset(self) -> None:
        """Forget what was spent; the next use begins a period."""
        self.spent, self._began_at = 0.0, None

    def is_new(self, now: float) -> bool:
        """Tell whether a new state would decide alike."""
        self._end_period(now)
        return not (self.spent or self._open)

    def exceeded(self) -> BudgetExceeded:
        """Return the error of a cost that is beyond the limit, and booked."""
        budget, key, spent, reserved = self.budget, self._key, self.spent, self.reserved
        of = "" if key is None else f" of {key!r:.80}"
        kept = f", and {reserved:g} reserved" if reserved else ""
        return BudgetExceeded(
            f"budget {budget.name!r}{of}: {spent:g} of {budget.limit:g} spent{kept}; the cost is booked: "
            "stop what costs more, raise the limit, or reset the budget",
            budget.name, key, budget.limit, spent, reserved,
        )  # fmt: skip

    def _end_period(self, now: float) -> None:
        if self._began_at is not None and now >= self._began_at + self.budget.per:
            self.reset()

    def _use(self, now: float) -> None:
        self._end_period(now)
        if self._began_at is None or not (self.spent or self._open):
            self._began_at = now

    def _has_room(self, used: float, estimate: float) -> bool:
        limit = self.budget.limit
        return used < limit * (1 - _ROUNDING) and used + estimate <= limit * (1 + _ROUNDING)


class Reservation:
    """What one attempt has reserved of a budget, and what it spends."""

    __slots__ = ("_is_open", "_left", "_state")

    def __init__(self, state: BudgetState, estimate: float) -> None:
        self._state, self._left, self._is_open = state, estimate, True

    def spend(self, cost: float, now: float) -> None:
        """Book a cost, first on the reservation, then on what is left of the budget.

        Raises:
            BadPolicy: the cost is not a finite number of at least 0; nothing is booked.
            BudgetExceeded: it is booked, is beyond the reservation, and more than the limit is spent and reserved now.
        """
        _values.finite("spend()", "cost", cost)
        state = self._state
        state._use(now)
        reserved = min(cost, self._left)
        self._left -= reserved
        state.reserved -= reserved
        state.spent += cost
        limit = state.budget.limit
        if cost - reserved > cost * _ROUNDING and state.spent + state.reserved > limit * (1 + _ROUNDING):
            raise state.exceeded()

    def settle(self) -> None:
        """Give back what is left, once; a cost that comes later is booked on the budget."""
        if self._is_open:
            self._state._open -= 1
            self._state.reserved = self._state.reserved - self._left if self._state._open else 0.0
            self._left, self._is_open = 0.0, False


def estimate_of(operation: str, budget: Budget, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> float:
    """Return what a call reserves; raise `BadPolicy` if the function that estimates it returns no number."""
    if not callable(budget.estimate):
        return budget.estimate
    place = f"operation '{operation}'"
    return _values.finite(place, "budget.estimate", budget.estimate(*args, **kwargs))
