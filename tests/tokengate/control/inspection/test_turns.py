"""Turns: one piece of work at a time, and whose is next."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import pytest
import trio

from tokengate.control.inspection import _turns
from tokengate.control.inspection._turns import Job, Lane, Turns, next_turn, take_long

pytestmark = pytest.mark.trio


class Log:
    """Who had turns, in order."""

    def __init__(self, nursery: trio.Nursery) -> None:
        self.names: list[str] = []
        self._nursery = nursery

    def work(self, name: str, job: Job, turns: int, *, long: bool = False) -> None:
        """Have a task take turns for a job."""

        async def take() -> None:
            with job.at_work():
                if long:
                    take_long()
                for _ in range(turns):
                    await next_turn()
                    self.names.append(name)

        self._nursery.start_soon(take)

    def of(self, name: str) -> list[int]:
        """Return which turns somebody had."""
        return [at for at, who in enumerate(self.names) if who == name]


@pytest.fixture
def turns() -> Turns:
    return Turns()


@pytest.fixture
def log(nursery: trio.Nursery) -> Log:
    return Log(nursery)


async def test_there_is_one_turn_in_a_round_whoever_works(turns: Turns, log: Log, nursery: trio.Nursery) -> None:
    """So supervisors and timers on the same loop wait for one piece of work, and not for one of each client."""
    at_once: list[int] = []

    async def count_rounds() -> None:
        while True:
            before = len(log.names)
            await trio.lowlevel.checkpoint()
            at_once.append(len(log.names) - before)

    nursery.start_soon(count_rounds)
    for name in "abcdefgh":
        log.work(name, turns.lane().job(), 20)
    while len(log.names) < 160:
        await trio.lowlevel.checkpoint()
    nursery.cancel_scope.cancel()

    assert max(at_once) == 1
    assert sum(at_once) >= 150


async def test_clients_have_as_many_turns_however_many_questions_they_ask(turns: Turns, log: Log) -> None:
    """One with 32 questions in flight gets half of the turns beside one with a single question."""
    many, one = turns.lane(), turns.lane()
    for _ in range(32):
        log.work("many", many.job(), 50)
    log.work("one", one.job(), 50)
    while "one" not in log.names or len(log.of("one")) < 50:
        await trio.lowlevel.checkpoint()

    assert len(log.names) <= 105


async def test_who_comes_after_a_while_goes_first_until_it_has_had_as_many(turns: Turns, log: Log) -> None:
    """A short question does not wait for those who have worked for long."""
    for name in "abcd":
        log.work(name, turns.lane().job(), 10_000)
    while len(log.names) < 400:
        await trio.lowlevel.checkpoint()
    begun = len(log.names)
    log.work("new", turns.lane().job(), 50)
    while len(log.of("new")) < 50:
        await trio.lowlevel.checkpoint()

    assert len(log.names) - begun <= 75  # three of four turns


async def test_a_client_with_many_lanes_has_the_turns_of_one(turns: Turns, log: Log) -> None:
    """A process gets no more by connecting again and again."""
    for _ in range(9):
        log.work("many", turns.lane(client="process 7").job(), 100)
    log.work("one", turns.lane().job(), 50)
    while len(log.of("one")) < 50:
        await trio.lowlevel.checkpoint()

    assert len(log.names) <= 140  # half of three in four turns, and a tenth of the fourth


async def test_who_has_waited_longest_has_one_turn_in_four(turns: Turns, log: Log) -> None:
    """However many come that have had none yet: nobody waits for ever."""
    log.work("old", turns.lane().job(), 1_000)
    while len(log.names) < 500:
        await trio.lowlevel.checkpoint()
    for _ in range(100):
        log.work("new", turns.lane().job(), 3)
        log.work("new", turns.lane().job(), 3)
        for _ in range(4):
            await trio.lowlevel.checkpoint()
    while len(log.of("new")) < 600:
        await trio.lowlevel.checkpoint()
    last = log.of("new")[-1]

    assert len([at for at in log.of("old") if 500 <= at < last]) >= 2


async def test_only_the_latest_turns_count(turns: Turns, log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    """A client that asks now and then for a year is no worse off than a new one, and little is kept of any."""
    monkeypatch.setattr(_turns, "_LATEST", 100)
    log.work("old", turns.lane().job(), 300)
    while len(log.names) < 300:
        await trio.lowlevel.checkpoint()

    assert len(turns._latest) == sum(turns._had.values()) == 100


async def test_a_client_begins_each_question_and_goes_on_with_the_oldest(turns: Turns, log: Log) -> None:
    """A short one is answered beside a long one, and two long ones are not in the making at once."""
    lane = turns.lane()
    log.work("first", lane.job(), 50)
    log.work("second", lane.job(), 50)
    while len(log.names) < 100:
        await trio.lowlevel.checkpoint()
    later = "second" if log.names[-1] == "second" else "first"
    sooner = {"first": "second", "second": "first"}[later]

    assert log.of(later)[0] < 5
    assert log.of(later)[1] > log.of(sooner)[-2]


async def test_long_work_comes_after_short_work_and_goes_on(turns: Turns, log: Log) -> None:
    """Neither keeps the other out."""
    for name in "abcd":
        log.work("long", turns.lane().job(), 1_000, long=True)
        log.work(name, turns.lane().job(), 1_000)
    while len(log.names) < 800:
        await trio.lowlevel.checkpoint()
    had = Counter(log.names)

    assert 70 <= had["long"] <= 220
    assert all(130 <= had[name] <= 190 for name in "abcd")


async def test_a_closed_lane_has_no_turns_until_it_opens(turns: Turns, log: Log) -> None:
    """Others go on, and none of its turns is lost."""
    is_open = [False]
    shut = turns.lane(lambda: is_open[0])
    log.work("shut", shut.job(), 3)
    log.work("other", turns.lane().job(), 3)
    await trio.testing.wait_all_tasks_blocked()
    before = list(log.names)
    is_open[0] = True
    turns.look()
    await trio.testing.wait_all_tasks_blocked()

    assert before == ["other"] * 3
    assert log.names[3:] == ["shut"] * 3


@pytest.mark.parametrize("make", [lambda turns: turns.lane(), lambda turns: turns.lane(lambda: False)])
async def test_a_wait_for_a_turn_that_is_cancelled_leaves_nothing(turns: Turns, make: Callable[[Turns], Lane]) -> None:
    """In the next round, and in a lane that is closed."""
    lane = make(turns)
    other = turns.lane().job()

    async def wait() -> None:
        await lane.job().turn()

    async with trio.open_nursery() as nursery:
        await other.turn()
        for _ in range(10):
            nursery.start_soon(wait)
        nursery.cancel_scope.cancel()
    await trio.testing.wait_all_tasks_blocked()

    assert not lane.waiting
    assert not turns._lanes
    assert not turns._giving


async def test_work_without_a_job_is_a_checkpoint() -> None:
    """Code that takes turns can be called from anywhere."""
    others = 0

    async def other() -> None:
        nonlocal others
        others += 1

    async with trio.open_nursery() as nursery:
        nursery.start_soon(other)
        take_long()
        for _ in range(2):  # tasks of one round run in any order
            await next_turn()
        assert others == 1
