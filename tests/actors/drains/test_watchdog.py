"""Code that blocks a loop is named, once for each time."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Callable, Iterator
from itertools import pairwise
from queue import SimpleQueue
from typing import Any

import attrs
import pytest
import trio

from actors import ActorSystem, AsyncioActor, IoActor, LoopBlocked, Reply
from actors.drains._watchdog import Watchdog, _Looks

LIMIT = 30.0

THRESHOLD = 0.02


@attrs.frozen
class Loop:
    """A kind of loop that is watched.

    Attributes:
        affinity: of what runs there.
        base: of its actors.
        event: the class of its events.
    """

    affinity: str
    base: Any
    event: Any

    def host(self, system: ActorSystem) -> Any:
        return system.io_host if self.affinity == "io" else system.asyncio_hosts.own

    def blocker(self) -> Any:
        class Blocker(self.base):  # type: ignore[misc, name-defined]
            def on_start(self) -> None:
                self.stays = threading.Event()

            def on_receive(self, message: Callable[[], object]) -> object:
                return message()

            async def wait(self, event: Any) -> None:
                await event.wait()

        return Blocker


LOOPS = [Loop("io", IoActor, trio.Event), Loop("asyncio", AsyncioActor, asyncio.Event)]


@pytest.fixture(params=LOOPS, ids=lambda loop: loop.affinity)
def loop(request: pytest.FixtureRequest) -> Loop:
    chosen: Loop = request.param
    return chosen


class Gaps:
    """The times at which short steps ended, which tell whether the machine held one of them up.

    Attributes:
        times: in seconds of `time.monotonic`, the beginning of the first step ahead of them.
    """

    def __init__(self) -> None:
        self.times: list[float] = []

    def step(self, seconds: float) -> None:
        """Block the loop for a short time."""
        time.sleep(seconds)
        self.times.append(time.monotonic())

    def longest(self) -> float:
        return max(after - before for before, after in pairwise(self.times))


@pytest.fixture
def events() -> SimpleQueue[LoopBlocked]:
    return SimpleQueue()


@pytest.fixture
def system(events: SimpleQueue[LoopBlocked]) -> Iterator[ActorSystem]:
    opened = ActorSystem("watched", threads=2, blocked_after=THRESHOLD)
    opened.subscribe(lambda event: events.put(event) if isinstance(event, LoopBlocked) else None)
    opened.open()
    yield opened
    assert opened.close(LIMIT) == ()


def is_watching(system: ActorSystem) -> bool:
    """Tell whether a task watches a loop."""

    async def count() -> int:
        task = trio.lowlevel.current_task()
        assert task.parent_nursery is not None
        return sum(child.name == "watchdog" for child in task.parent_nursery.child_tasks)

    number: int = system.system_host.run(count).result(LIMIT)
    return number > 0


def test_a_token_that_blocks_the_loop_is_named_with_its_stack(
    loop: Loop, system: ActorSystem, events: SimpleQueue[LoopBlocked], caplog: pytest.LogCaptureFixture
) -> None:
    """A warning and an event say which token it is and where it is."""
    ref = system.start_actor(loop.blocker(), (), {})
    heard: list[LoopBlocked] = []

    def block_until_named() -> None:
        while not heard or heard[-1].token is not token:
            heard.append(events.get(timeout=LIMIT))

    with caplog.at_level(logging.WARNING):
        ref.actor_inbox.suspend()
        token = ref.ask(block_until_named, block=False)
        ref.actor_inbox.resume()
        token.result(LIMIT)

    assert heard[-1].seconds >= THRESHOLD
    assert "block_until_named" in heard[-1].stack
    assert f"token {token.id} (Blocker.on_receive of actor '{ref.path}') has blocked" in caplog.text


def test_a_loop_of_the_program_is_watched_while_the_runtime_runs_tokens_there(
    system: ActorSystem, events: SimpleQueue[LoopBlocked]
) -> None:
    """As the runtime's own loops are."""
    place = system.operation_place("op", "asyncio", generator=False, concurrency=1)
    heard: list[LoopBlocked] = []

    async def block_until_named() -> None:
        await asyncio.sleep(0)
        while not heard or heard[-1].token is not sent[0]:
            heard.append(events.get(timeout=LIMIT))

    async def main() -> None:
        sent.append(place.send(place.token("op", block_until_named, ())))
        await sent[0]

    sent: list[Any] = []
    asyncio.run(main())

    assert heard[-1].loop == "asyncio"
    assert "block_until_named" in heard[-1].stack


def test_a_loop_that_has_stopped_blocks_nothing(
    system: ActorSystem, until: Callable[[Callable[[], bool]], None]
) -> None:
    """It stops in the middle of a round, and may go on later; it is not watched meanwhile."""
    place = system.operation_place("op", "asyncio", generator=False, concurrency=1)
    loop = asyncio.new_event_loop()

    async def send() -> None:
        await place.send(place.token("op", asyncio.sleep, (0,)))

    loop.run_until_complete(send())
    until(lambda: not is_watching(system))
    loop.close()


def test_one_blockage_is_named_once(loop: Loop, system: ActorSystem, events: SimpleQueue[LoopBlocked]) -> None:
    """However long it lasts, in looks of the watchdog."""
    ref = system.start_actor(loop.blocker(), (), {})
    looks: Reply[None] = Reply()

    async def several_looks() -> None:
        await trio.sleep(5 * THRESHOLD)
        looks._set()

    def block() -> None:
        while events.get(timeout=LIMIT).token is not token:
            pass  # it is of what came before, on a slow machine
        system.system_host.run(several_looks)
        passed = threading.Event()
        looks.add_done_callback(lambda _reply: passed.set())
        assert passed.wait(LIMIT)

    ref.actor_inbox.suspend()
    token = ref.ask(block, block=False)
    ref.actor_inbox.resume()
    token.result(LIMIT)
    named = [events.get() for _ in range(events.qsize())]

    assert all(event.token is not token for event in named)


def test_a_loop_that_sleeps_is_not_watched(
    loop: Loop, system: ActorSystem, until: Callable[[Callable[[], bool]], None]
) -> None:
    """Nothing wakes an idle process, not even one whose token waits for something; a later blockage is still seen."""
    ref = system.start_actor(loop.blocker(), (), {})
    sleeping = ref.proxy().wait(loop.event())

    until(lambda: not is_watching(system))
    started = threading.Event()
    stays: Any = ref._place.instance
    loop.host(system).call_soon(lambda: (started.set(), stays.stays.wait(LIMIT)))
    assert started.wait(LIMIT)
    until(lambda: is_watching(system))
    stays.stays.set()
    sleeping.cancel()


def test_code_of_no_token_is_named_as_such(
    loop: Loop, system: ActorSystem, events: SimpleQueue[LoopBlocked], caplog: pytest.LogCaptureFixture
) -> None:
    """A hook, say."""
    heard: list[LoopBlocked] = []

    class Slow(loop.base):  # type: ignore[misc, name-defined]
        def on_start(self) -> None:
            heard.append(events.get(timeout=LIMIT))

    with caplog.at_level(logging.WARNING):
        system.start_actor(Slow, (), {})

    assert heard[0].token is None
    assert "code of no token has blocked" in caplog.text


def test_a_stop_of_the_whole_process_is_nobodys_fault(caplog: pytest.LogCaptureFixture) -> None:
    """The clock has gone on, but no more than one look has found the round too long."""
    told: list[object] = []
    host: Any = None  # neither loop is asked for anything
    looks = _Looks(time.monotonic() - 1_000)

    Watchdog(host, host, THRESHOLD, told.append)._look(looks)

    assert looks.number == 1
    assert (told, caplog.text) == ([], "")


def test_no_threshold_is_no_watchdog() -> None:
    """None switches it off."""
    opened = ActorSystem("unwatched", threads=1, blocked_after=None)
    opened.open()

    async def instruments() -> int:
        task = trio.lowlevel.current_task()
        return len(task._runner.instruments["_all"])

    try:
        assert opened.io_host.run(instruments).result(LIMIT) == 0
    finally:
        assert opened.close(LIMIT) == ()


@pytest.mark.parametrize("threshold", [0, -1, float("nan"), "1"])
def test_a_threshold_that_cannot_work_is_refused(threshold: Any) -> None:
    """The error names the system and the value."""
    with pytest.raises(ValueError, match="blocked_after of system 'bad'"):
        ActorSystem("bad", blocked_after=threshold)


def test_many_short_steps_in_a_row_name_no_token(
    loop: Loop, events: SimpleQueue[LoopBlocked], caplog: Any, until: Callable[[Callable[[], bool]], None]
) -> None:
    """The loop is late, but the token that is seen last has not blocked it; that it is late is told all the same.

    Steps that the machine held up are no short ones, so then there is nothing to compare.
    """
    threshold, gaps = 0.2, Gaps()
    system = ActorSystem("busy", threads=2, blocked_after=threshold)
    system.subscribe(lambda event: events.put(event) if isinstance(event, LoopBlocked) else None)
    system.open()
    try:
        place = system.operation_place("op", loop.affinity, generator=False, concurrency=30)
        go = loop.event()

        async def short_step() -> None:
            await go.wait()
            gaps.step(threshold / 8)

        tokens = [place.send(place.token("op", short_step, ())) for _ in range(30)]
        until(lambda: len(place.drain.running()) == len(tokens))
        with caplog.at_level(logging.WARNING):
            gaps.times.append(time.monotonic())
            loop.host(system).call_soon(go.set)  # all of them are steps of one round
            for token in tokens:
                token.result(LIMIT)
        named = [events.get() for _ in range(events.qsize())]
    finally:
        assert system.close(LIMIT) == ()

    if gaps.longest() < threshold / 2:
        assert [(event.token, event.stack) for event in named] == [(None, "")]
        assert named[0].seconds >= 2 * threshold
        assert "by many short steps in a row" in caplog.text


def test_a_step_that_blocks_after_short_ones_in_a_row_is_named(
    loop: Loop, system: ActorSystem, events: SimpleQueue[LoopBlocked]
) -> None:
    """Wherever in a long round it is."""
    place = system.operation_place("op", loop.affinity, generator=False, concurrency=8)
    go = loop.event()
    heard: list[LoopBlocked] = []

    async def step(number: int) -> None:
        await go.wait()
        if number < 4:
            time.sleep(THRESHOLD / 2)
            return
        while not any(event.token is tokens[number] for event in heard):
            heard.append(events.get(timeout=LIMIT))

    tokens = [place.send(place.token("op", step, (number,))) for number in range(8)]
    loop.host(system).call_soon(go.set)
    for token in tokens:
        token.result(LIMIT)

    assert {event.token for event in heard if event.token is not None} >= set(tokens[4:])


def test_a_step_that_calls_many_others_is_named_itself(
    loop: Loop, system: ActorSystem, events: SimpleQueue[LoopBlocked], until: Callable[[Callable[[], bool]], None]
) -> None:
    """The steps of direct calls within it are short, and it is not."""
    place = system.operation_place("op", loop.affinity, generator=False, concurrency=2)
    heard: list[LoopBlocked] = []
    inner: list[Any] = []

    def call() -> None:
        while not events.empty():
            heard.append(events.get())
        time.sleep(THRESHOLD / 8)

    async def outer() -> None:
        while not any(event.token is token for event in heard):
            inner.append(place.token("op", call, ()))
            turn = place.turn_here(inner[-1])
            assert turn is not None
            turn.run()

    token = place.token("op", outer, ())
    place.send(token)

    assert token.exception(LIMIT) is None  # it has been named


def test_a_system_that_closes_does_not_complain_of_its_own_work(
    loop: Loop, caplog: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All that runs is ended in one round, which may be long; a step that blocks then is named as ever.

    So is one that the machine held up, if there is any.
    """
    monkeypatch.setattr("actors.system._system._LAST_SECONDS", LIMIT)
    threshold, gaps = 0.2, Gaps()
    system = ActorSystem("closing", threads=2, blocked_after=threshold)
    system.open()
    place = system.operation_place("op", loop.affinity, generator=False, concurrency=30)
    started, go = [], loop.event()

    async def sleeper() -> None:
        started.append(1)
        try:
            await go.wait()
        finally:
            gaps.step(threshold / 10)

    for _ in range(30):
        place.send(place.token("op", sleeper, ()))
    while len(started) < 30:
        time.sleep(0.001)
    with caplog.at_level(logging.WARNING):
        gaps.times.append(time.monotonic())
        left = system.close(0.0)

    assert left == ()
    assert gaps.longest() > threshold / 2 or "loop has" not in caplog.text
