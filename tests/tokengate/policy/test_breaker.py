"""Whether attempts may begin: what opens a breaker, what closes it, and which ends count."""

from __future__ import annotations

import math
from collections.abc import Callable
from random import Random
from typing import Literal

import attrs
import pytest

from actors import WorkerDied
from tokengate.policy._attempt import End
from tokengate.policy._breaker import BreakerState, Permit, is_good
from tokengate.policy._policy import Breaker, Retry

POLICY = Breaker(window=30, minimum=20, failure_rate=0.5, open_for=30)


def begun(state: BreakerState, now: float) -> Permit:
    """Begin an attempt that is not refused."""
    permit = state.begin(now)
    assert permit is not None
    return permit


def attempt(state: BreakerState, now: float, good: bool | None) -> None:
    """Run an attempt that takes no time."""
    state.end(begun(state, now), good, now)


def opened(policy: Breaker = POLICY, at: float = 0.0) -> BreakerState:
    """Return a breaker that has opened."""
    state = BreakerState(policy)
    for _ in range(policy.minimum):
        attempt(state, at, False)
    assert state.state == "open"
    return state


# What an end says


@pytest.mark.parametrize(
    ("end", "error", "good"),
    [
        (End.COMPLETED, None, True),
        (End.FAILED, ConnectionResetError(), False),
        (End.FAILED, ValueError(), True),
        (End.CRASHED, ValueError(), True),
        (End.CRASHED, ConnectionError(), False),
        (End.LOST, WorkerDied("killed"), True),
        (End.TIMED_OUT, TimeoutError(), False),
        (End.EXPIRED, TimeoutError(), False),
        (End.LEFT_BEHIND, TimeoutError(), False),
        (End.STOPPED, ConnectionError(), None),
    ],
)
def test_bad_are_named_errors_and_missed_times(end: End, error: Exception | None, good: bool | None) -> None:
    """Another error is good, since the other side has answered; what was cancelled does not count."""
    for breaker, retry in (
        (Breaker(on=(ConnectionError,)), None),
        (Breaker(on=(ConnectionError,)), Retry(on=(ValueError,))),
        (Breaker(), Retry(on=(ConnectionError,))),
    ):
        assert good is is_good(breaker, retry, end, error, 1.0)


@pytest.mark.parametrize("error", [ValueError(), WorkerDied("killed"), SystemExit()])
def test_without_names_all_errors_are_bad(error: BaseException) -> None:
    """Neither the breaker nor a retry names any."""
    assert is_good(Breaker(), None, End.FAILED, error, 1.0) is False


def test_what_ran_longer_than_slow_is_bad() -> None:
    """Case 21. Completed or with another error; not if it was cancelled."""
    slow = Breaker(slow=2, on=(ConnectionError,))
    found = [is_good(slow, None, end, ValueError(), 2.1) for end in (End.COMPLETED, End.FAILED, End.STOPPED)]

    assert found == [False, False, None]
    assert is_good(slow, None, End.COMPLETED, None, 2.0)


# Closed


def test_it_opens_at_the_minimum_and_the_rate() -> None:
    """Case 21. With one attempt less, or one bad one less, it stays closed."""
    state = BreakerState(POLICY)
    states = []
    for number in range(20):
        attempt(state, number, number % 2 == 0)
        states.append(state.state)
    fewer = BreakerState(POLICY)
    for number in range(99):
        attempt(fewer, 0, number < 50)

    assert states == [*["closed"] * 19, "open"]
    assert fewer.state == "closed"
    assert fewer.counts(0) == (99, 49)


@pytest.mark.parametrize(("rate", "bad", "of"), [(0.1, 3, 30), (0.3, 6, 20), (0.7, 70, 100), (1, 20, 20)])
def test_a_rate_is_met_exactly(rate: float, bad: int, of: int) -> None:
    """3 of 30 are a rate of 0.1, whatever floats make of it."""
    state = BreakerState(Breaker(failure_rate=rate, minimum=of))
    for number in range(of):
        attempt(state, 0, number < of - bad)

    assert state.state == "open"


def test_old_attempts_leave_the_window() -> None:
    """Case 21. What ended longer ago than the window says nothing any more; what ended within its last bucket may."""
    state = BreakerState(POLICY)
    for _ in range(19):
        attempt(state, 0, False)
    before = state.counts(29.9)
    attempt(state, 30, False)

    assert before == (19, 19)
    assert state.counts(30) == (1, 1)
    assert state.state == "closed"


def test_good_and_bad_attempts_leave_the_window_together() -> None:
    """Case 21. The rate is that of the attempts that count: a bad one never outlives the good ones of its bucket."""
    state = BreakerState(attrs.evolve(POLICY, minimum=10))
    for number in range(9):
        attempt(state, number * 0.3, number < 5)
    before, after = state.counts(29.9), state.counts(30)

    assert (before, after) == ((9, 4), (0, 0))


def test_what_is_cancelled_does_not_count() -> None:
    """A hundred cancelled attempts are none."""
    state = BreakerState(POLICY)
    for _ in range(100):
        attempt(state, 0, None)

    assert state.is_new(0)


# Open and half open


def test_an_open_one_refuses_until_its_time() -> None:
    """The error can say in how many seconds to come back."""
    state = opened()
    refused = [state.begin(now) for now in (0, 29.9)]

    assert refused == [None, None]
    assert state.retry_after(10) == 20.0
    assert state.begin(30) is not None


def test_three_good_probes_close_it() -> None:
    """Three may begin, also one after the other; while they run and after them no other may."""
    state = opened()
    first, second = begun(state, 30), begun(state, 30)
    state.end(first, True, 31)
    third = begun(state, 31)
    refused = state.begin(31), state.retry_after(31)
    state.end(second, True, 32)
    still = state.state
    state.end(third, True, 32)

    assert refused == (None, None)
    assert still == "half_open"
    assert state.state == "closed"
    assert state.is_new(32)


def test_a_bad_probe_opens_it_for_twice_as_long_up_to_eight_times() -> None:
    """After it has closed, it begins with `open_for` again."""
    state = opened()
    now, times = 0.0, []
    for _ in range(6):
        times.append(state.until - now)
        now = state.until
        attempt(state, now, False)
    now = state.until
    for _ in range(3):
        attempt(state, now, True)
    for _ in range(20):
        attempt(state, now, False)

    assert times == [30, 60, 120, 240, 240, 240]
    assert state.until - now == 30


def test_a_probe_that_does_not_count_gives_its_permit_back() -> None:
    """Case 23. A thousand cancelled probes neither close nor block it."""
    state = opened()
    for _ in range(1_000):
        permits = [begun(state, 30) for _ in range(3)]
        assert state.begin(30) is None
        for permit in permits:
            state.end(permit, None, 30)

    assert state.state == "half_open"
    assert state.running == 0


@pytest.mark.parametrize("good", [True, False, None])
def test_a_probe_that_hangs_is_bad(good: bool | None) -> None:
    """Case 23. It is bad as soon as it runs longer than `open_for`; how it ends later says nothing."""
    state = opened()
    hung = begun(state, 40)
    attempt(state, 41, True)
    at_70, after_70 = (state.look(70), state.state), (state.look(70.1), state.state)
    until = state.until
    state.end(hung, good, 80)

    assert at_70 == (None, "half_open")
    assert after_70 == (None, "open")
    assert until == state.until == 70 + 60
    assert state.state == "open"


def test_a_probe_that_hung_is_found_late() -> None:
    """Case 23. If nothing has looked meanwhile, it was open from when the probe hung, and has become half open."""
    state = opened()
    begun(state, 40)
    permits = [state.begin(10_000) for _ in range(4)]

    assert [permit is not None for permit in permits] == [True, True, True, False]
    assert state.running == 4


# What began before the last change


def test_late_results_do_not_count() -> None:
    """Case 24. Attempts that began before it opened neither open nor close it, however they end, and whenever."""
    state = BreakerState(POLICY)
    late = [begun(state, 0) for _ in range(60)]
    for _ in range(20):
        attempt(state, 1, False)
    for permit in late[:20]:
        state.end(permit, True, 2)
    while_open = state.state
    probes = [begun(state, 31) for _ in range(3)]
    for permit in late[20:40]:
        state.end(permit, False, 32)
    while_half_open = state.state
    for permit in probes:
        state.end(permit, True, 33)
    for permit in late[40:]:
        state.end(permit, False, 34)

    assert (while_open, while_half_open, state.state) == ("open", "half_open", "closed")
    assert state.is_new(34)


# Held by operators


def test_it_is_held_open_until_it_is_released() -> None:
    """Case 26. For as long as it takes; then three attempts probe."""
    state = BreakerState(POLICY)
    state.hold("open")
    refused = [state.begin(now) for now in (0, 1e9)]
    known = state.retry_after(0)
    state.release()

    assert refused == [None, None]
    assert known is None
    assert [state.begin(1e9) is not None for _ in range(4)] == [True, True, True, False]


def test_it_is_held_closed_until_it_is_released() -> None:
    """Case 26. Failures are counted, so that operators see them, and open it only if they begin afterwards."""
    state = opened()
    state.hold("closed")
    for _ in range(50):
        attempt(state, 1, False)
    held = state.state, state.counts(1), state.is_new(100)
    late = [begun(state, 1) for _ in range(20)]
    state.release()
    for permit in late:
        state.end(permit, False, 2)
    released = state.state, state.is_new(2)
    for _ in range(20):
        attempt(state, 3, False)

    assert held == ("closed", (50, 50), False)
    assert released == ("closed", True)
    assert state.state == "open"


def test_a_release_of_what_is_not_held_changes_nothing() -> None:
    """Neither its time nor its counts."""
    state, closed = opened(), BreakerState(POLICY)
    attempt(closed, 0, False)
    for one in (state, closed):
        one.release()

    assert (state.state, state.until) == ("open", 30)
    assert closed.counts(0) == (1, 1)


def test_a_reset_one_is_as_good_as_new() -> None:
    """Held, open or half open; the next time to be open is the shortest."""
    found = []
    for state in (opened(), opened(), BreakerState(POLICY)):
        attempt(state, 30, False) if state.state == "open" else state.hold("open")
        state.reset()
        found.append(state.is_new(31))
        for _ in range(20):
            attempt(state, 31, False)
        found.append(state.until)

    assert found == [True, 61] * 3


def test_each_change_has_a_number() -> None:
    """So that what calls it can tell that there is something to publish."""
    state = BreakerState(attrs.evolve(POLICY, minimum=1))
    seen = [(state.changes, state.state)]
    for now in (0, 30, 90, 90, 90):
        attempt(state, now, now == 90)
        seen.append((state.changes, state.state))

    assert seen == [(0, "closed"), (1, "open"), (3, "open"), (4, "half_open"), (4, "half_open"), (5, "closed")]


# What may be forgotten, and live edits


def test_it_is_as_good_as_new_when_nothing_of_the_past_matters() -> None:
    """Nothing counts, nothing runs, no operator holds it, and it is closed."""
    state = BreakerState(POLICY)
    permit = begun(state, 0)
    running = state.is_new(0)
    state.end(permit, True, 1)
    counted = state.is_new(30.9)

    assert (running, counted, state.is_new(31)) == (False, False, True)
    assert not opened().is_new(1e9)


def test_another_policy_keeps_state_and_counts() -> None:
    """It holds from the next decision."""
    state = BreakerState(POLICY)
    for _ in range(10):
        attempt(state, 0, False)
    state.change(attrs.evolve(POLICY, window=5, minimum=11), 0.0)
    kept = state.counts(4)
    attempt(state, 4, True)
    opened_state = opened()
    opened_state.change(attrs.evolve(POLICY, open_for=1), 0.0)

    assert kept == (10, 10)
    assert state.state == "open"
    assert opened_state.until == 30


# An independent model


@attrs.define(eq=False)
class Attempt:
    """An attempt of the model: in which spell it began, and how it ended."""

    spell: int
    began: float
    ended: float | None = None
    good: bool | None = None


@attrs.define
class Spell:
    """A time without a change."""

    state: str
    until: float = math.inf
    times: int = 0


class Model:
    """A breaker that keeps all attempts and all spells, and looks through them for each answer."""

    def __init__(self, policy: Breaker) -> None:
        self.policy = policy
        self.spells = [Spell("closed")]
        self.attempts: list[Attempt] = []
        self.held = False

    def state(self, now: float) -> str:
        while True:
            spell = self.spells[-1]
            hung = min((one.began for one in self.own() if one.ended is None), default=math.inf) + self.policy.open_for
            if spell.state == "open" and spell.until <= now:
                self.spells.append(Spell("half_open", times=spell.times))
            elif spell.state == "half_open" and hung < now:
                self.open(hung)
            else:
                return spell.state

    def own(self) -> list[Attempt]:
        return [one for one in self.attempts if one.spell == len(self.spells)]

    def open(self, now: float) -> None:
        times = {0: 1, 1: 2, 2: 4, 4: 8, 8: 8}[self.spells[-1].times]
        self.spells.append(Spell("open", now + times * self.policy.open_for, times))

    def begin(self, now: float) -> Attempt | None:
        state = self.state(now)
        taken = [one for one in self.own() if one.ended is None or one.good]
        if state == "open" or (state == "half_open" and len(taken) >= 3):
            return None
        self.attempts.append(Attempt(len(self.spells), now))
        return self.attempts[-1]

    def counts(self, now: float) -> list[bool]:
        """Return those that count, by buckets that begin with their first attempt."""
        found, start = [], -math.inf
        for one in sorted((o for o in self.own() if o.good is not None), key=lambda o: o.ended or 0.0):
            assert one.ended is not None
            if one.ended >= start + self.policy.window / 10:
                start = one.ended
            if start > now - self.policy.window:
                found.append(bool(one.good))
        return found

    def end(self, one: Attempt, good: bool | None, now: float) -> None:
        state = self.state(now)
        one.ended, one.good = now, good
        if one.spell != len(self.spells) or good is None:
            return
        counts = self.counts(now)
        if state == "half_open":
            if not good:
                self.open(now)
            elif sum(bool(probe.good) for probe in self.own()) == 3:
                self.spells.append(Spell("closed"))
        elif not self.held and self.is_bad(counts):
            self.open(now)

    def is_bad(self, counts: list[bool]) -> bool:
        rate = counts.count(False) / len(counts)
        return len(counts) >= self.policy.minimum and rate >= self.policy.failure_rate

    def hold(self, state: Literal["open", "closed"] | None, now: float) -> None:
        last = self.spells[-1]
        if state is not None:
            self.spells.append(Spell(state, times=last.times if state == "open" else 0))
        elif self.held:
            after = "closed" if last.state == "closed" else "half_open"
            self.spells.append(Spell(after, times=last.times))
        self.held = state is not None


def test_any_schedule_is_decided_as_by_all_of_its_past(seed: int, rounds: Callable[[int], int]) -> None:
    """Cases 21 to 26. Refusals, states, counts and times are those of a model that forgets nothing."""
    random = Random(seed)
    seen = set()
    for _ in range(rounds(60)):
        policy = Breaker(
            window=random.choice([5, 20, 1_000]),
            minimum=random.choice([1, 3, 8]),
            failure_rate=random.choice([0.2, 0.5, 1]),
            open_for=random.choice([1, 6, 40]),
        )
        state, model = BreakerState(policy), Model(policy)
        running: list[tuple[Permit, Attempt]] = []
        now, badness = 0.0, random.random()
        for _ in range(150):
            now += random.choice([0, 0, 0.25, 1, random.choice([1, 1, 7, 50])])
            drawn = random.random()
            if drawn < 0.02:
                held: Literal["open", "closed"] = random.choice(["open", "closed"])
                state.hold(held)
                model.hold(held, now)
            elif drawn < 0.06:
                state.release()
                model.hold(None, now)
            elif drawn < 0.5 or not running:
                permit, begun_one = state.begin(now), model.begin(now)
                assert (permit is None) == (begun_one is None)
                if permit is not None and begun_one is not None:
                    running.append((permit, begun_one))
            else:
                permit, one = running.pop(random.randrange(len(running)))
                good = None if random.random() < 0.1 else random.random() > badness
                state.end(permit, good, now)
                model.end(one, good, now)
            state.look(now)
            counts = model.counts(now) if model.state(now) == "closed" else []

            assert model.state(now) == state.state
            assert model.spells[-1].until == state.until
            assert len(model.spells) == state.changes + 1
            assert (len(counts), counts.count(False)) == state.counts(now)
            assert len(running) == state.running
            seen.add((state.state, state.held, model.spells[-1].times))

    assert {("open", False, 4), ("half_open", False, 2), ("closed", False, 0), ("closed", True, 0)} <= seen
