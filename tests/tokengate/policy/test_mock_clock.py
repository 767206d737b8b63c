"""Policies of a gate on a mock clock, where all is trio: its loops are the test's own, and each time is exact."""

from __future__ import annotations

import functools
import math
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio
from tiers import TORTURE, in_ci
from trio.testing import MockClock

from tokengate import Breaker, Gate, Policy, Retry, Throttle, Token, TokenState, remaining, token
from tokengate.errors import BudgetExceeded, TokenExpired, TokenRejected
from tokengate.policy import Budget, spend
from tokengate.policy._policies import policies_of

LIMIT = 1_000.0  # seconds of the mock clock; only reached when something is broken


@asynccontextmanager
async def virtual(mock_clock: MockClock, limit: float = LIMIT) -> AsyncGenerator[Gate]:
    """Open a gate whose system loop and io loop are this one, with its clock, which jumps while the gate is open."""
    gate = Gate("virtual", control_socket=False)
    gate._new_system = functools.partial(
        gate._new_system, clock=trio.lowlevel.current_clock().current_time, blocked_after=None
    )
    gate._renew()
    mock_clock.jump(1_000.0)
    await gate._system.system_host.attach()
    async with gate:
        mock_clock.autojump_threshold = 0.0
        try:
            with trio.fail_after(limit):
                yield gate
        finally:  # a clock that jumps would not wait for the thread that closes
            mock_clock.autojump_threshold, mock_clock.rate = math.inf, 1.0


async def sleep(seconds: float = math.inf) -> float:
    """Sleep; return the time that is left."""
    await trio.sleep(seconds)
    left = remaining()
    return math.inf if left is None else left


async def outcome_of(one: Token[Any]) -> tuple[BaseException | None, float]:
    """Wait for the end of a token; return its error, and how many seconds after its submit it ended."""
    await one.wait()
    assert one.finished_at is not None
    return one.exception(), one.finished_at - one.created_at


@pytest.mark.trio
async def test_each_time_ends_a_token_at_its_second(mock_clock: MockClock) -> None:
    """Case 9. While it is queued, while it runs, whatever its attempt, and as it inherits it."""
    async with virtual(mock_clock):
        operation = token(policy=Policy(queue_timeout=20, timeout=50, deadline=60), concurrency=1)(sleep)

        @token(policy=Policy(deadline=30))
        async def outer() -> None:
            await sleeping.submit()

        sleeping = token(sleep)
        first, second, third = (operation.submit() for _ in range(3))
        inheriting = outer.submit()

        for one, which, seconds in (
            (first, "timeout", 50.0), (second, "queue_timeout", 20.0), (third, "queue_timeout", 20.0),
            (inheriting, "deadline", 30.0),
        ):  # fmt: skip
            error, ended = await outcome_of(one)
            assert isinstance(error, TokenExpired)
            assert (error.which, error.seconds, error.left_running) == (which, seconds, False)
            assert ended == pytest.approx(seconds)
            assert one.state is TokenState.EXPIRED
        assert await operation.submit(15) == pytest.approx(45)


@pytest.mark.trio
async def test_attempts_are_due_after_their_delays_and_before_the_deadline(mock_clock: MockClock) -> None:
    """Case 9. As `Retry.wait` says, and as the error asks for; what would be due too late does not follow."""
    async with virtual(mock_clock):
        began: list[float] = []

        async def fail() -> None:
            began.append(trio.current_time())
            error = ConnectionError("down")
            if len(began) == 3:
                error.retry_after = 100  # type: ignore[attr-defined]
            raise error

        retry = Retry(on=ConnectionError, attempts=9, wait=lambda _: 10.0 * len(began), max_wait=LIMIT)
        one = token(policy=Policy(deadline=160, retry=retry))(fail).submit()

        error, ended = await outcome_of(one)
        assert isinstance(error, ConnectionError)
        assert ended == pytest.approx(130)
        assert [at - one.created_at for at in began] == pytest.approx([0, 10, 30, 130])
        assert [attempt.delay for attempt in one.attempts] == [10, 20, 100, None]


@pytest.mark.trio
async def test_a_pause_an_extension_and_a_stopped_clock_move_the_end(mock_clock: MockClock) -> None:
    """Case 9. By as many seconds as they say."""
    async with virtual(mock_clock) as gate:
        operation = token(policy=Policy(timeout=50), concurrency=3)(sleep)
        extended, paused, stopped = (operation.submit() for _ in range(3))
        await trio.sleep(10)
        control = gate.control.aio
        await control.extend(extended.id, 5)
        await control.pause(paused.id, wait=0)
        await control.pause(stopped.id, wait=0, stop_clock=True)
        await trio.sleep(30)
        await control.resume([paused.id, stopped.id])

        assert [round((await outcome_of(one))[1]) for one in (extended, paused, stopped)] == [55, 50, 80]


@pytest.mark.trio
async def test_a_rate_and_its_burst_are_exact(mock_clock: MockClock) -> None:
    """Cases 9 and 32. Twenty at once, and then one each hundredth of a second."""
    async with virtual(mock_clock):
        began: list[float] = []

        async def note() -> None:
            began.append(trio.current_time())

        policy = Policy(throttle=Throttle(rate="100/s", burst=20))
        operation = token(policy=policy)(note)
        tokens = [operation.submit() for _ in range(120)]
        for one in tokens:
            await one

        first = tokens[0].created_at
        assert [at - first for at in began] == pytest.approx([0.0] * 20 + [n / 100 for n in range(1, 101)])


@pytest.mark.trio
async def test_a_breaker_is_open_for_its_time_and_a_budget_has_its_period(mock_clock: MockClock) -> None:
    """Case 9. Twice as long after a bad probe."""
    async with virtual(mock_clock):

        async def work(cost: float | None) -> None:
            if cost is None:
                raise ConnectionError("down")
            spend(cost)

        broken = token(policy=Policy(breaker=Breaker(minimum=1, open_for=10)))(work)
        refused: list[float] = []
        for bad in (None, None, None):
            assert isinstance((await outcome_of(broken.submit(bad)))[0], ConnectionError)
            error, _ = await outcome_of(broken.submit(0))
            assert isinstance(error, TokenRejected)
            assert error.retry_after is not None
            refused.append(error.retry_after)
            await trio.sleep(error.retry_after)
        assert refused == pytest.approx([10, 20, 40])

        spending = token(policy=Policy(budget=Budget("usd", 10, per=60)))(work)
        await trio.sleep(7)
        assert (await outcome_of(spending.submit(9)))[0] is None
        assert isinstance((await outcome_of(spending.submit(2)))[0], BudgetExceeded)
        waiting = spending.submit(1)
        error, ended = await outcome_of(waiting)
        assert (error, ended) == (None, pytest.approx(60))


@in_ci
@pytest.mark.trio
async def test_an_adaptive_throttle_holds_the_goodput_and_comes_back_from_a_slow_time(mock_clock: MockClock) -> None:
    """Case 31. A backend that is asked for ten times what it does, and is a hundred times as slow for some time.

    Two slots and a second; ten slots and a minute with TOKENGATE_TORTURE=1. Its answers take 10 ms.
    """
    slots, slow_seconds = (10, 60) if TORTURE else (2, 1)
    service, width = 0.01, 0.25  # seconds of an answer, and in which answers are counted
    backend, slower, began = trio.Semaphore(slots), 1, 0.0
    answered = [0] * int((slow_seconds + 6) / width)  # in time

    async def ask() -> None:
        async with backend:
            await trio.sleep(service * slower)
        answered[int((trio.current_time() - began) / width)] += 1

    throttle = Throttle(concurrency="adaptive", slow=5 * service)
    async with virtual(mock_clock):
        operation = token(policy=Policy(deadline=1, throttle=throttle))(ask)
        began = trio.current_time()
        asked = 0
        while (passed := trio.current_time() - began) < slow_seconds + 4:
            slower = 100 if 1 <= passed < 1 + slow_seconds else 1
            while asked < passed * 10 * slots / service:
                operation.submit()
                asked += 1
            await trio.sleep(service / 2)
        await trio.sleep(1.5)

    of_capacity = [number * service / slots / width for number in answered]
    assert min(of_capacity[1:4]) >= 0.75, of_capacity
    back = int((1 + slow_seconds + 1.5) / width)  # what began at the end of the slow time takes a second
    assert min(of_capacity[back : back + 6]) >= 0.75, of_capacity


@pytest.mark.trio
async def test_keys_without_end_take_bounded_memory(mock_clock: MockClock) -> None:
    """Case 37. What is known of a key is forgotten when it is as good as new; a million keys in the torture tier."""
    keys, at_once, largest = 1_000_000 if TORTURE else 1_000, 100, 0
    async with virtual(mock_clock, math.inf) as gate:

        async def work(key: int) -> None:
            spend(1)

        policy = Policy(
            breaker=Breaker(window=1, key="key"),
            throttle=(Throttle(rate=1, key="key"), Throttle(concurrency=1, key="key")),
            budget=Budget("usd", 10, per=1, key="key", estimate=1),
        )
        operation = token(policy=policy)(work)
        governor = policies_of(gate._operations[operation._spec]).governor_of(gate._operations[operation._spec])
        for first in range(0, keys, at_once):
            tokens = [operation.submit(key) for key in range(first, first + at_once)]
            for one in tokens:
                await one
            states = [len(governor.states(part)) for part in ("breaker", "throttle", "throttle[1]", "budget")]
            assert min(states) >= 1
            largest = max(largest, *states)
            await trio.sleep(0.5)

        assert largest <= 10 * at_once
        throttles = gate._system.throttles
        assert (throttles.grants, throttles._waiting, throttles._queues) == ({}, {}, {})
