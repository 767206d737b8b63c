"""Which limit of a token is over first, and when, through delays, stopped clocks and extensions."""

from __future__ import annotations

import math
from collections.abc import Callable
from random import Random

import pytest

from tokengate.policy._policy import Policy
from tokengate.policy._times import Due, Phase, Times, grace


def test_a_token_without_limits_is_never_due() -> None:
    """Without times and without an inherited deadline there is nothing to be late for."""
    times = Times(Policy(), created_at=5.0)

    assert times.due() is None
    assert math.inf == times.deadline


def test_the_queue_timeout_is_due_while_an_attempt_waits() -> None:
    """Case 1. It counts from when the attempt began to wait, and no more once it runs."""
    times = Times(Policy(queue_timeout=2, timeout=5), created_at=10.0)
    waiting = times.due()
    times.enter("running", 11.0)

    assert Due(12.0, "queue_timeout", 2) == waiting
    assert Due(16.0, "timeout", 5) == times.due()


def test_neither_queue_timeout_nor_timeout_counts_in_a_delay() -> None:
    """A retry delay is neither waiting to begin nor running; the deadline goes on."""
    times = Times(Policy(queue_timeout=1, timeout=1, deadline=30), created_at=0.0)
    times.enter("running", 0.5)
    times.enter("delayed", 1.0)

    assert Due(30.0, "deadline", 30) == times.due()


def test_the_deadline_holds_over_attempts() -> None:
    """Case 4. It counts from the making of the token, whatever attempt it is at; each attempt has its own timeout."""
    times = Times(Policy(queue_timeout=2, timeout=5, deadline=12), created_at=0.0)
    found = []
    for start in (0.0, 6.0):
        times.enter("queued", start)
        found.append(times.due())
        times.enter("running", start + 1)
        found.append(times.due())

    assert found == [
        Due(2.0, "queue_timeout", 2),
        Due(6.0, "timeout", 5),
        Due(8.0, "queue_timeout", 2),
        Due(12.0, "deadline", 12),
    ]


def test_the_earlier_deadline_holds() -> None:
    """Case 5. An inherited deadline comes before a later own one; what it calls inherits the earlier of both."""
    later = Times(Policy(deadline=30), created_at=0.0, inherited=20.0)
    earlier = Times(Policy(deadline=10), created_at=0.0, inherited=20.0)

    assert Due(20.0, "inherited", 20.0) == later.due()
    assert Due(10.0, "deadline", 10) == earlier.due()
    assert (later.deadline, earlier.deadline) == (20.0, 10.0)


def test_a_deadline_of_inf_inherits_none() -> None:
    """Case 5. A token that says that it has all the time is not held to the deadline of the code that made it."""
    times = Times(Policy(deadline=math.inf, timeout=5), created_at=0.0, inherited=1.0)
    times.enter("running", 3.0)

    assert Due(8.0, "timeout", 5) == times.due()
    assert math.inf == times.deadline


def test_of_limits_that_end_together_the_deadline_is_named() -> None:
    """After a timeout there may be a retry, after a deadline there is none."""
    times = Times(Policy(queue_timeout=3, timeout=3, deadline=3), created_at=0.0, inherited=3.0)
    waiting = times.due()
    times.enter("running", 0.0)

    assert Due(3.0, "deadline", 3) == waiting == times.due()


def test_a_pause_counts_unless_it_stops_the_clock() -> None:
    """Case 6. Nothing is due while the clock stands, and all limits end later by the time that it stood."""
    times = Times(Policy(timeout=5, deadline=8), created_at=0.0, inherited=7.0)
    times.enter("running", 1.0)
    times.stop_clock(4.0)
    times.stop_clock(9.0)
    stopped = times.due()
    times.start_clock(104.0)
    times.start_clock(200.0)

    assert stopped is None
    assert Due(106.0, "timeout", 5) == times.due()
    assert times.deadline == 107.0


def test_a_phase_that_begins_while_the_clock_stands_has_its_whole_time() -> None:
    """Case 6. A delay may end while the token is paused: its queue timeout counts from when the clock goes on."""
    times = Times(Policy(queue_timeout=5), created_at=0.0)
    times.stop_clock(4.0)
    times.enter("queued", 9.0)
    times.start_clock(20.0)

    assert Due(25.0, "queue_timeout", 5) == times.due()


@pytest.mark.parametrize(("phase", "limit"), [("queued", 2.0), ("running", 5.0), ("delayed", 30.0)])
def test_extend_moves_all_limits(phase: Phase, limit: float) -> None:
    """Case 7. Whatever the phase, what would have been due is due so much later; the next phase has its usual time."""
    times = Times(Policy(queue_timeout=2, timeout=5, deadline=30), created_at=0.0)
    times.enter(phase, 0.0)
    times.extend(30.0)
    due = times.due()
    times.enter("running", 31.0)

    assert due is not None
    assert limit + 30 == due.at
    assert Due(36.0, "timeout", 5) == times.due()
    assert times.deadline == 60.0


def test_code_has_a_tenth_of_its_time_to_end() -> None:
    """The grace is a tenth of the time that it had, but 0.5 seconds at least and 10 at most."""
    graces = [grace(seconds) for seconds in (0.001, 5, 20, 99, 100, 1e9, math.inf)]

    assert graces == [0.5, 0.5, 2.0, 9.9, 10.0, 10.0, 10.0]


class Countdown:
    """A token whose limits are counted down, second by second: an independent model of `Times`."""

    def __init__(self, policy: Policy, inherited: float) -> None:
        self.policy = policy
        self.left: dict[str, float] = {"deadline": policy.deadline or math.inf, "inherited": inherited}
        if policy.deadline == math.inf:
            self.left["inherited"] = math.inf
        self.goes = True
        self.enter("queued")

    def enter(self, phase: Phase) -> None:
        self.left.pop("queue_timeout", None)
        self.left.pop("timeout", None)
        if phase == "queued":
            self.left["queue_timeout"] = self.policy.queue_timeout or math.inf
        elif phase == "running":
            self.left["timeout"] = self.policy.timeout or math.inf

    def pass_(self, seconds: int) -> None:
        for _ in range(seconds if self.goes else 0):
            self.left = {which: left - 1 for which, left in self.left.items()}

    def extend(self, seconds: int) -> None:
        self.left = {which: left + seconds for which, left in self.left.items()}


def drawn_limit(random: Random) -> int | None:
    return random.choice([None, random.randint(1, 60)])


def test_any_schedule_of_phases_and_stops_counts_as_seconds_do(seed: int, rounds: Callable[[int], int]) -> None:
    """What is due, and when, is what is left of a countdown that stands while the clock does."""
    random = Random(seed)
    for _ in range(rounds(200)):
        policy = Policy(
            queue_timeout=drawn_limit(random),
            timeout=drawn_limit(random),
            deadline=random.choice([math.inf, drawn_limit(random)]),
        )
        inherited = drawn_limit(random) or math.inf
        now = 1_000
        times, model = Times(policy, now, now + inherited), Countdown(policy, inherited)
        for _ in range(20):
            passed = random.randint(0, 9)
            now += passed
            model.pass_(passed)
            match random.randrange(4):
                case 0:
                    phase: Phase = random.choice(["queued", "running", "delayed"])
                    times.enter(phase, now)
                    model.enter(phase)
                case 1:
                    times.stop_clock(now)
                    model.goes = False
                case 2:
                    times.start_clock(now)
                    model.goes = True
                case 3:
                    times.extend(7)
                    model.extend(7)

            due, left = times.due(), min(model.left.values())
            if not model.goes or left == math.inf:
                assert due is None
            else:
                assert due is not None
                assert now + left == due.at
                assert left == model.left[due.which]
