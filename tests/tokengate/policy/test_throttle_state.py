"""What one key uses of a throttle, compared with sets of attempts; and an adaptive limit before a simulated backend."""

from __future__ import annotations

import heapq
import math
import random

import pytest

from tokengate.policy._policy import Throttle
from tokengate.policy._throttle import ThrottleState

ADAPTIVE = Throttle(concurrency="adaptive", slow=0.05)


def test_never_more_attempts_run_than_the_limit_by_a_count_of_their_own(seed: int) -> None:
    """Cases 28, 29 and 34. Those that wait for another token do not count; what never began is given back."""
    rng = random.Random(seed)
    for _ in range(40):
        most, now = rng.randint(1, 4), 0.0
        state = ThrottleState(Throttle(concurrency=most, rate=4, burst=3))
        granted, running, suspended, begins = 0, 0, 0, []
        for _ in range(200):
            act = rng.choice(("time", "grant", "grant", "begin", "give back", "wait", "resume", "end"))
            if act == "time":
                now += rng.random() / 4
            elif act == "grant" and state.due_at(now) <= now:
                assert granted + running < most
                state.grant()
                granted += 1
            elif act == "begin" and granted:
                state.begin(now)
                granted, running = granted - 1, running + 1
                begins.append(now)
            elif act == "give back" and granted:
                state.give_back()
                granted -= 1
            elif act == "wait" and running:
                state.note_wait(True)
                running, suspended = running - 1, suspended + 1
            elif act == "resume" and suspended:
                state.note_wait(False)
                running, suspended = running + 1, suspended - 1
            elif act == "end" and running:
                state.end(0.1, True, now)
                running -= 1

            assert (state.running, state.suspended) == (granted + running, suspended)
            assert (state.due_at(now) == math.inf) == (granted + running >= most)
            assert state.is_new(now) <= (not granted and not running and not suspended)
        for n, later in enumerate(begins):
            assert all(n - m + 1 <= 4 * (later - begins[m]) + 3 + 1e-9 for m in range(n))


def test_an_attempt_whose_wait_is_over_counts_also_beyond_the_limit() -> None:
    """Case 29. Its outer attempt goes on; no other one begins until both have ended."""
    state = ThrottleState(Throttle(concurrency=1))
    for _ in range(2):
        state.grant()
        state.begin(0.0)
        state.note_wait(True)
    state.note_wait(False)
    state.note_wait(False)

    assert state.running == 2
    assert state.due_at(0.0) == math.inf
    state.end(1.0, True, 0.0)
    assert state.due_at(0.0) == math.inf
    state.end(1.0, True, 0.0)
    assert state.is_new(0.0)


def test_an_attempt_that_nothing_keeps_back_counts() -> None:
    """Case 33. After `lower` or `warn` it runs beyond the limits; the others wait for it."""
    state = ThrottleState(Throttle(concurrency=1, rate=10, burst=1))
    for _ in range(3):
        state.grant()
        state.begin(5.0)
    assert state.due_at(5.0) == math.inf
    for _ in range(3):
        state.end(0.0, True, 5.0)

    assert state.due_at(5.0) == 5.1


@pytest.mark.parametrize("good", [False, True])
def test_an_adaptive_limit_grows_by_one_when_all_of_it_did_well_and_falls_by_a_tenth(good: bool) -> None:
    """It starts at 20; slow and bad ones lower it at most once in 50 ms."""
    state = ThrottleState(ADAPTIVE)
    for _ in range(20):
        state.grant()
    assert state.due_at(0.0) == math.inf
    state.end(0.05, True, 0.0)
    assert state.limit == 20 + 1 / 20
    state.limit = 20.0
    seconds = 0.06 if good else 0.01
    for now, expected in ((1.0, 18.0), (1.049, 18.0), (1.0625, 16.2)):
        state.end(seconds, good, now)
        assert state.limit == pytest.approx(expected)


def test_an_adaptive_limit_stays_between_2_and_500() -> None:
    """Whatever happens."""
    state = ThrottleState(ADAPTIVE)
    state.running = 10**6
    for now in range(100):
        state.end(1.0, True, float(now))
    assert state.limit == 2.0
    for _ in range(130_000):
        state.end(0.01, True, 100.0)
    assert state.limit == 500.0


def test_an_adaptive_limit_learns_only_while_half_of_it_is_used_and_from_what_counts() -> None:
    """A quiet hour does not raise it, and a cancelled attempt says nothing."""
    state = ThrottleState(ADAPTIVE)
    for _ in range(9):
        state.grant()
    state.end(0.01, True, 0.0)
    state.end(1.0, False, 1.0)
    assert state.limit == 20.0
    for _ in range(3):
        state.grant()
    state.end(1.0, None, 2.0)
    assert state.limit == 20.0
    state.grant()
    state.end(0.01, True, 2.0)
    assert state.limit > 20.0


def test_an_adaptive_limit_holds_its_goodput_and_comes_back_from_a_slow_minute() -> None:
    """Case 31. A backend of ten slots of 10 ms, always asked for more; for a minute each takes a second."""
    state, now = ThrottleState(ADAPTIVE), 0.0
    free, running = [0.0] * 10, []  # [when a slot gets free], [(end, begin)]
    good = [0] * 70  # attempts that ended in each second, after at most 100 ms
    while now < 68:
        while state.due_at(now) <= now:
            state.grant()
            state.begin(now)
            ends = max(heapq.heappop(free), now) + (1.0 if 4 <= now < 64 else 0.01)
            heapq.heappush(free, ends)
            heapq.heappush(running, (ends, now))
        now, began = heapq.heappop(running)
        state.end(now - began, True, now)
        good[int(now)] += now - began <= 0.1

    assert all(count >= 900 for count in good[1:4]), good
    assert state.limit < 100
    assert all(count >= 900 for count in good[66:68]), good


def test_other_limits_keep_what_is_used_and_what_was_learned() -> None:
    """Cases 35 and 61. A lower concurrency takes hold as attempts end; a higher one at once."""
    state = ThrottleState(Throttle(concurrency=3, rate=10, burst=5))
    for _ in range(3):
        state.grant()
        state.begin(0.0)
    state.change(Throttle(concurrency=2, rate=10, burst=5), 0.0)
    state.end(0.1, True, 0.0)
    assert state.due_at(0.0) == math.inf
    state.change(Throttle(concurrency=3, rate=10, burst=3), 0.0)  # of two that are left, two stay
    assert state.due_at(0.0) <= 0.0
    state.change(Throttle(concurrency=3, rate=5, burst=1), 0.0)
    assert state.due_at(0.0) <= 0.0
    state.grant()
    state.begin(0.0)
    state.end(0.1, True, 0.0)
    state.change(Throttle(concurrency=3, rate=4, burst=9), 0.0)
    assert state.due_at(0.0) == 0.25
    state.change(Throttle(concurrency=3), 0.0)
    assert state.due_at(0.0) <= 0.0
    state.change(Throttle(concurrency=3, rate=1), 0.0)  # from new: the one before is gone
    assert state.due_at(0.0) <= 0.0

    adaptive = ThrottleState(ADAPTIVE)
    adaptive.running, adaptive.limit = 20, 33.0
    adaptive.change(Throttle(concurrency="adaptive", slow=1), 0.0)
    assert (adaptive.limit, adaptive.running) == (33.0, 20)
    adaptive.change(Throttle(concurrency=20), 0.0)
    assert adaptive.due_at(0.0) == math.inf


def test_a_rate_that_comes_while_attempts_are_about_to_begin_counts_them() -> None:
    """Case 35. Grants of before are no reason to be off by one later."""
    state = ThrottleState(Throttle(concurrency=9))
    state.grant()
    state.grant()
    state.change(Throttle(concurrency=9, rate=1, burst=2), 0.0)
    assert state.due_at(0.0) == 1.0
    state.begin(0.0)
    state.give_back()

    assert state.due_at(0.0) == 0.0


def test_a_state_is_as_good_as_new_when_a_new_one_would_decide_alike() -> None:
    """Nothing runs or waits for another token, the burst is whole, and nothing was learned."""
    state = ThrottleState(Throttle(rate=10, burst=2))
    state.refused = 3
    assert state.is_new(0.0)
    state.grant()
    assert not state.is_new(0.0)
    state.begin(0.0)
    state.end(0.0, True, 0.0)
    assert not state.is_new(0.0625)
    assert state.is_new(0.1)
    learned = ThrottleState(ADAPTIVE)
    learned.limit = 21.0
    assert not learned.is_new(0.0)
