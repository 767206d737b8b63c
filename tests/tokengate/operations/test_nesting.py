"""Calls within calls, hundreds deep, in every form; and many steps that wait or are paused at once."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Executor
from contextvars import ContextVar
from typing import Any

import pytest
from gated_code import LIMIT, Door, opened_at_the_end

import actors.concurrency._dispatcher as dispatcher
from tokengate import ActorRef, AsyncioActor, CpuActor, Gate, IoActor, TokenState, checkpoint, current_token, token
from tokengate.errors import DeadlockError, GateState

DEEP = 300

variable: ContextVar[str] = ContextVar("variable", default="nothing")


@token
def direct(depth: int) -> int:
    return 0 if not depth else 1 + direct(depth - 1)


@token(concurrency=1)
def narrow(depth: int) -> int:
    return 0 if not depth else 1 + narrow(depth - 1)


@token
def one(depth: int) -> int:
    return 0 if not depth else 1 + other(depth - 1)


@token(concurrency=1)
def other(depth: int) -> int:
    return 0 if not depth else 1 + one(depth - 1)


@token
def submitted(depth: int) -> int:
    return 0 if not depth else 1 + submitted.submit(depth - 1).result()


@token
async def awaited(depth: int) -> int:
    return 0 if not depth else 1 + await awaited(depth - 1)


def executed(executor: Executor, depth: int) -> int:
    return 0 if not depth else 1 + executor.submit(executed, executor, depth - 1).result()


class Asking(CpuActor):
    def __init__(self, following: ActorRef[Any] | None) -> None:
        self.following = following

    def depth(self) -> int:
        return 0 if self.following is None else 1 + int(self.following.proxy().depth().get())


class Awaiting(IoActor):
    def __init__(self, following: ActorRef[Any] | None) -> None:
        self.following = following

    async def depth(self) -> int:
        return 0 if self.following is None else 1 + int(await self.following.proxy().depth())


class AwaitingInAsyncio(AsyncioActor):
    def __init__(self, following: ActorRef[Any] | None) -> None:
        self.following = following

    async def depth(self) -> int:
        return 0 if self.following is None else 1 + int(await self.following.proxy().depth())


def in_turn(executor: Executor, depth: int) -> int:
    """Call, submit and execute in turn, on a thread and in a task."""
    if not depth:
        return 0
    if depth % 3 == 1:
        return 1 + executor.submit(in_turn, executor, depth - 1).result()
    return 1 + (called(executor, depth - 1) if depth % 3 else in_task.submit(executor, depth - 1).result())


called = token(in_turn)


@token
async def in_task(executor: Executor, depth: int) -> int:
    return 0 if not depth else 1 + await called.submit(executor, depth - 1)


@token
def nothing() -> str:
    return "served"


@pytest.fixture
def gate() -> Iterator[Gate]:
    with Gate("deep", threads=2, control_socket=False) as opened:
        yield opened


@pytest.fixture
def door(gate: Gate) -> Iterator[Door]:
    with opened_at_the_end() as make:
        yield make()


@pytest.mark.parametrize("operation", [direct, narrow, one, submitted], ids=lambda operation: operation.__name__)
@pytest.mark.parametrize("submit", [False, True], ids=["called", "submitted"])
def test_an_operation_calls_itself_hundreds_deep(gate: Gate, operation: Any, submit: bool) -> None:
    """Neither its own concurrency nor the number of threads is a limit; others are served afterwards."""
    assert (operation.submit(DEEP).result(LIMIT) if submit else operation(DEEP)) == DEEP

    assert nothing.submit().result(LIMIT) == "served"


def test_a_coroutine_function_awaits_itself_hundreds_deep(gate: Gate) -> None:
    """Each is a task, and none holds a thread."""
    assert awaited.submit(DEEP).result(LIMIT) == DEEP


def test_calls_of_an_executor_wait_for_one_another_hundreds_deep(gate: Gate) -> None:
    """A call that waits for another one does not count."""
    executor = gate.executor()

    assert executor.submit(executed, executor, DEEP).result(LIMIT) == DEEP


def test_calls_submits_and_executors_nest_in_one_another_hundreds_deep(gate: Gate) -> None:
    """Whichever comes first."""
    executor = gate.executor()
    calls = [called.submit, in_task.submit, lambda *call: executor.submit(in_turn, *call)]

    assert [call(executor, DEEP).result(LIMIT) for call in calls] == [DEEP] * 3


@pytest.mark.parametrize(
    "kinds",
    [[Asking], [Awaiting], [AwaitingInAsyncio], [Asking, Awaiting, AwaitingInAsyncio]],
    ids=["cpu", "io", "asyncio", "mixed"],
)
def test_actors_ask_one_another_hundreds_deep(gate: Gate, kinds: list[Any]) -> None:
    """The steps that wait have threads of their own."""
    ref = None
    for number in range(DEEP + 1):
        ref = gate.spawn(kinds[number % len(kinds)], ref)
    assert ref is not None

    assert ref.proxy().depth().get(timeout=LIMIT) == DEEP


def test_a_wait_beyond_the_limit_names_it(gate: Gate, until: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """And the chain of waits; all of them end, and what the innermost one had submitted runs on."""
    monkeypatch.setattr(dispatcher, "MAX_WAITING", 20)
    first = submitted.submit(40)
    error = first.exception(LIMIT)

    assert isinstance(error, DeadlockError)
    # A step may wait before the one that has submitted it. So the one that is too many may be any of them: the chain
    # ends with it; it begins with the last one above it that does not wait yet, or with the first of all.
    chain = [int(id) for id in re.findall(r"\(submitted, token (\d+)\)", str(error).partition("for the next: ")[2])]
    assert chain
    assert chain == sorted(set(chain))
    assert chain[0] >= first.id
    assert "20 steps on the CPU threads of 'deep-cpu' wait" in str(error)
    until(lambda: not any(one.operation == "submitted" for one in list(gate._system.live.values())))
    assert submitted.submit(10).result(LIMIT) == 10


@token(concurrency=200)
def endless() -> None:
    while True:
        checkpoint()


def pause_running(gate: Gate, number: int, until: Callable[[Callable[[], bool]], None]) -> list[Any]:
    """Pause so many tokens, each while its code runs."""
    tokens = []
    for _ in range(number):
        running = endless.submit()
        until(lambda running=running: running.state is TokenState.RUNNING)  # type: ignore[misc]
        [outcome] = gate.control.pause(running.id, wait=LIMIT)
        assert outcome.outcome == "paused"
        tokens.append(running)
    return tokens


def test_steps_that_are_paused_hold_up_no_other(gate: Gate, until: Any) -> None:
    """However many they are."""
    tokens = pause_running(gate, 80, until)

    assert nothing.submit().result(LIMIT) == "served"
    assert {token.state for token in tokens} == {TokenState.PAUSED}
    gate.control.terminate([token.id for token in tokens], wait=LIMIT)


def test_the_pause_that_is_one_too_many_is_refused(gate: Gate, until: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """And says why; the others stay paused, and all else goes on."""
    monkeypatch.setattr(dispatcher, "MAX_WAITING", 5)
    tokens = pause_running(gate, 5, until)
    last = endless.submit()
    until(lambda: last.state is TokenState.RUNNING and not gate._system.dispatcher.may_wait)
    [outcome] = gate.control.pause(last.id, wait=LIMIT)

    assert outcome.outcome == "refused"
    assert "limit" in outcome.note
    assert nothing.submit().result(LIMIT) == "served"
    assert last.state is TokenState.RUNNING
    gate.control.terminate([token.id for token in [*tokens, last]], wait=LIMIT)


@token(concurrency=1)
def changing(door: Door | None = None) -> tuple[str, int | None]:
    before = variable.get()
    variable.set("changed")
    if door is not None:
        door.pass_through()
    now = current_token()
    return before, None if now is None else now.id


@pytest.mark.parametrize("busy", [False, True], ids=["idle", "busy"])
def test_a_direct_call_runs_in_a_copy_of_its_callers_context(
    gate: Gate, door: Door, busy: bool, until: Callable[[Callable[[], bool]], None]
) -> None:
    """It sees the caller's variables and changes none of them, whether it runs in place or is queued."""
    variable.set("the caller's")
    blocker = changing.submit(door) if busy else None
    if blocker is not None:
        door.wait_reached()
        queued = lambda: gate._system.find("operations/changing").mailbox.size == 1  # noqa: E731
        threading.Thread(target=lambda: (until(queued), door.open())).start()
    before, id = changing()

    assert before == "the caller's"
    assert id is not None
    assert variable.get() == "the caller's"
    assert current_token() is None


def test_a_nested_direct_call_changes_nothing_of_its_callers(gate: Gate) -> None:
    """The same within a step."""

    @token
    def outer() -> tuple[str, bool]:
        own = current_token()
        variable.set("outer's")
        changing()
        return variable.get(), current_token() is own

    assert outer() == ("outer's", True)
    assert outer.submit().result(LIMIT) == ("outer's", True)


def test_a_gate_that_a_done_callback_closes_does_not_name_its_thread(gate: Gate) -> None:
    """The thread waits for the gate's end, so it is not left behind by it."""
    reports: list[Any] = []
    closed = threading.Event()

    def close(_token: object) -> None:
        reports.append(gate.close())
        closed.set()

    door = Door()
    running = changing.submit(door)
    door.wait_reached()
    running.add_done_callback(close)
    door.open()
    assert closed.wait(LIMIT)

    assert reports[0].abandoned == ()
    assert gate.state == "closed"


def test_a_hook_that_closes_its_gate_is_told_so_at_once(gate: Gate) -> None:
    """The gate waits for the hook, so the hook cannot wait for the gate."""
    errors: list[BaseException] = []

    class Closing(CpuActor):
        def on_stop(self) -> None:
            try:
                gate.close()
            except GateState as error:
                errors.append(error)

    gate.spawn(Closing).stop()

    assert "cannot close" in str(errors[0])
    assert gate.state == "open"
