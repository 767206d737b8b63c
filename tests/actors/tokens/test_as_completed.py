"""Waiting for several tokens and futures at once, in threads, trio and asyncio."""

from __future__ import annotations

import asyncio
import concurrent.futures
import gc
import threading
import weakref
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import trio

from actors import ActorSystem, Token, Waited, WaitTimeout, WouldBlock, as_completed, current_token, wait
from actors import DeadlockError as Deadlock
from actors.concurrency._future import Future, Reply

LIMIT = 30.0


def in_thread(make: Callable[[], Any]) -> Any:
    return make()


def in_trio(make: Callable[[], Any]) -> Any:
    async def main() -> Any:
        with trio.fail_after(LIMIT):
            return await make()

    return trio.run(main)


def in_asyncio(make: Callable[[], Any]) -> Any:
    async def main() -> Any:
        return await asyncio.wait_for(make(), LIMIT)

    return asyncio.run(main())


async def listed(futures: Any, timeout: float | None = None) -> list[Any]:
    return [future async for future in as_completed(futures, timeout)]


def all_of(run: Any, futures: Any, timeout: float | None = None) -> list[Any]:
    """Return futures as they complete, in this kind of code."""
    if run is in_thread:
        return list(as_completed(futures, timeout))
    return list(run(lambda: listed(futures, timeout)))


async def awaited(waited: Awaitable[Any]) -> Any:
    return await waited


def waited_in(run: Any, *args: Any, **kwargs: Any) -> Waited[Any]:
    """Wait in this kind of code."""
    if run is in_thread:
        return wait(*args, **kwargs)

    async def main() -> Any:
        return await wait(*args, **kwargs)

    return run(main)  # type: ignore[no-any-return]


@pytest.fixture(params=[in_thread, in_trio, in_asyncio])
def run(request: pytest.FixtureRequest) -> Any:
    return request.param


@pytest.fixture
def submit(system: ActorSystem) -> Callable[..., Token[Any]]:
    place = system.operation_place("work", "cpu", generator=False, concurrency=50)

    def send(call: Callable[..., Any], *args: Any) -> Token[Any]:
        token: Token[Any] = place.send(place.token("work", call, args))
        return token

    return send


class Gates:
    """Functions that end when the test says so."""

    def __init__(self, number: int) -> None:
        self.open = [threading.Event() for _ in range(number)]

    def pass_(self, number: int) -> int:
        assert self.open[number].wait(LIMIT)
        return number


def test_they_come_in_the_order_in_which_they_end(run: Any, submit: Any, until: Any) -> None:
    """Tokens and futures alike, each once."""
    gates = Gates(3)
    tokens = [submit(gates.pass_, number) for number in range(3)]
    future: concurrent.futures.Future[int] = concurrent.futures.Future()
    reply: Reply[int] = Reply()

    def open_all() -> None:
        until(lambda: bool(reply._callbacks))  # all are waited for: what has ended before comes in the given order
        for number in (2, 0, 1):
            gates.open[number].set()
            tokens[number].result(LIMIT)
        future.set_result(3)
        reply._set(4)

    opening = threading.Thread(target=open_all)
    opening.start()
    found = all_of(run, [*tokens, future, reply, tokens[0]])
    opening.join(LIMIT)

    assert [one.result() for one in found] == [2, 0, 1, 3, 4]


def test_those_that_have_ended_come_at_once(run: Any, submit: Any) -> None:
    """Failed ones too; an empty set has none."""
    tokens = [submit(int, "3"), submit(int, "x")]
    for one in tokens:
        one.exception(LIMIT)

    assert all_of(run, tokens, 0) == tokens
    assert all_of(run, []) == []
    assert [set(part) for part in waited_in(run, [])] == [set(), set()]


def test_what_has_not_ended_in_time_is_an_error_of_as_completed(run: Any) -> None:
    """It is raised after those that have ended; no callback is left at the others."""
    ended: Reply[int] = Reply()
    ended._set(1)
    never: Reply[int] = Reply()

    with pytest.raises(WaitTimeout, match=r"1 of 2 had not ended after 0.01 s"):
        all_of(run, [ended, never], 0.01)
    assert not never._callbacks


def test_a_loop_that_is_left_early_leaves_nothing_at_what_has_not_ended(run: Any) -> None:
    """A token that runs for long may be in many such loops."""
    ended: Reply[int] = Reply()
    ended._set(1)
    never: Reply[int] = Reply()

    async def first() -> Any:
        async for future in as_completed([never, ended]):
            return future
        return None

    assert (next(as_completed([never, ended])) if run is in_thread else run(first)) is ended
    gc.collect()
    assert not never._callbacks


@pytest.mark.parametrize(
    ("return_when", "ends", "done"),
    [
        ("ALL_COMPLETED", "fail, 0, 1", {"fail", 0, 1}),
        ("FIRST_COMPLETED", "0", {0}),
        ("FIRST_EXCEPTION", "0, fail", {0, "fail"}),
    ],
)
def test_wait_returns_when_enough_have_ended(run: Any, return_when: Any, ends: str, done: set[Any]) -> None:
    """`done` has all that have ended by then."""
    replies: dict[Any, Reply[Any]] = {name: Reply() for name in ("fail", 0, 1)}

    def end() -> None:
        for name in ends.split(", "):
            if name == "fail":
                replies[name]._set(error=ValueError("no"))
            else:
                replies[int(name)]._set(int(name))

    ending = threading.Timer(0.01, end)
    ending.start()
    finished, rest = waited_in(run, replies.values(), return_when=return_when)
    ending.join(LIMIT)

    assert finished | rest == set(replies.values())
    assert finished == {replies[name] for name in done}
    assert not any(reply._callbacks for reply in rest)


def test_a_cancelled_future_is_no_failed_one(run: Any) -> None:
    """As for `concurrent.futures.wait`."""
    cancelled: concurrent.futures.Future[int] = concurrent.futures.Future()
    cancelled.cancel()
    cancelled.set_running_or_notify_cancel()

    finished, rest = waited_in(run, [cancelled, Reply()], 0.01, "FIRST_EXCEPTION")

    assert (finished, len(rest)) == ({cancelled}, 1)


def test_wait_returns_after_its_time(run: Any) -> None:
    """With what has ended."""
    never: Reply[int] = Reply()
    waited = waited_in(run, [never], 0.01)

    assert (waited.done, waited.not_done) == (set(), {never})


def test_a_wait_that_is_cancelled_leaves_nothing() -> None:
    """In trio and in asyncio."""
    never: Reply[int] = Reply()

    async def in_time() -> None:
        with trio.move_on_after(0.01):
            await wait([never])

    async def cancelled() -> None:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01):
                await wait([never])

    trio.run(in_time)
    asyncio.run(cancelled())
    assert not never._callbacks


def test_futures_of_asyncio_are_awaited_on_their_loop() -> None:
    """And nowhere else."""

    async def main() -> asyncio.Future[int]:
        loop = asyncio.get_running_loop()
        future = loop.create_future()
        other = loop.create_future()
        loop.call_soon(future.set_result, 3)
        done, _ = await wait([future, other], return_when="FIRST_COMPLETED")
        assert done == {future}
        assert await listed([future]) == [future]
        return other

    other = asyncio.run(main())
    with pytest.raises(TypeError, match=r"is of another loop: wait for it there, with 'await wait\(...\)'"):
        wait([other])


@pytest.mark.parametrize("run", [in_trio, in_asyncio])
def test_on_a_loop_it_must_be_awaited(run: Any) -> None:
    """Nothing blocks a loop."""

    async def main() -> None:
        for look in (
            lambda: wait([Reply()]).done,
            lambda: tuple(wait([Reply()])),
            lambda: list(as_completed([Reply()])),
        ):
            with pytest.raises(WouldBlock, match=r"would block the loop of this thread; (write 'await|use 'async for)"):
                look()

    run(main)


def test_what_cannot_be_waited_for_is_named() -> None:
    """A coroutine, say, or a future that is computed when it is asked for."""

    async def coroutine() -> None: ...

    for wrong, said in ((3, "3 is no token and no future; submit it"), (Future.made_of((), int), "computed when")):
        with pytest.raises(TypeError, match=said):
            wait([wrong])  # type: ignore[type-var]
    made = coroutine()
    with pytest.raises(TypeError, match="start it as a task"):
        as_completed([made])  # type: ignore[type-var]
    made.close()
    for function in (wait, as_completed):
        with pytest.raises(TypeError, match=r"is one future, where several may be waited for; pass a list: \["):
            function(Reply())  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"return_when is 'SOME'; choose one of \('ALL_COMPLETED', "):
        wait([], return_when="SOME")  # type: ignore[arg-type]


def test_a_step_that_waits_for_several_makes_room(system: ActorSystem) -> None:
    """Its thread and its turn are lent to the tokens that it waits for."""
    place = system.operation_place("alone", "cpu", generator=False, concurrency=1)

    def work(depth: int) -> int:
        if not depth:
            return 1
        tokens = [place.send(place.token("work", work, (depth - 1,))) for _ in range(2)]
        done, rest = wait(tokens)
        assert not rest
        return sum(token.result() for token in as_completed(done))

    assert place.send(place.token("work", work, (5,))).result(LIMIT) == 32


@pytest.mark.parametrize("mode", ["wait", "as_completed"])
def test_a_wait_that_could_never_end_is_refused(system: ActorSystem, mode: str) -> None:
    """Of several, once the token that waits is the last one that is left."""
    place = system.operation_place("alone", "cpu", generator=False, concurrency=2)

    def work() -> None:
        inside = current_token()
        assert inside is not None
        other = place.send(place.token("int", int, ()))
        if mode == "wait":
            wait([other, inside])
        else:
            list(as_completed([other, inside]))

    with pytest.raises(Deadlock, match="waiting here would never end"):
        place.send(place.token("work", work, ())).result(LIMIT)


def test_coroutines_that_wait_for_several_make_room(system: ActorSystem) -> None:
    """As those do that await one token."""
    place = system.operation_place("alone", "io", generator=False, concurrency=1)

    async def work(depth: int) -> int:
        if not depth:
            return 1
        tokens = [place.send(place.token("work", work, (depth - 1,))) for _ in range(2)]
        done, _ = await wait(tokens)
        return sum([token.result() async for token in as_completed(done)])

    assert place.send(place.token("work", work, (4,))).result(LIMIT) == 16


def test_a_loop_that_is_left_keeps_nothing(submit: Any) -> None:
    """Not even while the rest goes on."""
    first: Reply[int] = Reply()
    first._set(1)
    never: Reply[int] = Reply()
    waiting = as_completed([first, never])
    assert next(waiting) is first
    gone = weakref.ref(waiting)
    del waiting
    gc.collect()

    assert gone() is None
    never._set(2)


def test_a_callback_that_is_called_twice_gives_it_once(submit: Any) -> None:
    """Recovery may repeat one after an interrupt."""
    one: Reply[int] = Reply()
    other: Reply[int] = Reply()
    waiting = as_completed([one, other])
    one._set(1)
    waiting._callback(one)
    other._set(2)

    assert next(waiting) is one
    waiting._callback(one)
    assert list(waiting) == [other]


def test_what_was_waited_for_is_told_by_its_repr(run: Any) -> None:
    """How many have ended, and how many have not."""
    done: Reply[int] = Reply()
    done._set(1)

    assert repr(waited_in(run, [done, Reply()], return_when="FIRST_COMPLETED")) == "<Waited: 1 done, 1 not done>"


def test_a_timeout_that_is_no_number_is_refused_before_anything_waits() -> None:
    """The error names the value and the remedy."""
    for waits in (wait, as_completed):
        with pytest.raises(TypeError, match=r"timeout is '1'; it must be a number of seconds, or None"):
            waits([Reply()], "1")  # type: ignore[arg-type, operator]
