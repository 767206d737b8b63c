"""The host of a trio loop: calls from other threads, also many at once."""

from __future__ import annotations

import threading
from typing import Any

import pytest
import trio

from actors import ActorSystem
from actors.concurrency._trio_host import _CALLS_AT_ONCE

LIMIT = 10.0


@pytest.mark.parametrize("looks", [0, 50])
def test_tasks_have_their_turn_within_a_burst_of_calls(system: ActorSystem, looks: int) -> None:
    """Calls are made in their order, some at a time, however often recovery looks whether one was forgotten."""
    host: Any = system.io_host
    order: list[int | str] = []
    held, calls = threading.Event(), range(50 * _CALLS_AT_ONCE)

    async def tick() -> None:
        while calls[-1] not in order[-2 * _CALLS_AT_ONCE :]:
            order.append("tick")
            await trio.lowlevel.checkpoint()

    ticking = host.run(tick)
    host.call_soon(lambda: held.wait(LIMIT))
    for number in calls:
        host.call_soon(lambda number=number: order.append(number))
        if number < looks:
            host.recover()
    held.set()
    ticking.result(LIMIT)
    made = [entry for entry in order if entry != "tick"]
    runs = "".join("." if entry == "tick" else "c" for entry in order).split(".")

    assert made == list(calls)
    assert max(map(len, runs)) <= 2 * _CALLS_AT_ONCE  # one lot after the task's turn, and one before its next


def test_a_call_that_is_made_during_a_burst_is_made_after_it(system: ActorSystem) -> None:
    """None is forgotten whose caller saw that the loop is awake."""
    host: Any = system.io_host
    held, made, over = threading.Event(), [], threading.Event()
    host.call_soon(lambda: held.wait(LIMIT))
    for number in range(3 * _CALLS_AT_ONCE):
        host.call_soon(lambda number=number: made.append(number))
    host.call_soon(lambda: threading.Thread(target=lambda: host.call_soon(over.set)).start())
    held.set()

    assert over.wait(LIMIT)
    assert made == list(range(3 * _CALLS_AT_ONCE))
