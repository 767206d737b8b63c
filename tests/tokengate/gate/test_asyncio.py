"""A gate in an asyncio program: `async with`, in the caller's loop."""

from __future__ import annotations

import asyncio
import gc
import signal
import threading
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from tokengate import AsyncioActor, ChildSpec, CpuActor, Gate, TokenState, token
from tokengate.errors import GateState, StartFailed, WouldBlock
from tokengate.types import current_gate

WAIT = 60.0  # seconds; only reached when something is broken


class Echo(AsyncioActor):
    def __init__(self, log: list[str] | None = None) -> None:
        super().__init__()
        self.log = [] if log is None else log

    async def on_stop(self) -> None:
        await asyncio.sleep(0)
        self.log.append("stopped")

    async def relay(self, queue: asyncio.Queue[str]) -> tuple[str, int]:
        return await queue.get(), threading.get_ident()

    async def forever(self) -> None:
        await asyncio.get_running_loop().create_future()

    def blocking(self, ref: Any) -> Any:
        return ref.ask("something")


class Adder(CpuActor):
    def add(self, a: int, b: int) -> tuple[int, int]:
        return a + b, threading.get_ident()


@token(affinity="asyncio")
async def set_event(event: asyncio.Event) -> asyncio.AbstractEventLoop:
    event.set()
    await asyncio.sleep(0)
    return asyncio.get_running_loop()


@token(affinity="asyncio")
async def forever() -> None:
    await asyncio.get_running_loop().create_future()


@token
def double(n: int) -> int:
    return 2 * n


def run(main: Callable[[], Coroutine[Any, Any, Any]]) -> Any:
    return asyncio.run(asyncio.wait_for(main(), WAIT))


def test_asyncio_code_shares_the_objects_of_the_callers_loop() -> None:
    """Queues and events of the program work in actors and operations, for it is one loop."""

    async def main() -> None:
        async with Gate("test", children=[ChildSpec("echo", Echo)]) as gate:
            queue: asyncio.Queue[str] = asyncio.Queue()
            answer = gate.find("echo").proxy().relay(queue)
            queue.put_nowait("hello")
            event, other = asyncio.Event(), asyncio.Event()

            assert await answer == ("hello", threading.get_ident())
            assert await set_event(event) is asyncio.get_running_loop()
            assert await set_event.submit(other) is asyncio.get_running_loop()
            assert event.is_set()
            assert other.is_set()

    run(main)


def test_cpu_code_runs_elsewhere_and_is_awaited() -> None:
    """Only asyncio code belongs to the loop."""

    async def main() -> None:
        async with Gate("test") as gate:
            adder = (await gate.aspawn(Adder)).proxy()
            total, thread = await adder.add(1, 2)

            assert total == 3
            assert thread != threading.get_ident()
            assert await double.submit(4) == 8

    run(main)


def test_the_loop_runs_while_the_gate_opens_and_closes(monkeypatch: pytest.MonkeyPatch) -> None:
    """What blocks is done by threads; here it ends only because a task of the loop goes on."""
    opening, closing = threading.Event(), threading.Event()
    load, end = Gate._load_and_open, Gate._end

    def slow_load(gate: Gate) -> None:
        assert opening.wait(WAIT)
        load(gate)

    def slow_end(gate: Gate, *args: Any) -> None:
        assert closing.wait(WAIT)
        end(gate, *args)

    monkeypatch.setattr(Gate, "_load_and_open", slow_load)
    monkeypatch.setattr(Gate, "_end", slow_end)

    async def main() -> None:
        loop = asyncio.get_running_loop()
        loop.call_soon(opening.set)
        async with Gate("test") as gate:
            assert current_gate() is gate
            loop.call_soon(loop.call_soon, closing.set)
        assert gate.state == "closed"

    run(main)


def test_the_gate_closes_in_order_and_accepted_tokens_end_first() -> None:
    """As with threads: drained, then stopped, then the loop is left as it was."""
    log: list[str] = []

    async def main() -> None:
        before = asyncio.all_tasks()
        async with Gate("test", children=[ChildSpec("echo", Echo, args=(log,))]):
            event = asyncio.Event()
            token = set_event.submit(event)
        assert token.state is TokenState.COMPLETED
        assert asyncio.all_tasks() == before

    run(main)

    assert log == ["stopped"]


def test_an_exception_of_the_block_is_raised_when_the_gate_has_closed_without_a_drain() -> None:
    """A token that would never end does not hold the closing up."""
    found: list[Any] = []

    async def main() -> None:
        async with Gate("test") as gate:
            found.extend((gate, forever.submit()))
            raise LookupError

    with pytest.raises(LookupError):
        run(main)
    gate, running = found

    assert gate.state == "closed"
    assert running.state is TokenState.TERMINATED


def test_leaving_by_cancellation_drains() -> None:
    """A timeout around the block ends it in order, and is raised afterwards."""
    found: list[Any] = []

    async def main() -> None:
        async with asyncio.timeout(WAIT) as scope, Gate("test") as gate:
            event = asyncio.Event()
            found.extend((gate, set_event.submit(event)))
            scope.reschedule(asyncio.get_running_loop().time())
            await asyncio.get_running_loop().create_future()

    with pytest.raises(TimeoutError):
        run(main)
    gate, sent = found

    assert gate.state == "closed"
    assert sent.state is TokenState.COMPLETED


def test_a_cancellation_while_it_closes_hurries_it_and_is_raised_then() -> None:
    """The wait for accepted tokens is given up."""
    found: list[Any] = []

    async def body(inside: asyncio.Event) -> None:
        async with Gate("test", shutdown=1_000) as gate:
            found.extend((gate, forever.submit()))
            asyncio.get_running_loop().call_soon(inside.set)

    async def main() -> None:
        inside = asyncio.Event()
        task = asyncio.create_task(body(inside))
        await inside.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        gate, running = found
        assert gate.state == "closed"
        assert running.state is TokenState.TERMINATED

    run(main)


def held_as_it_loads(monkeypatch: pytest.MonkeyPatch) -> tuple[threading.Event, threading.Event]:
    """Have gates wait as they open; return what tells that one does, and what lets it go on."""
    loading, go = threading.Event(), threading.Event()
    load = Gate._load_and_open

    def slow_load(gate: Gate) -> None:
        loading.set()
        assert go.wait(WAIT)
        load(gate)

    monkeypatch.setattr(Gate, "_load_and_open", slow_load)
    return loading, go


def test_a_cancellation_while_it_opens_closes_what_was_opened(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is left behind, and the cancellation is raised."""
    loading, go = held_as_it_loads(monkeypatch)
    gate = Gate("test")

    async def main() -> None:
        task = asyncio.create_task(gate.__aenter__())
        await asyncio.to_thread(loading.wait, WAIT)
        task.cancel()
        asyncio.get_running_loop().call_soon(go.set)
        with pytest.raises(asyncio.CancelledError):
            await task

    run(main)

    assert gate.state == "closed"


def test_a_child_that_does_not_start_leaves_nothing_open() -> None:
    """The error is that of its `on_start`."""

    class Broken(AsyncioActor):
        async def on_start(self) -> None:
            raise LookupError

    gate = Gate("test", children=[ChildSpec("broken", Broken)])

    async def main() -> None:
        with pytest.raises(StartFailed, match="LookupError"):
            await gate.__aenter__()

    run(main)

    assert gate.state == "closed"


def test_ctrl_c_ends_the_program_in_order() -> None:
    """`asyncio.run` cancels the main task; what was accepted ends first, the actors are stopped."""
    log: list[str] = []
    found: list[Any] = []

    async def main() -> None:
        async with Gate("test", children=[ChildSpec("echo", Echo, args=(log,))]) as gate:
            found.extend((gate, set_event.submit(asyncio.Event())))
            signal.raise_signal(signal.SIGINT)
            await asyncio.get_running_loop().create_future()

    with pytest.raises(KeyboardInterrupt):
        asyncio.run(main())
    gate, sent = found

    assert gate.state == "closed"
    assert sent.state is TokenState.COMPLETED
    assert log == ["stopped"]


def test_a_second_ctrl_c_hurries_it() -> None:
    """A token that would never end is ended; `on_stop` runs all the same."""
    log: list[str] = []
    found: list[Any] = []

    async def main() -> None:
        async with Gate("test", shutdown=1_000, children=[ChildSpec("echo", Echo, args=(log,))]) as gate:
            found.extend((gate, forever.submit()))
            await asyncio.sleep(0)
            loop = asyncio.get_running_loop()
            loop.call_soon(signal.raise_signal, signal.SIGINT)
            loop.call_soon(lambda: loop.call_soon(signal.raise_signal, signal.SIGINT))
            await loop.create_future()

    with pytest.raises(KeyboardInterrupt):
        asyncio.run(main())
    gate, running = found

    assert gate.state == "closed"
    assert running.state is TokenState.TERMINATED


@pytest.mark.parametrize("how", ["actor", "operation", "call"])
def test_ctrl_c_within_a_token_reaches_the_program(how: str) -> None:
    """The second one is raised wherever the main thread is; it ends that token, and the program."""
    found: list[Any] = []

    def strike() -> None:
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)

    class Victim(AsyncioActor):
        async def on_receive(self, message: Any) -> None:
            strike()

    @token(affinity="asyncio")
    async def victim() -> None:
        strike()

    async def main() -> None:
        async with Gate("test") as gate:
            found.append(gate)
            if how == "actor":
                (await gate.aspawn(Victim)).tell("now")
            elif how == "operation":
                victim.submit()
            else:
                await victim()
            await asyncio.get_running_loop().create_future()

    with pytest.raises(KeyboardInterrupt):
        asyncio.run(main())

    assert found[0].state == "closed"


def test_waiting_on_the_loops_thread_is_refused() -> None:
    """It would hold up all asyncio tokens; each error names the awaiting form."""

    async def main() -> None:
        async with Gate("test", children=[ChildSpec("echo", Echo)]) as gate:
            echo = gate.find("echo")
            with pytest.raises(WouldBlock, match="asyncio loop of this thread"):
                set_event.submit(asyncio.Event()).result()
            with pytest.raises(WouldBlock, match=r"await ref\.call"):
                echo.ask("something")
            with pytest.raises(WouldBlock, match="aspawn"):
                gate.spawn(Echo)
            with pytest.raises(WouldBlock, match="aclose"):
                gate.close()
            with pytest.raises(WouldBlock, match=r"await ref\.call"):
                await echo.proxy().blocking(echo)

    run(main)


def test_a_gate_in_a_loop_of_another_is_opened_and_closed_by_awaiting() -> None:
    """Opening it by `with`, or leaving it so, would hold up the other gate's tokens; the errors name the remedy."""

    async def main() -> None:
        other = await asyncio.to_thread(Gate("other").open)
        async with Gate("test"):
            with pytest.raises(WouldBlock, match="use 'async with'"), Gate("inner"):
                pass
            with pytest.raises(WouldBlock, match="aclose"):
                other.__exit__(None, None, None)
            await other.aclose()

    run(main)


def test_a_gate_whose_loop_ends_within_its_block_is_closed() -> None:
    """Several interrupts do that to `asyncio.run`: the main coroutine is dropped where it waits."""
    log: list[str] = []
    gate = Gate("test", shutdown=1_000, children=[ChildSpec("echo", Echo, args=(log,))])
    loop = asyncio.new_event_loop()
    inside: asyncio.Future[None] = loop.create_future()
    sent: list[Any] = []

    async def main() -> None:
        async with gate:
            sent.append(forever.submit())
            inside.set_result(None)
            await loop.create_future()

    task: Any = loop.create_task(main())
    task._log_destroy_pending = False
    loop.run_until_complete(inside)
    loop.close()
    del task
    gc.collect()

    assert gate.state == "closed"
    assert sent[0].state is TokenState.TERMINATED


def test_a_gate_is_closed_although_the_task_that_would_close_it_never_runs_again() -> None:
    """Three interrupts come before the task has seen the first, and the error that is raised refers to the task."""
    found: list[Any] = []

    async def main() -> None:
        async with Gate("test", shutdown=1_000) as gate:
            found.extend((gate, forever.submit()))
            await asyncio.sleep(0)
            loop = asyncio.get_running_loop()
            task: Any = asyncio.current_task()
            task._log_destroy_pending = False

            def strike() -> None:
                loop.call_soon(signal.raise_signal, signal.SIGINT)  # ends the run that cancels all tasks
                signal.raise_signal(signal.SIGINT)  # cancels the main task, which is resumed after that call
                signal.raise_signal(signal.SIGINT)  # ends the run

            loop.call_soon(strike)
            await loop.create_future()

    with pytest.raises(KeyboardInterrupt) as raised:
        asyncio.run(main())
    gate, running = found

    assert gate._closing.over.wait_in_thread(WAIT)
    assert gate.state == "closed"
    assert running.state is TokenState.TERMINATED
    assert raised.tb is not None  # the task was referred to until here


def test_a_gate_whose_loop_ends_while_it_opens_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    """What was opened is ended, although the task that opens it is never resumed."""
    loading, go = held_as_it_loads(monkeypatch)
    gate = Gate("test")
    loop = asyncio.new_event_loop()
    opening = loop.create_task(gate.__aenter__())
    loop.run_until_complete(loop.run_in_executor(None, loading.wait, WAIT))
    left: Any
    for left in asyncio.all_tasks(loop):
        left._log_destroy_pending = False
    loop.close()
    go.set()

    assert gate._closing.over.wait_in_thread(WAIT)
    assert gate.state == "closed"
    assert not opening.done()


def test_aclose_returns_the_report() -> None:
    """Once, and again."""

    async def main() -> None:
        gate = await Gate("test").__aenter__()
        report = await gate.aclose()
        assert report.drained
        assert await gate.aclose() is report
        with pytest.raises(GateState, match="a gate opens once"):
            await gate.__aenter__()

    run(main)


def test_two_gates_share_the_loop() -> None:
    """Side by side; each call belongs to the innermost."""

    @token(affinity="asyncio")
    async def name() -> str:
        gate = current_gate()
        assert gate is not None
        return gate.name

    async def main() -> None:
        async with Gate("one"):
            async with Gate("two"):
                assert (await name(), await name.submit()) == ("two", "two")
            assert (await name(), await name.submit()) == ("one", "one")
            with pytest.raises(WouldBlock):  # it is still the loop of the outer one
                name.submit().result()

    run(main)
