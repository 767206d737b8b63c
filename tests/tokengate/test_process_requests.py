"""Rules of what code in child processes asks of its gate, as users see them."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from gated_code import LIMIT, Door

from tokengate import CpuActor, Down, Gate, IoActor, ProcessActor, Token, TokenState, checkpoint, current_token, token
from tokengate.errors import ActorDead, DeadlockError, TokenTerminated, WaitTimeout, WorkerDied
from tokengate.types import ProcessPool, ReceiveTimeout


@pytest.fixture
def gate(until: Callable[..., None]) -> Iterator[Gate]:
    """A gate with one process for operations: whoever waits there without lending it is found out."""
    with Gate("test", processes=ProcessPool(size=1, spares=1)) as opened:
        yield opened
        pool = opened._system.processes.pool

        until(lambda: pool._lent == 0)


@token
def add(a: int, b: int) -> int:
    return a + b


@token
async def greet(name: str) -> str:
    return f"hello {name}"


class Counter(CpuActor):
    expected = (ValueError,)

    def __init__(self) -> None:
        self.count = 0
        self.got: list[Any] = []
        self.door = threading.Event()

    def increment(self, by: int = 1) -> int:
        self.count += by
        return self.count

    def fail(self) -> None:
        raise ValueError("not today")

    def wait_for_door(self) -> bool:
        return self.door.wait(LIMIT)

    def parent_of_this(self) -> int | None:
        running = current_token()
        return running.parent if running is not None else None

    def ask_back(self, ref: Any) -> Any:
        return ref.proxy().ping().get()

    def on_receive(self, message: Any) -> Any:
        self.got.append(message)
        return "got", message


class IoCounter(IoActor):
    def __init__(self) -> None:
        self.count = 0

    async def increment(self, by: int = 1) -> int:
        self.count += by
        return self.count


# Tokens


@token(affinity="process")
def fibonacci(n: int) -> int:
    if n < 2:
        return n
    first, second = fibonacci.submit(n - 1), fibonacci.submit(n - 2)
    return first.result() + second.result()


def test_tokens_in_processes_wait_for_one_another(gate: Gate) -> None:
    """A parent that waits for its children gives up its process meanwhile, so that even a pool of one is enough."""
    assert fibonacci(5) == 5


@token(affinity="process")
def calls(name: str) -> tuple[int, int, str]:
    return add(1, 2), add.submit(3, 4).result(), greet.submit(name).result()


def test_operations_of_all_kinds_are_called_from_a_process(gate: Gate) -> None:
    """A direct call, and tokens of cpu and io operations."""
    assert calls("you") == (3, 7, "hello you")


@token(affinity="process")
def with_options() -> tuple[Any, Any]:
    own = current_token()
    child = add.with_options(priority=4, tags={"kind": "sum"}).submit(1, 2)
    return own, child


def test_a_token_goes_to_a_process_and_back(gate: Gate) -> None:
    """What comes back is the token itself, with the options and the parent that it was given."""
    own, child = with_options.with_options(tags={"tenant": "acme"}).submit().result(LIMIT)

    assert isinstance(own, Token)
    assert isinstance(child, Token)
    assert (own.operation, child.operation) == ("with_options", "add")
    assert (child.priority, dict(child.tags), child.parent) == (4, {"kind": "sum"}, own.id)
    assert child.result(LIMIT) == 3


@token(affinity="process")
def result_of(other: Any, timeout: float | None = None) -> Any:
    return other.result(timeout)


def test_a_token_that_is_an_argument_is_waited_for(gate: Gate) -> None:
    """Whoever has made it."""
    assert result_of(add.submit(1, 2)) == 3


@token(affinity="process")
def times_out(other: Any) -> str:
    try:
        other.result(0.01)
    except WaitTimeout as error:
        return str(error)
    return "in time"


def test_a_wait_in_a_process_ends_in_time(gate: Gate) -> None:
    """The error is the runtime's own, under its name; the token that was waited for goes on."""
    counter = gate.spawn(Counter)
    door = counter._place.instance.door  # type: ignore[union-attr]
    waiting = counter.proxy().wait_for_door()

    assert f"token {waiting.id} " in times_out(waiting)
    door.set()
    assert waiting.result(LIMIT) is True


@token(affinity="process")
def large(ref: Any) -> int:
    return len(ref.ask(bytes(3_000_000))[1])


def test_large_messages_and_answers_cross(gate: Gate) -> None:
    """Through files, there and back."""
    assert large(gate.spawn(Counter)) == 3_000_000


# Actors


@token(affinity="process")
def uses(ref: Any) -> tuple[Any, ...]:
    proxy = ref.proxy()
    proxy.increment.defer(5)
    ref.tell("one")
    proxy.count = 40
    return proxy.increment().get(), ref.ask("two"), proxy.count.get(), proxy.got.get(), ref.is_alive()


def test_a_ref_in_a_process_does_what_refs_do(gate: Gate) -> None:
    """Messages and calls have the order in which they were sent."""
    assert uses(gate.spawn(Counter)) == (41, ("got", "two"), 41, ["one", "two"], True)


@token(affinity="process")
def fails(ref: Any) -> tuple[str, str]:
    try:
        ref.proxy().fail().get()
    except ValueError as error:
        return str(error), error.__notes__[0]
    return "nothing", ""


def test_an_error_of_an_actor_is_caught_in_a_process(gate: Gate) -> None:
    """As what it is, with the traceback of the gate."""
    text, note = fails(gate.spawn(Counter))

    assert text == "not today"
    assert "in fail" in note


@token(affinity="process")
def dead(ref: Any) -> str:
    assert not ref.is_alive()
    try:
        ref.tell("hello")
    except ActorDead as error:
        return str(error)
    return "alive"


def test_a_dead_actor_is_dead_for_a_process_as_well(gate: Gate) -> None:
    """`except ActorDead` in a process is the runtime's error of that name."""
    ref = gate.spawn(Counter, name="gone")
    ref.stop()

    assert "gone" in dead(ref)


class Model(ProcessActor):
    def __init__(self) -> None:
        self.got: list[Any] = []
        self.tokens: list[Any] = []
        self.timer: Any = None

    def ping(self) -> int:
        return os.getpid()

    def ask(self, other: Any) -> Any:
        try:
            return other.proxy().ask_back(self.actor_ref).get()
        except DeadlockError as error:
            return str(error)

    def begin(self, count: int) -> None:
        self.tokens = [add.submit(number, number) for number in range(count)]

    def results(self) -> list[int]:
        return [one.result() for one in self.tokens]

    def start_timers(self) -> None:
        self.send_after(0.0, "once")
        self.timer = self.send_every(0.001, "often")

    def stop_timer(self) -> None:
        self.timer.cancel()

    def tell_when_idle(self, ref: Any) -> None:
        self.listener = ref
        self.receive_timeout(0.001)

    def watch_it(self, ref: Any) -> None:
        self.watch(ref)

    def end(self) -> None:
        self.stop()

    def on_receive(self, message: Any) -> Any:
        if isinstance(message, ReceiveTimeout):
            self.listener.tell(message)
        else:
            self.got.append(message)


def test_an_actor_in_a_process_keeps_tokens_over_its_calls(gate: Gate) -> None:
    """It may ask for their results later."""
    model = gate.spawn(Model).proxy()
    model.begin(20).result(LIMIT)

    assert model.results().result(LIMIT) == [2 * number for number in range(20)]


def test_a_circle_through_a_process_is_named(gate: Gate) -> None:
    """An actor in a process that waits for one that waits for it is no silent standstill."""
    counter, model = gate.spawn(Counter), gate.spawn(Model)

    assert "Model.ask" in model.proxy().ask(counter).get(timeout=LIMIT)


def test_timers_of_an_actor_in_a_process_send_to_it(gate: Gate, until: Callable[..., None]) -> None:
    """Once, and again and again; they can be cancelled there."""
    model = gate.spawn(Model).proxy()
    model.start_timers().result(LIMIT)

    until(lambda: {"once", "often"} <= set(model.got.get(timeout=LIMIT)))
    model.stop_timer().result(LIMIT)
    got = model.got.get(timeout=LIMIT)
    assert got.count("once") == 1
    assert model.got.get(timeout=LIMIT) == got


def test_an_actor_in_a_process_is_told_when_nothing_comes(gate: Gate, until: Callable[..., None]) -> None:
    """The message is the runtime's own, there and where it is sent on."""
    counter = gate.spawn(Counter)
    gate.spawn(Model).proxy().tell_when_idle(counter).result(LIMIT)

    until(lambda: ReceiveTimeout(0.001) in counter.proxy().got.get(timeout=LIMIT))


def test_an_actor_in_a_process_watches_another_one(gate: Gate, until: Callable[..., None]) -> None:
    """It gets a `Down` with the ref that it has watched."""
    counter, model = gate.spawn(Counter), gate.spawn(Model)
    model.proxy().watch_it(counter).result(LIMIT)
    counter.stop()

    until(lambda: bool(model.proxy().got.get(timeout=LIMIT)))
    (down,) = model.proxy().got.get(timeout=LIMIT)[:1]
    assert isinstance(down, Down)
    assert down.ref is counter


def test_an_actor_in_a_process_ends_itself(gate: Gate, until: Callable[..., None]) -> None:
    """As from a thread."""
    model = gate.spawn(Model, restart="temporary")
    model.proxy().end().result(LIMIT)

    until(lambda: not model.is_alive())


# Control


@token(affinity="process")
def waits(other: Any) -> Any:
    return other.result()


@pytest.fixture
def stuck(gate: Gate, until: Callable[..., None]) -> tuple[Any, Any]:
    """The token of a process that waits for an actor, and what lets the actor go on."""
    counter = gate.spawn(Counter)
    waiting = waits.submit(counter.proxy().wait_for_door())
    until(lambda: bool(waiting._extras.waits))
    return waiting, counter._place.instance.door  # type: ignore[union-attr]


def test_what_a_process_waits_for_is_described(gate: Gate, stuck: tuple[Any, Any]) -> None:
    """As for any other token that waits."""
    waiting, door = stuck
    (other,) = waiting._extras.waits

    assert str(other.id) in gate.control.describe(waiting.id).waits_for[0]
    door.set()
    assert waiting.result(LIMIT) is True


def test_a_process_that_waits_is_paused_and_goes_on(
    gate: Gate, stuck: tuple[Any, Any], until: Callable[..., None]
) -> None:
    """Its one turn is lent once, for two reasons, and taken back when neither holds any more."""
    waiting, door = stuck
    pool = gate._system.processes.pool
    until(lambda: pool._lent == 1)
    gate.control.pause(waiting.id)

    assert pool._lent == 1
    gate.control.resume(waiting.id)
    assert pool._lent == 1
    door.set()
    assert waiting.result(LIMIT) is True
    until(lambda: pool._lent == 0)


def test_a_process_that_waits_is_killed(gate: Gate, stuck: tuple[Any, Any]) -> None:
    """Its place in the pool is free for the next one, and what it has waited for goes on."""
    waiting, door = stuck
    (other,) = waiting._extras.waits
    gate.control.terminate(waiting.id, mode="kill")

    with pytest.raises(TokenTerminated):
        waiting.result(LIMIT)
    assert calls("you") == (3, 7, "hello you")
    door.set()
    assert other.result(LIMIT) is True


@token(affinity="process")
def dies(ref: Any, parts: int) -> None:
    for number in range(parts):
        ref.tell(number)
    os._exit(3)


def test_what_a_process_has_sent_before_it_dies_was_sent(gate: Gate) -> None:
    """It was answered before the process went on; the next token has another process."""
    counter = gate.spawn(Counter)

    with pytest.raises(WorkerDied):
        dies(counter, 3)
    assert counter.proxy().got.get(timeout=LIMIT) == [0, 1, 2]
    assert fibonacci(2) == 1


def test_a_gate_is_closed_while_processes_wait(until: Callable[..., None]) -> None:
    """Each unfinished token ends in a state, and nobody hangs."""
    with Gate("short", shutdown=0.05, processes=ProcessPool(size=1)) as gate:
        counter = gate.spawn(Counter)
        waiting = waits.submit(counter.proxy().wait_for_door())
        until(lambda: bool(waiting._extras.waits))
        door = counter._place.instance.door  # type: ignore[union-attr]
        threading.Timer(0.01, door.set).start()

    assert waiting.done()


# Log records


class Recorder(logging.Handler):
    def __init__(self) -> None:
        super().__init__()
        self.records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)


@pytest.fixture
def recorder() -> Iterator[Recorder]:
    logger = logging.getLogger("users.process")
    handler = Recorder()
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    logger.propagate = False
    yield handler
    logger.removeHandler(handler)


@token(affinity="process")
def logs(speaks: bool = True) -> int:
    logger = logging.getLogger("users.process")
    if not speaks:
        return os.getpid()
    logger.info("%s and %s", "one", 2)
    try:
        raise ValueError("not today")
    except ValueError:
        logger.exception("it failed", extra={"tenant": "acme"})
    return os.getpid()


def test_log_records_of_a_process_are_handled_by_the_gates_loggers(recorder: Recorder) -> None:
    """With the token and the place; all of them before the gate has closed."""
    with Gate("logs", processes=ProcessPool(size=1)):
        running = logs.submit()
        pid = running.result(LIMIT)
    first, second = recorder.records

    assert first.getMessage() == "one and 2"
    assert (first.token, first.actor, first.process) == (running.id, running.actor, pid)  # type: ignore[attr-defined]
    assert second.tenant == "acme"  # type: ignore[attr-defined]
    assert "ValueError: not today" in (second.exc_text or "")


def test_a_token_sends_the_records_of_a_level_that_was_set_before_it_was_submitted(
    recorder: Recorder, late_look: Door
) -> None:
    """Its worker, which has ended another token, was about to look for the next one before that."""
    logger = logging.getLogger("users.process")
    logger.setLevel(logging.CRITICAL)
    with Gate("logs", processes=ProcessPool(size=1)):
        logs.submit(speaks=False).result(LIMIT)  # what it said might be looked at after the level is set
        late_look.wait_reached()
        logger.setLevel(logging.INFO)
        logged = logs.submit()
        late_look.open()
        logged.result(LIMIT)

    assert [record.levelname for record in recorder.records] == ["INFO", "ERROR"]


@token(affinity="process")
def counts(ref: Any, rounds: int) -> int:
    for _ in range(rounds):
        checkpoint()
        ref.proxy().increment().get()
    return rounds


def test_many_processes_ask_at_once(gate: Gate) -> None:
    """Each has its own answers; here from actors of another gate than theirs."""
    cpu, io = gate.spawn(Counter), gate.spawn(IoCounter)
    with Gate("many", processes=ProcessPool(size=2)):
        tokens = [counts.submit(ref, 10) for ref in (cpu, io) * 10]
        assert [one.result(LIMIT) for one in tokens] == [10] * 20

    assert (cpu.proxy().count.get(), io.proxy().count.get()) == (100, 100)
    assert all(one.state is TokenState.COMPLETED for one in tokens)
