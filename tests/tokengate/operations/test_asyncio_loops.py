"""Tokens in loops of the program: several loops at once, loops that end, and gates that close meanwhile."""

from __future__ import annotations

import asyncio
import gc
import sys
import threading
from collections import Counter
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from tokengate import Gate, Token, TokenState, token
from tokengate.errors import TokenTerminated

WAIT = 60.0  # seconds; only reached when something is broken

Loop = asyncio.AbstractEventLoop


@token(affinity="asyncio")
async def where() -> Loop:
    await asyncio.sleep(0)
    return asyncio.get_running_loop()


@token(affinity="asyncio", concurrency=1)
async def one_at_a_time() -> Loop:
    await asyncio.sleep(0)
    return asyncio.get_running_loop()


@token(affinity="asyncio")
async def forever(begun: threading.Event | None = None) -> None:
    if begun is not None:
        begun.set()
    await asyncio.get_running_loop().create_future()


@token(affinity="asyncio", concurrency=1)
async def queued(*, hang: bool) -> None:
    await (asyncio.get_running_loop().create_future() if hang else asyncio.sleep(0))


@token(affinity="asyncio")
def in_steps() -> Any:
    yield
    return asyncio.get_running_loop()


def run(main: Callable[[], Coroutine[Any, Any, Any]]) -> Any:
    return asyncio.run(asyncio.wait_for(main(), WAIT))


@pytest.fixture
def gate() -> Iterator[Gate]:
    with Gate("test", threads=2, shutdown=4) as gate:
        yield gate


@pytest.fixture
def loop() -> Iterator[Loop]:
    """A loop that a thread runs, until the test closes it or is over."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    yield loop
    if not loop.is_closed():
        loop.call_soon_threadsafe(loop.stop)
    thread.join(WAIT)
    loop.close()


async def begun(sent: Token[Any]) -> None:
    while sent.started_at is None:
        await asyncio.sleep(0)


def live(gate: Gate) -> list[Token[Any]]:
    return [one for one in list(gate._system.live.values()) if not one.serves_operators]


def test_a_loop_of_the_program_runs_its_tokens_without_another_thread(gate: Gate) -> None:
    """The gate's own loop is not made for them; steps of generators are taken there, too."""

    async def main() -> None:
        here = asyncio.get_running_loop()
        assert {await one for one in [where.submit(), await where.asubmit(), in_steps.submit()]} == {here}

    run(main)

    assert not gate._system.asyncio_hosts.own.runs


@pytest.mark.parametrize("operation", [where, one_at_a_time])
def test_loops_in_several_threads_each_get_their_own_tokens(gate: Gate, operation: Any) -> None:
    """Whichever loop's worker takes a token, it runs where it was submitted; none is lost."""

    async def main(number: int) -> int:
        here = asyncio.get_running_loop()
        sent = [operation.submit() for _ in range(20)]
        assert {await one for one in sent} == {here}
        assert {await operation() for _ in range(5)} == {here}
        return number

    with ThreadPoolExecutor(3) as threads:
        numbers = list(threads.map(lambda number: run(lambda: main(number)), range(6)))
        own = {operation.submit().result(WAIT) for _ in range(5)}

    assert numbers == list(range(6))
    assert own == {gate._system.asyncio_hosts.own._loop}
    assert live(gate) == []


def test_tokens_of_several_loops_wait_in_one_queue_and_each_runs_at_home(gate: Gate, loop: Loop) -> None:
    """Also those that queue while the operation is suspended: a worker that takes one of another loop passes it on."""

    async def main() -> None:
        await where()
        await gate.control.aio.suspend("operations/where")
        here = asyncio.get_running_loop()

        async def there() -> list[Token[Loop]]:
            return [where.submit() for _ in range(5)]

        sent = [where.submit() for _ in range(5)]
        sent += await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(there(), loop))
        sent += [await asyncio.to_thread(where.submit)]
        await gate.control.aio.unsuspend("operations/where")
        found = Counter([await one for one in sent])
        assert found == {here: 5, loop: 5, gate._system.asyncio_hosts.own._loop: 1}

    run(main)


def test_a_token_is_cancelled_and_paused_in_the_loop_of_the_program(gate: Gate, loop: Loop) -> None:
    """From other threads, as everywhere."""

    async def submit(event: threading.Event | None = None) -> Token[Any]:
        return forever.submit(event)

    events = [threading.Event(), threading.Event()]
    first, second = (asyncio.run_coroutine_threadsafe(submit(event), loop).result(WAIT) for event in events)
    assert all(event.wait(WAIT) for event in events)
    [paused] = gate.control.pause(second, wait=WAIT)
    first.cancel()

    assert paused.outcome == "paused"
    assert isinstance(first.exception(WAIT), TokenTerminated)
    gate.control.terminate(second, wait=WAIT)
    assert isinstance(second.exception(WAIT), TokenTerminated)


# Loops that end


def test_tokens_that_asyncio_run_cancels_at_its_end_say_so(gate: Gate) -> None:
    """Those that run; the error names the cause."""

    async def main() -> Token[Any]:
        sent = forever.submit()
        await begun(sent)
        return sent

    sent = run(main)

    assert sent.state is TokenState.TERMINATED
    assert "as asyncio.run does" in str(sent.exception())


def test_tokens_of_a_loop_that_is_closed_are_ended(gate: Gate, caplog: pytest.LogCaptureFixture) -> None:
    """Those that run there, those that are to, and those that are queued: nobody has cancelled their tasks."""
    loop = asyncio.new_event_loop()

    async def main() -> list[Token[Any]]:
        sent = [forever.submit(), queued.submit(hang=True), queued.submit(hang=True)]
        await begun(sent[0])
        await begun(sent[1])
        return [*sent, forever.submit()]

    sent = loop.run_until_complete(main())
    loop.close()
    errors = [one.exception(WAIT) for one in sent]
    gc.collect()

    assert [type(error) for error in errors] == [TokenTerminated] * 4
    assert all("loop has ended" in str(error) for error in errors)
    assert caplog.messages == []
    assert live(gate) == []
    assert queued.submit(hang=False).result(WAIT) is None


def test_a_loop_that_goes_on_later_goes_on_with_its_tokens(gate: Gate) -> None:
    """One that is stopped has not ended."""
    loop = asyncio.new_event_loop()

    async def submit() -> Token[Loop]:
        return where.submit()

    async def wait(sent: Token[Loop]) -> Loop:
        return await sent

    sent = loop.run_until_complete(submit())
    assert loop.run_until_complete(wait(sent)) is loop
    loop.close()


def test_an_operation_serves_further_loops_after_one_has_ended(
    gate: Gate, until: Callable[[Callable[[], bool]], None]
) -> None:
    """Nothing is left of those that have ended."""
    for _ in range(5):
        assert run(_submit_and_wait) is None
    drain = gate._operations[where._spec].drain
    where.submit().result(WAIT)

    assert len(gate._system.asyncio_hosts.all()) <= 2
    own = gate._system.asyncio_hosts.own
    until(lambda: {worker.host for worker in drain.workers} == {own})  # type: ignore[attr-defined]


async def _submit_and_wait() -> None:
    assert await where.submit() is asyncio.get_running_loop()


# Gates that close


@pytest.mark.parametrize("how", ["aclose", "thread", "here"])
def test_a_gate_that_closes_while_the_loop_runs_ends_its_tokens(how: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever closes it; the loop goes on, and nothing of the gate is left in it."""
    monkeypatch.setattr("tokengate.gate._gate._THREADS_SECONDS", 0.1)

    async def main() -> None:
        before = asyncio.all_tasks()
        gate = Gate("test", threads=2).open()
        done, sent = where.submit(), forever.submit()
        await begun(sent)
        if how == "aclose":
            await gate.aclose(0.2)
        elif how == "thread":
            await asyncio.to_thread(gate.close, 0.2)
        else:
            gate.close(0.2)
        assert sent.state is TokenState.TERMINATED
        assert done.done()
        while asyncio.all_tasks() != before:
            await asyncio.sleep(0)

    run(main)


def test_a_gate_that_closes_after_the_loop_waits_for_nothing(gate: Gate) -> None:
    """The loop's thread is not reported as left behind."""
    run(_submit_and_wait)

    assert gate.close().abandoned == ()


@pytest.mark.skipif(sys.version_info < (3, 12), reason="asyncio has no eager tasks before Python 3.12")
def test_a_loop_with_eager_tasks_begins_no_token_within_the_code_that_submits_it(gate: Gate) -> None:
    """Tokens that submit each other do not nest on the stack of the first one."""
    begun: list[int] = []

    @token(affinity="asyncio")
    async def descend(depth: int) -> int:
        begun.append(depth)
        if not depth:
            return 0
        below = await descend.asubmit(depth - 1)
        assert begun[-1] == depth
        return await below + 1

    async def main() -> int:
        asyncio.get_running_loop().set_task_factory(asyncio.eager_task_factory)  # type: ignore[attr-defined,unused-ignore]
        return await (await descend.asubmit(20))

    assert run(main) == 20
