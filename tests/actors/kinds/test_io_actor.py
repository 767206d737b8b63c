"""Properties of actors that run as trio tasks: await, cancellation at checkpoints, one loop for all."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import trio

from actors import KILLED, NORMAL, ActorSystem, CpuActor, IoActor, StartFailed, TokenState, TokenTerminated
from actors.tokens._hold import Hold

LIMIT = 30.0


def test_methods_may_be_async_or_plain(start: Any) -> None:
    """All run on the io loop, one token at a time."""

    class Both(IoActor):
        async def waits(self, x: int) -> int:
            await trio.lowlevel.checkpoint()
            return x

        def plain(self, x: int) -> int:
            assert trio.lowlevel.in_trio_run()
            return x

        async def on_receive(self, message: Any) -> Any:
            await trio.lowlevel.checkpoint()
            return message

    ref = start(Both)
    proxy = ref.proxy()

    assert [t.result(LIMIT) for t in (proxy.waits(1), proxy.plain(2), ref.ask(3, block=False))] == [1, 2, 3]


def test_hooks_may_be_async(start: Any) -> None:
    """`on_start`, `on_stop` and `on_failure` are awaited."""
    events: list[str] = []

    class Hooked(IoActor):
        async def on_start(self) -> None:
            await trio.lowlevel.checkpoint()
            events.append("on_start")

        async def on_stop(self) -> None:
            await trio.lowlevel.checkpoint()
            events.append("on_stop")

        async def on_failure(self, *_: object) -> None:
            await trio.lowlevel.checkpoint()
            events.append("on_failure")

        async def fail(self) -> None:
            await trio.lowlevel.checkpoint()
            raise KeyError

    start(Hooked).stop(timeout=LIMIT)
    ref = start(Hooked)
    assert isinstance(ref.proxy().fail().exception(LIMIT), KeyError)
    ref.stop(timeout=LIMIT)

    assert events == ["on_start", "on_stop", "on_start", "on_failure"]


def test_handlers_of_one_actor_do_not_overlap_across_an_await(start: Any) -> None:
    """Its state needs no lock; other actors get in meanwhile."""
    inside = [0]
    most = [0]

    class Careful(IoActor):
        async def work(self) -> None:
            inside[0] += 1
            most[0] = max(most[0], inside[0])
            for _ in range(3):
                await trio.lowlevel.checkpoint()
            inside[0] -= 1

    proxy = start(Careful).proxy()
    for token in [proxy.work() for _ in range(30)]:
        token.result(LIMIT)

    assert most == [1]


def test_actors_overlap_with_each_other(start: Any) -> None:
    """Two actors on one loop that wait for each other both get on."""
    first, second = trio.Event(), trio.Event()

    class Meets(IoActor):
        async def meet(self, mine: trio.Event, other: trio.Event) -> str:
            mine.set()
            await other.wait()
            return "met"

    tokens = [start(Meets).proxy().meet(first, second), start(Meets).proxy().meet(second, first)]

    assert [token.result(LIMIT) for token in tokens] == ["met", "met"]


class Sleeper(IoActor):
    """Sleeps until it is cancelled, and reports when it has begun."""

    def __init__(self, began: threading.Event, log: list[str]) -> None:
        super().__init__()
        self.began = began
        self.log = log

    async def sleep(self) -> None:
        try:
            self.began.set()
            await trio.sleep_forever()
        finally:
            self.log.append("finally")

    async def swallow(self) -> str:
        self.began.set()
        try:
            await trio.sleep_forever()
        except trio.Cancelled:
            return "swallowed"

    async def nest(self) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.sleep_forever)
            nursery.start_soon(trio.sleep_forever)
            self.began.set()

    async def several(self) -> int:
        for _ in range(5):
            await trio.lowlevel.checkpoint()
        return 5

    def plain(self) -> str:
        return "plain"

    async def on_stop(self) -> None:
        await trio.lowlevel.checkpoint()
        self.log.append("on_stop")


@pytest.mark.parametrize("method", ["sleep", "nest"])
def test_cancel_ends_a_token_at_its_checkpoint(start: Any, method: str) -> None:
    """It ends terminated, its `finally` blocks run, nobody crashes, and the next token is not hit."""
    began, log = threading.Event(), list[str]()
    proxy = start(Sleeper, began, log).proxy()
    token = getattr(proxy, method)()
    following = proxy.several()
    assert began.wait(LIMIT)
    assert not token.cancel()
    with pytest.raises(TokenTerminated, match="cancelled"):
        token.result(LIMIT)
    assert token.state is TokenState.TERMINATED
    assert following.result(LIMIT) == 5

    assert log == (["finally"] if method == "sleep" else [])


def test_a_swallowed_cancellation_does_not_hit_the_next_token(start: Any) -> None:
    """A handler that swallows it completes, and those behind it are not cancelled."""
    began = threading.Event()
    proxy = start(Sleeper, began, []).proxy()
    token = proxy.swallow()
    following = [proxy.several() for _ in range(3)]
    assert began.wait(LIMIT)
    token.cancel()
    assert token.result(LIMIT) == "swallowed"

    assert [token.result(LIMIT) for token in following] == [5, 5, 5]


def test_cancels_that_race_the_end_of_a_token_hit_nobody_else(start: Any, race: Any, rounds: Any, seed: int) -> None:
    """Whenever a cancel comes, its token ends completed or terminated, and the one behind it completes."""
    ref = start(Sleeper, threading.Event(), [])
    proxy = ref.proxy()
    seen = {TokenState.COMPLETED: 0, TokenState.TERMINATED: 0}
    for _ in range(rounds(300)):
        token, following = proxy.several(), proxy.several()
        token.cancel()
        assert token.exception(LIMIT) is None or isinstance(token.exception(), TokenTerminated)
        seen[token.state] += 1
        assert following.result(LIMIT) == 5
    print(seen)

    assert sum(seen.values()) == rounds(300)


def test_a_stop_cancels_what_the_actor_awaits(start: Any) -> None:
    """An ordered stop without draining ends the step at its checkpoint; `on_stop` is not cancelled with it."""
    began, log = threading.Event(), list[str]()
    ref = start(Sleeper, began, log)
    token = ref.proxy().sleep()
    assert began.wait(LIMIT)
    assert ref._place.stop(drain=False, administrative=True).result(LIMIT) == NORMAL
    with pytest.raises(TokenTerminated, match="stopped"):
        token.result(LIMIT)

    assert log == ["finally", "on_stop"]


def test_a_start_that_is_stopped_raises(system: ActorSystem) -> None:
    """A stop while `on_start` awaits ends the start: its caller gets StartFailed."""
    began = threading.Event()

    class Slow(IoActor):
        async def on_start(self) -> None:
            began.set()
            await trio.sleep_forever()

    place = system.place("slow", Slow, owner=lambda *_: None)
    starting = place.start()
    assert began.wait(LIMIT)
    place.stop(drain=False, administrative=False).result(LIMIT)

    with pytest.raises(StartFailed):
        starting.result(LIMIT)


def test_a_sealed_actor_is_cancelled_and_replaced(system: ActorSystem) -> None:
    """A task that shields itself is left behind: its late result is dropped, and a new instance serves."""
    began = threading.Event()
    release: list[trio.Event] = []
    left = threading.Event()

    class Stubborn(IoActor):
        async def block(self) -> str:
            release.append(trio.Event())
            began.set()
            with trio.CancelScope(shield=True):
                await release[0].wait()
            left.set()
            return "late"

        def ping(self) -> str:
            return "pong"

        async def open(self) -> None:
            release[0].set()

    place = system.place("stubborn", Stubborn, owner=lambda *_: None)
    place.start().result(LIMIT)
    stuck = place.ref.proxy().block()
    queued = place.ref.proxy().ping()
    assert began.wait(LIMIT)
    place.terminate_running("it did not stop in time")
    assert stuck.state is TokenState.TERMINATED
    place.start().result(LIMIT)
    assert queued.result(LIMIT) == "pong"
    place.ref.proxy().open().result(LIMIT)
    assert left.wait(LIMIT)
    assert place.ref.proxy().ping().result(LIMIT) == "pong"

    assert (stuck.state, stuck._value) == (TokenState.TERMINATED, None)


def test_a_kill_answers_who_waits_for_the_stop(system: ActorSystem) -> None:
    """A stop that an `on_stop` holds up is answered `killed` when the instance is sealed."""
    began = threading.Event()

    class Stubborn(IoActor):
        async def on_stop(self) -> None:
            began.set()
            await trio.sleep_forever()

    ends: list[Any] = []
    place = system.place("stubborn", Stubborn, owner=lambda *end: ends.append(end))
    place.start().result(LIMIT)
    stopped = place.stop(drain=False, administrative=False)
    assert began.wait(LIMIT)
    place.terminate_running("it did not stop in time")
    assert stopped.result(LIMIT) == KILLED
    place.start().result(LIMIT)

    assert (ends, place.instance is not None) == ([], True)


def test_a_token_of_a_cpu_actor_can_be_awaited(start: Any) -> None:
    """Across the two kinds of thread, in both directions."""

    class Adder(CpuActor):
        def add(self, x: int) -> int:
            return x + 1

    class Asker(IoActor):
        async def ask_it(self, x: int) -> int:
            value: int = await start_adder.proxy().add(x)
            return value

    class Blocking(CpuActor):
        def ask_it(self, x: int) -> int:
            value: int = asker.proxy().ask_it(x).result(LIMIT)
            return value

    start_adder = start(Adder)
    asker = start(Asker)

    assert start(Blocking).proxy().ask_it(1).result(LIMIT) == 2


def test_steps_of_a_coroutine_are_counted(start: Any) -> None:
    """One for its beginning, one for each time the loop comes back to it."""
    token = start(Sleeper, threading.Event(), []).proxy().several()
    token.result(LIMIT)

    assert token.steps == 6


def test_many_plain_messages_leave_room_for_the_neighbours(start: Any) -> None:
    """A quantum ends with a checkpoint even when no handler awaits anything."""
    order: list[str] = []
    tokens: list[Any] = []

    class Named(IoActor):
        throughput = 4
        throughput_deadline = 1000.0

        def on_receive(self, message: Any) -> None:
            order.append(message)

    class Feeder(IoActor):
        def feed(self) -> None:
            for _ in range(10):
                tokens.append(busy.ask("busy", block=False))
            tokens.append(neighbour.ask("neighbour", block=False))

    busy, neighbour = start(Named), start(Named)
    start(Feeder).proxy().feed().result(LIMIT)
    for token in tokens:
        token.result(LIMIT)

    assert order.index("neighbour") <= 4  # trio shuffles which of the two begins


class Counted(set[Any]):
    """A set that counts how many of its items are iterated over."""

    seen = 0

    def __iter__(self) -> Iterator[Any]:
        for one in super().__iter__():
            self.seen += 1
            yield one


def test_what_concerns_one_token_takes_no_look_at_the_others(system: ActorSystem, until: Any) -> None:
    """Of many that wait, each is cancelled, held or ended in a time that does not depend on how many there are."""
    place = system.operation_place("op", "io", generator=False, concurrency=60)
    tokens = [place.send(place.token("op", trio.sleep_forever, ())) for _ in range(60)]
    until(lambda: len(place.drain.running()) == len(tokens))
    drain: Any = place.drain
    drain.workers = workers = Counted(drain.workers)
    for token in tokens:
        Hold.of(token)

    def each(act: Callable[[Any], object], chosen: list[Any]) -> int:
        async def acted() -> int:
            before = workers.seen
            for token in chosen:
                act(token)
            return workers.seen - before

        looks: int = system.io_host.run(acted).result(LIMIT)
        return looks

    looks = [
        each(drain.hold_changed, tokens),
        each(lambda token: place.abandon(token, "the test wants it"), tokens[:20]),
        each(lambda token: token._cancel("the test wants it"), tokens[20:]),
    ]
    errors = [token.exception(LIMIT) for token in tokens[20:]]

    assert looks == [0, 0, 0]
    assert {type(error) for error in errors} == {TokenTerminated}


def test_of_many_that_are_cancelled_no_task_is_left(system: ActorSystem, until: Any) -> None:
    """A task whose token was cancelled ends, and lets go of its room, unless something is queued for it."""
    place = system.operation_place("op", "io", generator=False, concurrency=20)
    first, second = ([place.send(place.token("op", trio.sleep_forever, ())) for _ in range(20)] for _ in range(2))
    until(lambda: set(place.drain.running()) == set(first))
    drain: Any = place.drain
    workers = set(drain.workers)
    for token in first:
        token.cancel()
    until(lambda: set(place.drain.running()) == set(second))

    assert drain.workers == workers
    for token in second:
        token.cancel()
    until(lambda: not drain.workers and not place.mailbox.active)
    assert {token.state for token in (*first, *second)} == {TokenState.TERMINATED}
    third = place.send(place.token("op", trio.lowlevel.checkpoint, ()))
    assert third.result(LIMIT) is None
