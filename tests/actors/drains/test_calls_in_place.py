"""Calls that run in the task of their caller, beside the long way: the same answers, failures, events and order."""

from __future__ import annotations

import contextvars
import logging
import random
import signal
import threading
from collections.abc import Awaitable, Callable
from typing import Any

import attrs
import pykka.messages
import pytest
import trio
import trio.testing
from limits import Throttle, hold, let_loose

from actors import (
    NORMAL,
    ActorDead,
    ActorSystem,
    DeadlockError,
    IoActor,
    LogContext,
    Observer,
    Reply,
    Token,
    TokenFailed,
    TokenState,
    TokenTerminated,
    WouldBlock,
    current_token,
)
from actors.concurrency._future import Later
from actors.drains._io_worker import IoWorker
from actors.lowlevel import Mailbox
from actors.tokens._hold import Hold

LIMIT = 30.0

_word = contextvars.ContextVar("word", default="unset")


class Echo(IoActor):
    """Answers with its message; a message that can be called is called first.

    It keeps what it was sent, and the task that ran the handler.
    """

    expected = (LookupError,)

    def __init__(self) -> None:
        super().__init__()
        self.got: list[Any] = []
        self.tasks: list[Any] = []

    def act(self, message: Any) -> Any:
        self.got.append(message)
        self.tasks.append(trio.lowlevel.current_task())
        return message() if callable(message) else message


class Plain(Echo):
    def on_receive(self, message: Any) -> Any:
        return self.act(message)


class Coroutine(Echo):
    async def on_receive(self, message: Any) -> Any:  # type: ignore[override]
        return self.act(message)


class Waits(Echo):
    async def on_receive(self, message: Any) -> Any:  # type: ignore[override]
        await trio.lowlevel.checkpoint()
        return self.act(message)


class Passes(Waits):
    """A plain handler whose coroutine waits."""

    def on_receive(self, message: Any) -> Any:
        return Waits.on_receive(self, message)


class Steps(Echo):
    def on_receive(self, message: Any) -> Any:
        yield
        return self.act(message)


class Replies(Echo):
    def on_receive(self, message: Any) -> Any:
        later: Later[Any] = Later()
        try:
            later._set(self.act(message))
        except Exception as error:
            later._set(error=error)
        return later


IN_PLACE = [Plain, Coroutine]
ON_THE_LONG_WAY = [Waits, Passes, Steps]
KINDS = [*IN_PLACE, *ON_THE_LONG_WAY]


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> type[Echo]:
    chosen: type[Echo] = request.param
    return chosen


@pytest.fixture
def inside(system: ActorSystem) -> Callable[[Callable[[], Awaitable[Any]]], Any]:
    """Run an async function on the io loop."""
    return lambda function: system.io_host.run(function).result(LIMIT)


async def on_loop_of(ref: Any, message: Any) -> tuple[bool, Any]:
    """Ask; return whether the handler ran in this task, and the answer."""
    answer = await ref.call(message)
    return ref._place.instance.tasks[-1] is trio.lowlevel.current_task(), answer


# What is the same on both ways


def test_each_handler_answers_and_only_one_that_cannot_wait_runs_in_its_callers_task(
    kind: type[Echo], start: Any, inside: Any
) -> None:
    """Those that wait have a task of their own, the first time too."""
    ref = start(kind)

    async def ask() -> list[Any]:
        return [await on_loop_of(ref, number) for number in range(5)]

    assert inside(ask) == [(kind in IN_PLACE, number) for number in range(5)]


def test_a_method_is_called_in_place_as_a_message_is(start: Any, inside: Any) -> None:
    """So is a read of an attribute."""

    class Adds(Echo):
        total = 0

        def add(self, number: int, *, twice: bool = False) -> int:
            self.total += number * (1 + twice)
            return self.total

        async def add_later(self, number: int) -> int:
            await trio.lowlevel.checkpoint()
            return self.add(number)

    ref = start(Adds)
    message = pykka.messages.ProxyCall

    async def ask() -> list[int]:
        return [
            await ref.call(message(attr_path=["add"], args=(1,), kwargs={"twice": True})),
            await ref.call(message(attr_path=["add_later"], args=(1,), kwargs={})),
            await ref.call(message(attr_path=["add"], args=(1,), kwargs={})),
            await ref.call(pykka.messages.ProxyGetAttr(attr_path=["total"])),
            await ref.call(pykka.messages.ProxySetAttr(attr_path=["total"], value=[])) or 0,
        ]

    assert inside(ask) == [2, 3, 4, 4, 0]


def test_a_name_that_is_missing_is_an_error_of_the_call(start: Any, inside: Any) -> None:
    """As on the long way, it is a crash."""
    ref = start(Plain)

    async def ask() -> None:
        with pytest.raises(AttributeError, match="nothing"):
            await ref.call(pykka.messages.ProxyCall(attr_path=["nothing"], args=(), kwargs={}))

    inside(ask)


def test_observers_get_the_same_events_in_the_same_order(
    system: ActorSystem, kind: type[Echo], start: Any, inside: Any
) -> None:
    """Queued, started, finished; and the figures of the mailbox and of the token are the same."""
    ref = start(kind)
    seen: list[tuple[str, TokenState, int]] = []

    class Sees(Observer):
        def token_queued(self, token: Token[Any], /) -> None:
            if token.operation.endswith("on_receive"):
                seen.append(("queued", token.state, token.steps))

        def token_started(self, token: Token[Any], /) -> None:
            if token.operation.endswith("on_receive"):
                seen.append(("started", token.state, token.steps))

        def token_finished(self, token: Token[Any], /) -> None:
            if token.operation.endswith("on_receive"):
                times: list[Any] = [token.created_at, token.queued_at, token.started_at, token.finished_at]
                assert times == sorted(times)
                seen.append(("finished", token.state, bool(token.args)))

    system.add_observer(Sees())

    async def ask() -> None:
        for number in range(3):
            await ref.call(number)

    inside(ask)
    statistics = ref._place.mailbox.statistics()

    assert seen == 3 * [
        ("queued", TokenState.QUEUED, 0),
        ("started", TokenState.RUNNING, 1),
        ("finished", TokenState.COMPLETED, False),
    ]
    assert (statistics.accepted, statistics.depth, statistics.active) == (3, 0, 0)
    assert system.live == {}


def test_a_handler_runs_in_a_copy_of_its_callers_context(kind: type[Echo], start: Any, inside: Any) -> None:
    """It sees the caller's variables, and the caller does not see what it sets; the token is current there only."""
    ref = start(kind)

    def look() -> tuple[str, Any]:
        before = _word.get()
        _word.set("of the handler")
        return before, current_token()

    async def ask() -> None:
        _word.set("of the caller")
        word, token = await ref.call(look)

        assert (word, token.operation) == ("of the caller", f"{kind.__name__}.on_receive")
        assert (_word.get(), current_token()) == ("of the caller", None)

    inside(ask)


def test_a_call_within_a_step_has_it_as_its_parent(kind: type[Echo], start: Any, inside: Any) -> None:
    """And log records name the actor whose code logs, as on the long way."""
    ref = start(kind)
    records: list[Any] = []

    class Keeps(logging.Handler):
        def emit(self, record: Any) -> None:
            records.append((record.token, record.actor))

    class Asks(IoActor):
        async def on_receive(self, message: Any) -> Any:  # type: ignore[override]
            return current_token(), await ref.call(message)

    logger = logging.getLogger("test.in_place")
    handler = Keeps()
    handler.addFilter(LogContext())
    logger.addHandler(handler)

    def log() -> Any:
        logger.warning("here")
        return current_token()

    outer, inner = start(Asks).ask(log, timeout=LIMIT)
    logger.removeHandler(handler)

    assert inner.parent == outer.id
    assert records == [(inner.id, ref.path)]
    assert outer._extras.waits == []


def test_an_expected_error_is_an_answer(kind: type[Echo], start: Any, inside: Any) -> None:
    """The actor lives on."""
    ref = start(kind)

    def fail() -> None:
        raise LookupError("asked to")

    async def ask() -> Any:
        for _ in range(3):
            with pytest.raises(LookupError, match="asked to"):
                await ref.call(fail)
        here = [task is trio.lowlevel.current_task() for task in ref._place.instance.tasks]
        return here, await on_loop_of(ref, "still there")

    here = kind in IN_PLACE

    assert inside(ask) == (3 * [here], (here, "still there"))


@pytest.mark.parametrize("error", [ValueError("broken"), SystemExit(3), KeyboardInterrupt()])
def test_another_error_is_a_crash_of_the_actor(kind: type[Echo], start: Any, inside: Any, error: BaseException) -> None:
    """The caller gets it; the actor's hook has been called, and the actor has ended, by the time it does."""
    failures: list[Any] = []

    class Crashes(kind):  # type: ignore[misc, valid-type]
        def on_failure(self, _kind: Any, value: Any, _traceback: Any) -> None:
            failures.append(value)

    ref = start(Crashes)

    def fail() -> None:
        raise error

    async def ask() -> None:
        with pytest.raises((ValueError, TokenFailed)) as caught:
            await ref.call(fail)

        assert error in (caught.value, caught.value.__cause__)
        assert (failures, ref.is_alive()) == ([error], False)
        with pytest.raises(ActorDead):
            await ref.call("too late")

    inside(ask)


def test_a_hook_for_a_crash_may_wait_and_the_caller_does_not(kind: type[Echo], start: Any, inside: Any) -> None:
    """It runs in the actor's own task, out of reach of the caller's cancel scopes."""
    go, done = trio.Event(), trio.Event()

    class Crashes(kind):  # type: ignore[misc, valid-type]
        async def on_failure(self, *_: Any) -> None:  # type: ignore[override]
            await go.wait()
            done.set()

    ref = start(Crashes)

    def fail() -> None:
        raise ValueError

    async def ask() -> None:
        with trio.CancelScope() as scope:
            try:
                await ref.call(fail)
            except ValueError:
                assert not done.is_set()
                scope.cancel()
        go.set()
        with trio.fail_after(LIMIT):
            await done.wait()

    inside(ask)


def test_the_hook_for_a_crash_is_not_cancelled_with_the_token(kind: type[Echo], start: Any, inside: Any) -> None:
    """A cancel that comes from a thread while the handler runs, and crashes, is for the handler."""
    done = trio.Event()

    class Crashes(kind):  # type: ignore[misc, valid-type]
        async def on_failure(self, *_: Any) -> None:  # type: ignore[override]
            for _ in range(3):
                await trio.lowlevel.checkpoint()
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
        with trio.fail_after(LIMIT):
            await done.wait()

    inside(ask)


# What a call does not overtake


def test_a_call_does_not_overtake_what_its_sender_sent_before(kind: type[Echo], start: Any, inside: Any) -> None:
    """Tells come first, and so do questions whose answers have not been awaited."""
    ref = start(kind)

    async def ask() -> Any:
        for number in range(10):
            ref.tell(2 * number)
            ref.ask(2 * number + 1, block=False)
        await ref.call(20)
        return ref._place.instance.got

    assert inside(ask) == list(range(21))


def test_a_call_waits_while_the_actor_is_suspended(kind: type[Echo], start: Any, inside: Any) -> None:
    """By an operator."""
    ref = start(kind)

    async def ask() -> Any:
        ref._place.suspend()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(ref.call, "first")
            await trio.testing.wait_all_tasks_blocked()
            got = list(ref._place.instance.got)
            ref._place.unsuspend()
        return got, ref._place.instance.got

    assert inside(ask) == ([], ["first"])


def test_a_call_waits_for_a_throttle(system: ActorSystem, kind: type[Echo], start: Any, inside: Any) -> None:
    """It is kept back like any other message."""
    ref = start(kind)
    throttle = Throttle("none", lambda token: token.actor == ref.path, None, 0)
    hold(system, throttle)

    async def ask() -> Any:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(ref.call, "first")
            await trio.testing.wait_all_tasks_blocked()
            got = list(ref._place.instance.got)
            await trio.to_thread.run_sync(let_loose, system, throttle)
        return got, ref._place.instance.got

    assert inside(ask) == ([], ["first"])


def test_a_call_of_a_token_that_is_steered_goes_the_long_way(kind: type[Echo], start: Any) -> None:
    """Each wait for an answer is a point at which it can be paused."""
    ref = start(kind)

    class Asks(IoActor):
        async def on_receive(self, message: Any) -> Any:  # type: ignore[override]
            token = current_token()
            assert token is not None
            Hold.of(token)
            before = token.steps
            here, _ = await on_loop_of(ref, message)
            return here, token.steps - before

    here, steps = start(Asks).ask("message", timeout=LIMIT)

    assert (here, steps > 0) == (False, True)


def test_a_call_to_an_actor_that_has_ended_is_refused(system: ActorSystem, kind: type[Echo], start: Any) -> None:
    """As is one while the system closes."""
    ref, living = start(kind), start(kind)

    async def ask() -> None:
        await ref.call("before")
        ref.stop(block=False)
        with pytest.raises(ActorDead):
            await ref.call("after")
        await living.call("before")
        system.close_intake()
        with pytest.raises(ActorDead, match="closing"):
            await living.call("after")

    system.io_host.run(ask).result(LIMIT)


def test_a_call_to_an_actor_that_is_closed_as_the_call_comes_in_place_is_refused(
    system: ActorSystem, start: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another thread may close the mailbox just before the message comes; it is refused as on the long way."""
    ref = start(Plain)
    enter = Mailbox.enter_with

    def close_and_enter(mailbox: Mailbox, *args: Any) -> bool:
        mailbox.close(keep=True)
        return enter(mailbox, *args)

    async def ask() -> None:
        await ref.call("before")
        monkeypatch.setattr(Mailbox, "enter_with", close_and_enter)
        with pytest.raises(ActorDead, match="not found"):
            await ref.call("after")

    system.io_host.run(ask).result(LIMIT)

    assert not system.live


def test_a_call_after_an_abandoned_token_is_still_in_place(system: ActorSystem, start: Any, inside: Any) -> None:
    """Only what the abandoned code sends is refused."""
    ref = start(Plain)
    entered, proceed, refused = threading.Event(), trio.Event(), Reply[Any]()

    class Stuck(IoActor):
        async def on_receive(self, message: Any) -> None:  # type: ignore[override]
            entered.set()
            with trio.CancelScope(shield=True):
                await proceed.wait()
            try:
                await ref.call("from beyond")
            except ActorDead as error:
                refused._set(error)

    stuck = start(Stuck)
    token = stuck.ask("go", block=False)
    assert entered.wait(LIMIT)
    system.seal([token], "a test")

    async def ask() -> Any:
        proceed.set()
        return await on_loop_of(ref, "message")

    assert inside(ask) == (True, "message")
    assert isinstance(refused.result(LIMIT), ActorDead)
    assert "from beyond" not in ref._place.instance.got


def test_a_blocking_ask_is_refused_on_the_loop(kind: type[Echo], start: Any, inside: Any) -> None:
    """Nothing is sent, as before."""
    ref = start(kind)

    async def ask() -> Any:
        with pytest.raises(WouldBlock):
            ref.ask("message")
        await ref.call("other")
        return ref._place.instance.got

    assert inside(ask) == ["other"]


def test_a_sender_that_is_faster_is_served_first(
    kind: type[Echo], start: Any, inside: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One whose message comes after the mailbox was seen to be idle, and before the caller's own message."""
    ref = start(kind)
    enter = Mailbox.enter_with

    def enter_late(mailbox: Mailbox, drainer: Any, token: Token[Any]) -> bool:
        ref.tell("theirs")
        return enter(mailbox, drainer, token)

    async def ask() -> Any:
        with monkeypatch.context() as patched:
            patched.setattr(Mailbox, "enter_with", enter_late)
            await ref.call("mine")
        return ref._place.instance.got

    assert inside(ask) == ["theirs", "mine"]


@pytest.mark.parametrize("kind", IN_PLACE)
def test_a_message_whose_actor_is_ended_as_it_is_taken_never_runs(
    kind: type[Echo], start: Any, inside: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It ends with the actor."""
    ref = start(kind)
    enter = Mailbox.enter_with

    def enter_and_end(mailbox: Mailbox, drainer: Any, token: Token[Any]) -> bool:
        entered = enter(mailbox, drainer, token)
        instances.append(ref._place.instance)
        ref._place.terminate_running("a test")
        return entered

    instances: list[Any] = []
    monkeypatch.setattr(Mailbox, "enter_with", enter_and_end)

    async def ask() -> None:
        with pytest.raises((ActorDead, TokenTerminated)):
            await ref.call("message")

    inside(ask)

    assert instances[0].got == []


def test_a_handler_that_is_sealed_before_the_task_of_its_actor_goes_on_is_cancelled(
    start: Any, system: ActorSystem, inside: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its code is over, and its token has one end."""
    ref = start(Passes)
    come = IoWorker.come
    sealed: list[Token[Any]] = []

    def come_and_be_sealed(worker: IoWorker) -> None:
        come(worker)
        if isinstance(worker.current, Token):
            sealed.append(worker.current)
            ref._place.abandon(worker.current, "a test")

    monkeypatch.setattr(IoWorker, "come", come_and_be_sealed)
    instance = ref._place.instance

    async def ask() -> None:
        with pytest.raises(TokenTerminated, match="a test"):
            await ref.call("message")
        await trio.testing.wait_all_tasks_blocked()

    inside(ask)

    assert ([token.state for token in sealed], instance.got) == ([TokenState.TERMINATED], [])
    assert system.live == {}


def test_nothing_nests(start: Any, inside: Any) -> None:
    """A handler that runs in place can only send: what it sends runs after it."""
    order: list[str] = []

    class Inner(IoActor):
        def on_receive(self, message: Any) -> None:
            order.append("inner")

    inner = start(Inner)

    class Outer(IoActor):
        def on_receive(self, message: Any) -> Any:
            token = inner.ask(message, block=False)
            inner.tell(message)
            order.append("outer")
            return token

    outer = start(Outer)

    async def ask() -> None:
        await (await outer.call("message"))
        await inner.call("last")

    inside(ask)

    assert order == ["outer", "inner", "inner", "inner"]


def test_an_actor_that_calls_itself_waits_for_itself(kind: type[Echo], start: Any) -> None:
    """Its turn is taken."""

    class Asks(kind):  # type: ignore[misc, valid-type]
        async def on_receive(self, message: Any) -> Any:
            return await self.actor_ref.call(message)

    with pytest.raises(DeadlockError):
        start(Asks).ask("message", timeout=LIMIT)


# Ends


def test_a_handler_may_stop_its_own_actor(kind: type[Echo], start: Any, inside: Any) -> None:
    """It answers, then the actor ends in order."""
    ended: list[str] = []

    class Stops(kind):  # type: ignore[misc, valid-type]
        def on_stop(self) -> None:
            ended.append("on_stop")

    ref = start(Stops)

    async def ask() -> Any:
        answer = await ref.call(lambda: ref._place.instance.stop() or "answer")
        await ref._place.stop(drain=True, administrative=True)
        return answer

    assert inside(ask) == "answer"
    assert ended == ["on_stop"]


@pytest.mark.parametrize("kind", [*IN_PLACE, Passes])
def test_a_handler_that_has_its_actor_stopped_at_once_ends_first(kind: Any, start: Any, inside: Any) -> None:
    """One that cannot wait answers; one that does wait is cancelled where it does."""
    ref = start(kind)

    async def ask() -> Any:
        return await ref.call(lambda: bool(ref._place.stop(drain=False, administrative=True)))

    if kind is Passes:
        assert inside(ask) is True  # it waits before it has itself stopped
    else:
        assert inside(ask) is True
    ref._place.stop(drain=True, administrative=True).result(LIMIT)


def test_a_plain_handler_that_cancels_its_token_and_then_waits_is_cancelled(start: Any, inside: Any) -> None:
    """At its first checkpoint, as on the long way."""

    class Cancels(IoActor):
        def on_receive(self, message: Any) -> Any:
            token = current_token()
            assert token is not None
            token.cancel()
            return trio.sleep_forever() if message == "wait" else message

    ref = start(Cancels)

    async def ask() -> Any:
        with pytest.raises(TokenTerminated, match="cancelled"):
            await ref.call("wait")
        answers = [await ref.call("stay") for _ in range(2)]
        with pytest.raises(TokenTerminated, match="cancelled"):
            await ref.call("wait")
        return answers

    assert inside(ask) == ["stay", "stay"]


def test_a_place_that_is_closed_under_a_handler_keeps_no_task(system: ActorSystem, start: Any, inside: Any) -> None:
    """The handler runs to its end; its answer is lost with its actor."""
    ref = start(Plain)

    async def ask() -> None:
        with pytest.raises((TokenTerminated, ActorDead)):
            await ref.call(lambda: ref._place.terminate_running("a test"))
        await trio.testing.wait_all_tasks_blocked()

    inside(ask)

    assert ref._place.drain.workers == set()
    assert system.live == {}


# The caller's task


def test_a_call_in_a_cancelled_scope_is_handled_and_its_answer_is_not_awaited(
    kind: type[Echo], start: Any, inside: Any
) -> None:
    """A cancelled wait leaves the token as it is, on both ways."""
    ref = start(kind)

    async def ask() -> Any:
        with trio.CancelScope() as scope:
            scope.cancel()
            await ref.call("first")
        assert scope.cancelled_caught
        await ref.call("second")
        return ref._place.instance.got

    assert inside(ask) == ["first", "second"]


def test_a_handler_that_cancels_its_caller_has_answered(kind: type[Echo], start: Any, inside: Any) -> None:
    """The caller is cancelled all the same."""
    ref = start(kind)

    async def ask() -> Any:
        with trio.CancelScope() as scope:
            await ref.call(scope.cancel)
        return scope.cancelled_caught, await ref.call("next")

    assert inside(ask) == (True, "next")


@pytest.mark.parametrize("kind", IN_PLACE)
def test_other_tasks_get_on_while_one_asks_again_and_again(kind: Any, start: Any, inside: Any) -> None:
    """They get a turn after 64 calls at the latest, whatever actors these are for."""
    refs = [start(kind) for _ in range(3)]
    rounds = 0

    async def other() -> None:
        nonlocal rounds
        while True:
            await trio.lowlevel.checkpoint()
            rounds += 1

    async def ask() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(other)
            for number in range(2_000):
                await refs[number % 3].call(number)
            nursery.cancel_scope.cancel()

    inside(ask)

    assert rounds >= 2_000 // 64 - 2  # it starts and ends between two of them
    assert sum(len(ref._place.instance.got) for ref in refs) == 2_000
    assert all(ref._place.drain.place.mailbox.statistics().accepted == len(ref._place.instance.got) for ref in refs)


def test_long_handlers_make_room_for_other_tasks_sooner() -> None:
    """After 5 ms of the clock."""
    now = [0.0]
    system = ActorSystem("slow", threads=1, clock=lambda: now[0])
    system.open()

    class Slow(IoActor):
        def on_receive(self, message: Any) -> None:
            now[0] += 0.003

    ref = system.start_actor(Slow, (), {})
    rounds = 0

    async def other() -> None:
        nonlocal rounds
        while True:
            await trio.lowlevel.checkpoint()
            rounds += 1

    async def ask() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(other)
            for number in range(100):
                await ref.call(number)
            nursery.cancel_scope.cancel()

    system.io_host.run(ask).result(LIMIT)
    assert system.close(LIMIT) == ()

    assert rounds >= 40


# Ctrl-C


@pytest.mark.parametrize("kind", KINDS)
def test_ctrl_c_in_a_handler_is_for_the_program_and_never_for_the_actor(kind: Any) -> None:
    """The handler ends; the main task, which called it in its own loop, is interrupted after that."""
    system = ActorSystem("attached", threads=1)
    finished: list[str] = []

    def interrupted() -> str:
        signal.raise_signal(signal.SIGINT)
        finished.append("handler")
        return "answer"

    async def ask(ref: Any) -> None:
        await ref.call(interrupted)
        await trio.lowlevel.checkpoint()

    async def main() -> None:
        await system.system_host.attach()
        await system.io_host.attach()
        place = system.place("echo", kind)
        await place.start()
        try:
            with pytest.raises(KeyboardInterrupt):
                await ask(place.ref)
            finished.append("program")

            assert await place.ref.call("next") == "next"
        finally:
            place.close(NORMAL)
            for host in (system.io_host, system.system_host):
                host.cancel()

    trio.run(main)

    assert finished == ["handler", "program"]


# Random schedules


@attrs.define
class Race:
    """Tasks of the loop that call three actors, while threads act on these as operators and other senders.

    Attributes:
        handled: messages in the order in which the actors got them: (who sent it, its number).
        answered, refused: those of the tasks, by their own account.
    """

    system: ActorSystem
    seed: str
    handled: list[tuple[int, int]] = attrs.field(factory=list)
    answered: list[tuple[int, int]] = attrs.field(factory=list)
    refused: list[tuple[int, int]] = attrs.field(factory=list)
    refs: list[Any] = attrs.field(init=False)
    over: threading.Event = attrs.field(factory=threading.Event)

    def __attrs_post_init__(self) -> None:
        handled = self.handled

        class Writes(IoActor):
            async def waits(self, message: Any) -> Any:
                await trio.lowlevel.checkpoint()
                return message

            def on_receive(self, message: Any) -> Any:
                handled.append(message)
                return self.waits(message) if message[1] % 97 == 3 else message

        self.refs = [self.system.start_actor(Writes, (), {}) for _ in range(3)]

    async def call(self, number: int) -> None:
        chance = random.Random(f"{self.seed} {number}")
        for count in range(300):
            message = (number, count)
            try:
                assert await chance.choice(self.refs).call(message) == message
            except (ActorDead, TokenTerminated):
                self.refused.append(message)
            else:
                self.answered.append(message)

    async def callers(self) -> None:
        async with trio.open_nursery() as nursery:
            for number in range(4):
                nursery.start_soon(self.call, number)

    def repeat(self, act: Callable[[random.Random], object]) -> None:
        """Act until the calls are over; run on a thread."""
        chance = random.Random(f"{self.seed} {act.__name__}")
        while not self.over.is_set():
            act(chance)

    def suspend(self, chance: random.Random) -> None:
        mailbox = chance.choice(self.refs)._place.mailbox
        mailbox.suspend()
        mailbox.resume()

    def throttle(self, _chance: random.Random) -> None:
        throttle = Throttle("one", bool, None, 1)
        hold(self.system, throttle)
        let_loose(self.system, throttle)

    def pause(self, _chance: random.Random) -> None:
        for token in list(self.system.live.values()):
            if token._place.mailbox.hold(token):
                token._place.mailbox.release(token)

    def question(self, chance: random.Random) -> None:
        assert chance.choice(self.refs).ask((9, 0), timeout=LIMIT) == (9, 0)

    def end(self, chance: random.Random) -> None:
        if len(self.answered) > 300:
            chance.choice(self.refs)._place.terminate_running("a test")

    def run(self, *acts: Callable[[random.Random], object]) -> None:
        threads = [threading.Thread(target=self.repeat, args=(act,)) for act in acts]
        for thread in threads:
            thread.start()
        try:
            self.system.io_host.run(self.callers).result(6 * LIMIT)
        finally:
            self.over.set()
            for thread in threads:
                thread.join()

    def check(self, until: Any) -> None:
        calls = [message for message in self.handled if message[0] != 9]
        assert len(calls) == len(set(calls))
        assert set(self.answered) <= set(calls)
        assert len(self.answered) + len(self.refused) == 4 * 300
        for number in range(4):
            counts = [count for who, count in calls if who == number]
            assert counts == sorted(counts)
        for ref in self.refs:
            ref._place.stop(drain=True, administrative=True).result(LIMIT)
        until(lambda: not any(ref._place.mailbox.active for ref in self.refs))  # a stop is told before its turn ends
        assert not self.system.live


@pytest.mark.parametrize("end", [False, True], ids=["steered", "ended"])
def test_calls_in_place_lose_nothing_while_others_steer_the_actor(
    system: ActorSystem, seed: int, rounds: Callable[[int], int], until: Any, end: bool
) -> None:
    """Whatever is suspended, throttled, paused and asked meanwhile, each call is handled once, in its caller's order.

    One whose actor was ended is handled once at most.
    """
    for number in range(rounds(1)):
        race = Race(system, f"{seed} {number}")
        acts = random.Random(race.seed).sample([race.suspend, race.throttle, race.pause, race.question], 2)
        race.run(*([race.suspend, race.end] if end else acts))
        if not end:
            assert (race.refused, len(race.answered)) == ([], 4 * 300)
        race.check(until)


# Messages from other threads


def test_a_message_from_a_thread_is_handled_as_it_arrives_unless_its_handler_waits(
    kind: type[Echo], start: Any, system: ActorSystem
) -> None:
    """Then it is handled in the callback of the loop, which is a task of trio, too."""
    refs = [start(kind) for _ in range(2)]

    for number in range(3):
        assert [ref.ask(number, timeout=LIMIT) for ref in refs] == [number, number]

    first, second = (set(ref._place.instance.tasks) for ref in refs)
    assert (first == second) is (kind not in ON_THE_LONG_WAY)
    assert None not in first | second
    assert system.live == {}


def test_what_a_handler_leaves_to_be_awaited_runs_in_the_task_of_its_actor(start: Any) -> None:
    """A nursery that it opens belongs to that task: the loop goes on when it fails."""

    class Opens(IoActor):
        async def work(self) -> str:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(trio.lowlevel.checkpoint)
            return "done"

        def on_receive(self, message: Any) -> Any:
            return self.work() if message == "open" else message

    ref = start(Opens)

    assert [ref.ask(message, timeout=LIMIT) for message in ("plain", "open", "plain", "open")] == [
        "plain",
        "done",
        "plain",
        "done",
    ]


def test_a_token_that_cancels_itself_as_it_arrives_takes_no_later_one_with_it(start: Any) -> None:
    """It needs no task, so the task of its actor is not cancelled."""

    class Calls(IoActor):
        def on_receive(self, message: Any) -> Any:
            return message()

    def cancel() -> bool:
        token = current_token()
        assert token is not None
        return token.cancel()

    async def wait() -> str:
        await trio.lowlevel.checkpoint()
        return "waited"

    ref = start(Calls)

    assert [ref.ask(message, timeout=LIMIT) for message in (cancel, wait)] == [False, "waited"]


def test_a_crash_as_a_message_arrives_is_handled_in_the_task_of_its_actor(start: Any) -> None:
    """Its hook may wait."""
    hooks: list[Any] = []

    class Fails(IoActor):
        def on_receive(self, message: Any) -> None:
            raise ValueError(message)

        async def on_failure(self, *_: Any) -> None:  # type: ignore[override]
            await trio.lowlevel.checkpoint()
            hooks.append(trio.lowlevel.current_task().name)

    ref = start(Fails)
    ended = ref.watch()

    with pytest.raises(ValueError, match="broken"):
        ref.ask("broken", timeout=LIMIT)
    assert not ended.result(LIMIT).reason.orderly

    assert hooks == [ref.path]


def test_an_actor_stops_that_drains_and_has_handled_its_last_message_as_that_arrived(
    start: Any, until: Callable[[Callable[[], bool]], None]
) -> None:
    """The message was held by an operator until then, so that the drainer that saw the stop had left."""
    ref = start(Plain)
    place = ref._place
    place.suspend()
    token = ref.ask("held", block=False)
    assert place.mailbox.hold(token)
    place.unsuspend()
    ended = ref.stop(block=False)
    until(lambda: place.draining and not place.mailbox.active)

    assert place.mailbox.release(token)

    assert (token.result(LIMIT), ended.get(timeout=LIMIT)) == ("held", True)
