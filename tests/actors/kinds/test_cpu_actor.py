"""Properties of actors on CPU threads: few threads for many actors, nesting, quanta, sealing."""

from __future__ import annotations

import threading
from queue import SimpleQueue
from typing import Any

import pytest
from tiers import TORTURE

from actors import ActorDead, ActorSystem, CpuActor, TokenState, TokenTerminated

LIMIT = 30.0


class Echo(CpuActor):
    def on_receive(self, message: Any) -> Any:
        return message


def test_thousands_of_actors_live_on_few_threads(start: Any, system: ActorSystem) -> None:
    """An actor costs no thread; each answers, and each ends. 10,000 of them with TOKENGATE_TORTURE=1."""
    many = 10_000 if TORTURE else 1_000
    refs = [start(Echo) for _ in range(many)]
    tokens = [ref.ask(number, block=False) for number, ref in enumerate(refs)]
    assert threading.active_count() < 100  # the dispatcher may add spares where the machine is busy, up to 64
    assert [token.result(LIMIT) for token in tokens] == list(range(many))
    assert system.statistics().actors == many
    stops = [ref.stop(block=False) for ref in refs]
    assert all(stop.get(timeout=LIMIT) for stop in stops)

    assert system.statistics().actors == 0


def test_nesting_deeper_than_the_number_of_threads_does_not_deadlock(
    start: Any, system: ActorSystem, until: Any
) -> None:
    """A step that waits for another token gets a spare thread; the spares go again."""

    class Nest(CpuActor):
        def dive(self, depth: int) -> int:
            if not depth:
                return 0
            return 1 + int(start(Nest).proxy().dive(depth - 1).result(LIMIT))

    assert start(Nest).proxy().dive(40).result(LIMIT) == 40

    until(lambda: system.dispatcher.statistics().blocked == 0)  # a look that takes one for stalled may be the latest


def test_spares_go_again_when_idle(
    start: Any, system: ActorSystem, doors: Any, until: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Threads beyond the dispatcher's size end when they have nothing to do."""
    monkeypatch.setattr("actors.concurrency._dispatcher._SPARE_IDLE", 0.1)
    door = doors()

    class Waiter(CpuActor):
        def wait_for(self, token: Any) -> Any:
            return token.result(LIMIT)

        def block(self) -> str:
            door.pass_through()
            return "done"

    source = start(Waiter).proxy().block()
    waiters = [start(Waiter).proxy().wait_for(source) for _ in range(10)]
    until(lambda: system.dispatcher.statistics().blocked == 10)
    assert system.dispatcher.statistics().threads >= 12  # more, if one of them was long in the queue
    door.open()
    assert [token.result(LIMIT) for token in waiters] == ["done"] * 10
    until(lambda: system.dispatcher.statistics().threads == 2)

    assert source.result() == "done"


def test_threads_of_the_users_own_do_not_count_as_blocked(start: Any, system: ActorSystem, door: Any) -> None:
    """A wait on a thread that is not the dispatcher's changes nothing there."""

    class Slow(CpuActor):
        def block(self) -> None:
            door.pass_through()

    token = start(Slow).proxy().block()
    door.wait_reached()
    waiter = threading.Thread(target=token.result, args=(LIMIT,))
    waiter.start()
    assert system.dispatcher.statistics().blocked == 0
    door.open()
    waiter.join(LIMIT)

    assert token.done()


def test_a_busy_actor_yields_to_its_neighbour_after_throughput_messages(door: Any) -> None:
    """Case 31. throughput: a busy actor yields to its neighbour after `throughput` messages."""
    order: list[str] = []

    class Named(CpuActor):
        throughput = 3
        throughput_deadline = 1000.0

        def on_receive(self, message: Any) -> None:
            if message == "block":
                door.pass_through()
            else:
                order.append(message)

    with_one = ActorSystem("one", threads=1)
    with_one.open()
    with_one.dispatcher.watched = True  # no spare stands in for the thread that waits at the door
    try:
        busy, neighbour, blocker = (with_one.start_actor(Named, (), {}) for _ in range(3))
        blocker.tell("block")
        door.wait_reached()
        tokens = [busy.ask("busy", block=False) for _ in range(7)]
        tokens.append(neighbour.ask("neighbour", block=False))
        door.open()
        for token in tokens:
            token.result(LIMIT)
    finally:
        door.open()
        late = with_one.close(LIMIT)

    assert late == ()
    assert order == ["busy"] * 3 + ["neighbour"] + ["busy"] * 4


def test_a_slow_message_yields_before_the_second_one(door: Any) -> None:
    """Case 32. throughput_deadline: a slow message yields before the second one."""
    order: list[str] = []
    now = [0.0]

    class Named(CpuActor):
        def on_receive(self, message: Any) -> None:
            if message == "block":
                door.pass_through()
            else:
                order.append(message)
                now[0] += 1.0

    with_one = ActorSystem("one", threads=1, clock=lambda: now[0])
    with_one.open()
    with_one.dispatcher.watched = True  # as above
    try:
        slow, neighbour, blocker = (with_one.start_actor(Named, (), {}) for _ in range(3))
        blocker.tell("block")
        door.wait_reached()
        tokens = [slow.ask("slow", block=False) for _ in range(2)]
        tokens.append(neighbour.ask("neighbour", block=False))
        door.open()
        for token in tokens:
            token.result(LIMIT)
    finally:
        door.open()
        late = with_one.close(LIMIT)

    assert late == ()
    assert order == ["slow", "neighbour", "slow"]


def test_an_async_method_is_refused_with_the_reason(start: Any) -> None:
    """A CPU thread awaits nothing: the caller gets a TypeError, and no coroutine is left unawaited."""

    class Wrong(CpuActor):
        expected = (TypeError,)

        async def fetch(self) -> None: ...

    with pytest.raises(TypeError, match=r"Wrong\.fetch.*coroutine"):
        start(Wrong).proxy().fetch().result(LIMIT)


def test_sealed_threads_are_named_counted_and_replaced(system: ActorSystem, doors: Any, until: Any) -> None:
    """As many threads are free as before, however many are stuck in code that can't be ended."""
    stuck = [doors() for _ in range(4)]

    class Stuck(CpuActor):
        def block(self, number: int) -> str:
            stuck[number].pass_through()
            return "late"

    places = [system.place(f"stuck-{number}", Stuck, owner=lambda *_: None) for number in range(4)]
    tokens = []
    for number, place in enumerate(places):
        place.start().result(LIMIT)
        tokens.append(place.ref.proxy().block(number))
        stuck[number].wait_reached()
        place.terminate_running("the test says so")
    assert [token.state for token in tokens] == [TokenState.TERMINATED] * 4

    def lost_and_replaced() -> bool:
        shown = system.dispatcher.statistics()
        return (shown.abandoned, shown.threads) == (4, 6)

    until(lost_and_replaced)  # a look that took a thread for stalled has a spare made, which goes again
    assert len(set(system.statistics().abandoned)) == 4
    assert system.start_actor(Echo, (), {}).ask("served", timeout=LIMIT) == "served"
    for one in stuck:
        one.open()
    until(lambda: system.dispatcher.statistics().threads == 2)
    assert system.dispatcher.statistics().abandoned == 0

    assert all(isinstance(token.exception(), TokenTerminated) for token in tokens)


def test_what_is_left_of_a_sealed_step_sends_nothing(system: ActorSystem, door: Any) -> None:
    """Neither through a ref it had nor through its own; a ref of its place still serves everybody else.

    A thread that can't be ended runs on, but can do no harm any more.
    """
    heard: list[str] = []
    refused: SimpleQueue[Any] = SimpleQueue()

    class Listener(CpuActor):
        def on_receive(self, message: Any) -> None:
            heard.append(message)

    listener = system.start_actor(Listener, (), {})

    class Stuck(CpuActor):
        def block(self) -> None:
            listener.tell("before")
            door.pass_through()
            for ref in (listener, self.actor_ref):
                try:
                    ref.tell("after")
                except ActorDead as error:
                    refused.put(error)
            refused.put(listener.ask("after", block=False))

    place = system.place("stuck", Stuck, owner=lambda *_: None)
    place.start().result(LIMIT)
    token = place.ref.proxy().block()
    door.wait_reached()
    place.terminate_running("it did not stop in time")
    place.start().result(LIMIT)
    door.open()
    errors = [refused.get(timeout=LIMIT) for _ in range(2)]
    rejected = refused.get(timeout=LIMIT)
    listener.ask("from outside", timeout=LIMIT)

    assert all(f"token {token.id}" in str(error) for error in errors)
    assert (rejected.state, type(rejected.exception())) == (TokenState.REJECTED, ActorDead)
    assert heard == ["before", "from outside"]
