"""Operations of affinity `asyncio`: which loop they run in, and what stays as it is in plain asyncio."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import threading
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

import pytest
import trio

from actors.concurrency._asyncio_host import AsyncioHost
from tokengate import AsyncioActor, Gate, IoActor, Token, TokenState, current_token, token
from tokengate.errors import BadOperation, MailboxFull, TokenTerminated, WouldBlock

WAIT = 60.0  # seconds; only reached when something is broken

variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="none")


@token(affinity="asyncio")
async def where() -> tuple[asyncio.AbstractEventLoop, int]:
    await asyncio.sleep(0)
    return asyncio.get_running_loop(), threading.get_ident()


@token(affinity="asyncio")
async def call(function: Callable[[], Any]) -> Any:
    """Await a coroutine function within a step."""
    return await function()


@token(affinity="asyncio", concurrency=1)
async def alone(function: Callable[[], Any]) -> Any:
    return await function()


@token(affinity="asyncio", concurrency=1)
async def countdown(n: int) -> int:
    await asyncio.sleep(0)
    return 0 if n == 0 else 1 + await countdown(n - 1)


@token
async def undecided() -> str:
    await asyncio.sleep(0)
    return threading.current_thread().name


async def forever() -> None:
    await asyncio.get_running_loop().create_future()


def run(main: Callable[[], Coroutine[Any, Any, Any]]) -> Any:
    return asyncio.run(asyncio.wait_for(main(), WAIT))


@pytest.fixture
def gate() -> Iterator[Gate]:
    with Gate("test", threads=2) as gate:
        yield gate


# Where they run


def test_with_no_gate_it_is_the_plain_coroutine() -> None:
    """In asyncio; for coroutine functions without an affinity, too."""

    async def main() -> None:
        assert (await where())[0] is asyncio.get_running_loop()
        assert current_token() is None
        await undecided()

    run(main)


def test_a_direct_call_runs_in_its_callers_task(gate: Gate) -> None:
    """The task is the same, and the caller's loop needs not be the gate's; no other loop is made."""

    async def main() -> None:
        task = asyncio.current_task()

        async def look() -> tuple[object, Token[Any] | None]:
            return asyncio.current_task(), current_token()

        inside, its_token = await call(look)
        assert inside is task
        assert its_token is not None
        assert its_token.state is TokenState.COMPLETED
        assert current_token() is None

    run(main)

    assert not gate._system.asyncio_hosts.own.runs


def test_a_submitted_call_runs_in_the_loop_that_submits_it(gate: Gate) -> None:
    """By `submit`, `asubmit` and `map`; and within a step there."""

    async def main() -> None:
        here = asyncio.get_running_loop()

        async def nested() -> object:
            return await where.submit()

        sent = [where.submit(), await where.asubmit(), call.submit(nested), *call.map([nested])]
        assert {loop for loop, _ in [await one for one in sent]} == {here}

    run(main)


def test_a_call_from_elsewhere_runs_in_the_gates_own_loop(gate: Gate) -> None:
    """From threads, trio and cpu tokens: always the same one, in a thread that is made for the first."""
    assert not gate._system.asyncio_hosts.own.runs
    cpu = token(lambda: where.submit().result(WAIT))

    async def in_trio() -> Any:
        return await where()

    found = [where.submit().result(WAIT), trio.run(in_trio), cpu()]

    assert len(set(found)) == 1
    assert found[0][1] != threading.get_ident()


def test_a_gate_decides_for_coroutine_functions_without_an_affinity() -> None:
    """And for these only."""
    plain = token(lambda: threading.current_thread().name)
    declared = token(affinity="io")(undecided.__wrapped__)
    with Gate("test", coroutines="asyncio"):
        name = undecided.submit().result(WAIT)
        error = declared.submit().exception(WAIT)

        assert name == "test-asyncio"
        assert plain.submit().result(WAIT).startswith("test-cpu")
        assert isinstance(error, BaseException)
    with Gate("test"):
        assert not isinstance(undecided.submit().exception(WAIT), type(None))


def test_asyncio_code_in_trio_gets_a_note_with_the_remedy(gate: Gate) -> None:
    """The loop is missing there; so does trio code in asyncio."""

    @token
    async def asyncio_code() -> None:
        await asyncio.sleep(1)

    @token(affinity="asyncio")
    async def trio_code() -> None:
        await trio.sleep(1)

    for operation, remedy in ((asyncio_code, "affinity='asyncio'"), (trio_code, "affinity='io'")):
        error = operation.submit().exception(WAIT)
        assert remedy in "".join(getattr(error, "__notes__", ()))


@pytest.mark.parametrize("affinity", ["cpu", "process"])
def test_a_coroutine_function_runs_on_loops_only(affinity: Any) -> None:
    """The error names both."""
    with pytest.raises(BadOperation, match=r"'io' \(trio\) or 'asyncio'"):
        token(affinity=affinity)(forever)


@pytest.mark.parametrize("options", [{"coroutines": "cpu"}, {"loop_factory": "uvloop"}])
def test_a_gate_checks_what_concerns_the_loop(options: Any) -> None:
    """The error names the option and the value."""
    with pytest.raises(ValueError, match=f"{next(iter(options))} of gate 'test' is '{next(iter(options.values()))}'"):
        Gate("test", **options)


def test_the_gates_own_loop_is_made_by_a_factory() -> None:
    """For loops of other makers."""
    made = []

    def factory() -> asyncio.AbstractEventLoop:
        made.append(asyncio.new_event_loop())
        return made[-1]

    with Gate("test", loop_factory=factory):
        assert not made
        assert where.submit().result(WAIT)[0] is made[0]
        assert len(made) == 1


# Direct calls


def test_a_direct_call_sees_its_callers_context_and_changes_nothing_there(gate: Gate) -> None:
    """It runs in a copy."""

    async def look() -> str:
        seen = variable.get()
        variable.set("changed")
        await asyncio.sleep(0)
        assert variable.get() == "changed"
        return seen

    async def main() -> None:
        variable.set("set")
        assert await call(look) == "set"
        assert variable.get() == "set"

    run(main)


def test_an_operation_for_one_at_a_time_may_call_itself(gate: Gate) -> None:
    """Tokens that wait for the call do not count, however deep; now and then one gets a stack of its own."""

    async def main() -> None:
        assert await countdown(3) == 3
        assert await countdown(300) == 300
        assert await countdown.submit(300) == 300

    run(main)
    assert countdown.submit(300).result(WAIT) == 300


def test_a_direct_call_waits_while_another_has_the_only_turn(gate: Gate) -> None:
    """One at a time is one at a time, in whatever tasks."""
    events: list[str] = []

    async def work(name: str) -> None:
        events.append(name)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        events.append(name)

    async def main() -> None:
        await asyncio.gather(*(alone(lambda name=name: work(name)) for name in "abc"))

    run(main)

    assert events == list("aabbcc")


def test_a_suspended_operation_runs_nothing_in_place(gate: Gate) -> None:
    """The call is queued, as any other."""

    async def main() -> None:
        await where()
        await gate.control.aio.suspend("operations/where")
        task = asyncio.create_task(where())
        while not (queued := await gate.control.aio.tokens("operation=where,state=queued")):
            await asyncio.sleep(0)
        await gate.control.aio.unsuspend("operations/where")
        assert (await task)[0] is asyncio.get_running_loop()
        assert len(queued) == 1

    run(main)


@pytest.mark.parametrize("queued", [False, True])
def test_cancelling_a_caller_cancels_its_token(gate: Gate, queued: bool) -> None:
    """Wherever the token runs; the caller gets the plain cancellation."""

    async def main() -> None:
        inside = asyncio.Event()
        found: list[Any] = []

        async def work() -> None:
            found.append(current_token())
            inside.set()
            await forever()

        async def caller() -> None:
            if queued:
                await where()
                await gate.control.aio.suspend("operations/call")
            await call(work)

        await call(lambda: asyncio.sleep(0))
        task = asyncio.create_task(caller())
        if queued:
            while not (rows := await gate.control.aio.tokens("operation=call,state=queued")):
                await asyncio.sleep(0)
            await gate.control.aio.unsuspend("operations/call")
            del rows
        await inside.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await asyncio.to_thread(found[0].exception, WAIT)
        assert found[0].state is TokenState.TERMINATED

    run(main)


def test_a_token_that_is_cancelled_ends_and_its_caller_goes_on(gate: Gate) -> None:
    """The caller gets an exception like any other, and its task is not cancelled, nor is what it awaits next."""

    async def main() -> None:
        async def cancel_itself() -> None:
            inside = current_token()
            assert inside is not None
            inside.cancel()
            await forever()

        async def cancel_at_the_end() -> str:
            inside = current_token()
            assert inside is not None
            inside.cancel()
            return "done"

        task = asyncio.current_task()
        assert task is not None
        with pytest.raises(TokenTerminated):
            await call(cancel_itself)
        assert task.cancelling() == 0
        assert await call(cancel_at_the_end) == "done"
        await asyncio.sleep(0)
        assert task.cancelling() == 0

    run(main)


# What stays intact inside


def test_task_groups_timeouts_and_shields_work_inside(gate: Gate) -> None:
    """The task is a real one, and the cancellations of these reach it."""

    async def failing_group() -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(call(lambda: asyncio.sleep(0, 1 / 0)))
            group.create_task(forever())

    async def work() -> list[Any]:
        answers: list[Any] = []
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0):
                await forever()
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(asyncio.sleep(0, n)) for n in range(3)]
        answers.append([task.result() for task in tasks])
        with pytest.raises(ExceptionGroup):
            await failing_group()
        answers.append(await asyncio.shield(asyncio.sleep(0, "shielded")))
        answers.append(await asyncio.wait_for(asyncio.sleep(0, "in time"), WAIT))
        return answers

    async def main() -> None:
        expected = [[0, 1, 2], "shielded", "in time"]
        assert await call(work) == expected
        assert await call.submit(work) == expected

    run(main)
    assert call.submit(work).result(WAIT) == [[0, 1, 2], "shielded", "in time"]


@pytest.mark.parametrize("from_loop", [True, False])
def test_a_cancelled_token_cleans_up_with_awaits(gate: Gate, from_loop: bool) -> None:
    """A cancellation is raised once, as in asyncio."""
    events: list[str] = []
    inside = threading.Event()

    async def work() -> None:
        try:
            inside.set()
            await forever()
        finally:
            await asyncio.sleep(0)
            events.append("cleaned")

    async def main() -> None:
        sent = call.submit(work)
        await asyncio.to_thread(inside.wait, WAIT)
        sent.cancel()
        await sent.wait()
        assert sent.state is TokenState.TERMINATED

    if from_loop:
        run(main)
    else:
        sent = call.submit(work)
        assert inside.wait(WAIT)
        sent.cancel()
        assert isinstance(sent.exception(WAIT), TokenTerminated)

    assert events == ["cleaned"]


def test_a_token_whose_task_cancels_itself_hits_no_later_one(gate: Gate) -> None:
    """A worker serves many tokens: what is left of one's cancellation is taken back."""

    async def cancel_own_task(*, swallow: bool) -> str:
        task = asyncio.current_task()
        assert task is not None
        task.cancel()
        try:
            await asyncio.sleep(0)
        except asyncio.CancelledError:
            if not swallow:
                raise
        return "swallowed"

    async def cancelling() -> int:
        await asyncio.sleep(0)
        task = asyncio.current_task()
        assert task is not None
        return task.cancelling()

    async def cancel_in_the_last_step() -> None:
        inside = current_token()
        assert inside is not None
        inside.cancel()

    alone.submit(cancelling).result(WAIT)
    for last, state in (
        (lambda: cancel_own_task(swallow=True), TokenState.COMPLETED),
        (lambda: cancel_own_task(swallow=False), TokenState.TERMINATED),
        (cancel_in_the_last_step, TokenState.COMPLETED),
    ):
        gate.control.suspend("operations/alone")  # so that one worker takes all
        ended, *others = [alone.submit(one) for one in (last, cancelling, cancelling)]
        gate.control.unsuspend("operations/alone")
        assert [one.result(WAIT) for one in others] == [0, 0]
        assert ended.state is state


def test_a_cancelled_future_that_is_awaited_is_a_failure(gate: Gate) -> None:
    """Nobody has cancelled the token."""

    async def work() -> None:
        future = asyncio.get_running_loop().create_future()
        future.cancel()
        await future

    sent = call.submit(work)

    assert isinstance(sent.exception(WAIT), asyncio.CancelledError)
    assert sent.state is TokenState.FAILED


# Loops that end


def test_a_loop_that_ends_ends_its_tokens(gate: Gate) -> None:
    """Those that run there, and those that are queued to; the operation goes on."""
    sent: list[Token[Any]] = []

    async def main() -> None:
        sent.append(alone.submit(forever))
        sent.append(alone.submit(forever))
        while sent[0].started_at is None:
            await asyncio.sleep(0)

    run(main)
    states = [one.exception(WAIT) and one.state for one in sent]

    assert states == [TokenState.TERMINATED] * 2
    assert alone.submit(lambda: asyncio.sleep(0, "on")).result(WAIT) == "on"


def test_a_token_that_comes_too_late_for_its_loop_is_ended(gate: Gate) -> None:
    """It is awaited nowhere, and nothing of it is left to complain of."""

    async def main() -> Token[Any]:
        return await call.asubmit(forever)

    sent = run(main)

    assert isinstance(sent.exception(WAIT), TokenTerminated)
    gc.collect()


def test_waiting_in_a_loop_for_a_token_that_needs_it_is_refused(gate: Gate) -> None:
    """Other waits on its thread block it, as they always did."""

    async def main() -> None:
        sent = where.submit()
        with pytest.raises(WouldBlock, match="needs; await it"):
            sent.result()
        assert token(lambda: 5).submit().result(WAIT) == 5
        assert (await sent)[0] is asyncio.get_running_loop()

    run(main)


def test_a_full_mailbox_is_awaited_in_a_loop(gate: Gate) -> None:
    """`submit` would wait for ever for tokens that need the loop."""
    small = token(affinity="asyncio", concurrency=1, capacity=1)(call.__wrapped__)

    async def main() -> None:
        stop = asyncio.Event()
        sent = [small.submit(stop.wait)]
        while sent[0].started_at is None:
            await asyncio.sleep(0)
        sent.append(small.submit(stop.wait))
        with pytest.raises(MailboxFull):
            small.submit(stop.wait).result()
        waiting = asyncio.create_task(small.asubmit(stop.wait))
        await asyncio.sleep(0)
        stop.set()
        assert [await one for one in (*sent, await waiting)] == [True] * 3

    run(main)


# Actors


def test_an_actor_in_the_gates_own_loop_asks_others_there_and_in_trio(gate: Gate) -> None:
    """Refs are awaited alike on both loops."""

    class Inner(IoActor):
        async def on_receive(self, message: int) -> int:
            await trio.lowlevel.checkpoint()
            return message + 1

    class Outer(AsyncioActor):
        async def on_receive(self, message: Any) -> int:
            answer: int = await message.call(1)
            return answer + 1

    inner, outer = gate.spawn(Inner), gate.spawn(Outer)

    assert outer.ask(inner, timeout=WAIT) == 3


def test_an_exception_of_an_actor_that_is_a_cancellation_of_its_own_task_restarts_nothing(gate: Gate) -> None:
    """The token ends; the next one is handled by the same instance."""

    class Canceller(AsyncioActor):
        count = 0

        async def on_receive(self, message: Any) -> int:
            self.count += 1
            if message == "cancel":
                task = asyncio.current_task()
                assert task is not None
                task.cancel()
                await asyncio.sleep(0)
            return self.count

    ref = gate.spawn(Canceller)
    ended = ref.ask("cancel", block=False)
    ended.exception(WAIT)

    assert ended.state is TokenState.TERMINATED
    assert ref.ask("next", timeout=WAIT) == 2


def test_the_host_is_one_loop_however_often_it_is_asked_for(gate: Gate) -> None:
    """Opening it twice starts one thread."""
    host = gate._system.asyncio_hosts.own
    assert isinstance(host, AsyncioHost)
    host.open()
    host.open()

    assert where.submit().result(WAIT)[0] is host._loop


def test_what_a_signal_handler_raises_after_a_put_is_raised_to_the_sender(gate: Gate, monkeypatch: Any) -> None:
    """The token is in the mailbox by then, so it is not rejected."""

    class Interrupted(BaseException):
        pass

    async def main() -> None:
        first = await call.asubmit(where)
        await first
        mailbox: Any = first._place.mailbox
        put = type(mailbox).put

        def interrupted_put(self: Any, token: Any, room: Any = None) -> None:
            put(self, token, room)
            monkeypatch.undo()
            raise Interrupted

        monkeypatch.setattr(type(mailbox), "put", interrupted_put)
        with pytest.raises(Interrupted):
            await call.asubmit(where)
        assert (await call(where))[0] is asyncio.get_running_loop()

    asyncio.run(main())
