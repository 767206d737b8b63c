"""Futures that a program sets, and futures that are computed from others."""

from __future__ import annotations

import asyncio
import queue
import threading
import types
from typing import Any

import pykka
import pytest
import trio

from actors import CpuActor, Future, Reply, WaitTimeout

LIMIT = 30.0


def test_a_future_is_set_once() -> None:
    """By hand or by a hook, and a second time is an error that changes nothing."""
    by_hand: Future[int] = Future()
    by_hand.set(1)
    for again in (lambda: by_hand.set(2), lambda: by_hand.set_get_hook(lambda _: 2)):
        with pytest.raises(queue.Full):
            again()
    by_hook: Future[int] = Future()
    by_hook.set_get_hook(lambda _: 1)
    with pytest.raises(queue.Full):
        by_hook.set(2)

    assert (by_hand.get(), by_hook.get(), by_hook.done()) == (1, 1, True)


def test_an_exception_is_the_one_in_hand_or_the_one_that_is_passed() -> None:
    """`set_exception()` takes the one that is being handled; without any, it says what to do."""
    handled: Future[int] = Future()
    try:
        raise LookupError("here")
    except LookupError:
        handled.set_exception()
    passed: Future[int] = Future()
    passed.set_exception((KeyError, None, None))
    with pytest.raises(ValueError, match="except block"):
        Future[int]().set_exception()

    with pytest.raises(LookupError, match="here"):
        handled.get()
    assert isinstance(passed.exception(), KeyError)


def test_a_hook_that_raises_is_asked_again() -> None:
    """Its first value is kept; what it raises is not."""
    answers = [WaitTimeout("not yet"), WaitTimeout("not yet"), 3]
    timeouts: list[float | None] = []
    future: Future[int] = Future()

    def hook(timeout: float | None) -> int:
        timeouts.append(timeout)
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    future.set_get_hook(hook)
    with pytest.raises(WaitTimeout):
        future.get(timeout=0.5)
    assert isinstance(future.exception(), WaitTimeout)
    assert future.exception() is None
    assert (future.get(), future.result()) == (3, 3)

    assert timeouts == [0.5, None, None]


def test_what_is_made_of_replies_is_a_pykka_future() -> None:
    """`map`, `filter`, `join` and `reduce` can be chained, and mixed with pykka's own futures."""
    reply: Reply[Any] = Reply()
    reply._set([1, 2, 3])
    foreign: pykka.ThreadingFuture[int] = pykka.ThreadingFuture()
    foreign.set(7)
    chained = reply.map(lambda items: [*items, 4]).filter(lambda item: item % 2 == 0)

    assert isinstance(chained, pykka.Future)
    assert chained.get(timeout=LIMIT) == [2, 4]
    assert chained.reduce(lambda a, b: a + b).get(timeout=LIMIT) == 6
    assert chained.join(foreign, reply).get(timeout=LIMIT) == [[2, 4], 7, [1, 2, 3]]
    assert pykka.get_all([chained, foreign]) == [[2, 4], 7]


@pytest.mark.parametrize("run", [trio.run, lambda main: asyncio.run(main())], ids=["trio", "asyncio"])
def test_what_is_made_of_replies_can_be_awaited(run: Any) -> None:
    """The loop goes on until the sources are there; trio can do it, too."""
    one: Reply[int] = Reply()
    two: Reply[int] = Reply()
    setter = threading.Timer(0, lambda: (one._set(1), two._set(2)))

    async def main() -> Any:
        setter.start()
        return await one.map(lambda value: value + 10).join(two)

    got = run(main)
    setter.join(LIMIT)

    assert got == [11, 2]


def test_a_stop_can_be_awaited(start: Any) -> None:
    """`await ref.stop(block=False)` waits for the end of the actor."""
    ref = start(CpuActor)

    async def main() -> Any:
        return await ref.stop(block=False)

    assert trio.run(main) is True
    assert not ref.is_alive()


def test_actors_make_futures_that_can_be_set(base: Any) -> None:
    """pykka's extension point gives what pykka's code expects."""
    future = base._create_future()
    future.set("x")

    assert future.get() == "x"


def test_a_token_can_be_yielded_from(start: Any) -> None:
    """`yield from` waits as `await` does, in code that still does it that way."""

    class Echo(CpuActor):
        def on_receive(self, message: Any) -> Any:
            return message

    @types.coroutine
    def old() -> Any:
        return (yield from start(Echo).ask("x", block=False))

    async def main() -> Any:
        return await old()

    assert asyncio.run(main()) == "x"
