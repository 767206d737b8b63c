"""The executor of a gate: `concurrent.futures`, where each call is a token."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextvars
import copy
import threading
from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest
import trio
from interrupts import HOMES, Strike, in_thread
from tiers import in_ci

from tokengate import Gate, TokenState, checkpoint, current_token, token
from tokengate.errors import BadOperation, GateState, MailboxFull, TokenFailed, TokenTerminated, WouldBlock
from tokengate.operations._executor import TokenFuture

WAIT = 60.0  # seconds; only reached when something is broken

HOMES_OF_FUTURES = (*HOMES, concurrent.futures._base.__file__, threading.__file__)


@pytest.fixture
def gate() -> Iterator[Gate]:
    with Gate("test", threads=2, shutdown=5.0) as gate:
        yield gate


def square(n: int) -> int:
    return n * n


class Blocker:
    """A function that tells when it runs, and runs until the test lets it end."""

    def __init__(self) -> None:
        self.started, self.release = threading.Event(), threading.Event()

    def __call__(self) -> str:
        self.started.set()
        assert self.release.wait(WAIT)
        return "released"


@pytest.fixture
def blocker(gate: Gate) -> Iterator[Blocker]:
    made = Blocker()
    yield made
    made.release.set()


@in_ci
@pytest.mark.parametrize("act", ["cancel", "done", "exception", "result", "running"])
def test_a_future_that_is_interrupted_gets_its_outcome(gate: Gate, act: str) -> None:
    """Wherever in its code a signal handler raises, in that of `concurrent.futures` as well."""
    executor = gate.executor()
    for at in range(1, 1_000):
        future = executor.submit(square, 3)
        strike = Strike(at, grain="signal", homes=HOMES_OF_FUTURES)
        _, error = strike.run(getattr(future, act))
        settled, wrong = in_thread(lambda future=future: concurrent.futures.wait([future], WAIT).done, 2 * WAIT)
        assert wrong == "", strike.places
        assert settled == {future}, strike.places
        assert future.cancelled() or future.result() == 9
        if not strike.places:
            break
    else:
        raise AssertionError("it never comes to its end")

    assert error is None or isinstance(error, concurrent.futures.CancelledError)
    assert at > 1


@in_ci
def test_a_future_of_a_queued_call_that_is_cancelled_is_settled_wherever_that_is_interrupted(
    gate: Gate, until: Any
) -> None:
    """By the call of `cancel`, which ends the token on its thread: `wait` and each callback see the outcome once."""
    executor = gate.executor(concurrency=1)
    for at in range(1, 1_000):
        blocker = Blocker()
        blocked = executor.submit(blocker)
        future = executor.submit(square, 3)
        called: list[int] = []
        for number in range(2):
            future.add_done_callback(partial(_note, called, number))
        strike = Strike(at, grain="signal", homes=HOMES_OF_FUTURES)
        strike.run(future.cancel)
        blocker.release.set()
        settled, wrong = in_thread(lambda future=future: concurrent.futures.wait([future], WAIT).done, 2 * WAIT)
        assert wrong == "", strike.places
        assert settled == {future}, strike.places
        assert future.cancelled() or future.result() == 9
        assert blocked.result(WAIT) == "released"
        until(lambda called=called: len(called) >= 2)  # a call that ran calls them after it has told the waiters
        assert called == [0, 1], strike.places
        if not strike.places:
            break
    else:
        raise AssertionError("it never comes to its end")

    assert future.cancelled()
    assert at > 20


def test_a_failure_that_was_interrupted_ends_a_wait_for_the_first_one(
    gate: Gate, blocker: Blocker, until: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is told as a failure, not as a result, when the future is settled again."""
    executor = gate.executor(concurrency=2)
    go = threading.Event()

    def fail() -> None:
        assert go.wait(WAIT)
        raise ValueError("it failed")

    failing, other = executor.submit(fail), executor.submit(blocker)
    ended: list[Any] = []
    waits = partial(concurrent.futures.wait, [failing, other], WAIT, concurrent.futures.FIRST_EXCEPTION)
    waiting = threading.Thread(target=lambda: ended.append(waits()))
    waiting.start()
    until(lambda: bool(other._waiters))  # type: ignore[attr-defined]

    class Interrupted(BaseException):
        pass

    def interrupted(*_: object) -> None:
        raise Interrupted

    with monkeypatch.context() as patch:
        patch.setattr(concurrent.futures._base._AllCompletedWaiter, "add_exception", interrupted)
        go.set()
        until(lambda: getattr(failing, "_interrupted", False))
    assert isinstance(failing.exception(WAIT), ValueError)
    waiting.join(WAIT)

    assert ended == [({failing}, {other})]


def _note(called: list[int], number: int, _future: object) -> None:
    called.append(number)


def token_of(future: concurrent.futures.Future[Any]) -> Any:
    assert isinstance(future, TokenFuture)
    return future.token


def test_submit_returns_a_future_whose_call_is_a_token(gate: Gate) -> None:
    """It has the function's name and the caller's context, and runs on a CPU thread."""
    colour = contextvars.ContextVar("colour", default="none")
    colour.set("red")

    def look(_argument: int, *, key: str) -> tuple[str, str, str]:
        inside = current_token()
        assert inside is not None
        return inside.operation, threading.current_thread().name[:8], colour.get() + key

    future = gate.executor().submit(look, 1, key="!")

    assert isinstance(future, concurrent.futures.Future)
    assert future.result(WAIT) == ("look", "test-cpu", "red!")
    assert token_of(future).state is TokenState.COMPLETED
    assert future.done()
    assert not future.running()


def test_it_is_a_thread_pool_executor_without_threads(gate: Gate) -> None:
    """Some code accepts nothing else; its bounds are checked."""
    executor = gate.executor(concurrency=7)

    assert isinstance(executor, concurrent.futures.ThreadPoolExecutor)
    assert (executor._max_workers, gate.executor()._max_workers) == (7, 2)
    assert executor.submit(square, 3).result(WAIT) == 9
    assert not executor._threads
    with pytest.raises(ValueError, match="concurrency of 'executor' is 0; it must be an int of at least 1"):
        gate.executor(concurrency=0)


def test_it_is_the_default_executor_of_asyncio(gate: Gate) -> None:
    """The calls of `asyncio.to_thread` are tokens, in a copy of their caller's context, and know that they are."""
    colour = contextvars.ContextVar("colour", default="none")

    def look(argument: int, *, key: str) -> tuple[str, str, int, str]:
        inside = current_token()
        assert inside is not None
        seen = colour.get()
        colour.set("blue")
        return inside.operation, inside.state, argument, seen + key

    def stop() -> None:
        inside = current_token()
        assert inside is not None
        inside.cancel()
        checkpoint()

    async def main() -> tuple[tuple[str, str, int, str], str]:
        asyncio.get_running_loop().set_default_executor(gate.executor())
        colour.set("red")
        seen = await asyncio.to_thread(look, 3, key="!")
        with pytest.raises(TokenTerminated):
            await asyncio.to_thread(stop)
        return seen, colour.get()

    assert asyncio.run(main()) == (("look", TokenState.RUNNING, 3, "red!"), "red")


def test_a_context_that_a_call_runs_in_does_not_keep_the_token(gate: Gate) -> None:
    """It is as it was, apart from what the function itself has set."""
    context = contextvars.copy_context()
    assert gate.executor().submit(partial(context.run, current_token)).result(WAIT) is not None

    assert context.run(current_token) is None
    assert gate.executor().submit(context.run, current_token).result(WAIT) is None  # as it is written


def test_a_copy_of_a_future_is_that_future(gate: Gate) -> None:
    """As a copy of a token is that token."""
    future = gate.executor().submit(square, 3)

    assert copy.copy(future) is future
    assert copy.deepcopy([future])[0] is future


def test_names_are_those_of_what_is_inside(gate: Gate) -> None:
    """A partial has the name of its function, an object that of its class."""
    executor = gate.executor()

    assert token_of(executor.submit(partial(square, 3))).operation == "square"
    assert token_of(executor.submit(partial(int, "3"))).operation == "int"


def test_an_exception_of_the_function_is_the_futures(gate: Gate) -> None:
    """Unchanged, when it is an `Exception`; `sys.exit()` and the like are wrapped, and end nobody else."""
    executor = gate.executor(concurrency=1)

    def fail(error: BaseException) -> None:
        raise error

    error = ValueError("no")
    assert executor.submit(fail, error).exception(WAIT) is error
    with pytest.raises(TokenFailed):
        executor.submit(fail, SystemExit(3)).result(WAIT)
    assert executor.submit(square, 4).result(WAIT) == 16


def test_wait_as_completed_and_map_work(gate: Gate) -> None:
    """The functions of `concurrent.futures` see nothing unusual."""
    with gate.executor() as executor:
        futures = [executor.submit(square, n) for n in range(5)]
        done, waiting = concurrent.futures.wait(futures, WAIT)

        assert (len(done), len(waiting)) == (5, 0)
        assert sorted(f.result() for f in concurrent.futures.as_completed(futures, WAIT)) == [0, 1, 4, 9, 16]
        assert list(executor.map(square, range(50), timeout=WAIT)) == [n * n for n in range(50)]


def test_cancelling_a_queued_call_cancels_its_token(gate: Gate, blocker: Blocker) -> None:
    """It never runs; whoever waits for it in whatever way is told."""
    executor = gate.executor(concurrency=1)
    first, ran, called = executor.submit(blocker), [], []
    assert blocker.started.wait(WAIT)
    queued = executor.submit(ran.append, 1)
    queued.add_done_callback(called.append)

    assert first.running()
    assert not queued.running()
    assert queued.cancel()
    assert queued.cancel()
    assert queued.cancelled()
    assert token_of(queued).state is TokenState.TERMINATED
    assert called == [queued]
    assert concurrent.futures.wait([queued], WAIT).done == {queued}
    assert list(concurrent.futures.as_completed([queued], WAIT)) == [queued]
    with pytest.raises(concurrent.futures.CancelledError):
        queued.result(WAIT)
    with pytest.raises(concurrent.futures.CancelledError):
        queued.exception(WAIT)
    blocker.release.set()
    assert first.result(WAIT) == "released"
    assert first.cancel() is False
    assert ran == []


def test_cancelling_a_call_that_runs_asks_it_to_end(gate: Gate) -> None:
    """`cancel` says that it was not cancelled yet; a checkpoint lets it end."""
    started = threading.Event()

    def spin() -> None:
        while True:
            started.set()
            checkpoint()

    future = gate.executor().submit(spin)
    started.wait(WAIT)
    future.cancel()
    with pytest.raises(concurrent.futures.CancelledError):
        future.result(WAIT)

    assert future.cancelled()


def test_a_token_that_an_operator_cancels_is_a_clear_error(gate: Gate, blocker: Blocker) -> None:
    """The future was not cancelled by its owner, and says what has happened."""
    executor = gate.executor(concurrency=1)
    executor.submit(blocker)
    queued = executor.submit(square, 2)
    token_of(queued).cancel()

    assert not queued.cancelled()
    with pytest.raises(TokenTerminated, match="square"):
        queued.result(WAIT)


def test_a_result_that_is_not_there_in_time_is_a_timeout(gate: Gate, blocker: Blocker) -> None:
    """As with any future; the call goes on."""
    future = gate.executor().submit(blocker)
    with pytest.raises(concurrent.futures.TimeoutError):
        future.result(0.0)
    blocker.release.set()

    assert future.result(WAIT) == "released"


def test_submit_waits_while_the_queue_is_full(gate: Gate, blocker: Blocker) -> None:
    """Backpressure: a producer is never more than `capacity` calls ahead."""
    executor = gate.executor(concurrency=1, capacity=2)
    executor.submit(blocker)
    assert blocker.started.wait(WAIT)
    submitted = []
    producer = threading.Thread(target=lambda: submitted.extend(executor.submit(square, n) for n in range(9)))
    producer.start()
    while executor._place.mailbox.statistics().senders_waiting == 0:
        pass

    assert executor._place.mailbox.size == 2
    blocker.release.set()
    producer.join(WAIT)
    assert [future.result(WAIT) for future in submitted] == [n * n for n in range(9)]


def test_a_call_that_waits_for_another_does_not_hold_its_thread(gate: Gate) -> None:
    """A chain as long as it likes works with one call at a time."""
    executor = gate.executor(concurrency=1)

    def descend(n: int) -> int:
        return 0 if n == 0 else 1 + executor.submit(descend, n - 1).result(WAIT)

    assert executor.submit(descend, 20).result(WAIT) == 20


def test_nothing_is_accepted_after_shutdown(gate: Gate) -> None:
    """`RuntimeError`, as everywhere in `concurrent.futures`; what was accepted has run, and the name is free."""
    executor = gate.executor()
    futures = [executor.submit(square, n) for n in range(20)]
    executor.shutdown()

    assert all(future.done() for future in futures)
    with pytest.raises(RuntimeError, match=r"shut down; 'square' was not accepted"):
        executor.submit(square, 1)
    executor.shutdown()
    assert executor._place not in gate._system.places()


def test_shutdown_can_leave_running_calls_and_cancel_queued_ones(gate: Gate, blocker: Blocker) -> None:
    """`wait=False` returns at once; `cancel_futures` spares what runs."""
    executor = gate.executor(concurrency=1)
    running, queued = executor.submit(blocker), executor.submit(square, 2)
    assert blocker.started.wait(WAIT)
    executor.shutdown(wait=False, cancel_futures=True)

    assert queued.cancelled()
    assert running.running()
    blocker.release.set()
    assert running.result(WAIT) == "released"
    while executor._place in gate._system.places():
        pass


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("drain", [True, False])
def test_a_gate_that_closes_ends_the_futures(drain: bool) -> None:
    """What cannot be finished ends with an error, and a closed gate takes no calls."""
    block = Blocker()
    with Gate("test", shutdown=0.1) as gate:
        executor = gate.executor(concurrency=1)
        running, queued = executor.submit(block), executor.submit(square, 2)
        assert block.started.wait(WAIT)
        gate.close(drain=drain)

        for future in (running, queued):
            with pytest.raises(Exception, match=r"ended|closed"):
                future.result(WAIT)
        with pytest.raises(GateState):
            executor.submit(square, 1)
    block.release.set()


async def _coroutine() -> None: ...


@token
async def operation() -> None: ...


@pytest.mark.parametrize("function", [_coroutine, operation, partial(_coroutine), 7])
def test_what_is_no_plain_function_is_refused(gate: Gate, function: Any) -> None:
    """At the call, by name, with the remedy."""
    with pytest.raises(BadOperation, match=r"put @token on it|7 is none"):
        gate.executor().submit(function)


def test_asyncio_runs_its_blocking_calls_there(gate: Gate) -> None:
    """`run_in_executor`, its errors, and a cancelled await, which cancels the token."""
    executor, block = gate.executor(concurrency=1), Blocker()

    def fail() -> None:
        raise LookupError("no")

    async def main() -> Any:
        loop = asyncio.get_running_loop()
        assert await loop.run_in_executor(executor, square, 5) == 25
        with pytest.raises(LookupError):
            await loop.run_in_executor(executor, fail)
        running, queued = loop.run_in_executor(executor, block), executor.submit(square, 1)
        waiter = asyncio.wrap_future(queued)
        waiter.cancel()
        await asyncio.sleep(0)
        block.release.set()
        assert await asyncio.wait_for(running, WAIT) == "released"
        return queued

    assert asyncio.run(main()).cancelled()


def test_on_a_trio_loop_nothing_blocks(gate: Gate, blocker: Blocker) -> None:
    """Waiting raises; a full queue refuses the call; the token can be awaited instead."""
    executor = gate.executor(concurrency=1, capacity=1)
    running = executor.submit(blocker)
    assert blocker.started.wait(WAIT)
    executor.submit(square, 1)

    async def main() -> Any:
        with pytest.raises(WouldBlock):
            running.result()
        with pytest.raises(WouldBlock, match="wait=False"):
            executor.shutdown()
        blocker.release.set()
        return await token_of(running)

    async def refused() -> Any:
        return executor.submit(square, 2).exception()

    assert isinstance(trio.run(refused), MailboxFull)
    assert trio.run(main_with(main)) == "released"


def main_with(main: Any) -> Any:
    async def limited() -> Any:
        with trio.fail_after(WAIT):
            return await main()

    return limited
