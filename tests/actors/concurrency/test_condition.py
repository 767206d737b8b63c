"""A condition and an event stay usable when a signal handler raises in the main thread."""

from __future__ import annotations

import gc
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from interrupts import HOMES, Strike, in_thread

from actors.concurrency._condition import Condition, Event

LIMIT = 30.0  # seconds; only reached when something is broken


@pytest.fixture(autouse=True)
def _no_finalizers() -> Iterator[None]:
    """Nothing but the code under test runs: finalizers of other tests' garbage are Python code as well."""
    gc.disable()
    yield
    gc.enable()


def strike_each_point(make: Callable[[], Any], act: Callable[[Any], object], check: Callable[[Any], None]) -> int:
    """Interrupt a call at each point where CPython looks for signals, in `threading` as well; return their number."""
    for at in range(1, 1_000):
        made = make()
        strike = Strike(at, grain="signal", homes=(*HOMES, threading.__file__))
        _, error = strike.run(lambda made=made: act(made))
        check(made)
        if not strike.places:
            assert error is None
            return at - 1
        assert type(error) is KeyboardInterrupt
    raise AssertionError("it never comes to its end")


def is_free(condition: threading.Condition) -> bool:
    """Tell whether another thread can take a condition's lock."""
    taken, wrong = in_thread(lambda: condition.acquire(timeout=LIMIT) and (condition.release() or True), 2 * LIMIT)
    assert not wrong
    return bool(taken)


def test_no_python_code_runs_where_a_block_is_entered_and_left() -> None:
    """So no signal handler can raise while the lock is taken and the block has not begun."""
    condition = Condition()
    called: list[str] = []
    before = sys.getprofile()
    sys.setprofile(lambda frame, event, _arg: called.append(frame.f_code.co_name) if event == "call" else None)
    with condition:
        pass
    sys.setprofile(before)

    assert called == []


def test_an_interrupted_wait_leaves_the_lock_free_and_raises_the_interrupt() -> None:
    """Also where the wait has just given up the lock."""

    def wait(condition: Condition) -> None:
        with condition:
            condition.wait(0.0)

    def check(condition: Condition) -> None:
        assert is_free(condition)

    assert strike_each_point(Condition, wait, check) > 3


@pytest.mark.parametrize(
    "act",
    [lambda event: event.wait(0.0), threading.Event.set, threading.Event.clear],
    ids=["wait", "set", "clear"],
)
def test_an_event_can_be_set_after_an_interrupted_call(act: Callable[[Event], object]) -> None:
    """By another thread, which does not hang, and those that wait are woken."""

    def check(event: Event) -> None:
        assert in_thread(event.set, LIMIT) == (None, "")
        assert event.wait(LIMIT)

    assert strike_each_point(Event, act, check) > 1


def test_a_condition_notifies_as_any_other() -> None:
    """And tells whether it did in time."""
    condition, seen = Condition(), []

    def wait() -> None:
        with condition:
            seen.append(condition.wait(LIMIT))

    waiting = threading.Thread(target=wait)
    waiting.start()
    while not seen:
        with condition:
            condition.notify_all()
    waiting.join(LIMIT)
    with condition:
        assert not condition.wait(0.0)

    assert seen == [True]
