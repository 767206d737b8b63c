"""Which tokens are shed at their turn: those of a priority whose waits have been too long for some time."""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Callable
from random import Random
from typing import cast

import pytest

from actors.lowlevel import place_of
from tokengate import Gate, Policy, Retry, token
from tokengate.policy._governor import PlaceGovernor
from tokengate.policy._shedding import Shedding

SHED = 0.05


def test_tokens_are_shed_when_all_of_a_window_waited_too_long() -> None:
    """The first ones of long waits run; so does all that waited no longer than `shed`, and what follows it at first."""
    shedding = Shedding(1.0)
    waits = {0: 1.5, 1: 1.1, 2: 1.2, 3: 3.0, 4: 1.0, 5: 1.5, 6: 1.5, 7: 1.5}
    judged = [shedding.judge(0, wait, now) for now, wait in waits.items()]

    assert judged == [False, False, True, True, False, False, False, True]


def test_a_stall_sheds_nothing() -> None:
    """Tokens that all had to wait for one stop of the machine begin, if they begin soon after it."""
    shedding = Shedding(SHED)
    judged = [shedding.judge(0, 3.0 + number / 1_000, 3.0 + number / 1_000) for number in range(99)]

    assert not any(judged)


def test_a_long_wait_of_some_other_day_starts_no_run() -> None:
    """A run is over when no token came for so long that all that waited then have left."""
    shedding = Shedding(SHED)
    judged = [shedding.judge(0, 0.06, now) for now in (0.0, 3_600.0, 3_600.09, 3_600.11)]

    assert judged == [False, False, False, True]


def test_priorities_are_judged_apart() -> None:
    """Case 40. Short waits of a high priority say nothing of a low one."""
    shedding = Shedding(SHED)
    judged = [(shedding.judge(1, 0.01, now), shedding.judge(0, 0.2, now)) for now in (0.0, 0.05, 0.11, 0.2)]

    assert judged == [(False, False), (False, False), (False, True), (False, True)]
    assert (shedding.is_overloaded(1), shedding.is_overloaded(0)) == (False, True)


@pytest.mark.parametrize("shed", [0, float("inf")])
def test_it_can_be_off(shed: float) -> None:
    """0 is off; so is a twentieth of an endless deadline."""
    shedding = Shedding(shed)
    judged = [shedding.judge(0, 1e9, now) for now in range(100)]

    assert not any(judged)
    assert not shedding.is_overloaded(0)


def test_it_keeps_a_thousand_priorities_at_most() -> None:
    """Any int is a priority: of too many, the one that was quiet for longest is forgotten, and sheds later."""
    shedding = Shedding(1.0)
    for priority in range(5_000):
        shedding.judge(priority, 2.0, 0.0)
        shedding.judge(0, 2.0, 0.0)

    assert len(shedding.runs) == 1_000
    assert shedding.judge(0, 2.0, 2.0)
    assert not shedding.judge(1, 2.0, 2.0)


def long_for(tokens: list[tuple[int, int]], shed: int) -> int:
    """Return for how long the waits have been long, by looking back from the last one: the model."""
    now = came = tokens[-1][0]
    for before, wait in reversed(tokens):
        if wait <= shed or came - before > 20 * shed:
            break
        came = before
    return now - came


def test_drawn_waits_are_judged_as_the_whole_past_says(seed: int, rounds: Callable[[int], int]) -> None:
    """A token is shed if it waited too long, and all of the last `2 * shed` seconds did that came to their turn."""
    random = Random(seed)
    for _ in range(rounds(100)):
        shed, now = random.randint(1, 9), 0
        shedding = Shedding(shed)
        past: dict[int, list[tuple[int, int]]] = {0: [], 7: [], -3: []}
        for _ in range(200):
            now += random.choice([0, 1, 2, 2 * shed, random.choice([1, 1, 30 * shed])])
            priority, wait = random.choice([0, 0, 7, -3]), shed + random.choice([-1, 0, 1, 2, 3, 4, 5])
            past[priority].append((now, wait))
            judged = shedding.judge(priority, wait, now)

            assert judged == (wait > shed and long_for(past[priority], shed) >= 2 * shed)
            assert not judged or min(one for at, one in past[priority] if at > now - 2 * shed) > shed
            assert judged == shedding.is_overloaded(priority)


def on_time(random: Random, seconds: int, load: float, *, shed: float) -> tuple[float, float]:
    """Simulate ten slots of 10 ms, asked by callers that wait for a second, three of ten with a high priority.

    Returns:
        the share of high tokens that were on time; that of low ones, of the capacity that high ones have left.
    """
    shedding, slots = Shedding(shed), [0.0] * 10
    queue: list[tuple[int, float]] = []  # (negated priority, when it came)
    arrivals = [number / (1_000 * load) for number in range(int(seconds * 1_000 * load))]
    high, good, following = 0, {1: 0, 0: 0}, 0
    while following < len(arrivals) or queue:
        now = slots[0] if queue else max(slots[0], arrivals[following])
        while following < len(arrivals) and arrivals[following] <= now:
            priority = int(random.random() < 0.3)
            high += priority
            heapq.heappush(queue, (-priority, arrivals[following]))
            following += 1
        negated, came = heapq.heappop(queue)
        if now - came >= 1:
            continue  # expired in the queue
        if shedding.judge(-negated, now - came, now):
            assert now - came > shed
            continue
        heapq.heapreplace(slots, now + 0.01)
        good[-negated] += now + 0.01 - came <= 1
    return good[1] / high, good[0] / (1_000 * seconds - good[1])


def test_the_lowest_priority_is_shed_first_and_the_rest_is_on_time(seed: int) -> None:
    """Case 40. At double load high tokens are on time, and low ones use what is left; without it these are late."""
    with_it, without = (on_time(Random(seed), 4, 2, shed=shed) for shed in (SHED, 0))

    assert with_it[0] >= 0.99
    assert with_it[1] >= 0.75
    assert without[1] < 0.6


def test_a_key_that_takes_turns_is_shed_by_its_own_waits(seed: int) -> None:
    """Tokens of others that hardly wait do not keep a key that sends too much from being shed: it would be late."""
    random, slots = Random(seed), [0.0] * 10
    shedding = Shedding(SHED)
    queues: tuple[deque[float], deque[float]] = deque(), deque()
    good, turn, following = [0, 0], 0, 0
    arrivals = [(number / 4_000, int(random.random() < 0.9)) for number in range(8_000)]
    while following < len(arrivals) or any(queues):
        now = slots[0] if any(queues) else max(slots[0], arrivals[following][0])
        while following < len(arrivals) and arrivals[following][0] <= now:
            came, key = arrivals[following]
            queues[key].append(came)
            following += 1
        turn = 1 - turn if queues[1 - turn] else turn
        came = queues[turn].popleft()
        if now - came < 1 and not shedding.judge(0, now - came, now, turn):
            heapq.heapreplace(slots, now + 0.01)
            good[turn] += now + 0.01 - came <= 1

    assert good[0] == sum(not key for _, key in arrivals)
    assert sum(good) >= 0.9 * 2_000


def test_many_keys_that_send_little_are_shed_together() -> None:
    """None of them has waited for long with two tokens, but all of them have."""
    shedding = Shedding(SHED)
    judged = [shedding.judge(0, 0.2, number / 1_000, number) for number in range(200)]

    assert judged == [number >= 2 * SHED * 1_000 for number in range(200)]


def test_a_token_is_judged_once_an_attempt(monkeypatch: pytest.MonkeyPatch) -> None:
    """One that was let go after a delay was judged then: judged again as it begins, it would be a run by itself."""
    judged: list[float] = []
    monkeypatch.setattr(Shedding, "judge", lambda _self, _priority, wait, *_rest: bool(judged.append(wait)))

    @token(policy=Policy(deadline=600, retry=Retry(on=ConnectionError, attempts=4, wait=0.001)))
    def work() -> None:
        raise ConnectionError

    with Gate("judged", control_socket=False):
        first = work.submit()
        assert isinstance(first.exception(60), ConnectionError)
        cast("PlaceGovernor", place_of(first).governor).shedding.shed = 1e-9
        judged.clear()
        assert isinstance(work.submit().exception(60), ConnectionError)

    assert len(judged) == 4
