"""What one key spends of a budget, compared with a list of what happened; amounts are whole, so sums are exact."""

from __future__ import annotations

import itertools
import math
import pickle
import random

import pytest

from tokengate.errors import BadPolicy, BudgetExceeded
from tokengate.policy._budget import BudgetState, Reservation, estimate_of
from tokengate.policy._policy import Budget


class Ledger:
    """All costs with their times, and what each attempt has reserved."""

    def __init__(self, limit: float, per: float) -> None:
        self.limit, self.per = limit, per
        self.costs: list[tuple[float, float]] = []
        self.left: dict[Reservation, float] = {}
        self.began_at = -math.inf

    def spent(self, now: float) -> float:
        return sum(cost for at, cost in self.costs if self.began_at <= at) if now < self.began_at + self.per else 0

    def use(self, now: float) -> None:
        if now >= self.began_at + self.per or (not self.spent(now) and not self.left):
            self.began_at = now
            self.costs = []


def test_it_decides_like_a_ledger(seed: int) -> None:
    """Cases 41 and 42. Attempts reserve, spend below and above what they reserved, and end, over several periods."""
    rng = random.Random(seed)
    for _ in range(60):
        limit, per, now = rng.choice((0, 10, 20)), float(rng.choice((5, 20, 10**9))), 100.0
        state, ledger = BudgetState(Budget("usd", limit, per=per), "acme"), Ledger(limit, per)
        for _ in range(120):
            act, estimate = rng.random(), float(rng.randint(0, 6))
            if act < 0.2:
                now += rng.randint(0, 4)
            elif act < 0.5:
                used, kept = ledger.spent(now), sum(ledger.left.values())
                if used + kept + estimate <= limit and used + kept < limit:
                    assert state.due_at(estimate, now) <= now
                    ledger.use(now)
                    ledger.left[state.reserve(estimate, now)] = estimate
                elif used and kept + estimate <= limit and kept < limit:
                    assert state.due_at(estimate, now) == ledger.began_at + per
                else:
                    assert state.due_at(estimate, now) == math.inf
            elif act < 0.8 and ledger.left:
                one, cost = rng.choice(list(ledger.left)), float(rng.randint(0, 4))
                beyond = cost > ledger.left[one]
                ledger.use(now)
                ledger.costs.append((now, cost))
                ledger.left[one] -= min(cost, ledger.left[one])
                if beyond and ledger.spent(now) + sum(ledger.left.values()) > limit:
                    with pytest.raises(BudgetExceeded):
                        one.spend(cost, now)
                else:
                    one.spend(cost, now)
            elif ledger.left:
                one = rng.choice(list(ledger.left))
                del ledger.left[one]
                one.settle()
                one.settle()

            state.due_at(0.0, now)
            assert (state.spent, state.reserved) == (ledger.spent(now), sum(ledger.left.values()))
            assert state.is_new(now) == (not ledger.spent(now) and not ledger.left)


@pytest.mark.parametrize("order", list(itertools.permutations("abc")))
def test_three_at_once_under_a_hundred_spend_a_hundred(order: tuple[str, ...]) -> None:
    """Case 41. With estimates that are upper bounds, nothing is overspent, in whatever order they spend and end."""
    state = BudgetState(Budget("usd", 100), None)
    begun = {}
    for name in order:
        if state.due_at(50.0, 0.0) <= 0.0:
            begun[name] = state.reserve(50.0, 0.0)
    assert len(begun) == 2
    for reservation in begun.values():
        for _ in range(5):
            reservation.spend(10, 0.0)
        reservation.settle()

    assert (state.spent, state.reserved) == (100, 0)
    assert state.due_at(0.0, 10**9) == math.inf


def test_without_estimates_a_key_overspends_by_one_cost_of_each_running_attempt_at_most() -> None:
    """Case 41. Then no attempt begins, not even one that reserves nothing."""
    state = BudgetState(Budget("usd", 100), None)
    running = [state.reserve(0.0, 0.0) for _ in range(3)]
    refused = 0
    for _ in range(9):
        for one in list(running):
            try:
                one.spend(30, 0.0)
            except BudgetExceeded:
                refused += 1
                running.remove(one)

    assert (state.spent, refused) == (180, 3)
    assert state.due_at(0.0, 0.0) == math.inf


def test_a_cost_beyond_the_limit_is_booked_and_raised() -> None:
    """Case 42. The error tells what of which limit is spent, and crosses processes."""
    state = BudgetState(Budget("usd", 10, per="1d"), "acme")
    other, one = state.reserve(2.0, 0.0), state.reserve(5.0, 0.0)
    one.spend(6, 0.0)
    with pytest.raises(BudgetExceeded, match=r"'usd' of 'acme': 9 of 10 spent, and 2 reserved; the cost") as e:
        one.spend(3, 1.0)
    other.spend(2, 2.0)  # it was reserved for this one

    assert (state.spent, state.reserved) == (11, 0)
    copy = pickle.loads(pickle.dumps(e.value))
    assert (copy.name, copy.key, copy.limit, copy.spent, copy.reserved) == ("usd", "acme", 10, 9, 2)
    assert str(copy) == str(e.value)
    assert "usd': 0 of 1 spent; the" in str(BudgetState(Budget("usd", 1), None).exceeded())


def test_a_period_begins_at_the_first_use() -> None:
    """Case 42. What is reserved goes over into the next one; what was spent does not."""
    state = BudgetState(Budget("usd", 10, per=60), None)
    state.reserve(0.0, 5.0).settle()  # nothing came of it
    one = state.reserve(4.0, 100.0)
    one.spend(3, 130.0)
    one.spend(6, 159.0)
    assert state.due_at(2.0, 159.9) == 160.0
    assert state.due_at(2.0, 160.0) <= 160.0
    one.spend(1, 170.0)

    assert (state.spent, state.reserved) == (1, 0)
    assert state.due_at(10.0, 170.0) == 230.0
    one.settle()
    assert state.is_new(230.0)


def test_a_reset_gives_the_whole_limit_again() -> None:
    """What runs keeps its reservation."""
    state = BudgetState(Budget("usd", 10, per=60), None)
    one = state.reserve(4.0, 0.0)
    one.spend(8, 0.0)
    state.reset()

    assert (state.spent, state.reserved) == (0, 0)
    assert state.due_at(10.0, 1.0) <= 1.0
    state.reserve(2.0, 7.0).spend(10, 7.0)
    assert state.due_at(0.0, 8.0) == 67.0


def test_another_limit_holds_from_the_next_decision() -> None:
    """Cases 35 and 61. What is spent stays."""
    state = BudgetState(Budget("usd", 10, per=60), None)
    state.reserve(0.0, 0.0).spend(10, 0.0)
    state.budget = Budget("usd", 11, per=30)

    assert state.due_at(1.0, 1.0) <= 1.0
    assert state.due_at(2.0, 1.0) == 30.0


def test_cents_add_up_to_the_limit() -> None:
    """2,000 times 0.05 is 100, whatever floats say; and so nothing is left for one more."""
    state = BudgetState(Budget("usd", 0.3), None)
    for _ in range(3):
        assert state.due_at(0.1, 0.0) <= 0.0
        state.reserve(0.1, 0.0)
    state = BudgetState(Budget("usd", 100), None)
    reservations = [state.reserve(0.1, 0.0) for _ in range(1_000) if state.due_at(0.1, 0.0) <= 0.0]
    assert len(reservations) == 1_000
    for one in reservations:
        one.spend(0.05, 0.0)
        one.spend(0.05, 0.0)
        one.settle()

    assert state.reserved == 0
    assert state.due_at(0.0, 0.0) == math.inf


@pytest.mark.parametrize("cost", [-1, math.nan, math.inf, "1", None, True])
def test_a_cost_that_is_no_number_is_refused_and_not_booked(cost: object) -> None:
    """The error names it."""
    state = BudgetState(Budget("usd", 100), None)
    with pytest.raises(BadPolicy, match=r"cost of spend\(\) is .*; use a (finite )?number of at least 0"):
        state.reserve(0.0, 0.0).spend(cost, 0.0)  # type: ignore[arg-type]
    assert state.spent == 0


def test_an_estimate_above_the_limit_is_refused_since_no_attempt_would_ever_begin() -> None:
    """Where it is a number; one that a function returns waits for a higher limit."""
    with pytest.raises(BadPolicy, match="estimate of Budget is 2; use a number of at least 0 and at most 1"):
        Budget("usd", 1, estimate=2)
    assert BudgetState(Budget("usd", 1), None).due_at(2.0, 0.0) == math.inf


def test_an_estimate_is_a_number_or_a_function_of_the_arguments() -> None:
    """Whose result is checked: the error names the operation."""
    assert estimate_of("charge", Budget("usd", 1, estimate=0.5), (), {}) == 0.5
    assert estimate_of("charge", Budget("usd", 1, estimate=lambda a, b: a * b), (2,), {"b": 3}) == 6
    with pytest.raises(BadPolicy, match=r"budget\.estimate of operation 'charge' is None; use a number"):
        estimate_of("charge", Budget("usd", 1, estimate=lambda: None), (), {})  # type: ignore[arg-type, return-value]
