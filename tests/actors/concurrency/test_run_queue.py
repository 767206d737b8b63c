"""The queue from which dispatchers take runnables: no item is lost, and no thread sleeps while there is one."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Iterator

import pytest
from interleave import Grain, Stage, StageLock

from actors.concurrency._run_queue import RunQueue, look_around

LIMIT = 30.0


@pytest.fixture
def chance(seed: int) -> random.Random:
    return random.Random(seed)


@pytest.fixture(params=["line", "call"])
def stage(request: pytest.FixtureRequest, chance: random.Random, monkeypatch: pytest.MonkeyPatch) -> Iterator[Stage]:
    grain: Grain = request.param
    monkeypatch.setattr(
        "actors.concurrency._run_queue._LOOKING", 0.0
    )  # one look: how many there are is up to the clock
    with Stage("actors.concurrency._run_queue", chance, grain) as made:
        yield made


def test_items_come_in_the_order_in_which_they_were_put() -> None:
    """First in, first out; what is there is taken without waiting."""
    queue: RunQueue[int] = RunQueue()
    for item in range(5):
        queue.put(item)

    assert len(queue) == 5
    assert [queue.take() for _ in range(5)] == [0, 1, 2, 3, 4]
    assert len(queue) == 0


def test_a_take_that_times_out_returns_none_and_leaves_nobody_behind() -> None:
    """Later items find no sleeper that has gone."""
    queue: RunQueue[int] = RunQueue()

    assert queue.take(0.0) is None
    queue.put(1)
    assert queue.take(0.0) == 1


def test_a_sleeper_is_woken_by_an_item() -> None:
    """Each of two threads that wait for good gets one."""
    queue: RunQueue[int] = RunQueue()
    got: list[int | None] = []
    threads = [threading.Thread(target=lambda: got.append(queue.take())) for _ in range(2)]
    for thread in threads:
        thread.start()
    for item in (1, 2):
        queue.put(item)
    for thread in threads:
        thread.join(LIMIT)

    assert sorted(got, key=str) == [1, 2]


def test_looking_around_ends_with_the_first_yes_and_after_a_moment_without_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """It says what it saw last."""
    answers = iter([False, False, True])

    assert not look_around(lambda: False)
    monkeypatch.setattr("actors.concurrency._run_queue._LOOKING", 60.0)  # the machine may be busy
    assert look_around(lambda: next(answers))


def test_a_thread_that_runs_out_of_work_spins_only_after_a_burst(monkeypatch: pytest.MonkeyPatch) -> None:
    """After a single item it lets others run once."""
    queue: RunQueue[int] = RunQueue()
    passes: list[None] = []

    def pass_to_others() -> None:
        passes.append(None)
        if len(passes) == 4:
            queue.put(9)

    monkeypatch.setattr("actors.concurrency._run_queue._pass", pass_to_others)
    monkeypatch.setattr("actors.concurrency._run_queue._LOOKING", 60.0)  # the machine may be busy

    queue.put(1)
    assert [queue.take(), queue.take(0.0)] == [1, None]
    assert len(passes) == 1

    queue.put(2)
    queue.put(3)
    assert [queue.take(), queue.take(), queue.take(0.0)] == [2, 3, 9]
    assert len(passes) == 4


def test_every_item_is_taken_once_whoever_sleeps_when_it_comes(
    stage: Stage, chance: random.Random, rounds: Callable[[int], int]
) -> None:
    """Some put, some take for good, one may leave when it has waited in vain: at the end, nothing is left.

    Few items for few threads find most: the next item wakes those whom the last one has missed.
    """
    for _ in range(rounds(200)):
        queue: RunQueue[int] = RunQueue()
        got: list[int] = []
        batches = [range(10 * n, 10 * n + chance.randint(1, 2)) for n in range(chance.randint(1, 2))]

        def put(batch: range, queue: RunQueue[int] = queue) -> None:
            for item in batch:
                queue.put(item)

        def take(queue: RunQueue[int] = queue, got: list[int] = got) -> None:
            while True:
                item = queue.take()
                if item is not None:
                    got.append(item)

        def take_for_a_while(queue: RunQueue[int] = queue, got: list[int] = got) -> None:
            while (item := queue.take(1.0)) is not None:
                got.append(item)

        actors = [lambda batch=batch: put(batch) for batch in batches]
        if chance.random() < 0.3:
            actors.append(take_for_a_while)
        stage.run(*actors, servants=[take] * chance.randint(1, 2))

        assert sorted(got) == [item for batch in batches for item in batch]
        assert len(queue) == 0


def test_a_second_item_finds_a_second_thread_while_the_first_is_worked_on(
    stage: Stage, rounds: Callable[[int], int]
) -> None:
    """The two who took must meet before either comes back for more."""
    for _ in range(rounds(200)):
        queue: RunQueue[int] = RunQueue()
        met = [stage.lock() for _ in range(2)]
        for lock in met:
            lock.acquire()

        def put(queue: RunQueue[int] = queue) -> None:
            queue.put(0)
            queue.put(1)

        def take_and_meet(queue: RunQueue[int] = queue, met: list[StageLock] = met) -> None:
            while (item := queue.take()) is None:
                pass
            met[1 - item].release()
            met[item].acquire()

        stage.run(put, take_and_meet, take_and_meet)
