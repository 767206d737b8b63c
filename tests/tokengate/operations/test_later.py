"""Calls that begin later: `submit_after` and `submit_at` of operations that are not durable."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tokengate import Gate, Policy, TokenState, token
from tokengate.errors import BadOperation, TokenTerminated

DELAY = 0.05


@token
def in_cpu(number: int) -> int:
    return number


@token
async def in_trio(number: int) -> int:
    return number


@token(affinity="asyncio")
async def in_asyncio(number: int) -> int:
    return number


@token(affinity="process")
def in_process(number: int) -> int:
    return in_cpu.submit_after(DELAY, number).result()


@token(policy=Policy(deadline=30.0, queue_timeout=20.0))
def timed(number: int) -> int:
    return number


@token
async def submits(number: int) -> int:
    later = await in_cpu.asubmit_at(datetime.now(UTC) + timedelta(seconds=DELAY), number)
    return await (await in_cpu.asubmit_after(0, number)) + await later


@pytest.fixture
def gate() -> Iterator[Gate]:
    with Gate("shop", processes=1, control_socket=False) as gate:
        yield gate


@pytest.mark.parametrize("operation", [in_cpu, in_trio, in_asyncio, in_process], ids=lambda one: one.__name__)
@pytest.mark.parametrize("at", [False, True], ids=["after", "at"])
def test_a_call_begins_not_before_its_time(gate: Gate, operation: Any, at: bool) -> None:
    """Its token is queued until then, with the time as `due_at`, and waits for its turn from then on."""
    if at:
        token = operation.submit_at(datetime.now(UTC) + timedelta(seconds=DELAY), 7)
    else:
        token = operation.submit_after(DELAY, 7)
    assert token.result(60) == 7
    assert token.due_at is None
    assert token.started_at >= token.created_at + DELAY - 0.01  # the clocks of both are apart by as much
    assert token.queued_at <= token.started_at


def test_others_begin_meanwhile(gate: Gate) -> None:
    """It is in no one's way, and can be cancelled."""
    token = in_cpu.submit_after(3600, 1)
    assert in_cpu.submit(2).result(60) == 2
    assert (token.state, token.due_at - gate._system.clock() > 3500) == (TokenState.QUEUED, True)  # type: ignore[operator]
    assert [row.id for row in gate.control.tokens("held=delayed")] == [token.id]
    assert token.cancel()
    with pytest.raises(TokenTerminated):
        token.result(60)


def test_its_times_count_from_then_on(gate: Gate) -> None:
    """A deadline and a time in the queue do not pass before."""
    token = timed.submit_after(3600, 1)
    assert token.deadline - gate._system.clock() > 3600  # type: ignore[operator]
    token.cancel()


def test_it_can_be_awaited(gate: Gate) -> None:
    """On a loop, by the awaiting forms."""
    assert submits.submit(3).result(60) == 6


def test_tokens_with_a_key_share_a_run_that_is_put_off(gate: Gate) -> None:
    """The first one says until when."""
    keyed = in_cpu.with_options(key="order-17")
    first, second = keyed.submit_after(3600, 1), keyed.submit(1)
    assert (first.state, second.state) == (TokenState.QUEUED, TokenState.QUEUED)
    assert first.uid == second.uid
    first.cancel()
    second.cancel()


@pytest.mark.parametrize("seconds", [-1, float("nan"), float("inf"), True, "5", None])
def test_seconds_are_a_number(gate: Gate, seconds: Any) -> None:
    """At least 0, and finite."""
    with pytest.raises(ValueError, match=r"a call of 'in_cpu' was to begin after .* seconds; it must be a number"):
        in_cpu.submit_after(seconds, 1)


@pytest.mark.parametrize("moment", [datetime(2030, 1, 1), 1_900_000_000.0, None])
def test_a_moment_has_a_timezone(gate: Gate, moment: Any) -> None:
    """A datetime without one could mean any of two dozen times."""
    with pytest.raises(ValueError, match="it must be a datetime with a timezone"):
        in_cpu.submit_at(moment, 1)


def test_a_moment_that_is_past_is_now(gate: Gate) -> None:
    """The call begins at once."""
    assert in_cpu.submit_at(datetime(2020, 1, 1, tzinfo=UTC), 5).result(60) == 5


def test_calls_that_are_put_together_cannot_be_put_off(gate: Gate) -> None:
    """The batch decides when they begin."""
    from tokengate import Batch

    @token(policy=Policy(batch=Batch(size=2, wait=0.01)))
    def batch(numbers: list[int]) -> list[int]:
        return numbers

    with pytest.raises(BadOperation, match="puts its calls together"):
        batch.submit_after(1, 2)
