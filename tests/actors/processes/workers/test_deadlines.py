"""Rules of calls that a thread makes later."""

from __future__ import annotations

import time

from actors.processes.workers._deadlines import Deadlines


def test_calls_are_due_in_the_order_of_their_times() -> None:
    """Those of one time in the order in which they were added."""
    deadlines, made = Deadlines(), list[int]()
    for seconds, number in ((2e3, 3), (1e3, 1), (1e3, 2), (9e3, 4)):
        deadlines.add(seconds, lambda number=number: made.append(number))  # type: ignore[misc]
    while (call := deadlines.pop_due(time.monotonic() + 5e3)) is not None:
        call()

    assert made == [1, 2, 3]
    assert len(deadlines) == 1


def test_nothing_is_due_before_its_time() -> None:
    """And the next time is known."""
    deadlines = Deadlines()
    assert deadlines.next_at() is None
    before = time.monotonic()
    deadlines.add(5.0, int)

    assert deadlines.pop_due(before + 4.9) is None
    assert deadlines.next_at() is not None
    assert deadlines.next_at() >= before + 5.0  # type: ignore[operator]


def test_a_cancelled_call_is_not_made() -> None:
    """Cancelling twice, or after the call, changes nothing."""
    deadlines = Deadlines()
    first, second = deadlines.add(1.0, int), deadlines.add(2.0, int)
    first.cancel()
    first.cancel()

    assert len(deadlines) == 1
    assert deadlines.pop_due(time.monotonic() + 5.0) is int
    second.cancel()
    assert len(deadlines) == 0
    assert deadlines.next_at() is None


def test_cancelled_calls_do_not_pile_up() -> None:
    """Although their times are far away."""
    deadlines = Deadlines()
    for _ in range(10_000):
        deadlines.add(1e6, int).cancel()

    assert len(deadlines._heap) < 1_000
    assert len(deadlines) == 0
