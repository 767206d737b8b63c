"""Step points: where a call of a child can be counted, stopped and ended."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Generator
from typing import Any

import pytest
from child_processes import Child

from actors._child import _shared_page, _wire, checkpoint
from actors._child._exceptions import TokenInterrupt
from actors._child._worker_loop import Function


@pytest.fixture
def run(child: Child) -> Callable[..., Any]:
    """Have the child call a function of the test itself, as call 1; return what comes of it."""

    def run(call: Callable[..., Any], *, steps: bool = False) -> Any:
        child.worker._functions[1] = Function(call.__name__, call, steps)
        child.call(1)
        return child.run_results()[1]

    return run


def set_word(child: Child, **words: int) -> None:
    for name, value in words.items():
        child.page.word[getattr(_shared_page, name)] = value


# Generators


def test_the_steps_of_a_generator_are_taken_and_counted(child: Child, run: Callable[..., Any]) -> None:
    """Making it is none; what it returns is the result."""
    seen: list[int] = []

    def work() -> Generator[None, None, str]:
        for _ in range(3):
            seen.append(child.page.word[_shared_page.STEPS])
            yield
        return "over"

    assert run(work, steps=True) == "over"
    assert seen == [1, 2, 3]
    assert child.page.word[_shared_page.STEPS] == 4


def test_a_generator_that_is_to_end_is_closed_between_two_steps(child: Child, run: Callable[..., Any]) -> None:
    """Its `finally` runs, and nothing after its yield."""
    seen: list[str] = []

    def work() -> Generator[None]:
        try:
            seen.append("begun")
            set_word(child, CANCEL=1)
            yield
            seen.append("gone on")
        finally:
            seen.append("closed")

    assert run(work, steps=True) == "cancelled"
    assert seen == ["begun", "closed"]


def test_what_a_generator_raises_as_it_is_closed_is_logged(
    child: Child, run: Callable[..., Any], caplog: pytest.LogCaptureFixture
) -> None:
    """Its call has ended as it was asked to."""

    def work() -> Generator[None]:
        try:
            set_word(child, CANCEL=1)
            yield
        finally:
            raise ValueError("late")

    assert run(work, steps=True) == "cancelled"
    assert [record.exc_info[1].args for record in caplog.records if record.exc_info] == [("late",)]


def test_a_cancel_of_another_call_has_no_effect(child: Child, run: Callable[..., Any]) -> None:
    """The number on the page says which call is meant."""
    set_word(child, CANCEL=2, STOP_CALL=2)

    def work() -> Generator[None, None, int]:
        yield
        checkpoint()
        return 5

    assert run(work, steps=True) == 5


def test_a_generator_stops_where_it_is_wanted_and_goes_on(child: Child, run: Callable[..., Any]) -> None:
    """It stops before the step; the page says so while it is stopped, and not after."""
    seen: list[tuple[str, int, int]] = []

    def stopped(then: Callable[[], None]) -> Callable[[], None]:
        def stop() -> None:
            seen.append(("stopped", child.page.word[_shared_page.STEPS], child.page.word[_shared_page.STOPPED]))
            then()

        return stop

    child.stops = [
        stopped(lambda: None),  # something else has continued it: it stops again
        stopped(lambda: set_word(child, STOP_AT=3)),
        stopped(lambda: set_word(child, STOP_CALL=0)),
    ]
    set_word(child, STOP_CALL=1, STOP_AT=1)

    def work() -> Generator[None]:
        for _ in range(4):
            seen.append(("step", child.page.word[_shared_page.STEPS], child.page.word[_shared_page.STOPPED]))
            yield

    assert run(work, steps=True) is None
    assert seen == [
        ("step", 1, 0),
        ("stopped", 1, 1),
        ("stopped", 1, 1),
        ("step", 2, 0),
        ("step", 3, 0),
        ("stopped", 3, 1),
        ("step", 4, 0),
    ]


def test_a_generator_can_be_stopped_before_its_first_step(child: Child, run: Callable[..., Any]) -> None:
    """That is a step point as well."""
    child.stops = [lambda: set_word(child, STOP_CALL=0)]
    set_word(child, STOP_CALL=1, STOP_AT=0)

    def work() -> Generator[None]:
        assert not child.stops
        yield

    assert run(work, steps=True) is None


def test_a_stopped_call_that_is_to_end_ends_where_it_is(child: Child, run: Callable[..., Any]) -> None:
    """It needs no step for that."""
    child.stops = [lambda: set_word(child, CANCEL=1)]
    set_word(child, STOP_CALL=1, STOP_AT=1)

    def work() -> Generator[None]:
        yield
        pytest.fail("it went on")

    assert run(work, steps=True) == "cancelled"


def test_what_was_done_before_is_sent_before_the_child_stops(child: Child) -> None:
    """Results do not wait for a call that is held."""

    def work() -> Generator[None]:
        yield

    early: list[dict[int, Any]] = []

    def stop() -> None:
        early.append(child.results(child.read_now()))
        set_word(child, STOP_CALL=0)

    child.stops = [stop]
    set_word(child, STOP_CALL=2, STOP_AT=0)
    child.worker._functions[1] = Function("work", work, True)
    child.call(child.function(abs), -3)
    child.worker._functions[7] = Function("work", work, True)
    child.call(7)

    assert child.run_results() == {2: None}
    assert early == [{1: 3}]


# Plain functions


def test_outside_of_any_call_a_checkpoint_does_nothing() -> None:
    """So functions that call it can be called from everywhere."""
    checkpoint()


def test_a_checkpoint_of_a_plain_function_is_a_step(child: Child, run: Callable[..., Any]) -> None:
    """Each begins another one."""
    seen: list[int] = []

    def work() -> None:
        for _ in range(3):
            seen.append(child.page.word[_shared_page.STEPS])
            checkpoint()

    run(work)

    assert seen == [1, 2, 3]
    assert child.page.word[_shared_page.STEPS] == 4


def test_a_checkpoint_of_a_generator_is_a_step_only_while_it_is_stepped(child: Child, run: Callable[..., Any]) -> None:
    """An operator goes from point to point; else the steps are the generator's own."""
    seen: list[int] = []

    def work() -> Generator[None]:
        checkpoint()
        seen.append(child.page.word[_shared_page.STEPS])
        set_word(child, STOP_CALL=1, STOP_AT=10)
        checkpoint()
        seen.append(child.page.word[_shared_page.STEPS])
        yield

    run(work, steps=True)

    assert seen == [1, 2]


def test_a_plain_function_stops_at_its_checkpoint(child: Child, run: Callable[..., Any]) -> None:
    """And goes on from there."""
    seen: list[str] = []

    def stop() -> None:
        seen.append("stopped")
        set_word(child, STOP_AT=9)

    child.stops = [stop]
    set_word(child, STOP_CALL=1, STOP_AT=2)

    def work() -> None:
        for name in ("a", "b", "c"):
            seen.append(name)
            checkpoint()

    run(work)

    assert seen == ["a", "b", "stopped", "c"]


def test_a_plain_function_that_is_to_end_ends_at_its_checkpoint(child: Child, run: Callable[..., Any]) -> None:
    """`except Exception` does not keep it."""
    seen: list[str] = []

    def work() -> None:
        set_word(child, CANCEL=1)
        try:
            checkpoint()
        except Exception:
            seen.append("kept")
        finally:
            seen.append("finally")

    assert run(work) == "cancelled"
    assert seen == ["finally"]


def test_an_interrupt_without_a_cancel_is_an_error(run: Callable[..., Any]) -> None:
    """Only a call that is to end is cancelled."""

    def work() -> None:
        raise TokenInterrupt

    assert run(work) == "error"


def test_code_that_catches_the_interrupt_goes_on(child: Child, run: Callable[..., Any]) -> None:
    """Then there is a result, and it is sent."""

    def work() -> str:
        set_word(child, CANCEL=1)
        try:
            checkpoint()
        except TokenInterrupt:
            return "kept"
        return "never asked"

    assert run(work) == "kept"


def test_on_other_threads_a_checkpoint_does_nothing(child: Child, run: Callable[..., Any]) -> None:
    """Only the thread of the call has its steps."""

    def work() -> None:
        set_word(child, CANCEL=1)
        thread = threading.Thread(target=checkpoint)
        thread.start()
        thread.join()

    assert run(work) is None
    assert child.page.word[_shared_page.STEPS] == 1


def test_results_before_a_long_call_are_sent_at_its_step_points(child: Child, monkeypatch: pytest.MonkeyPatch) -> None:
    """When they have waited for two milliseconds."""
    now = [0]
    monkeypatch.setattr("actors._child._connection.perf_counter_ns", lambda: now[0])
    early: list[dict[int, Any]] = []

    def work() -> None:
        for _ in range(3):
            checkpoint()
            early.append(child.results(child.read_now()))
            now[0] += 1_500_000

    child.worker._functions[9] = Function("work", work, False)
    monkeypatch.setattr("actors._child._worker_loop.perf_counter_ns", lambda: now[0])
    child.call(child.function(abs), -3)
    child.call(9)
    child.run()

    assert early == [{}, {}, {1: 3}]
    assert logging.root.handlers.count(child.worker._log) == 0


def test_frames_of_ends_have_no_payload(child: Child) -> None:
    """There is nothing to say but that."""

    def work() -> Generator[None]:
        set_word(child, CANCEL=1)
        yield

    child.worker._functions[9] = Function("work", work, True)
    child.call(9)
    (frame,) = child.run()

    assert (frame.kind, frame.number, len(frame.payload)) == (_wire.CANCELLED, 1, 0)
