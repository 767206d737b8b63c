"""The end of tokens by steps: they are asked, and after their grace killed or left behind."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Any

import attrs
import pytest
import trio
from gated_code import LIMIT, Door, share

from actors import ActorSystem, Token, TokenInterrupt, TokenState, TokenTerminated, checkpoint
from actors.lowlevel import Hold, OperationPlace, place_of
from actors.tokens._properties import Properties

Until = Callable[[Callable[[], bool]], None]
Doors = Callable[[], Door]
Begin = Callable[..., Token[Any]]


def spin(door: Door) -> None:
    """Run Python code that has no yield point."""
    door.reached.set()
    while not door.is_open:
        pass


def turn(door: Door) -> None:
    door.reached.set()
    while not door.is_open:
        checkpoint()


def turn_in_steps(door: Door) -> Any:
    door.reached.set()
    while not door.is_open:
        yield


async def turn_and_await(door: Door) -> None:
    door.reached.set()
    while not door.is_open:
        await trio.lowlevel.checkpoint()


async def turn_and_await_in_asyncio(door: Door) -> None:
    door.reached.set()
    while not door.is_open:
        await asyncio.sleep(0)


def block(door: Door) -> str:
    """Be in C code."""
    door.pass_through()
    return "late"


async def shield(door: Door) -> str:
    """Keep a cancellation from what is awaited."""
    door.reached.set()
    with trio.CancelScope(shield=True):
        while not door.is_open:
            await trio.sleep(0.001)
    return "late"


async def shield_in_asyncio(door: Door) -> str:
    door.reached.set()
    while not door.is_open:
        try:
            await asyncio.sleep(0.001)
        except asyncio.CancelledError:
            pass
    return "late"


def in_a_child(function: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Return a copy of a function that is sent to a child by value, so that the child does not import this module."""
    function.__module__ = "__main__"
    return function


@in_a_child
def turn_in_process(door: Door) -> None:
    door.reached.set()
    while not door.is_open:
        checkpoint()


@in_a_child
def block_in_process(door: Door) -> str:
    door.pass_through()
    return "late"


@attrs.frozen
class Kind:
    """A way to have a token run until its door is open.

    Attributes:
        affinity: where it runs.
        code: what it runs.
        generator: whether that is a generator function.
    """

    affinity: str
    code: Callable[[Any], Any]
    generator: bool = False


STEERED = {
    "thread": Kind("cpu", turn),
    "generator": Kind("cpu", turn_in_steps, generator=True),
    "io": Kind("io", turn_and_await),
    "asyncio": Kind("asyncio", turn_and_await_in_asyncio),
    "process": Kind("process", turn_in_process),
}
OBEDIENT = {"loop": Kind("cpu", spin), **STEERED}
BLOCKED = Kind("cpu", block)
BLOCKED_PROCESS = Kind("process", block_in_process)
DEAF_TASKS = {"io": Kind("io", shield), "asyncio": Kind("asyncio", shield_in_asyncio)}


@attrs.define
class Left:
    """What a token is held to: it notes that the token's code is left behind.

    Attributes:
        told: state of each token, at the moment when it was said.
    """

    run = None
    awaits_attempt = False
    told: list[tuple[Token[Any], TokenState]] = attrs.field(factory=list)

    def leave_behind(self, token: Token[Any]) -> None:
        self.told.append((token, token.state))

    def leave(self) -> bool:
        return False

    def end(self, _token: Token[Any], *end: Any) -> Any:
        return end

    def note_return(self, _token: Token[Any], _state: TokenState, _value: Any) -> None:
        """Do nothing."""


@pytest.fixture
def left() -> Left:
    return Left()


@pytest.fixture
def begin(system: ActorSystem, door: Door) -> Begin:
    """Have a token run, and return it when it has come to the door."""

    def begin_token(kind: Kind, **options: Any) -> Token[Any]:
        if kind.affinity == "process":
            share(door)
        place = system.operation_place("op", kind.affinity, generator=kind.generator, concurrency=1, **options)
        token = place.send(place.token("op", kind.code, (door,), {}))
        door.wait_reached()
        return token

    return begin_token


def on_loop(system: ActorSystem, function: Callable[[], Any]) -> Any:
    """Call a function on the system loop; return what it returns."""

    async def call() -> Any:
        return function()

    return system.system_host.run(call).result(LIMIT)


def end(system: ActorSystem, token: Token[Any], grace: float, left: Left | None = None) -> None:
    if left is not None:
        token._own_extras().policy = left  # type: ignore[assignment]
    on_loop(system, lambda: system.reconciler.end(token, "its time is over", grace))


def assert_ended(system: ActorSystem, token: Token[Any], until: Until) -> None:
    """Check that a token was ended for its time, and that it is pursued no more."""
    error = token.exception(LIMIT)
    assert isinstance(error, TokenTerminated)
    assert "its time is over" in str(error)
    assert token.state is TokenState.TERMINATED
    reconciler = system.reconciler
    until(lambda: not (reconciler._ends or reconciler._holds or reconciler._kills))


def runs_another(token: Token[Any], kind: Kind, door: Door) -> bool:
    """Tell whether the place of a token that has ended runs another one, which comes to an open door."""
    door.open()
    if kind.affinity == "process":
        share(door)
    place = place_of(token)
    assert isinstance(place, OperationPlace)
    return place.send(place.token("op", kind.code, (door,), {})).exception(LIMIT) is None


@pytest.mark.parametrize("kind", OBEDIENT.values(), ids=OBEDIENT)
def test_a_token_that_can_be_asked_ends_before_its_grace_is_over(
    system: ActorSystem, begin: Begin, doors: Doors, kind: Kind, left: Left, until: Until
) -> None:
    """At a yield point or, in a thread, wherever its Python code is; no process is killed, and nothing left behind."""
    token = begin(kind)
    end(system, token, 10 * LIMIT, left)

    assert_ended(system, token, until)
    assert left.told == []
    assert system.abandoned() == ()
    assert runs_another(token, kind, doors())
    processes = system.statistics().processes
    assert processes is None or processes.started == 1


@pytest.mark.parametrize("kind", STEERED.values(), ids=STEERED)
def test_a_paused_token_is_let_go_for_its_end(
    system: ActorSystem, begin: Begin, kind: Kind, left: Left, until: Until
) -> None:
    """As `terminate` does it."""
    token = begin(kind)

    def pause() -> Any:
        hold = Hold.of(token)
        reached = hold.pause()
        place_of(token).drain.hold_changed(token)
        system.reconciler.begin(hold)
        return reached

    on_loop(system, pause).result(LIMIT)
    assert token.state is TokenState.PAUSED
    end(system, token, 10 * LIMIT, left)

    assert_ended(system, token, until)
    assert left.told == []


@pytest.mark.parametrize("affinity", ["cpu", "io", "asyncio", "process"])
def test_a_token_that_has_not_begun_ends_at_once(system: ActorSystem, affinity: str, left: Left, until: Until) -> None:
    """It never runs."""
    place = system.operation_place("op", affinity, generator=False, concurrency=1)
    place.mailbox.suspend()
    token = place.send(place.token("op", int, (), {}))
    end(system, token, 10 * LIMIT, left)

    assert (token.done(), token.started_at) == (True, None)
    assert_ended(system, token, until)
    place.mailbox.resume()


def test_a_token_that_its_process_has_not_begun_ends_at_once(
    system: ActorSystem, begin: Begin, door: Door, left: Left, until: Until, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The one before it goes on: its process is not killed."""
    monkeypatch.setattr("actors.processes._results._STUCK_SECONDS", 10 * LIMIT)  # else it is taken back by itself
    first = begin(BLOCKED_PROCESS)
    place = place_of(first)
    drain: Any = place.drain
    second = place.send(place.token("op", block_in_process, (door,), {}))
    drain.note_seconds(0.0, 10_000)  # short tokens are sent ahead of their turn
    on_loop(system, lambda: system.processes.call_soon(lambda: [slot.feed() for slot in drain.slots]))
    until(lambda: drain.find(second) is not None)
    end(system, second, 10 * LIMIT, left)

    assert_ended(system, second, until)
    assert second.started_at is None
    assert left.told == []
    door.open()
    assert first.result(LIMIT) == "late"


def test_code_in_c_is_left_behind_after_its_grace(
    system: ActorSystem, begin: Begin, door: Door, doors: Doors, left: Left, until: Until
) -> None:
    """Its thread is named before the token ends, and replaced; its late result goes nowhere."""
    token = begin(BLOCKED)
    end(system, token, 0.0, left)

    assert_ended(system, token, until)
    assert left.told == [(token, TokenState.RUNNING)]
    [thread] = system.abandoned()
    assert runs_another(token, BLOCKED, doors())
    door.open()
    until(lambda: all(one.name != thread for one in threading.enumerate()))
    assert token.state is TokenState.TERMINATED


@pytest.mark.parametrize("kind", DEAF_TASKS.values(), ids=DEAF_TASKS)
def test_a_task_that_ignores_its_cancellation_is_left_behind_after_its_grace(
    system: ActorSystem, begin: Begin, doors: Doors, kind: Kind, left: Left, until: Until
) -> None:
    """It has no thread of its own."""
    token = begin(kind, properties=Properties(interruptible=False))
    end(system, token, 0.0, left)

    assert_ended(system, token, until)
    assert left.told == [(token, TokenState.RUNNING)]
    assert runs_another(token, kind, doors())


def test_a_process_that_does_not_react_is_killed_after_its_grace(
    system: ActorSystem, begin: Begin, doors: Doors, left: Left, until: Until
) -> None:
    """Nothing of it is left behind, and another one replaces it."""
    token = begin(BLOCKED_PROCESS)
    end(system, token, 0.0, left)

    assert_ended(system, token, until)
    assert left.told == []
    assert runs_another(token, BLOCKED_PROCESS, doors())
    processes = system.statistics().processes
    assert processes is not None
    assert processes.started == 2


def test_a_direct_call_is_asked_and_ends_with_its_code(
    system: ActorSystem, door: Door, left: Left, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its thread is its caller's, who waits for it, however long ago its grace was over."""
    place = system.operation_place("op", "cpu", generator=False, concurrency=1)
    token = place.token("op", block, (door,), {})
    abandon, tried = OperationPlace.abandon, threading.Event()

    def noted(place: OperationPlace, token: Token[Any], why: str) -> list[str] | None:
        threads = abandon(place, token, why)
        tried.set()
        return threads

    def call() -> None:
        running = place.turn_here(token)
        assert running is not None
        try:
            running.run()
        except (TokenTerminated, TokenInterrupt):
            pass  # whether it comes in time is up to chance

    monkeypatch.setattr(OperationPlace, "abandon", noted)
    caller = threading.Thread(target=call, daemon=True)
    caller.start()
    door.wait_reached()
    end(system, token, 0.0, left)
    assert tried.wait(LIMIT)
    assert not token.done()

    door.open()
    caller.join(LIMIT)
    assert token.done()
    assert (left.told, system.abandoned()) == ([], ())


def test_of_several_ends_the_first_counts(system: ActorSystem, begin: Begin, left: Left, until: Until) -> None:
    """Its grace and its reason hold; the code is left behind once."""
    token, reconciler = begin(BLOCKED), system.reconciler
    token._own_extras().policy = left  # type: ignore[assignment]

    def end_twice() -> None:
        reconciler.end(token, "its time is over", 0.0)
        reconciler.end(token, "again", 10 * LIMIT)

    on_loop(system, end_twice)

    assert_ended(system, token, until)
    end(system, token, 0.0)
    assert (len(left.told), reconciler._ends) == (1, {})


@pytest.mark.parametrize("first", ["end", "operator"])
@pytest.mark.parametrize("kind", OBEDIENT.values(), ids=OBEDIENT)
def test_an_end_beside_that_of_an_operator_gives_one_outcome(
    system: ActorSystem, begin: Begin, kind: Kind, left: Left, first: str, until: Until
) -> None:
    """Whichever comes first."""
    token, reconciler = begin(kind), system.reconciler
    ended: list[Token[Any]] = []
    token.add_done_callback(ended.append)
    token._own_extras().policy = left  # type: ignore[assignment]

    def both() -> None:
        acts = [
            lambda: reconciler.end(token, "its time is over", 10 * LIMIT),
            lambda: (
                reconciler.kill(token, "enough")
                if kind.affinity == "process"
                else reconciler.ask_to_end(token, "enough")
            ),
        ]
        for act in acts if first == "end" else reversed(acts):
            act()

    on_loop(system, both)
    assert isinstance(token.exception(LIMIT), TokenTerminated)
    until(lambda: ended == [token] and not (reconciler._ends or reconciler._holds or reconciler._kills))
    assert left.told == []


@pytest.mark.trio
@pytest.mark.parametrize("seconds", [9.9, None])
async def test_the_grace_is_over_by_the_clock_of_the_system(
    autojump_clock: Any, seconds: float | None, left: Left
) -> None:
    """Code that ends by itself just before gives the token its own outcome; other code is left behind then."""
    system = ActorSystem("virtual", threads=1, clock=trio.current_time)
    await system.system_host.attach()
    await system.io_host.attach()
    place = system.operation_place("op", "io", generator=False, concurrency=1)
    opened = trio.Event()

    async def last() -> str:
        with trio.CancelScope(shield=True):
            await (opened.wait() if seconds is None else trio.sleep(seconds))
        return "its own"

    token = place.send(place.token("op", last, (), {}))
    await trio.testing.wait_all_tasks_blocked()
    start = trio.current_time()
    token._own_extras().policy = left  # type: ignore[assignment]
    system.reconciler.end(token, "its time is over", 10.0)
    await token.wait()
    assert trio.current_time() - start == pytest.approx(seconds or 10.0, abs=0.001)
    if seconds is None:
        assert left.told == [(token, TokenState.RUNNING)]
        assert token.state is TokenState.TERMINATED
    else:
        assert token.result() == "its own"
        await trio.sleep(1.0)
        assert left.told == []
    assert system.reconciler._ends == {}
    opened.set()
    for host in (system.io_host, system.system_host):
        host.cancel()
    await trio.testing.wait_all_tasks_blocked()
