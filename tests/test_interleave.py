"""The stage itself: it finds races that the GIL hides, it finds deadlocks, and its schedules come from the seed."""

from __future__ import annotations

import contextlib
import random
import re
import threading
from collections import deque
from collections.abc import Callable
from typing import Any

import pytest
from interleave import Deadlock, Grain, Stage

GRAINS: list[Grain] = ["line", "call"]


class Counter:
    """Code under test: it loses updates."""

    def __init__(self) -> None:
        self.value = 0

    def add(self) -> None:
        self.value = sum((self.value, 1))


class Box:
    """Code under test: a put that does not look again after its append is stranded by a close."""

    def __init__(self) -> None:
        self.items: deque[int] = deque()
        self.closed = False

    def put(self, item: int) -> bool:
        if self.closed:
            return False
        self.items.append(abs(item))
        return True

    def close(self) -> list[int]:
        self.closed = True
        left = []
        while self.items:
            left.append(self.items.popleft())
        return left


class Guarded:
    """Code under test: two locks that are taken in either order."""

    def __init__(self) -> None:
        self.first = threading.Lock()
        self.second = threading.Lock()

    def forth(self) -> None:
        with self.first, self.second:
            pass

    def back(self) -> None:
        with self.second, self.first:
            pass

    def wait(self, timeout: float) -> bool:
        return self.first.acquire(timeout=timeout)


def stage(seed: int, grain: Grain = "line") -> Stage:
    return Stage(__name__, random.Random(seed), grain)


@pytest.mark.parametrize("grain", GRAINS)
def test_a_lost_update_is_found(grain: Grain) -> None:
    """A switch between a read and its write happens soon, in the middle of a line with the grain `call`."""
    sums = set()
    with stage(1, grain) as the_stage:
        for _ in range(50):
            counter = Counter()
            the_stage.run(counter.add, counter.add)
            sums.add(counter.value)

    # One line holds read and write, so only the finer grain comes between the two.
    assert sums == ({1, 2} if grain == "call" else {2})


@pytest.mark.parametrize("grain", GRAINS)
def test_a_put_that_is_stranded_by_a_close_is_found(grain: Grain) -> None:
    """What the GIL hides in millions of plain rounds shows in a few dozen."""
    stranded = 0
    with stage(2, grain) as the_stage:
        for _ in range(100):
            box = Box()
            accepted, left = the_stage.run(lambda box=box: box.put(1), box.close)
            stranded += accepted and not left

    assert stranded > 0


@pytest.mark.parametrize("grain", GRAINS)
def test_the_same_seed_draws_the_same_schedules(grain: Grain) -> None:
    """A failure can be had again."""

    def outcomes(seed: int) -> list[Any]:
        found = []
        with stage(seed, grain) as the_stage:
            for _ in range(20):
                box = Box()
                found.append(the_stage.run(lambda box=box: [box.put(n) for n in range(5)], box.close))
        return found

    outcomes(0)  # with the grain `call`, 3.12 and later see code that they meet for the first time more coarsely

    assert outcomes(3) == outcomes(3)
    assert outcomes(3) != outcomes(4)


def test_locks_taken_in_either_order_are_a_deadlock_that_says_where() -> None:
    """Nobody waits for patience to run out; the error names the lines where the threads stand."""
    errors = []
    with stage(5, "call") as the_stage:
        for _ in range(100):
            guarded = Guarded()
            try:
                the_stage.run(guarded.forth, guarded.back)
            except Deadlock as error:
                errors.append(str(error))

    assert errors
    assert re.search(r"thread 0: test_interleave.py:\d+ in Guarded.forth\n", errors[0])


def test_a_timeout_runs_out_only_when_nobody_can_go_on() -> None:
    """Time does not pass on the stage, however long the others take."""
    with stage(6) as the_stage:
        for _ in range(30):
            guarded = Guarded()
            guarded.first.acquire()

            def release(guarded: Guarded = guarded) -> None:
                for _ in range(20):
                    guarded.second.locked()
                guarded.first.release()

            assert the_stage.run(lambda g=guarded: g.wait(0.001), release) == [True, None]
        assert the_stage.run(lambda g=guarded: g.wait(1_000_000)) == [False]


def test_threads_that_wait_for_each_other_in_a_loop_are_reported() -> None:
    """A loop that looks and never blocks is no less a deadlock."""

    class Never:
        come = False

        def wait(self) -> None:
            while not self.come:
                pass

    with stage(7) as the_stage, pytest.raises(Deadlock, match="do not come to an end"):
        the_stage.run(Never().wait, Never().wait)


def test_what_a_function_raises_comes_out_with_the_latest_switches() -> None:
    """The note says who went on where."""

    def fail() -> None:
        Box().close()
        raise ValueError("no")

    with stage(8) as the_stage, pytest.raises(ValueError, match="no") as caught:
        the_stage.run(fail, Box().close)

    assert any("the latest switches" in note for note in caught.value.__notes__)


def test_servants_serve_until_nobody_needs_them() -> None:
    """A worker that waits for more work does not keep the run from ending, and finishes what it has."""
    with stage(9) as the_stage:
        for _ in range(20):
            work, done = deque[int](), []
            there = the_stage.lock()
            there.acquire()

            def serve(work: Any = work, done: Any = done, there: Any = there) -> None:
                while True:
                    there.acquire()
                    while work:
                        done.append(work.popleft())

            def ask(number: int, work: Any = work, there: Any = there) -> None:
                work.append(number)
                with contextlib.suppress(RuntimeError):  # another one has
                    there.release()

            functions: list[Callable[[], None]] = [lambda n=n, ask=ask: ask(n) for n in range(3)]
            the_stage.run(*functions, servants=[serve])

            assert sorted(done) == [0, 1, 2]


def test_the_stage_is_cleared_afterwards() -> None:
    """The code under test has its own locks back."""
    with stage(10):
        pass

    assert type(Guarded().first) is type(threading.Lock())
