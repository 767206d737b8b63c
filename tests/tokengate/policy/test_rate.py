"""A rate limit compared with a ledger of all attempts, in which every span of time is looked at."""

from __future__ import annotations

import itertools
import math
import random

import pytest

from tokengate.policy._rate import RateLimit


def due_by_ledger(begins: list[float], rate: float, burst: int, now: float, unbegun: int) -> float:
    """Return when one more may be admitted: in no span that ends then, there are more than rate * span + burst."""
    lacking = unbegun + 1 - burst
    due = max((at + (len(begins) - n + lacking) / rate for n, at in enumerate(begins)), default=-math.inf)
    return due if lacking <= 0 else max(due, now + lacking / rate)


def test_it_decides_like_a_ledger_of_all_attempts(seed: int) -> None:
    """Attempts that are granted, begin later or never, in drawn schedules; times are exact: they are binary."""
    rng = random.Random(seed)
    for _ in range(60):
        rate, burst = 2.0 ** rng.randint(-3, 6), rng.randint(1, 5)
        limit, begins, unbegun, now = RateLimit(rate, burst), [], 0, float(rng.randint(0, 100))
        for _ in range(80):
            act = rng.random()
            if act < 0.4:
                now += rng.choice((1, 1, 1, 16, 200)) * rng.random() // (1 / 16) / 16 / rate
            elif act < 0.7:
                unbegun += limit.due_at(now, unbegun) <= now
            elif unbegun:
                unbegun -= 1
                if act < 0.9:
                    limit.take(now)
                    begins.append(now)

            assert limit.due_at(now, unbegun) == due_by_ledger(begins, rate, burst, now, unbegun)
            assert limit.is_new(now) == (due_by_ledger(begins, rate, 1, now, 0) <= now)


@pytest.mark.parametrize(("rate", "burst"), [(100.0, 20), (100.0, 1), (1000 / 3600, 1), (7.0, 3)])
def test_times_are_exact_however_long_it_is_used(rate: float, burst: int) -> None:
    """Case 32. The burst begins at once, then one attempt each 1 / rate seconds; no rounding adds up."""
    limit, begun = RateLimit(rate, burst), []
    for _ in range(5_000):
        now = max(limit.due_at(1_000.0, 0), 1_000.0)
        limit.take(now)
        begun.append(now)

    assert begun == [1_000.0 + max(n - burst + 1, 0) / rate for n in range(5_000)]


def test_ten_seconds_of_a_hundred_a_second_and_a_burst_of_20_are_1020_attempts() -> None:
    """Case 32. Not one more, however many ask."""
    limit, begun = RateLimit(100.0, 20), 0
    for tick in range(10_001):  # ten in each hundredth of a second
        now = tick / 1_000
        if limit.due_at(now, 0) <= now:
            limit.take(now)
            begun += 1

    assert begun == 1_020


def test_a_caller_that_wakes_late_loses_nothing_within_the_burst_and_gets_no_more(seed: int) -> None:
    """Case 32. At least 99 % of rate * time + burst in all, and in no span of time more than that."""
    rng = random.Random(seed)
    limit, now, begins = RateLimit(100.0, 20), 0.0, [0.0] * 20
    for at in begins:
        limit.take(at)
    while now < 10:
        now = max(now, limit.due_at(now, 0))
        now = min(now + rng.choice((0, 0, 0.001, 0.15)) * rng.random(), 10.0)
        while limit.due_at(now, 0) <= now:
            limit.take(now)
            begins.append(now)

    assert len(begins) >= 0.99 * 1_020
    for n in range(0, len(begins), 7):
        assert all(m - n + 1 <= 100 * (begins[m] - begins[n]) + 20 + 1e-9 for m in range(n, len(begins)))


def test_what_was_admitted_and_begins_late_does_not_come_on_top_of_a_new_burst() -> None:
    """Case 34. Until it begins it has its place; if it never begins, it leaves no trace."""
    limit = RateLimit(10.0, 2)
    assert limit.due_at(0.0, 1) <= 0.0
    assert limit.due_at(5.0, 2) == 5.1  # two that were admitted long ago may begin at any moment
    limit.take(5.0)
    limit.take(5.0)

    assert limit.due_at(5.0, 0) == 5.1
    assert RateLimit(10.0, 2).due_at(5.0, 0) <= 5.0


def test_an_attempt_beyond_the_limit_leaves_it_used_up_and_no_worse() -> None:
    """Case 33. After a thousand that nothing kept back, the next one is due when it would be after a burst."""
    limit = RateLimit(10.0, 2)
    for _ in range(1_000):
        limit.take(5.0)

    assert limit.due_at(5.0, 0) == 5.1
    assert not limit.is_new(5.19)
    assert limit.is_new(5.2)


def test_other_limits_give_no_second_burst(seed: int) -> None:
    """Cases 35 and 61. In no span more attempts than its rates allow, its first burst, and what was added to that."""
    rng = random.Random(seed)
    for _ in range(20):
        rate, burst, now = 8.0, 4, 0.0
        limit, begins, changes = RateLimit(rate, burst), [], [(0.0, rate, burst)]
        for _ in range(150):
            now += rng.random() * 2 / rate
            if rng.random() < 0.1:
                rate, burst = 2.0 ** rng.randint(0, 6), rng.randint(1, 8)
                limit.change(rate, burst, now)
                changes.append((now, rate, burst))
            while rng.random() < 0.9 and limit.due_at(now, 0) <= now:
                limit.take(now)
                begins.append(now)

            assert limit.due_at(now, 0) <= now + 1 / rate + 1e-9

        for n in rng.sample(range(len(begins)), 10):
            for m in range(n, len(begins)):
                parts = zip(changes, [*changes[1:], (math.inf, 0, 0)], strict=True)
                held = [(*part, end) for part, (end, _, _) in parts if end >= begins[n] and part[0] <= begins[m]]
                rates = sum(rate * (min(end, begins[m]) - max(at, begins[n])) for at, rate, _, end in held)
                added = sum(max(0, later[2] - one[2]) for one, later in itertools.pairwise(held))
                assert m - n + 1 <= rates + held[0][2] + added + 1e-6


def test_the_same_limits_again_change_nothing() -> None:
    """Case 61. A reload of the same file does not even round a level."""
    limit = RateLimit(3.0, 2)
    limit.take(0.1)
    limit.take(0.1)
    due = limit.due_at(0.2, 0)
    limit.change(3.0, 2, 0.2)

    assert limit.due_at(0.2, 0) == due == 0.1 + 1 / 3


def test_what_is_left_of_the_burst_stays_whatever_the_limits() -> None:
    """Case 35. A higher rate is felt at once, a larger burst has to fill, and a whole burst stays whole."""
    limit = RateLimit(1.0, 2)
    limit.take(0.0)
    limit.take(0.0)
    limit.change(10.0, 2, 0.0)
    assert limit.due_at(0.0, 0) == 0.1
    limit.change(10.0, 5, 0.0)
    assert limit.due_at(0.0, 0) == 0.1
    assert not limit.is_new(0.49)
    assert limit.is_new(0.5)
    limit.change(10.0, 9, 0.5)
    assert limit.due_at(0.5, 8) <= 0.5
    assert limit.due_at(0.5, 9) > 0.5
