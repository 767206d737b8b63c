"""Learning: what is passed on of records, how many of them, and what is left out."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import pytest
import trio
from gated_code import LIMIT
from predictions import FixedModels, Foreseeing

from actors import TokenState
from tokengate import Policy, token
from tokengate.control.stream._record import FINISHED, NO_MORE, More
from tokengate.policy import Retry
from tokengate.predict._learner import A_SECOND, Learner, is_cut
from tokengate.predict._retry_loops import RetryLoops

Open = Callable[..., AbstractContextManager[Foreseeing]]


@token(features=lambda number, *_rest: {"number": number})
def fails(number: int, times: list[int]) -> int:
    times.append(number)
    if len(times) <= number:
        raise OSError("no")
    return number


@token(idempotent=True)
async def waits(opened: threading.Event) -> None:
    while not opened.is_set():
        await trio.sleep(0.002)


def learned(seen: Foreseeing) -> list[Any]:
    seen.gate._stream.flush()  # type: ignore[union-attr]
    return seen.models.learned


def test_each_attempt_is_passed_on_with_its_features_and_error(open_gate: Open) -> None:
    """Also those that another one followed; tags only as far as they are named."""
    retry = fails.with_options(policy=Policy(retry=Retry(OSError, attempts=3)), tags={"tenant": "acme", "user": "ann"})
    with open_gate(tags=("tenant",)) as seen:
        assert retry.submit(2, []).result(LIMIT) == 2
        with pytest.raises(OSError, match="no"):
            fails.submit(9, []).result(LIMIT)
        found = learned(seen)

    assert [attempt.error for attempt in found] == ["OSError", "OSError", "", "OSError"]
    assert {tuple(attempt.sample.features.items()) for attempt in found[:3]} == {(("number", 2.0),)}
    assert [dict(attempt.sample.tags) for attempt in found] == [{"tenant": "acme"}] * 3 + [{}]
    assert all(attempt.run is not None and attempt.run >= 0 and not attempt.cut_short for attempt in found)


def test_runs_that_others_have_ended_are_told_as_cut_short(open_gate: Open, opened: threading.Event) -> None:
    """Case 32: by an operator, a deadline, and for another attempt; what never ran is not passed on."""
    with open_gate() as seen:
        ended = waits.submit(opened)
        late = waits.with_options(policy=Policy(timeout=0.05)).submit(opened)
        anew = waits.submit(opened)
        while any(one.started_at is None for one in (ended, anew)):
            pass
        seen.gate.control.terminate(ended.id)
        late.exception(LIMIT)
        seen.gate.control.preempt(anew.id)
        while anew.attempt == 1:
            assert not anew.done()
        opened.set()
        anew.result(LIMIT)
        seen.gate.control.suspend("waits")
        never = waits.submit(opened)
        seen.gate.control.terminate(never.id)
        found = learned(seen)

        assert never.state is TokenState.TERMINATED
        assert sorted((attempt.cut_short, attempt.error) for attempt in found) == [(False, ""), *[(True, "")] * 3]
        seen.gate.control.unsuspend("waits")


def test_a_run_that_a_limit_has_ended_is_cut_short() -> None:
    """One that its own code has ended is not, whatever it raised."""
    assert is_cut("failed", "LimitExceeded", "")
    assert is_cut("queued", "", "preempt")
    assert not is_cut("failed", "ValueError", "")
    assert not is_cut("completed", "", "")


def raw(number: int, run: float, weight: int = 1, more: More = NO_MORE) -> tuple[Any, ...]:
    times = (float(number), float(number), float(number), number + run)
    return (
        number,
        number,
        "work",
        "operations/work",
        "cpu",
        None,
        0,
        None,
        0,
        1,
        "completed",
        *times,
        0,
        weight,
        FINISHED,
        more,
    )


def test_above_two_thousand_a_second_records_are_drawn_evenly_and_stand_for_the_others() -> None:
    """The weights add up to what came, also with those of thinned records."""
    models, now = FixedModels(), [0.0]
    learner = Learner("run", models, RetryLoops(), lambda tags: tags, lambda: now[0], lambda: None)  # type: ignore[arg-type]
    for _ in range(100):
        now[0] += 0.1
        learner.learn([raw(number, 1.0, weight=3) for number in range(1_000)])

    assert len(models.learned) <= 10 * A_SECOND * 1.05
    assert sum(attempt.weight for attempt in models.learned) == pytest.approx(3 * 100_000, rel=0.02)
    assert {attempt.weight for attempt in models.learned} <= {9, 12, 15}


def test_below_that_each_record_is_learned() -> None:
    """With its own weight."""
    models, now = FixedModels(), [0.0]
    learner = Learner("run", models, RetryLoops(), lambda tags: tags, lambda: now[0], lambda: None)  # type: ignore[arg-type]
    for _ in range(10):
        now[0] += 0.1
        learner.learn([raw(number, 1.0) for number in range(150)])

    assert [attempt.weight for attempt in models.learned] == [1] * 1_500
