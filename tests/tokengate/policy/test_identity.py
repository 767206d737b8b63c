"""Identity keys: calls of the same work share one run, in every affinity."""

from __future__ import annotations

import asyncio
import random
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import trio
from gated_code import Door, opened_at_the_end, share
from running_tokens import run_id
from tiers import TORTURE

from tokengate import Gate, TokenState, checkpoint, current_token, token
from tokengate.errors import DeadlockError, KeyReused, NeedsGate, TokenExpired, TokenRejected, TokenTerminated
from tokengate.policy._policy import Policy, Throttle

LIMIT = 60.0  # seconds; only reached when something is broken

AFFINITIES = ("cpu", "io", "asyncio", "process")
IN_PROCESS = AFFINITIES[:3]


def turn(door: Door, number: int = 1) -> int:
    """Run until the door is open; count the runs by `rounds`."""
    door.rounds += 1
    door.reached.set()
    while not door.is_open:
        checkpoint()
        time.sleep(0)
    if number < 0:
        raise ConnectionError(f"{number}, run {door.rounds}")
    return number


async def turn_in_trio(door: Door, number: int = 1) -> int:
    door.rounds += 1
    door.reached.set()
    while not door.is_open:
        await trio.sleep(0.001)
    if number < 0:
        raise ConnectionError(f"{number}, run {door.rounds}")
    return number


async def turn_in_asyncio(door: Door, number: int = 1) -> int:
    door.rounds += 1
    door.reached.set()
    while not door.is_open:
        await asyncio.sleep(0.001)
    if number < 0:
        raise ConnectionError(f"{number}, run {door.rounds}")
    return number


LIMITED = Policy(throttle=Throttle(concurrency=1))
TURNING: dict[str, Any] = {
    "cpu": token(policy=LIMITED)(turn),
    "io": token(policy=LIMITED)(turn_in_trio),
    "asyncio": token(affinity="asyncio", policy=LIMITED)(turn_in_asyncio),
    "process": token(affinity="process", policy=LIMITED)(turn),
}


@token(affinity="process", concurrency=2)
def call_from_a_child(operation: Any, number: int, how: str) -> Any:
    """Call an operation of the gate; its key has crossed with it, or is set here."""
    if how == "call":
        return operation(number)
    if how == "set here":
        operation = operation.with_options(key="k")
    return operation.submit(number).result()


@pytest.fixture
def gate() -> Iterator[Gate]:
    with Gate("identity", threads=3, processes=2, shutdown=5.0, control_socket=False) as opened:
        yield opened


@pytest.fixture
def new_door() -> Iterator[Callable[[], Door]]:
    with opened_at_the_end() as make:
        yield make


@pytest.fixture
def make_door(new_door: Callable[[], Door]) -> Callable[[], Door]:
    """Returns doors that processes share."""
    return lambda: share(new_door())


def live(gate: Gate, id: int) -> Any:
    """Return a live token."""
    return gate._open_system.live[id]


def held(gate: Gate, one: Any) -> str:
    """Return how a joined token is held."""
    described = gate.control.describe(one.id)
    assert described.waits_for == (f"token {run_id(one)}, which runs for it",)
    return described.row.held


@pytest.mark.parametrize("affinity", AFFINITIES)
def test_a_hundred_callers_of_one_key_share_one_run_and_one_grant(
    gate: Gate, make_door: Callable[[], Door], affinity: str
) -> None:
    """Case 43. Each caller has a token of its own, `queued`, held `joined`, with the `uid` of the one that runs."""
    door = make_door()
    work = TURNING[affinity].with_options(key="order 7", priority=3)

    tokens = [work.submit(door, 5) for _ in range(100)]
    door.wait_reached()

    (uid,) = {run_id(one) for one in tokens}
    run = gate.control.describe(uid).row
    assert len({one.id for one in tokens} | {uid}) == 101
    assert {one.state for one in tokens} == {TokenState.QUEUED}
    assert held(gate, tokens[0]) == held(gate, tokens[99]) == "joined"
    assert (run.state, run.held, run.priority) == ("running", "", 3)
    assert len(gate.control.tokens("held=joined")) == 100
    door.open()
    assert [one.result(LIMIT) for one in tokens] == [5] * 100
    assert {one.state for one in tokens} == {TokenState.COMPLETED}
    assert door.rounds == 1


@pytest.mark.parametrize("affinity", AFFINITIES)
def test_a_cancel_ends_that_caller_only_and_the_last_one_ends_the_run(
    gate: Gate, make_door: Callable[[], Door], affinity: str
) -> None:
    """Case 44. The first caller's cancel leaves the others their results; with the last cancel the run is cancelled."""
    first_door, second_door = make_door(), make_door()
    work = TURNING[affinity]

    some = [work.with_options(key=1).submit(first_door) for _ in range(10)]
    first_door.wait_reached()
    assert some[0].cancel()
    assert some[0].state is TokenState.TERMINATED
    first_door.open()
    assert [one.result(LIMIT) for one in some[1:]] == [1] * 9
    with pytest.raises(TokenTerminated):
        some[0].result()

    others = [work.with_options(key=1).submit(second_door) for _ in range(3)]
    second_door.wait_reached()
    run = live(gate, run_id(others[0]))
    assert all(one.cancel() for one in others)
    assert isinstance(run.exception(LIMIT), TokenTerminated)


@pytest.mark.parametrize("affinity", IN_PROCESS)
def test_errors_are_not_handed_out_again(gate: Gate, make_door: Callable[[], Door], affinity: str) -> None:
    """Case 45. All callers of a run get its error, and the call after its end has a run of its own."""
    door = make_door()
    work = TURNING[affinity].with_options(key="k")

    tokens = [work.submit(door, -1) for _ in range(5)]
    door.open()
    assert {str(one.exception(LIMIT)) for one in tokens} == {"-1, run 1"}
    assert tokens[0].state is TokenState.FAILED
    assert str(work.submit(door, -1).exception(LIMIT)) == "-1, run 2"
    assert work.submit(door, 7).result(LIMIT) == 7


class Odd:
    """Equal to everything, in a way that is no plain answer."""

    def __init__(self, answer: Any) -> None:
        self.answer = answer

    def __eq__(self, other: object) -> Any:
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer

    __hash__ = None  # type: ignore[assignment]


def test_other_arguments_under_a_live_key_are_refused(gate: Gate, new_door: Callable[[], Door]) -> None:
    """Case 46. The token is `rejected`, with `KeyReused`; the run goes on, and the key is free after it."""
    door = new_door()
    work = TURNING["cpu"].with_options(key="k")

    first = work.submit(door, 5)
    door.wait_reached()
    refused = work.submit(door, 6)
    error = refused.exception(LIMIT)
    assert (refused.state, type(error)) == (TokenState.REJECTED, KeyReused)
    assert isinstance(error, TokenRejected)
    assert error.reason == refused.reason == "key"
    assert "'k'" in str(error)
    assert f"token {run_id(first)}" in str(error)
    with pytest.raises(KeyReused):
        work(door, 6)
    assert work.submit(door, number=5).uid == first.uid  # the same arguments, passed otherwise
    assert TURNING["cpu"].with_options(key="l").submit(door, 6).uid != first.uid
    door.open()
    assert first.result(LIMIT) == 5
    assert work.submit(door, 6).result(LIMIT) == 6


@pytest.mark.parametrize("answer", [1, "yes", [True], ValueError("no")])
def test_what_is_equal_in_no_plain_way_is_other(gate: Gate, new_door: Callable[[], Door], answer: Any) -> None:
    """Case 46. Values whose `==` raises, or returns no plain bool, are other arguments; no caller sees the error."""
    door = new_door()

    @token
    def work(_value: object) -> None:
        turn(door)

    first = work.with_options(key="k").submit(Odd(answer))
    door.wait_reached()
    assert isinstance(work.with_options(key="k").submit(Odd(answer)).exception(LIMIT), KeyReused)
    assert not first.done()


def test_arguments_are_compared_on_the_senders_thread(gate: Gate, new_door: Callable[[], Door]) -> None:
    """Case 46. A slow `==` holds up its sender, and neither the others nor the end of the run."""
    door, comparing, go = new_door(), threading.Event(), threading.Event()
    threads: list[int] = []

    class Slow:
        def __eq__(self, other: object) -> bool:
            threads.append(threading.get_ident())
            comparing.set()
            assert go.wait(LIMIT)
            return True

        __hash__ = None  # type: ignore[assignment]

    @token
    def work(_value: object) -> int:
        return turn(door)

    keyed = work.with_options(key="k")
    first = keyed.submit(Slow())
    with ThreadPoolExecutor(1) as pool:
        sent = pool.submit(lambda: (threading.get_ident(), keyed.submit(Slow())))
        assert comparing.wait(LIMIT)
        door.open()
        assert first.result(LIMIT) == 1
        go.set()
        thread, second = sent.result(LIMIT)
    assert set(threads) == {thread}
    assert second.result(LIMIT) == 1
    assert door.rounds == 2  # the run had ended, so the key was free


@pytest.mark.parametrize("affinity", ["cpu", "process"])
def test_direct_calls_share_a_run(gate: Gate, make_door: Callable[[], Door], affinity: str) -> None:
    """Case 43. A call like the plain function's waits for the run of its key, as a submit's token does."""
    door = make_door()
    work = TURNING[affinity].with_options(key="k")

    with ThreadPoolExecutor(4) as pool:
        calls = [pool.submit(work, door, 5) for _ in range(4)]
        wait_for_joined(gate, 4)
        door.open()
        assert [call.result(LIMIT) for call in calls] == [5] * 4
    assert door.rounds == 1


@pytest.mark.parametrize("affinity", IN_PROCESS)
def test_awaited_calls_share_a_run(gate: Gate, make_door: Callable[[], Door], affinity: str) -> None:
    """Case 43. So do calls that are awaited, and `asubmit`; a cancelled wait ends that caller's token only."""
    door = make_door()
    work = TURNING[affinity].with_options(key="k")
    results: list[int] = []

    async def call() -> None:
        results.append(await (await work.asubmit(door, 5)))
        if affinity in ("io", "asyncio"):
            results.append(await work(door, 5))

    async def main() -> None:
        tokens = [await work.asubmit(door, 5) for _ in range(2)]
        async with trio.open_nursery() as nursery:
            nursery.start_soon(call)
            with trio.move_on_after(0.001):
                await tokens[0]
            tokens[0].cancel()
            door.open()
        results.append(await tokens[1])

    trio.run(main)
    assert set(results) == {5}
    assert len(results) == (3 if affinity in ("io", "asyncio") else 2)


def wait_for_joined(gate: Gate, count: int) -> None:
    """Wait until so many tokens are joined."""
    while len(gate.control.tokens("held=joined")) < count:
        time.sleep(0.001)


@pytest.mark.parametrize("how", ["submit", "set here", "call"])
def test_calls_from_child_processes_share_the_run_of_the_gate(
    gate: Gate, new_door: Callable[[], Door], how: str
) -> None:
    """Case 43. A child's call with a key joins that of the gate, and that of another child; others are refused."""
    door = new_door()

    @token
    def work(number: int) -> int:
        return number + turn(door)

    given = work if how == "set here" else work.with_options(key="k")
    own = work.with_options(key="k").submit(5)
    children = [call_from_a_child.submit(given, 5, how) for _ in range(2)]
    wait_for_joined(gate, 3)
    refused = call_from_a_child.submit(given, 6, how).exception(LIMIT) if how == "call" else None
    door.open()

    assert [one.result(LIMIT) for one in (own, *children)] == [6] * 3
    assert door.rounds == 1
    assert refused is None or isinstance(refused, KeyReused)


def test_a_deadline_ends_that_callers_token_only(gate: Gate, new_door: Callable[[], Door]) -> None:
    """Case 44. The token of a caller whose deadline is over is `expired`; the run goes on for the others."""
    door = new_door()
    work = TURNING["cpu"].with_options(key="k")

    patient = work.submit(door)
    hasty = work.with_options(policy=Policy(deadline=0.01)).submit(door)
    also_hasty = work.with_options(policy=Policy(deadline=0.02)).submit(door)
    assert isinstance(hasty.exception(LIMIT), TokenExpired)
    assert isinstance(also_hasty.exception(LIMIT), TokenExpired)
    assert (hasty.state, hasty.uid, patient.done()) == (TokenState.EXPIRED, patient.uid, False)
    door.open()
    assert patient.result(LIMIT) == 1


def test_the_run_has_no_deadline_of_its_own(gate: Gate, new_door: Callable[[], Door]) -> None:
    """Case 44. The deadline of the first caller does not hold for the run; its code's calls inherit the latest."""
    door, deadlines = new_door(), list[float | None]()

    @token(policy=Policy(queue_timeout=100.0))
    def work() -> None:
        turn(door)
        one = current_token()
        assert one is not None
        deadlines.append(one.deadline)

    first = work.with_options(key="k", policy=Policy(deadline=50.0)).submit()
    second = work.with_options(key="k", policy=Policy(deadline=80.0)).submit()
    door.open()
    second.result(LIMIT)
    assert first.deadline == pytest.approx(first.created_at + 50.0)
    assert deadlines == [second.deadline]


def test_a_run_that_waits_to_begin_ends_with_its_last_caller(gate: Gate, new_door: Callable[[], Door]) -> None:
    """Case 44. Its place in the mailbox is free again, whether that caller's token was cancelled or has expired."""
    door = new_door()
    work = TURNING["cpu"]

    busy = work.submit(door)
    door.wait_reached()
    cancelled = work.with_options(key=1).submit(door)
    expired = work.with_options(key=2, policy=Policy(deadline=0.01)).submit(door)
    runs = [live(gate, run_id(cancelled)), live(gate, run_id(expired))]
    assert cancelled.cancel()
    assert isinstance(expired.exception(LIMIT), TokenExpired)
    assert isinstance(runs[0].exception(LIMIT), TokenTerminated)
    assert isinstance(runs[1].exception(LIMIT), TokenExpired)
    assert not [run for run in runs if run.started_at is not None]
    door.open()
    assert busy.result(LIMIT) == 1


def test_a_caller_who_comes_while_the_run_is_being_cancelled_gets_the_next_run(
    gate: Gate, make_door: Callable[[], Door]
) -> None:
    """Case 44. Code that takes long to end holds the key; the new caller is not hit by the cancel of others."""
    door = make_door()

    @token
    def work() -> int:
        door.rounds += 1
        door.pass_through()
        return door.rounds

    keyed = work.with_options(key="k")
    first = keyed.submit()
    door.wait_reached()
    uid = first.uid
    assert first.cancel()
    second, third = keyed.submit(), keyed.submit()
    assert second.uid == uid
    door.open()
    assert [second.result(LIMIT), third.result(LIMIT)] == [2, 2]
    assert second.uid == third.uid != uid


def test_the_run_has_priority_tags_and_context_of_the_first(gate: Gate, new_door: Callable[[], Door]) -> None:
    """Case 43. What the later callers have of these makes no difference."""
    door = new_door()

    @token
    def work() -> tuple[Any, ...]:
        turn(door)
        one = current_token()
        assert one is not None
        return one.id, one.priority, dict(one.tags)

    first = work.with_options(key="k", priority=3, tags={"tenant": "a"}).submit()
    second = work.with_options(key="k", priority=7, tags={"tenant": "b"}).submit()
    door.open()
    assert first.result(LIMIT) == second.result(LIMIT) == (run_id(first), 3, {"tenant": "a"})
    assert (second.priority, second.tags) == (7, {"tenant": "b"})


def test_a_step_that_waits_for_a_token_that_it_runs_for_is_a_named_cycle(gate: Gate) -> None:
    """Code that waits for a call under its own key would wait for itself."""

    @token
    def work() -> Any:
        with pytest.raises(DeadlockError):
            work.with_options(key="k")()
        return "named"

    assert work.with_options(key="k").submit().result(LIMIT) == "named"


def test_verbs_on_a_joined_token_name_the_one_that_runs(gate: Gate, new_door: Callable[[], Door]) -> None:
    """Pause, step, renice and reroute refuse and say whom to ask; terminate ends the one; the run's end ends all."""
    door = new_door()
    tokens = [TURNING["cpu"].with_options(key="k").submit(door) for _ in range(3)]
    door.wait_reached()

    for (outcome,) in (
        gate.control.pause(tokens[0].id),
        gate.control.step(tokens[0].id),
        gate.control.renice(tokens[0].id, 5),
        gate.control.reroute(tokens[0].id, affinity="io"),
    ):
        assert (outcome.outcome, f"token {run_id(tokens[0])}" in outcome.note) == ("refused", True)
    (ended,) = gate.control.terminate(tokens[0].id)
    assert (ended.outcome, tokens[0].state) == ("terminated", TokenState.TERMINATED)
    (paused,) = gate.control.pause(run_id(tokens[1]))
    assert paused.outcome == "paused"
    gate.control.terminate(run_id(tokens[1]))
    assert isinstance(tokens[1].exception(LIMIT), TokenTerminated)
    assert tokens[1].exception() is tokens[2].exception()


@pytest.mark.parametrize("key", [True, 1.0, b"k", ("a",)])
def test_a_key_is_a_text_or_an_int(key: Any) -> None:
    """Another value is named."""
    with pytest.raises(ValueError, match=r"key of 'turn' is .*; it must be a text or an int"):
        TURNING["cpu"].with_options(key=key)


class Tally:
    """Counts how often each token has ended."""

    def __init__(self) -> None:
        self.ends: dict[Any, int] = {}

    def follow(self, one: Any) -> Any:
        self.ends[one] = 0
        one.add_done_callback(self._count)
        return one

    def _count(self, one: Any) -> None:
        self.ends[one] += 1


def play(gate: Gate, work: Any, chance: random.Random, tally: Tally) -> None:
    """One caller: submit under a few keys, and cancel, terminate or wait for what was submitted."""
    own: list[Any] = []
    for _ in range(6):
        what = chance.random()
        if what < 0.6 or not own:
            key = chance.randrange(2)
            own.append(tally.follow(work.with_options(key=key).submit(key)))
        elif what < 0.8:
            own.pop(chance.randrange(len(own))).cancel()
        elif what < 0.9:
            gate.control.terminate(own.pop(chance.randrange(len(own))).id, wait=0)
        else:
            own.pop(chance.randrange(len(own))).result(LIMIT)
    for one in own:
        key, result = one.result(LIMIT)
        assert result == key * 2


@pytest.mark.parametrize("affinity", ["cpu", "io"])
def test_a_storm_of_callers_loses_nothing(gate: Gate, seed: int, affinity: str) -> None:
    """Case 44. Each token ends once; those that nobody has ended get their result."""
    chance = random.Random(seed)

    def count(key: int) -> tuple[int, int]:
        for _ in range(chance.randrange(3)):
            checkpoint()
            time.sleep(0)
        return key, key * 2

    async def count_in_trio(key: int) -> tuple[int, int]:
        for _ in range(chance.randrange(3)):
            await trio.lowlevel.checkpoint()
        return key, key * 2

    work: Any = token(count) if affinity == "cpu" else token(count_in_trio)
    with ThreadPoolExecutor(3) as pool:
        for _ in range(10_000 if TORTURE else 10):
            tally = Tally()
            players = [pool.submit(play, gate, work, random.Random(chance.random()), tally) for _ in range(3)]
            for player in players:
                player.result(LIMIT)
            for one in tally.ends:
                one.exception(LIMIT)
            deadline = time.monotonic() + LIMIT
            while set(tally.ends.values()) != {1} and time.monotonic() < deadline:
                time.sleep(0.001)  # a callback runs after the outcome is there
            assert set(tally.ends.values()) == {1}
            assert {one.state for one in tally.ends} <= {TokenState.COMPLETED, TokenState.TERMINATED}


def test_closing_ends_all_callers(seed: int) -> None:
    """Case 19. While a gate closes, each caller's token comes to one end, and none hangs."""
    chance = random.Random(seed)

    @token
    def work(key: int) -> int:
        checkpoint()
        return key

    def call(tally: Tally, keys: list[int], begun: threading.Event) -> None:
        for key in keys:
            tally.follow(work.with_options(key=key).submit(key))
            begun.set()

    for _ in range(1_000 if TORTURE else 2):
        tally, begun = Tally(), threading.Event()
        with ThreadPoolExecutor(2) as pool:
            with Gate("closing", threads=2, shutdown=5.0, control_socket=False) as gate:
                keys = [chance.randrange(3) for _ in range(50)]
                callers = [pool.submit(call, tally, keys, begun) for _ in range(2)]
                assert begun.wait(LIMIT)
                gate.close(drain=chance.random() < 0.5)
            for caller in callers:
                assert isinstance(caller.exception(LIMIT), NeedsGate | None)
        assert all(one.done() for one in tally.ends)
