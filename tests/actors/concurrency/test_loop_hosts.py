"""The hosts of loops: calls from other threads, also many at once; and the end of an asyncio loop."""

from __future__ import annotations

import asyncio
import threading
import time
from typing import Any

import pytest
import trio

from actors import ActorSystem
from actors.concurrency._asyncio_host import AsyncioHost
from actors.concurrency._loop_host import _CALLS_AT_ONCE
from actors.system._recovery import Recovery

LIMIT = 30.0


async def give_way() -> None:
    """Let other tasks of the loop run."""
    await (trio.lowlevel.checkpoint() if trio.lowlevel.in_trio_task() else asyncio.sleep(0))


@pytest.fixture(params=["io", "asyncio"])
def host(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A host which recovery looks at when the test does so only: each look may have one more lot of calls made."""
    monkeypatch.setattr(Recovery, "open", lambda _self: None)
    system: ActorSystem = request.getfixturevalue("system")
    chosen = system.io_host if request.param == "io" else system.asyncio_hosts.own
    chosen.open()
    return chosen


@pytest.mark.parametrize("looks", [0, 50])
def test_tasks_have_their_turn_within_a_burst_of_calls(host: Any, looks: int) -> None:
    """Calls are made in their order, some at a time, however often recovery looks whether one was forgotten."""
    order: list[int | str] = []
    holding, held, calls = threading.Event(), threading.Event(), range(50 * _CALLS_AT_ONCE)

    async def tick() -> None:
        while calls[-1] not in order[-2 * _CALLS_AT_ONCE :]:
            order.append("tick")
            await give_way()

    ticking = host.run(tick)
    host.call_soon(lambda: (holding.set(), held.wait(LIMIT)))
    assert holding.wait(LIMIT)
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


def test_a_call_that_is_made_during_a_burst_is_made_after_it(host: Any) -> None:
    """None is forgotten whose caller saw that the loop is awake."""
    held, made, over = threading.Event(), [], threading.Event()
    host.call_soon(lambda: held.wait(LIMIT))
    for number in range(3 * _CALLS_AT_ONCE):
        host.call_soon(lambda number=number: made.append(number))
    host.call_soon(lambda: threading.Thread(target=lambda: host.call_soon(over.set)).start())
    held.set()

    assert over.wait(LIMIT)
    assert made == list(range(3 * _CALLS_AT_ONCE))


def test_an_asyncio_loop_ends_when_its_tasks_have_cleaned_up() -> None:
    """Those that it hosts, and those that they have left behind."""
    events: list[str] = []
    host = AsyncioHost("test")

    async def clean_up(name: str) -> None:
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            await asyncio.sleep(0)
            events.append(name)

    async def work() -> None:
        left = asyncio.create_task(clean_up("left behind"))
        await asyncio.sleep(0)
        begun.set()
        await clean_up("hosted")
        left.cancel()

    begun = threading.Event()
    host.open()
    outcome = host.run(work)
    assert begun.wait(LIMIT)
    host.cancel()
    late = host.join(time.monotonic() + LIMIT)

    assert late == []
    assert sorted(events) == ["hosted", "left behind"]
    assert isinstance(outcome.exception(LIMIT), asyncio.CancelledError)
    assert not host.runs


def test_an_asyncio_loop_that_was_never_needed_has_no_thread_and_starts_none_after_its_end() -> None:
    """Its calls are forgotten."""
    host = AsyncioHost("test")
    host.call_soon(bool)
    host.cancel()
    host.open()

    assert host.join(time.monotonic()) == []
    assert not host.runs


def test_code_that_blocks_an_asyncio_loop_for_good_is_named_at_its_end() -> None:
    """The thread is left behind; it is a daemon."""
    host, go, begun = AsyncioHost("stuck"), threading.Event(), threading.Event()
    host.open()
    host.call_soon(lambda: (begun.set(), go.wait(LIMIT)))
    assert begun.wait(LIMIT)
    host.cancel()
    late = host.join(time.monotonic())
    go.set()

    assert late == ["stuck"]
    assert host.join(time.monotonic() + LIMIT) == []
