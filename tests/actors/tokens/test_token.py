"""Tokens: what they carry, what they drop at their end, and how they are ended."""

from __future__ import annotations

import concurrent.futures
import contextvars
import copy
import gc
import pickle
import threading
import weakref
from collections.abc import Callable
from typing import Any

import pykka
import pytest

from actors import (
    ActorSystem,
    BaseActor,
    CpuActor,
    IoActor,
    Token,
    TokenInterrupt,
    TokenState,
    TokenTerminated,
    WouldBlock,
    checkpoint,
    current_token,
)
from actors.lowlevel import NO_TAGS
from actors.steps._step import enter

LIMIT = 30.0

colour: contextvars.ContextVar[str] = contextvars.ContextVar("colour", default="none")
hung: contextvars.ContextVar[Any] = contextvars.ContextVar("hung")


def worker(base: type[BaseActor]) -> type[BaseActor]:
    class Worker(base):  # type: ignore[misc, valid-type]
        def run(self, function: Callable[..., Any], *args: Any) -> Any:
            return function(*args)

    return Worker


def test_a_token_is_a_pykka_future(base: Any, start: Any) -> None:
    """To `isinstance`, to `pykka.get_all` and to other futures; it has no `__dict__` for that."""
    proxy = start(worker(base)).proxy()
    tokens: list[Token[Any]] = [proxy.run(max, 3, 8), proxy.run(min, 3, 8)]

    assert all(isinstance(token, pykka.Future) for token in tokens)
    assert issubclass(Token, pykka.Future)
    assert pykka.get_all(tokens, timeout=LIMIT) == [8, 3]
    assert tokens[0].join(tokens[1]).get(timeout=LIMIT) == [8, 3]
    assert not any(hasattr(token, "__dict__") for token in tokens)


@pytest.mark.parametrize("method", ["set", "set_exception", "set_get_hook"])
def test_the_outcome_of_a_token_cannot_be_set_from_outside(base: Any, start: Any, method: str) -> None:
    """Unlike that of other futures of pykka: it comes from the token's code."""
    token = start(worker(base)).proxy().run(max, 3, 8)

    with pytest.raises(TypeError, match=f"token {token.id} .* gets its outcome from its code"):
        getattr(token, method)(lambda: 9)
    assert token.get(timeout=LIMIT) == 8


def test_a_token_tells_what_it_is(base: Any, start: Any, system: ActorSystem) -> None:
    """Operation, actor, affinity, priority, tags, times, attempt and steps."""
    proxy = start(worker(base)).proxy()
    token: Token[int] = proxy.run(max, 3, 8)
    assert token.result(LIMIT) == 8
    assert token.operation == "Worker.run"
    assert token.actor == proxy.actor_ref.path
    assert token.affinity == base.affinity
    assert (token.priority, token.tags, token.parent, token.attempt, token.steps) == (0, NO_TAGS, None, 1, 1)
    times = [token.created_at, token.queued_at, token.started_at, token.finished_at]
    assert None not in times
    assert times == sorted(times)  # type: ignore[type-var]

    assert token.state is TokenState.COMPLETED


def test_ids_are_small_and_unique(start: Any) -> None:
    """The ids of a system's tokens start at 1 and grow."""
    proxy = start(worker(CpuActor)).proxy()
    tokens = [proxy.run(int) for _ in range(5)]

    assert [token.id for token in tokens] == [1, 2, 3, 4, 5]


def test_a_result_is_visible_only_after_the_state_is(start: Any) -> None:
    """A callback sees the terminal state, the finishing time and the result together."""
    token = start(worker(CpuActor)).proxy().run(int, "5")
    seen: list[Any] = []
    token.add_done_callback(lambda t: seen.append((t.state, t.done(), t.result(), t.finished_at is not None)))
    token.result(LIMIT)
    token.add_done_callback(lambda t: seen.append("late"))

    assert seen == [(TokenState.COMPLETED, True, 5, True), "late"]


def test_a_queued_token_that_is_cancelled_never_runs(desk: Any) -> None:
    """`cancel` ends it at once, says so, and its waiter gets TokenTerminated, a `concurrent.futures.CancelledError`."""
    ran: list[int] = []
    token = desk.place.send(desk.token(call=lambda: ran.append(1)))
    assert token.cancel()
    assert token.state is TokenState.TERMINATED
    with pytest.raises(TokenTerminated, match="cancelled") as caught:
        token.result()
    assert isinstance(caught.value, concurrent.futures.CancelledError)
    assert not token.cancel()
    (slot,) = desk.place.drain.slots()
    assert slot.run(threading.current_thread()) is False

    assert not ran


def test_cancelling_what_has_ended_changes_nothing(start: Any) -> None:
    """The outcome stays."""
    token = start(worker(CpuActor)).proxy().run(int, "5")
    token.result(LIMIT)
    assert not token.cancel()

    assert (token.state, token.result()) == (TokenState.COMPLETED, 5)


def test_a_running_plain_function_that_is_cancelled_ends_at_its_checkpoint(start: Any, door: Any) -> None:
    """`checkpoint()` raises in a token that someone wants ended; it ends as terminated and its actor lives on."""
    after: list[int] = []

    def long() -> None:
        checkpoint()
        door.pass_through()
        try:
            checkpoint()
        except Exception:
            after.append(0)  # `except Exception` must not keep it
        after.append(1)

    proxy = start(worker(CpuActor)).proxy()
    token = proxy.run(long)
    door.wait_reached()
    assert not token.cancel()
    assert token.state is TokenState.RUNNING
    door.open()
    with pytest.raises(TokenTerminated):
        token.result(LIMIT)
    assert token.state is TokenState.TERMINATED
    assert not after

    assert proxy.run(int).result(LIMIT) == 0


def test_a_plain_function_without_checkpoint_is_not_ended_by_cancel(start: Any, door: Any) -> None:
    """Cancel asks; what never looks completes."""
    proxy = start(worker(CpuActor)).proxy()
    token = proxy.run(door.pass_through)
    door.wait_reached()
    assert not token.cancel()
    door.open()
    assert token.result(LIMIT) is None

    assert token.state is TokenState.COMPLETED


def test_a_checkpoint_outside_of_any_token_does_nothing() -> None:
    """The same function can be called plainly."""
    assert current_token() is None

    checkpoint()


def test_an_interrupt_that_nobody_asked_for_is_a_failure(start: Any) -> None:
    """User code that raises TokenInterrupt by itself fails."""

    def raise_it() -> None:
        raise TokenInterrupt("mine")

    token = start(worker(CpuActor)).proxy().run(raise_it)
    assert isinstance(token.exception(LIMIT), TokenInterrupt)

    assert token.state is TokenState.FAILED


def test_the_senders_context_is_the_steps_context(local_base: Any, start: Any) -> None:
    """Context variables are captured at the send, and changes in the step stay there."""
    # Only those that its class names are known in a process: see test_process_actor.

    def look() -> str:
        seen = colour.get()
        colour.set("changed")
        return seen

    proxy = start(worker(local_base)).proxy()

    def send(value: str) -> Any:
        colour.set(value)
        return proxy.run(look)

    tokens = [contextvars.copy_context().run(send, value) for value in ("red", "green", "blue")]
    assert [token.result(LIMIT) for token in tokens] == ["red", "green", "blue"]

    assert colour.get() == "none"


def test_the_context_survives_every_step_of_a_generator(local_base: Any, start: Any) -> None:
    """All steps of one token share its context, with what earlier steps set."""
    # Likewise.

    class Stepper(local_base):  # type: ignore[misc, valid-type]
        def walk(self) -> Any:
            seen = [colour.get()]
            colour.set("second")
            yield
            seen.append(colour.get())
            return seen

    proxy = start(Stepper).proxy()
    context = contextvars.copy_context()
    context.run(colour.set, "first")
    token = context.run(proxy.walk)
    assert token.result(LIMIT) == ["first", "second"]

    assert context[colour] == "first"


def test_a_step_knows_its_token_and_its_tokens_know_their_parent(base: Any, start: Any) -> None:
    """`current_token()` is the token of the step; what it sends has its id as parent."""
    inner = start(worker(CpuActor)).proxy()
    outer = start(worker(base)).proxy()

    def spawn() -> Any:
        me = current_token()
        assert me is not None
        return me.id, inner.run(int)

    token = outer.run(spawn)
    own, child = token.result(LIMIT)
    child.result(LIMIT)
    assert own == token.id
    assert child.parent == token.id
    assert child.id != token.id

    assert current_token() is None


class Heavy:
    pass


@pytest.mark.parametrize("outcome", ["completed", "failed", "terminated", "rejected"])
def test_a_token_lets_go_of_arguments_and_context_when_it_ends(outcome: str, start: Any, door: Any) -> None:
    """However a token ends, it keeps neither its arguments nor its context alive.

    The traceback of a failure holds the frame of the user's code, and so what that frame still refers to.
    """
    held: contextvars.ContextVar[Heavy] = contextvars.ContextVar("held")

    class Worker(CpuActor):
        expected = (KeyError,)

        def block(self) -> None:
            door.pass_through()

        def take(self, thing: Heavy, key: Heavy) -> None:
            if outcome == "failed":
                del thing, key
                raise KeyError("expected")

    ref = start(Worker)
    proxy = ref.proxy()

    def send() -> tuple[Any, list[weakref.ref[Heavy]]]:
        things = [Heavy(), Heavy(), Heavy()]
        held.set(things[0])
        if outcome == "rejected":
            ref.stop(timeout=LIMIT)
        elif outcome == "terminated":
            proxy.block()
        refs = [weakref.ref(thing) for thing in things]
        token = proxy.take(things[1], key=things[2])
        del things[:]  # frames of the sender stay in the traceback of a refusal
        if outcome == "terminated":
            assert token.cancel()
        else:
            token.exception(LIMIT)
        return token, refs

    token, refs = contextvars.copy_context().run(send)
    door.open()
    if outcome != "rejected":
        ref.stop(timeout=LIMIT)
    gc.collect()
    assert token.state == outcome
    assert (token.args, dict(token.kwargs)) == ((), {})

    assert [ref() for ref in refs] == [None, None, None]


def test_a_chain_of_tokens_keeps_no_history_alive(start: Any, until: Any) -> None:
    """Each token made in the step of the one before; none but the last is kept."""
    made: list[weakref.ref[Heavy]] = []
    last: list[Any] = []

    class Chain(CpuActor):
        def link(self, left: int) -> None:
            token = current_token()
            assert token is not None
            made.append(hang_on(token))
            if left:
                self.actor_ref.proxy().link.defer(left - 1)
            else:
                last.append(None)

    ref = start(Chain)
    ref.proxy().link(200).result(LIMIT)
    until(lambda: bool(last))  # a stop closes the intake, for the chain, too
    ref.stop(timeout=LIMIT)
    gc.collect()
    assert len(made) == 201
    assert last == [None]

    assert sum(token() is not None for token in made) == 0


def hang_on(token: Token[Any]) -> weakref.ref[Heavy]:
    """Watch a token: the thing lives as long as its context does, which holds the token too."""
    thing = Heavy()
    hung.set(thing)
    assert token.state is TokenState.RUNNING
    return weakref.ref(thing)


def test_waiting_for_a_token_inside_an_io_actor_raises(start: Any) -> None:
    """A blocking wait on the io loop would freeze it: WouldBlock, instead of a deadlock."""

    class Waiter(IoActor):
        expected = (WouldBlock,)

        async def wait_for(self, token: Token[Any]) -> Any:
            return token.result()

        async def await_for(self, token: Token[Any]) -> Any:
            return await token

    slow = start(worker(CpuActor)).proxy()
    waiter = start(Waiter).proxy()
    slow.actor_ref.actor_inbox.suspend()
    gate = slow.run(_wait_for_nothing)
    with pytest.raises(WouldBlock):
        waiter.wait_for(gate).result(LIMIT)
    slow.actor_ref.actor_inbox.resume()

    assert waiter.await_for(gate).result(LIMIT) == "nothing"


def _wait_for_nothing() -> str:
    return "nothing"


def test_a_token_shows_its_id_operation_and_state(desk: Any) -> None:
    """The representation never shows an argument: that could run user code."""
    token = desk.token()

    assert repr(token) == f"<Token {token.id} operation created>"


def test_a_copy_of_a_token_is_that_token(start: Any, door: Any) -> None:
    """A token is an identity: another object with its id would never end. So it is in what has one and is copied."""
    token = start(worker(CpuActor)).proxy().run(door.pass_through)

    assert copy.copy(token) is token
    assert copy.deepcopy({"jobs": [token]})["jobs"][0] is token
    door.open()
    assert token.exception(LIMIT) is None
    assert copy.deepcopy(token) is token


def test_a_token_that_is_pickled_by_hand_says_what_to_do(desk: Any) -> None:
    """It would be another one in another process, and would never end there."""
    token = desk.token()

    with pytest.raises(TypeError, match=rf"token {token.id} .* cannot be pickled.*; send the outcome, or the id"):
        pickle.dumps(token)


@pytest.fixture
def message(system: ActorSystem) -> Callable[[object], Token[Any]]:
    """Return what makes the unsent token of a message."""
    place = system.place("receiver", CpuActor)
    return lambda content: place.token(place.receive, None, content)


@pytest.mark.parametrize("content", ["text", (), (1, 2), None])
def test_a_message_is_the_only_argument_of_its_token(message: Callable[[object], Token[Any]], content: object) -> None:
    """Until the token ends, though the token keeps no tuple of it."""
    token = message(content)
    before = token.args, token.kwargs
    token._terminate("the test is over")

    assert before == ((content,), {})
    assert (token.args, token.kwargs) == ((), {})


def test_a_message_whose_token_has_just_ended_is_not_handled(message: Callable[[object], Token[Any]]) -> None:
    """Between its taking and its first step it may be ended by force, and has no message any more."""
    token, handled = message("text"), list[object]()
    token._terminate("it was ended")
    contextvars.Context().run(enter, token, handled.append)

    assert handled == []
