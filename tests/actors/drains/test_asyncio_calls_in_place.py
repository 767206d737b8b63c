"""Calls that run in the asyncio task of their caller: what differs from those in a trio loop."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from actors import ActorSystem, AsyncioActor, TokenState, TokenTerminated, current_token

LIMIT = 30.0


class Echo(AsyncioActor):
    """Answers with its message; a message that can be called is called first.

    It keeps the task that ran the handler.
    """

    expected = (LookupError,)

    def __init__(self) -> None:
        super().__init__()
        self.tasks: list[Any] = []

    def act(self, message: Any) -> Any:
        self.tasks.append(asyncio.current_task())
        return message() if callable(message) else message


class Plain(Echo):
    def on_receive(self, message: Any) -> Any:
        return self.act(message)


class Coroutine(Echo):
    async def on_receive(self, message: Any) -> Any:  # type: ignore[override]
        return self.act(message)


class Waits(Echo):
    async def on_receive(self, message: Any) -> Any:  # type: ignore[override]
        await asyncio.sleep(0)
        return self.act(message)


class Passes(Waits):
    """A plain handler whose coroutine waits."""

    def on_receive(self, message: Any) -> Any:
        return Waits.on_receive(self, message)


IN_PLACE = [Plain, Coroutine]


@pytest.fixture(params=[*IN_PLACE, Waits, Passes])
def kind(request: pytest.FixtureRequest) -> type[Echo]:
    chosen: type[Echo] = request.param
    return chosen


@pytest.fixture
def inside(system: ActorSystem) -> Callable[[Callable[[], Awaitable[Any]]], Any]:
    """Run an async function on the system's asyncio loop."""
    system.asyncio_hosts.own.open()
    return lambda function: system.asyncio_hosts.own.run(function).result(LIMIT)


def test_each_handler_answers_and_only_one_that_cannot_wait_runs_in_its_callers_task(
    kind: type[Echo], start: Any, inside: Any
) -> None:
    """Those that wait have a task of their own, the first time too."""
    ref = start(kind)

    async def ask() -> list[Any]:
        answers = [await ref.call(number) for number in range(5)]
        return [*answers, {task is asyncio.current_task() for task in ref._place.instance.tasks}]

    assert inside(ask) == [*range(5), {kind in IN_PLACE}]


def test_expected_errors_are_answers_and_others_are_crashes(kind: type[Echo], start: Any, inside: Any) -> None:
    """On both ways; the hook for a crash runs in the actor's own task."""
    hooks: list[Any] = []

    class Ends(kind):  # type: ignore[misc, valid-type]
        async def on_failure(self, *_error: object) -> None:
            await asyncio.sleep(0)
            hooks.append(asyncio.current_task())

    ref = start(Ends)

    async def ask() -> object:
        with pytest.raises(LookupError):
            await ref.call({}.popitem)
        assert await ref.call(1) == 1
        with pytest.raises(ZeroDivisionError):
            await ref.call(lambda: 1 / 0)
        return asyncio.current_task()

    task = inside(ask)
    assert ref.actor_stopped.wait(LIMIT)

    assert len(hooks) == 1
    assert hooks[0] is not task


def test_the_hook_for_a_crash_is_not_cancelled_with_the_token(kind: type[Echo], start: Any, inside: Any) -> None:
    """A cancel that comes from a thread while the handler runs, and crashes, is for the handler."""
    done = asyncio.Event()

    class Crashes(kind):  # type: ignore[misc, valid-type]
        async def on_failure(self, *_: Any) -> None:  # type: ignore[override]
            for _ in range(3):
                await asyncio.sleep(0)
            done.set()

    ref = start(Crashes)

    def fail() -> None:
        token = current_token()
        assert token is not None
        canceller = threading.Thread(target=token.cancel)
        canceller.start()
        canceller.join()
        raise ValueError("crashed")

    async def ask() -> None:
        with pytest.raises(ValueError, match="crashed"):
            await ref.call(fail)
        await asyncio.wait_for(done.wait(), LIMIT)

    inside(ask)


def test_a_call_does_not_overtake_what_its_sender_sent_before(kind: type[Echo], start: Any, inside: Any) -> None:
    """A message that is queued goes first."""
    ref = start(kind)
    got: list[int] = []

    async def send() -> None:
        for number in range(20):
            ref.tell(lambda number=2 * number: got.append(number))
            await ref.call(lambda number=2 * number + 1: got.append(number))

    inside(send)

    assert got == list(range(40))


def test_other_tasks_get_on_while_one_asks_again_and_again(start: Any, inside: Any) -> None:
    """Calls in place give way now and then."""
    ref = start(Plain)
    ticks: list[int] = []

    async def tick() -> None:
        while True:
            ticks.append(1)
            await asyncio.sleep(0)

    async def ask() -> None:
        ticking = asyncio.create_task(tick())
        for number in range(1_000):
            await ref.call(number)
        ticking.cancel()

    inside(ask)

    assert len(ticks) >= 1_000 // 64


def test_a_plain_handler_that_cancels_its_token_and_then_waits_is_cancelled(start: Any, inside: Any) -> None:
    """The cancellation waits for the task that goes on with it, and hits nothing else."""
    ended: list[str] = []

    async def wait() -> None:
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            ended.append("cancelled")

    def cancel_and_wait() -> Any:
        inside_token = current_token()
        assert inside_token is not None
        inside_token.cancel()
        return wait()

    ref = start(Plain)

    async def ask() -> None:
        with pytest.raises(TokenTerminated):
            await ref.call(cancel_and_wait)
        task = asyncio.current_task()
        assert task is not None
        assert task.cancelling() == 0
        assert await ref.call("next") == "next"

    inside(ask)

    assert ended == ["cancelled"]


def test_a_handler_that_cancels_its_caller_has_answered(start: Any, inside: Any) -> None:
    """The message is handled; the caller is cancelled at its next await."""
    ref = start(Plain)

    async def ask() -> None:
        task = asyncio.create_task(caller())
        with pytest.raises(asyncio.CancelledError):
            await task
        assert await ref.call("next") == "next"

    async def caller() -> None:
        task = asyncio.current_task()
        assert task is not None
        await ref.call(task.cancel)
        await asyncio.sleep(0)

    inside(ask)


def test_a_call_of_a_suspended_actor_is_queued(kind: type[Echo], start: Any, inside: Any) -> None:
    """It runs when it may."""
    ref = start(kind)
    ref._place.suspend()

    async def ask() -> Any:
        asking = asyncio.create_task(ref.call("late"))
        while not ref.actor_inbox.size:
            await asyncio.sleep(0)
        ref._place.unsuspend()
        return await asking

    assert inside(ask) == "late"


def test_a_token_that_was_run_in_place_ends_as_all_do(start: Any, system: ActorSystem, inside: Any) -> None:
    """It is counted."""
    ref = start(Plain)

    async def ask() -> None:
        for number in range(3):
            await ref.call(number)

    inside(ask)

    assert system.statistics().tokens[TokenState.COMPLETED] == 3
    assert system.live == {}
