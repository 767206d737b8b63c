"""A gate in a trio program: `async with`, in the caller's loop."""

from __future__ import annotations

import asyncio
import signal
import sys
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from types import CodeType, FrameType
from typing import Any

import pytest
import trio
import trio.testing

from tokengate import ChildSpec, CpuActor, Gate, IoActor, TokenState, token
from tokengate.errors import GateState, StartFailed, WouldBlock
from tokengate.types import current_gate

WAIT = 60.0  # seconds; only reached when something is broken


class Echo(IoActor):
    def __init__(self, log: list[str] | None = None) -> None:
        super().__init__()
        self.log = [] if log is None else log

    async def on_stop(self) -> None:
        await trio.lowlevel.checkpoint()
        self.log.append("stopped")

    async def relay(self, receive: trio.MemoryReceiveChannel[str]) -> tuple[str, int]:
        return await receive.receive(), threading.get_ident()

    async def forever(self) -> None:
        await trio.sleep_forever()


class Twice(IoActor):
    def on_receive(self, message: int) -> int:
        return 2 * message


class Adder(CpuActor):
    def add(self, a: int, b: int) -> tuple[int, int]:
        return a + b, threading.get_ident()


@token
async def set_event(event: trio.Event) -> trio.lowlevel.TrioToken:
    event.set()
    await trio.lowlevel.checkpoint()
    return trio.lowlevel.current_trio_token()


@token
def double(n: int) -> int:
    return 2 * n


@pytest.fixture
async def gate() -> AsyncIterator[Gate]:
    async with Gate("test", shutdown=5.0, children=[ChildSpec("echo", Echo)]) as gate:
        yield gate


@pytest.mark.trio
async def test_io_code_shares_the_objects_of_the_callers_loop(gate: Gate) -> None:
    """Channels and events of the program work in actors and operations, for it is one loop."""
    send, receive = trio.open_memory_channel[str](0)
    answer = gate.find("echo").proxy().relay(receive)
    await send.send("hello")
    event = trio.Event()

    assert await answer == ("hello", threading.get_ident())
    assert await set_event(event) is trio.lowlevel.current_trio_token()
    assert event.is_set()


@pytest.mark.trio
async def test_cpu_code_runs_elsewhere_and_is_awaited(gate: Gate) -> None:
    """Only io belongs to the loop."""
    adder = (await gate.aspawn(Adder)).proxy()
    total, thread = await adder.add(1, 2)

    assert (total, await double.submit(4)) == (3, 8)
    assert thread != threading.get_ident()
    assert current_gate() is gate


@pytest.mark.trio
async def test_many_tokens_awaited_at_once(gate: Gate) -> None:
    """From as many tasks."""
    got: list[int] = []

    async def ask(n: int) -> None:
        got.append(await (await double.asubmit(n)))

    async with trio.open_nursery() as nursery:
        for n in range(200):
            nursery.start_soon(ask, n)

    assert sorted(got) == [2 * n for n in range(200)]


@pytest.mark.trio
async def test_the_callers_loop_is_free_while_the_gate_opens_and_closes() -> None:
    """A child that needs another task of the program to start, or to stop, gets it."""
    asked, answered = trio.Event(), trio.Event()

    class Slow(IoActor):
        async def on_start(self) -> None:  # type: ignore[override]
            await self.ask_program()

        async def on_stop(self) -> None:  # type: ignore[override]
            await self.ask_program()

        async def ask_program(self) -> None:
            asked.set()
            await answered.wait()

    async def answer() -> None:
        nonlocal asked, answered
        await asked.wait()
        asked_before, answered_before = asked, answered
        asked, answered = trio.Event(), trio.Event()
        assert asked_before.is_set()
        answered_before.set()

    with trio.fail_after(WAIT):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(answer)
            async with Gate("slow", children=[ChildSpec("slow", Slow)]) as gate:
                nursery.start_soon(answer)
            report = await gate.aclose()

    assert report.clean


@pytest.mark.trio
async def test_an_outer_cancellation_becomes_an_ordered_stop() -> None:
    """The block is cancelled, the actors are not: accepted tokens end by themselves, and `on_stop` awaits."""
    log: list[str] = []
    with trio.CancelScope() as scope:
        async with Gate("test", children=[ChildSpec("echo", Echo, args=(log,))]) as gate:
            send, receive = trio.open_memory_channel[str](1)
            answer = gate.find("echo").proxy().relay(receive)
            scope.cancel()
            try:
                await trio.sleep_forever()
            finally:
                send.send_nowait("late")

    assert scope.cancelled_caught
    assert answer.state is TokenState.COMPLETED
    assert log == ["stopped"]
    assert (await gate.aclose()).clean


@pytest.mark.trio
async def test_an_ordered_stop_has_the_gates_deadline() -> None:
    """Code that does not end by itself is cancelled when the time is over."""
    log: list[str] = []
    with trio.fail_after(WAIT):
        async with Gate("test", shutdown=0.1, children=[ChildSpec("echo", Echo, args=(log,))]) as gate:
            endless = gate.find("echo").proxy().forever()
        report = await gate.aclose()

    assert endless.state is TokenState.TERMINATED
    assert (report.drained, report.abandoned) == (False, ())


@pytest.mark.trio
async def test_an_exception_in_the_block_is_raised_after_the_stop() -> None:
    """Nobody waits for accepted tokens then, but the tree is stopped in order."""
    log: list[str] = []

    async def program() -> None:
        async with Gate("test", shutdown=600.0, children=[ChildSpec("echo", Echo, args=(log,))]) as gate:
            gate.find("echo").proxy().forever()
            raise LookupError

    with trio.fail_after(WAIT), pytest.raises(LookupError):
        await program()

    assert log == ["stopped"]


@pytest.mark.trio
async def test_a_child_that_does_not_start_leaves_nothing_open() -> None:
    """The error is raised from `async with`, and the gate is closed."""

    class Bad(IoActor):
        async def on_start(self) -> None:  # type: ignore[override]
            raise RuntimeError("no disk")

    with pytest.raises(StartFailed, match="no disk"):
        async with Gate("bad", children=[ChildSpec("bad", Bad)]):
            pass
    assert current_gate() is None


@pytest.mark.trio
async def test_opening_can_be_cancelled() -> None:
    """A start that hangs is given up, and those before it are stopped."""
    log: list[str] = []
    started = trio.Event()

    class Hanging(IoActor):
        async def on_start(self) -> None:  # type: ignore[override]
            started.set()
            await trio.sleep_forever()

    with trio.fail_after(WAIT):
        async with trio.open_nursery() as nursery:

            async def open_it() -> None:
                children = [ChildSpec("echo", Echo, args=(log,)), ChildSpec("hanging", Hanging)]
                async with Gate("hanging", shutdown=5.0, children=children):
                    pass

            nursery.start_soon(open_it)
            await started.wait()
            nursery.cancel_scope.cancel()

    assert log == ["stopped"]
    assert current_gate() is None


@pytest.mark.trio
async def test_blocking_names_say_what_to_await(gate: Gate) -> None:
    """Nothing may hold up the caller's loop."""
    for blocking, remedy in ((gate.close, "aclose"), (gate.wait, "wait_stopping"), (Gate("two").open, "async with")):
        with pytest.raises(WouldBlock, match=remedy):
            blocking()


@pytest.mark.trio
async def test_a_request_to_stop_can_be_awaited(gate: Gate) -> None:
    """From a thread, or by a signal handler."""
    async with trio.open_nursery() as nursery:
        nursery.start_soon(gate.wait_stopping)
        await trio.testing.wait_all_tasks_blocked()
        await trio.to_thread.run_sync(gate.request_stop)

    assert gate.stopping


@pytest.mark.trio
async def test_a_gate_is_entered_once(gate: Gate) -> None:
    """A second `async with` is refused, inside the first and afterwards."""
    with pytest.raises(GateState, match="is open; a gate opens once"):
        async with gate:
            pass
    await gate.aclose()
    with pytest.raises(GateState, match="is closed; a gate opens once"):
        async with gate:
            pass


@pytest.mark.trio
async def test_closing_twice_gives_the_same_report(gate: Gate) -> None:
    """Also from two tasks at once."""
    reports: list[Any] = []

    async def close() -> None:
        reports.append(await gate.aclose())

    async with trio.open_nursery() as nursery:
        nursery.start_soon(close)
        nursery.start_soon(close)

    assert reports[0] is reports[1]


@pytest.mark.trio
async def test_a_token_cannot_close_its_own_gate(gate: Gate) -> None:
    """It would wait for itself."""

    @token
    async def close() -> None:
        await gate.aclose()

    with pytest.raises(GateState, match="request_stop"):
        await close()


def test_asyncio_code_beside_a_gate_in_a_guest_loop_calls_its_actors() -> None:
    """Code of the loop whose guest trio is runs on the thread of the gate's loop, but in no task of it."""

    async def host() -> Any:
        loop = asyncio.get_running_loop()
        opened: asyncio.Future[Any] = loop.create_future()
        over: asyncio.Future[Any] = loop.create_future()
        enough = trio.Event()

        async def guest() -> None:
            async with Gate("shop") as gate:
                opened.set_result(await gate.aspawn(Twice))
                await enough.wait()

        trio.lowlevel.start_guest_run(
            guest, run_sync_soon_threadsafe=loop.call_soon_threadsafe, done_callback=over.set_result
        )
        ref = await opened
        try:
            return await asyncio.wait_for(ref.call(4), WAIT)
        finally:
            enough.set()
            (await over).unwrap()

    assert asyncio.run(host()) == 8


@pytest.mark.trio
async def test_two_gates_share_the_loop() -> None:
    """Side by side and nested; each call belongs to the innermost."""
    with trio.fail_after(WAIT):
        async with Gate("outer") as outer, Gate("inner") as inner:
            assert current_gate() is inner
            assert outer._owns(double.submit(1)) is False
            await (await outer.aspawn(Echo)).call("nothing")
            await (await inner.aspawn(Echo)).call("nothing")


def test_ctrl_c_in_an_actors_code_is_the_programs() -> None:
    """The main task gets it, the gate stops in order, and the actor's token is not its victim."""
    log: list[str] = []

    class Interrupted(Echo):
        async def interrupt(self) -> str:
            signal.raise_signal(signal.SIGINT)
            return "survived"

    tokens: list[Any] = []

    async def main() -> None:
        async with Gate("test", children=[ChildSpec("actor", Interrupted, args=(log,))]) as gate:
            tokens.append(gate.find("actor").proxy().interrupt())
            await trio.sleep_forever()

    with pytest.raises(KeyboardInterrupt):
        trio.run(main)

    assert tokens[0].result() == "survived"
    assert log == ["stopped"]


def interrupted_at(line: int, code: CodeType, program: Callable[[], Awaitable[object]]) -> tuple[bool, bool]:
    """Run a trio program, and send it SIGINT at the given line, counted from 1, of those that a function runs.

    Returns:
        whether the function has run so many lines, and whether the program raised KeyboardInterrupt.
    """
    left = line

    def trace(frame: FrameType, event: str, _argument: object) -> Any:
        nonlocal left
        if frame.f_code is not code:
            return None
        if event == "line":
            left -= 1
            if left == 0:
                signal.raise_signal(signal.SIGINT)
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        trio.run(program)
    except KeyboardInterrupt:
        return left <= 0, True
    finally:
        sys.settrace(before)
    return left <= 0, False


@pytest.mark.parametrize("function", [Gate.aclose, Gate.__aexit__, Gate.__aenter__], ids=lambda one: one.__name__)
def test_ctrl_c_at_any_line_of_opening_and_closing_leaves_no_gate_open(function: Any) -> None:
    """The program gets it, and the gate is closed."""
    for line in range(1, 100):
        gate = Gate("test", control_socket=False, children=[ChildSpec("echo", Echo)])

        async def program(gate: Gate = gate) -> None:
            async with gate:
                assert await double.submit(1) == 2
            await trio.sleep(0)  # a checkpoint, where Ctrl-C is raised that no wait has raised

        struck, raised = interrupted_at(line, function.__code__, program)
        assert gate.state == "closed"
        assert raised is struck
        if not struck:
            break
    assert line > 2
