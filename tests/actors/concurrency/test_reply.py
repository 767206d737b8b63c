"""Replies: every way of waiting for an outcome."""

from __future__ import annotations

import asyncio
import copy
import logging
import pickle
import random
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import pykka
import pytest
import trio

from actors import Later, Reply, TokenFailed, WaitTimeout, WouldBlock
from actors.concurrency._future import Future

LIMIT = 30.0


def test_a_reply_has_the_result_that_was_set() -> None:
    """`result` and `get` return the value, `exception` returns None, `done` says so."""
    reply: Reply[int] = Reply()
    assert not reply.done()
    assert reply._set(7)

    assert reply.done()
    assert (reply.result(), reply.get(), reply.exception()) == (7, 7, None)


def test_a_reply_raises_the_error_that_was_set() -> None:
    """`result` raises the very exception that `exception` returns."""
    reply: Reply[int] = Reply()
    error = ValueError("no")
    reply._set(error=error)

    with pytest.raises(ValueError, match="no") as caught:
        reply.result()

    assert caught.value is error
    assert reply.exception() is error


def test_the_second_outcome_is_refused() -> None:
    """An outcome is set once."""
    reply: Reply[int] = Reply()
    assert reply._set(1)
    assert not reply._set(2)
    assert not reply._set(error=ValueError())

    assert reply.result() == 1


def test_an_outcome_that_is_no_exception_comes_wrapped() -> None:
    """`result` of code that called `sys.exit()` raises TokenFailed with the cause; `exception` hands out the cause."""
    reply: Reply[int] = Reply()
    cause = SystemExit(3)
    reply._set(error=cause)

    with pytest.raises(TokenFailed) as caught:
        reply.result()

    assert caught.value.__cause__ is cause
    assert reply.exception() is cause


@pytest.mark.parametrize("timeout", [0, 0.001, -1])
def test_a_wait_that_times_out_raises_a_timeout_of_every_kind(timeout: float) -> None:
    """WaitTimeout is a TimeoutError and a pykka.Timeout; it leaves the reply as it was."""
    reply: Reply[int] = Reply()
    for wait in (reply.result, reply.exception, lambda timeout: reply.get(timeout=timeout)):
        with pytest.raises(WaitTimeout) as caught:
            wait(timeout=timeout)
        assert isinstance(caught.value, TimeoutError)
        assert isinstance(caught.value, pykka.Timeout)
    assert not reply._callbacks
    reply._set(5)

    assert reply.result(timeout=timeout) == 5


def test_threads_that_wait_are_all_woken(race: Any) -> None:
    """Many threads may wait for one outcome."""
    reply: Reply[str] = Reply()

    assert race(*[lambda: reply.result(LIMIT)] * 5, lambda: reply._set("x")) == ["x"] * 5 + [True]


def test_callbacks_run_in_order_and_late_ones_at_once() -> None:
    """A callback gets the reply itself, after the outcome is there."""
    reply: Reply[int] = Reply()
    seen: list[tuple[str, Any, bool]] = []
    reply.add_done_callback(lambda r: seen.append(("first", r, r.done())))
    reply.add_done_callback(lambda r: seen.append(("second", r, r.done())))
    assert not seen
    reply._set(1)
    reply.add_done_callback(lambda r: seen.append(("late", r, r.done())))

    assert seen == [("first", reply, True), ("second", reply, True), ("late", reply, True)]


def test_what_a_callback_raises_is_logged_and_the_next_one_runs(caplog: pytest.LogCaptureFixture) -> None:
    """A broken callback hurts nobody but is not silent."""
    reply: Reply[int] = Reply()
    seen: list[int] = []

    def broken(_reply: Reply[int]) -> None:
        raise ValueError("broken callback")

    reply.add_done_callback(broken)
    reply.add_done_callback(lambda r: seen.append(r.result()))
    with caplog.at_level(logging.ERROR, "tokengate.actors"):
        reply._set(1)

    assert seen == [1]
    assert [record.exc_info[1].args for record in caplog.records if record.exc_info and record.exc_info[1]] == [
        ("broken callback",)
    ]


@pytest.mark.parametrize("traced", [False, True], ids=["plain", "traced"])
def test_a_callback_that_races_the_outcome_runs_exactly_once(
    race: Any,
    yielding: Callable[[random.Random], AbstractContextManager[None]],
    seed: int,
    rounds: Callable[[int], int],
    traced: bool,
) -> None:
    """Neither lost nor run twice, whoever adds it and whoever sets the outcome."""
    chance = random.Random(seed)
    for _ in range(rounds(100 if traced else 200)):
        reply: Reply[int] = Reply()
        calls: list[int] = []

        def add(number: int, reply: Reply[int] = reply, calls: list[int] = calls) -> None:
            reply.add_done_callback(lambda _r: calls.append(number))

        functions = [lambda: add(1), lambda: add(2), lambda r=reply: r._set(0)]
        if traced:
            with yielding(chance):
                race(*functions)
        else:
            race(*functions)

        assert sorted(calls) == [1, 2]


def test_a_callback_that_another_thread_takes_first_is_no_error(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Two threads that run the callbacks at once run each once; what raises `IndexError` itself is logged."""
    reply: Reply[int] = Reply()
    ran: list[int] = []
    reply.add_done_callback(lambda _: ran.append(1))

    def faster() -> None:
        monkeypatch.undo()
        reply._run_callbacks()

    monkeypatch.setattr("actors.concurrency._future.wake_now", faster)
    reply._set(7)

    assert ran == [1]
    assert caplog.records == []
    reply.add_done_callback(lambda _: [1].pop(7))
    assert len(caplog.records) == 1


def test_a_trio_task_can_await_a_reply_that_a_thread_sets() -> None:
    """The outcome wakes the task, whatever thread it comes from."""
    reply: Reply[int] = Reply()

    async def main() -> int:
        with trio.fail_after(LIMIT):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(trio.to_thread.run_sync, reply._set, 9)
                return await reply

    assert trio.run(main) == 9


@pytest.mark.trio
async def test_a_trio_task_can_await_a_reply_that_the_same_loop_sets() -> None:
    """Setting an outcome on the waiter's own loop wakes it as well."""
    reply: Reply[int] = Reply()
    got: list[int] = []

    async def wait() -> None:
        got.append(await reply)

    with trio.fail_after(LIMIT):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(wait)
            nursery.start_soon(wait)
            await trio.testing.wait_all_tasks_blocked()
            reply._set(4)

    assert got == [4, 4]


@pytest.mark.trio
async def test_cancelling_an_await_in_trio_only_stops_waiting() -> None:
    """The reply stays open, and nothing of the waiter is left on it."""
    reply: Reply[int] = Reply()
    with trio.move_on_after(0) as scope:
        await reply
    assert scope.cancelled_caught
    assert not reply.done()
    assert not reply._callbacks
    reply._set(1)

    assert await reply == 1


def test_an_asyncio_task_can_await_a_reply_that_a_thread_sets() -> None:
    """The outcome wakes the task, whatever thread it comes from."""
    reply: Reply[int] = Reply()

    async def main() -> int:
        thread = threading.Thread(target=reply._set, args=(9,))
        asyncio.get_running_loop().call_soon(thread.start)
        async with asyncio.timeout(LIMIT):
            value = await reply
        await asyncio.to_thread(thread.join)
        return value

    assert asyncio.run(main()) == 9


def test_cancelling_an_await_in_asyncio_only_stops_waiting() -> None:
    """The reply stays open, and nothing of the waiter is left on it."""
    reply: Reply[int] = Reply()

    async def wait() -> int:
        return await reply

    async def main() -> int:
        task = asyncio.create_task(wait())
        await asyncio.sleep(0)
        assert reply._callbacks
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert not reply.done()
        assert not reply._callbacks
        reply._set(1)
        return await reply

    assert asyncio.run(main()) == 1


def test_an_await_raises_what_was_set() -> None:
    """Awaiting raises as `result` does, in both kinds of loop."""
    reply: Reply[int] = Reply()
    reply._set(error=KeyError("k"))

    async def main() -> None:
        await reply

    with pytest.raises(KeyError):
        trio.run(main)
    with pytest.raises(KeyError):
        asyncio.run(main())


@pytest.mark.trio
async def test_blocking_on_a_trio_thread_raises() -> None:
    """A blocking wait that would freeze a trio loop raises WouldBlock; for an outcome that is there, it does not."""
    reply: Reply[int] = Reply()
    for wait in (reply.result, reply.exception, reply.get):
        with pytest.raises(WouldBlock, match="await"):
            wait()
    reply._set(3)

    assert reply.result() == 3


def test_waiting_without_reading_raises_nothing() -> None:
    """`wait` leaves the outcome unread."""
    reply: Reply[int] = Reply()
    reply._set(error=ValueError())
    trio.run(reply.wait)
    asyncio.run(reply.wait())

    assert isinstance(reply.exception(), ValueError)


def test_an_outcome_that_comes_after_the_waiters_loop_has_ended_is_no_error(caplog: pytest.LogCaptureFixture) -> None:
    """A waiter that is gone is nobody's business."""
    reply: Reply[int] = Reply()

    async def in_asyncio() -> None:
        waiting = asyncio.ensure_future(reply.wait())
        await asyncio.sleep(0)
        waiting.cancel()

    asyncio.run(in_asyncio())
    reply._set(2)

    assert reply.result() == 2
    assert not caplog.records


def test_replies_combine_as_pykka_futures_do() -> None:
    """`map`, `filter`, `join` and `reduce` are pykka's."""
    one: Reply[Any] = Reply()
    two: Reply[Any] = Reply()
    one._set([1, 2, 3])
    two._set(5)

    assert one.map(len).get(timeout=LIMIT) == 3
    assert list(one.filter(lambda x: x > 1).get(timeout=LIMIT)) == [2, 3]
    assert one.reduce(lambda a, b: a + b, 10).get(timeout=LIMIT) == 16
    assert list(two.join(two).get(timeout=LIMIT)) == [5, 5]


@pytest.mark.parametrize("kind", ["thread", "trio"])
def test_a_wait_that_races_the_outcome_always_ends(
    race: Any,
    yielding: Callable[[random.Random], AbstractContextManager[None]],
    seed: int,
    rounds: Callable[[int], int],
    kind: str,
) -> None:
    """No wake-up is lost between the look and the wait."""
    chance = random.Random(seed)
    for number in range(rounds(60)):
        reply: Reply[int] = Reply()

        async def main(reply: Reply[int] = reply) -> int:
            with trio.fail_after(LIMIT):
                return await reply

        def wait(reply: Reply[int] = reply, main: Any = main) -> int:
            return reply.result(LIMIT) if kind == "thread" else trio.run(main)

        with yielding(chance):
            got, _ = race(wait, lambda r=reply, n=number: r._set(n))

        assert got == number


@pytest.mark.parametrize("kind", [Reply, Later, Future])
def test_a_copy_of_a_reply_is_that_reply(kind: type[Reply[int]]) -> None:
    """Another object would never have the outcome; so none is made by pickling either."""
    reply = kind()

    assert copy.copy(reply) is reply
    assert copy.deepcopy([reply])[0] is reply
    with pytest.raises(TypeError, match=r"a (reply|future) cannot be pickled.*; send the outcome"):
        pickle.dumps(reply)
