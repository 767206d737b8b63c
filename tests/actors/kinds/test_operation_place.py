"""Places of operations: tokens of functions, up to `concurrency` at once."""

from __future__ import annotations

import threading
from typing import Any

import pytest
import trio

from actors import ActorDead, ActorSystem, Token, TokenState, TokenTerminated, current_token
from actors.lowlevel import OperationPlace

LIMIT = 30.0


def submit(place: OperationPlace, function: Any, *args: Any) -> Token[Any]:
    return place.send(place.token("op", function, args, {}))


def make(system: ActorSystem, affinity: str, concurrency: int = 2, generator: bool = False) -> OperationPlace:
    return system.operation_place("op", affinity, generator=generator, concurrency=concurrency)


@pytest.mark.parametrize("affinity", ["cpu", "io", "asyncio"])
def test_an_operation_fails_without_ending_anything(system: ActorSystem, affinity: str) -> None:
    """An exception, `sys.exit()` included, is the token's failure: the place lives on."""

    def fail(error: BaseException) -> None:
        raise error

    place = make(system, affinity)
    for error in (ValueError("x"), SystemExit(1), KeyboardInterrupt()):
        token = submit(place, fail, error)
        assert token.exception(LIMIT) is error
        assert token.state is TokenState.FAILED

    assert submit(place, int, "5").result(LIMIT) == 5


def test_cpu_tokens_run_up_to_the_concurrency_at_once(system: ActorSystem, until: Any) -> None:
    """Two meet at a barrier; a third waits its turn."""
    place = make(system, "cpu", concurrency=2)
    barrier = threading.Barrier(2)
    tokens = [submit(place, barrier.wait, LIMIT) for _ in range(6)]
    assert sorted(token.result(LIMIT) for token in tokens) == [0, 0, 0, 1, 1, 1]

    until(lambda: place.mailbox.active == 0)


def test_io_tokens_run_up_to_the_concurrency_at_once(system: ActorSystem) -> None:
    """Never more than `concurrency`, and as many as that."""
    place = make(system, "io", concurrency=3)
    place.mailbox.suspend()  # until all are there
    inside, most = [0], [0]

    async def work() -> None:
        inside[0] += 1
        most[0] = max(most[0], inside[0])
        for _ in range(5):
            await trio.lowlevel.checkpoint()
        inside[0] -= 1

    tokens = [submit(place, work) for _ in range(20)]

    async def let_begin() -> None:  # on the loop, so that none begins before all drainers have been called
        place.mailbox.resume()

    system.io_host.run(let_begin).result(LIMIT)
    for token in tokens:
        token.result(LIMIT)

    assert most == [3]


def test_a_token_that_waits_for_another_does_not_count(system: ActorSystem) -> None:
    """With concurrency 1, a step that waits for a token of its own operation gets it."""
    place = make(system, "cpu", concurrency=1)

    def dive(depth: int) -> int:
        return 0 if not depth else 1 + int(submit(place, dive, depth - 1).result(LIMIT))

    assert submit(place, dive, 15).result(LIMIT) == 15

    assert submit(place, int).result(LIMIT) == 0


def test_a_direct_call_runs_on_the_callers_thread(system: ActorSystem) -> None:
    """As the plain function would: thread, exceptions, and as a token."""
    place = make(system, "cpu")

    def here() -> tuple[int, Any]:
        return threading.get_ident(), current_token()

    token = place.token("op", here, (), {})
    turn = place.turn_here(token)
    assert turn is not None
    assert turn.run() == (threading.get_ident(), token)
    assert token.state is TokenState.COMPLETED
    assert current_token() is None

    assert place.mailbox.active == 0


def test_a_direct_call_raises_what_the_function_raises(system: ActorSystem) -> None:
    """Unchanged, `sys.exit()` too; the turn is given back."""
    place = make(system, "cpu", concurrency=1)

    def leave() -> None:
        raise SystemExit(4)

    token = place.token("op", leave, (), {})
    turn = place.turn_here(token)
    assert turn is not None
    with pytest.raises(SystemExit):
        turn.run()
    assert token.state is TokenState.FAILED

    assert place.mailbox.active == 0


def test_a_direct_call_does_not_overtake(system: ActorSystem) -> None:
    """Not when suspended, nor when something is queued ahead, nor while the system closes."""
    place = make(system, "cpu", concurrency=1)
    place.mailbox.suspend()
    token = place.token("op", int, (), {})
    assert place.turn_here(token) is None
    place.send(token)
    second = place.token("op", int, (), {})
    assert place.turn_here(second) is None
    place.send(second)
    place.mailbox.resume()
    assert (token.result(LIMIT), second.result(LIMIT)) == (0, 0)
    system.drain()
    late = place.token("op", int, (), {})

    assert place.turn_here(late) is None
    assert place.send(late).state is TokenState.REJECTED


def test_a_direct_call_of_an_io_operation_needs_the_io_loop(system: ActorSystem) -> None:
    """Elsewhere it queues."""
    place = make(system, "io")
    token = place.token("op", trio.lowlevel.checkpoint, (), {})

    assert place.turn_here(token) is None
    assert place.send(token).result(LIMIT) is None


@pytest.mark.parametrize("affinity", ["cpu", "io", "asyncio"])
def test_a_generator_operation_is_stepped(system: ActorSystem, affinity: str) -> None:
    """Its return value is the result."""

    def walk(n: int) -> Any:
        for _ in range(n):
            yield
        return n

    token = submit(make(system, affinity, generator=True), walk, 4)

    assert (token.result(LIMIT), token.steps) == (4, 5)


def test_cancelling_one_io_token_leaves_its_siblings(system: ActorSystem) -> None:
    """The cancel scope is the token's own."""
    place = make(system, "io", concurrency=3)
    events: list[trio.Event] = []
    ready = threading.Semaphore(0)

    async def wait(number: int) -> int:
        event = trio.Event()
        events.append(event)
        ready.release()
        await event.wait()
        return number

    async def release() -> None:
        for event in events:
            event.set()

    tokens = [submit(place, wait, number) for number in range(2)]
    for _ in tokens:
        assert ready.acquire(timeout=LIMIT)
    tokens[0].cancel()
    with pytest.raises(TokenTerminated):
        tokens[0].result(LIMIT)
    submit(place, release).result(LIMIT)

    assert tokens[1].result(LIMIT) == 1


def test_a_closed_operation_ends_what_is_queued(system: ActorSystem, door: Any) -> None:
    """What runs is finished, what is queued is terminated, what comes is rejected."""
    place = make(system, "cpu", concurrency=1)
    running = submit(place, door.pass_through)
    door.wait_reached()
    queued = submit(place, int)
    place.close()
    assert isinstance(queued.exception(LIMIT), ActorDead)
    late = submit(place, int)
    assert (queued.state, late.state) == (TokenState.TERMINATED, TokenState.REJECTED)
    door.open()

    assert running.result(LIMIT) is None


def test_sealing_ends_all_tokens_of_the_operation(system: ActorSystem, doors: Any, until: Any) -> None:
    """Those that wait for another token included; the turns are counted right afterwards."""
    door, blocked = doors(), doors()
    place = make(system, "cpu", concurrency=2)
    other = system.operation_place("other", "cpu", generator=False, concurrency=1)

    def wait() -> Any:
        inner = submit(other, blocked.pass_through)
        return inner.result(LIMIT)

    tokens = [submit(place, door.pass_through), submit(place, wait)]
    door.wait_reached()
    blocked.wait_reached()
    until(lambda: system.dispatcher.statistics().blocked == 1)
    place.terminate_running("the test says so")
    assert [token.state for token in tokens] == [TokenState.TERMINATED] * 2
    door.open()
    blocked.open()
    until(lambda: place.mailbox.active == 0)

    assert submit(place, int).result(LIMIT) == 0


@pytest.mark.parametrize("affinity", ["cpu", "io", "asyncio"])
def test_a_queued_token_that_was_ended_from_outside_is_skipped(system: ActorSystem, affinity: str) -> None:
    """Whoever ends a queued token takes it out of the queue; sealing the place leaves the others there."""
    place = make(system, affinity, concurrency=1)
    place.mailbox.suspend()
    ended, following = submit(place, int), submit(place, int, "7")
    ended.cancel()
    place.terminate_running("the test says so")
    assert place.mailbox.size == 1
    place.mailbox.resume()
    assert following.result(LIMIT) == 7
    assert ended.state is TokenState.TERMINATED

    assert place.mailbox.size == 0
