"""Batches: one run with a list for tokens that were called with one each, in every affinity."""

from __future__ import annotations

import asyncio
import gc
import math
import random
import time
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import trio
from gated_code import Door, opened_at_the_end, share
from running_tokens import run_id
from tiers import TORTURE

from tokengate import Batch, Breaker, CpuActor, Gate, Policy, Retry, Throttle, TokenState, token
from tokengate.errors import BadPolicy, BatchMismatch, StartFailed, TokenExpired, TokenRejected, TokenTerminated
from tokengate.policy._batch import Filling, results_of
from tokengate.policy._rate import RateLimit
from tokengate.policy._throttle import ThrottleState

LIMIT = 60.0  # seconds; only reached when something is broken
LONG = 1_000.0  # seconds that no test waits

AFFINITIES = ("cpu", "io", "asyncio", "process")
IN_PROCESS = AFFINITIES[:3]


@pytest.fixture
def gate() -> Iterator[Gate]:
    with Gate("batches", threads=3, processes=1, shutdown=5.0, control_socket=False) as opened:
        yield opened


@pytest.fixture
def new_door() -> Iterator[Callable[[], Door]]:
    with opened_at_the_end() as make:
        yield make


def live(gate: Gate, id: int) -> Any:
    """Return a live token."""
    return gate._open_system.live[id]


def wait_until_throttled(gate: Gate, id: int) -> None:
    """Wait until a throttle keeps a token back."""
    deadline = time.monotonic() + LIMIT
    while gate.control.describe(id).row.held != "throttled":
        assert time.monotonic() < deadline
        time.sleep(0.001)


# An operation that is given doors, numbers and texts, and returns, for each, how many it was given with it. A door is
# passed first. The text "bad" becomes an error, "drop" no result.


def results(items: list[Any]) -> list[Any]:
    count = len(items)
    return [ValueError("bad") if one == "bad" else (one, count) for one in items if one != "drop"]


def doors(items: list[Any]) -> list[Door]:
    """Take the doors out of a list, which has zeros in their places then."""
    found = [one for one in items if isinstance(one, Door)]
    items[:] = [0 if isinstance(one, Door) else one for one in items]
    return found


def work(items: list[Any]) -> list[Any]:
    for door in doors(items):
        door.reached.set()
        while not door.is_open:
            pass
    return results(items)


async def work_in_trio(items: list[Any]) -> list[Any]:
    for door in doors(items):
        door.reached.set()
        while not door.is_open:
            await trio.sleep(0.001)
    return results(items)


async def work_in_asyncio(items: list[Any]) -> list[Any]:
    for door in doors(items):
        door.reached.set()
        while not door.is_open:
            await asyncio.sleep(0.001)
    return results(items)


FUNCTIONS: dict[str, Any] = {"cpu": work, "io": work_in_trio, "asyncio": work_in_asyncio, "process": work}


def operation(affinity: str, batch: Batch, **options: Any) -> Any:
    concurrency = options.pop("concurrency", None)
    decorate = token(affinity=affinity, concurrency=concurrency, policy=Policy(batch=batch, **options))  # type: ignore[call-overload]
    return decorate(FUNCTIONS[affinity])


@pytest.mark.parametrize("affinity", AFFINITIES)
def test_a_full_batch_is_sent_at_once(gate: Gate, affinity: str) -> None:
    """Case 53. Each token gets its own result; while its batch is not full, it is held `joined`."""
    embed = operation(affinity, Batch(size=3, wait=LONG))

    tokens = [embed.submit(number) for number in range(5)]
    assert [one.result(LIMIT) for one in tokens[:3]] == [(0, 3), (1, 3), (2, 3)]
    assert gate.control.describe(tokens[3].id).row.held == "joined"
    assert len({one.uid for one in tokens[:3]}) == 1
    assert tokens[3].uid == tokens[4].uid != tokens[0].uid
    assert embed.submit("x").result(LIMIT) == ("x", 3)
    assert tokens[4].result(LIMIT) == (4, 3)


@pytest.mark.parametrize("affinity", IN_PROCESS)
def test_a_batch_is_sent_some_time_after_its_first_token(gate: Gate, affinity: str) -> None:
    """Case 53. `wait` seconds after it, however few there are."""
    embed = operation(affinity, Batch(size=64, wait=0.05))

    assert embed.submit("one").result(LIMIT)[0] == "one"


def test_a_batch_is_sent_before_half_of_the_earliest_deadline(gate: Gate) -> None:
    """Case 53. So there is as much time left for the run."""
    embed = operation("cpu", Batch(size=3, wait=LONG))

    first = embed.submit(1)
    run = live(gate, run_id(first))
    assert run.due_at == pytest.approx(first.created_at + LONG, abs=LIMIT)
    second = embed.with_options(policy=Policy(deadline=2 * LIMIT)).submit(2)
    assert second.created_at + LIMIT <= run.due_at < second.deadline
    assert embed.submit(3).result(LIMIT) == (3, 3)


@pytest.mark.parametrize("affinity", IN_PROCESS)
def test_without_a_wait_a_batch_takes_what_is_queued(gate: Gate, new_door: Callable[[], Door], affinity: str) -> None:
    """Case 53. What comes while all drainers are at work is the next batch, up to its size."""
    door = share(new_door())
    embed = operation(affinity, Batch(size=4), concurrency=1)

    first = embed.submit(door)
    assert door.reached.wait(LIMIT)
    tokens = [embed.submit(number) for number in range(6)]
    assert {one.state for one in tokens} == {TokenState.QUEUED}
    door.open()
    assert first.result(LIMIT) == (0, 1)
    assert [one.result(LIMIT) for one in tokens] == [(0, 4), (1, 4), (2, 4), (3, 4), (4, 2), (5, 2)]


def test_costs_fill_a_batch(gate: Gate) -> None:
    """Case 53. One that does not fit sends the batch before it; one that costs more than a batch has its own."""
    embed = operation("cpu", Batch(size=10, wait=LONG, cost=len))

    small = [embed.submit(letter * 4) for letter in "abc"]
    assert [one.result(LIMIT)[1] for one in small[:2]] == [2, 2]
    assert not small[2].done()
    assert embed.submit("d" * 20).result(LIMIT)[1] == 1
    assert small[2].result(LIMIT)[1] == 1


def test_what_by_tells_apart_is_never_in_one_batch(gate: Gate) -> None:
    """Case 53. Neither are tokens of different priorities; those without the tag are a batch of their own."""
    embed = operation("cpu", Batch(size=2, wait=LONG, by="model"))
    small, large = embed.with_options(tags={"model": "s"}), embed.with_options(tags={"model": "l"})

    tokens = [one.submit(number) for number, one in enumerate((small, large, embed, small.with_options(priority=1)))]
    assert len({one.uid for one in tokens}) == 4
    for one in (small, large, embed, small.with_options(priority=1)):
        assert one.submit(9).result(LIMIT) == (9, 2)
    assert [one.result(LIMIT) for one in tokens] == [(number, 2) for number in range(4)]


@pytest.mark.parametrize("affinity", AFFINITIES)
def test_an_exception_object_is_the_outcome_of_its_token(gate: Gate, affinity: str) -> None:
    """Case 54. The others complete."""
    embed = operation(affinity, Batch(size=3, wait=LONG))

    tokens = [embed.submit(item) for item in ("a", "bad", "c")]
    assert isinstance(tokens[1].exception(LIMIT), ValueError)
    assert tokens[1].state is TokenState.FAILED
    assert [tokens[0].result(LIMIT), tokens[2].result(LIMIT)] == [("a", 3), ("c", 3)]


@pytest.mark.parametrize("affinity", IN_PROCESS)
def test_a_wrong_number_of_results_fails_all(gate: Gate, affinity: str) -> None:
    """Case 54. Which result is whose is not known."""
    embed = operation(affinity, Batch(size=3, wait=LONG))

    tokens = [embed.submit(item) for item in ("a", "drop", "c")]
    errors = [one.exception(LIMIT) for one in tokens]
    assert {type(error) for error in errors} == {BatchMismatch}
    assert {one.state for one in tokens} == {TokenState.FAILED}
    assert "was given a list of 3, and returned 2; return a list with one result" in str(errors[0])


@pytest.mark.parametrize(("value", "returned"), [(None, "NoneType"), ("abc", "str"), ({1: 2}, "dict"), (5, "int")])
def test_what_is_no_series_of_results_fails_all(value: Any, returned: str) -> None:
    """Case 54. A text has as many characters by chance only."""
    with pytest.raises(BatchMismatch, match=rf"f\(\) was given a list of 3, and returned a {returned}"):
        results_of("f", value, 3)
    assert results_of("f", (one for one in "abc"), 3) == ["a", "b", "c"]


def test_a_token_whose_cost_cannot_be_told_is_rejected(gate: Gate) -> None:
    """Case 54. The others of its batch do not notice."""
    embed = operation("cpu", Batch(size=2, wait=LONG, cost=lambda item: 1 if item == "a" else item.cost))

    first, odd = embed.submit("a"), embed.submit(7)
    assert odd.state is TokenState.REJECTED
    assert "what it takes of a batch could not be told: AttributeError" in str(odd.exception(LIMIT))
    wrong = embed.submit("a", "b")
    assert "TypeError: work() takes exactly one argument" in str(wrong.exception(LIMIT))
    assert embed.submit("a").result(LIMIT) == first.result(LIMIT) == ("a", 2)


@pytest.mark.parametrize("affinity", IN_PROCESS)
def test_a_token_that_ends_before_its_batch_is_sent_leaves_it(gate: Gate, affinity: str) -> None:
    """Case 55. The function is not given its argument; the last one to leave takes the run with it."""
    embed = operation(affinity, Batch(size=4, wait=LONG))

    tokens = [embed.submit(number) for number in range(3)]
    run = live(gate, run_id(tokens[0]))
    assert tokens[1].cancel()
    assert isinstance(tokens[1].exception(LIMIT), TokenTerminated)
    assert embed.submit(3).result(LIMIT) == (3, 3)
    assert run.done()
    alone = embed.submit(5)
    run = live(gate, run_id(alone))
    assert alone.cancel()
    assert isinstance(run.exception(LIMIT), TokenTerminated)
    assert run.started_at is None


@pytest.mark.parametrize("affinity", AFFINITIES)
def test_code_is_interrupted_when_the_last_token_has_left(
    gate: Gate, new_door: Callable[[], Door], affinity: str
) -> None:
    """Case 55. Until then it runs for the others, and a token that has left ignores its result."""
    first, second = share(new_door()), share(new_door())
    embed = operation(affinity, Batch(size=2, wait=LONG))

    kept, left = embed.submit(first), embed.submit(1)
    assert first.reached.wait(LIMIT)
    assert left.cancel()
    first.open()
    assert kept.result(LIMIT) == (0, 2)
    assert left.state is TokenState.TERMINATED

    tokens = [embed.submit(second), embed.with_options(policy=Policy(deadline=LONG)).submit(2)]
    assert second.reached.wait(LIMIT)
    run = live(gate, run_id(tokens[0]))
    assert all(one.cancel() for one in tokens)
    assert isinstance(run.exception(LIMIT), TokenTerminated)


def test_a_deadline_ends_its_token_only(gate: Gate, new_door: Callable[[], Door]) -> None:
    """Case 55. The others of the batch get their results."""
    door = new_door()
    embed = operation("cpu", Batch(size=2, wait=LONG))

    patient = embed.submit(door)
    hasty = embed.with_options(policy=Policy(deadline=1.0)).submit(1)
    assert isinstance(hasty.exception(LIMIT), TokenExpired)
    door.open()
    assert patient.result(LIMIT)[0] == 0


def test_a_batch_counts_once_for_concurrency(gate: Gate, new_door: Callable[[], Door]) -> None:
    """Three tokens of one batch run under a throttle that lets two run, and a second batch beside them."""
    both = [new_door(), new_door()]
    embed = operation("cpu", Batch(size=3, wait=LONG), throttle=Throttle(concurrency=2))

    tokens = [embed.submit(item) for item in (both[0], 1, 2, both[1], 4, 5)]
    assert all(door.reached.wait(LIMIT) for door in both)
    third = [embed.submit(number) for number in range(3)]
    wait_until_throttled(gate, run_id(third[0]))
    for door in both:
        door.open()
    assert [one.result(LIMIT)[1] for one in (*tokens, *third)] == [3] * 9


def test_each_token_of_a_batch_counts_for_a_rate(gate: Gate) -> None:
    """A burst of four is used up by a batch of three and one of two; the one after that waits."""
    embed = operation("cpu", Batch(size=3, wait=LONG), throttle=Throttle(rate="1/h", burst=4))

    assert [one.result(LIMIT)[1] for one in [embed.submit(1) for _ in range(3)]] == [3] * 3
    later = [embed.submit(2) for _ in range(3)]
    run = live(gate, run_id(later[0]))
    wait_until_throttled(gate, run.id)
    assert all(one.cancel() for one in later)
    assert isinstance(run.exception(LIMIT), TokenTerminated)


def test_tokens_count_for_the_rate_of_their_own_key(gate: Gate) -> None:
    """Those of one batch may have different keys; it waits for the rate of each."""
    throttle = Throttle(rate="1/h", burst=2, key="tenant")
    embed = operation("cpu", Batch(size=2, wait=LONG), throttle=throttle)
    one, two = embed.with_options(tags={"tenant": "1"}), embed.with_options(tags={"tenant": "2"})

    for pair in ((one, two), (one, two)):  # one of each: the bursts are used up by two such batches
        tokens = [each.submit(1) for each in pair]
        assert [each.result(LIMIT)[1] for each in tokens] == [2, 2]
    third = embed.with_options(tags={"tenant": "3"})
    mixed = [third.submit(1), two.submit(1)]
    free = [third.submit(1), third.submit(1)]
    assert [each.result(LIMIT)[1] for each in free] == [2, 2]
    wait_until_throttled(gate, run_id(mixed[0]))
    for each in mixed:
        each.cancel()


def test_a_batch_counts_once_for_a_breaker(gate: Gate) -> None:
    """Two failed batches of two open a breaker that asks for two attempts; then tokens are refused one by one."""
    embed = operation("cpu", Batch(size=2, wait=LONG), breaker=Breaker(minimum=2, failure_rate=1.0))

    for state in (TokenState.FAILED, TokenState.FAILED):
        tokens = [embed.submit("drop"), embed.submit("drop")]
        assert {type(one.exception(LIMIT)) for one in tokens} == {BatchMismatch}
        assert {one.state for one in tokens} == {state}
    refused = embed.submit("a")
    error = refused.exception(LIMIT)
    assert (refused.state, isinstance(error, TokenRejected) and error.reason) == (TokenState.REJECTED, "breaker")
    assert refused.reason == "breaker"


def test_without_its_batch_a_function_is_given_lists_of_one(gate: Gate) -> None:
    """Case 60. An operator takes the batch away: it is no other function then; the batch that is open is sent."""
    embed = operation("cpu", Batch(size=3, wait=LONG))

    first = embed.submit("a")
    gate.control.set_policy("work", {"batch": "none"})
    assert (embed.submit("b").result(LIMIT), embed("c")) == (("b", 1), ("c", 1))
    assert first.result(LIMIT) == ("a", 1)
    gate.control.reset_policy("work", "batch")
    assert [one.result(LIMIT) for one in [embed.submit(text) for text in "abc"]] == [(text, 3) for text in "abc"]


def test_a_retry_runs_with_those_that_are_left(gate: Gate, new_door: Callable[[], Door]) -> None:
    """Case 10. The batch is tried again as one; its tokens have the records of its attempts."""
    door, given = new_door(), list[list[str]]()

    @token(policy=Policy(batch=Batch(size=3, wait=LONG), retry=Retry(on=ConnectionError, wait=0.0)))
    def embed(items: list[str]) -> list[str]:
        given.append(items)
        if len(given) == 1:
            door.reached.set()
            while not door.is_open:
                pass
            raise ConnectionError
        return [item.upper() for item in items]

    tokens = [embed.submit(letter) for letter in "abc"]
    assert door.reached.wait(LIMIT)
    tokens[1].cancel()
    door.open()
    assert [tokens[0].result(LIMIT), tokens[2].result(LIMIT)] == ["A", "C"]
    assert given == [["a", "b", "c"], ["a", "c"]]
    assert len(tokens[0].attempts) == 2


def test_the_fallback_of_a_batch_is_given_its_list(gate: Gate) -> None:
    """Case 27. It returns a result for each, as the function would."""
    policy = Policy(batch=Batch(size=2, wait=LONG), fallback=lambda error, items: [type(error).__name__ for _ in items])

    @token(policy=policy)
    def embed(_items: list[str]) -> list[str]:
        raise ConnectionError

    tokens: list[Any] = [embed.submit("a"), embed.submit("b")]
    assert [one.result(LIMIT) for one in tokens] == ["ConnectionError"] * 2
    assert tokens[0].reason == "ConnectionError"


def test_calls_of_one_key_are_one_of_a_batch(gate: Gate) -> None:
    """Case 43. What their run would take of a batch, they take together."""
    embed = operation("cpu", Batch(size=2, wait=LONG))

    same = [embed.with_options(key="k").submit("a") for _ in range(5)]
    other = embed.submit("b")
    assert {one.result(LIMIT) for one in same} == {("a", 2)}
    assert other.result(LIMIT) == ("b", 2)


@pytest.mark.parametrize("affinity", ["cpu", "process"])
def test_direct_calls_share_a_batch(gate: Gate, affinity: str) -> None:
    """Case 53. Each thread that calls gets its own result, or its own error."""
    embed = operation(affinity, Batch(size=3, wait=LONG))

    with ThreadPoolExecutor(3) as pool:
        calls = [pool.submit(embed, item) for item in ("a", "b", "bad")]
        assert [call.result(LIMIT) for call in calls[:2]] == [("a", 3), ("b", 3)]
        assert isinstance(calls[2].exception(LIMIT), ValueError)


@pytest.mark.parametrize("affinity", ["io", "asyncio"])
def test_awaited_calls_share_a_batch(gate: Gate, affinity: str) -> None:
    """Case 53. In trio and in asyncio."""
    embed = operation(affinity, Batch(size=3, wait=LONG))
    results: list[Any] = []

    async def call(item: str) -> None:
        results.append(await embed(item))

    async def main_in_trio() -> None:
        async with trio.open_nursery() as nursery:
            for item in "abc":
                nursery.start_soon(call, item)

    async def main_in_asyncio() -> None:
        await asyncio.gather(*map(call, "abc"))

    if affinity == "io":
        trio.run(main_in_trio)
    else:
        asyncio.run(main_in_asyncio())
    assert sorted(results) == [("a", 3), ("b", 3), ("c", 3)]


@token(affinity="process")
def call_from_a_child(embed: Any, item: str) -> Any:
    return embed.submit(item).result()


def test_calls_from_child_processes_share_a_batch(gate: Gate) -> None:
    """Case 53. They are tokens of the gate like all others."""
    embed = operation("cpu", Batch(size=2, wait=LONG))

    children = [call_from_a_child.submit(embed, item) for item in "ab"]
    assert [one.result(LIMIT) for one in children] == [("a", 2), ("b", 2)]


def test_without_a_gate_each_call_is_a_list_of_one() -> None:
    """The function of a batch is always given a list; its exception object is raised."""
    embed = operation("cpu", Batch(size=3, wait=LONG))
    embed_in_trio = operation("io", Batch(size=3, wait=LONG))

    assert embed("a") == ("a", 1)
    assert trio.run(embed_in_trio, "a") == ("a", 1)
    with pytest.raises(ValueError, match="bad"):
        embed("bad")
    with pytest.raises(BatchMismatch):
        embed("drop")
    with pytest.raises(TypeError, match="exactly one argument"):
        embed("a", "b")


def test_only_functions_of_one_list_can_have_batches() -> None:
    """The error names the operation and the remedy."""
    decorate = token(policy=Policy(batch=Batch(size=3)))

    def steps(items: list[int]) -> Iterator[int]:
        yield from items

    for function, remedy in (
        (steps, "no generator function"),
        (lambda: 0, "takes exactly one parameter, a list"),
        (lambda items, model: items, "takes exactly one parameter, a list"),
        (lambda *items: items, "takes exactly one parameter, a list"),
        (lambda *, items: items, "takes exactly one parameter, a list"),
    ):
        with pytest.raises(BadPolicy, match=rf"policy.batch of operation '.*' is Batch.*{remedy}"):
            decorate(function)  # type: ignore[arg-type]


class Batched(CpuActor):
    policy = Policy(batch=Batch(size=3))


def test_actors_have_no_batches(gate: Gate) -> None:
    """Their messages are handled one by one."""
    with pytest.raises(StartFailed, match=r"policy\.batch of class Batched .*; batches are for operations"):
        gate.spawn(Batched)


def test_a_filling_is_due_as_the_rules_say(seed: int) -> None:
    """Case 53. Against a model that looks at all its tokens: their costs, and the times that are left of them."""
    chance = random.Random(seed)
    for _ in range(2_000):
        size, wait = chance.randrange(1, 9), chance.choice([0.0, chance.uniform(0, 5)])
        start = now = chance.uniform(-100, 100)
        filling = Filling(Batch(size=size, wait=wait), now)
        costs: list[float] = []
        halves: list[float] = []
        while not filling.is_full:
            cost = chance.choice([1.0, 0.0, chance.uniform(0, 4)])
            fits = not costs or sum(costs) == 0 or sum(costs) + cost <= size
            assert filling.takes(cost) == fits
            if not fits:
                break
            now += chance.uniform(0, 1)
            deadline = chance.choice([None, now + chance.uniform(0, 9)])
            filling.add(cost, now, deadline)
            costs.append(cost)
            halves += [] if deadline is None else [(now + deadline) / 2]
            assert filling.is_full == (sum(costs) >= size)
            usual = start + wait if wait else -math.inf
            expected = -math.inf if filling.is_full else min(usual, *halves, math.inf)
            assert filling.due_at == pytest.approx(expected) if math.isfinite(expected) else filling.due_at == expected


def test_a_batch_waits_until_its_tokens_fit_a_rate(seed: int) -> None:
    """In the long run no more tokens begin than the rate lets, and a burst; a larger batch than that waits for it."""
    chance = random.Random(seed)
    for _ in range(300):
        rate, burst = chance.uniform(0.5, 20), chance.randrange(1, 10)
        state = ThrottleState(Throttle(rate=rate, burst=burst))
        now, begun, largest = 0.0, 0, 0
        for _ in range(50):
            count = chance.randrange(1, 15)
            now = max(now, state.due_at(now, count)) + chance.choice([0.0, chance.uniform(0, 1)])
            state.grant(count)
            state.begin(now, count, count)
            begun, largest = begun + count, max(largest, count)
            assert begun <= rate * now + max(burst, largest) + 1e-6
    limit = RateLimit(1.0, 3)
    limit.take(0.0, 5)
    assert limit.due_at(0.0, 0) == pytest.approx(3.0)


def play(embed: Any, chance: random.Random) -> list[tuple[Any, int, bool]]:
    """One caller: submit and cancel; return the tokens with their numbers, and whether they were cancelled."""
    own: list[tuple[Any, int, bool]] = []
    for number in range(12):
        if own and chance.random() < 0.3:
            index = chance.randrange(len(own))
            one, asked, _ = own[index]
            one.cancel()
            own[index] = one, asked, True
        else:
            own.append((embed.submit(number), number, False))
    return own


@pytest.mark.parametrize("affinity", ["cpu", "io"])
def test_a_storm_of_tokens_loses_nothing(gate: Gate, seed: int, affinity: str) -> None:
    """Case 55. Each token ends once, and those that nobody has cancelled with their own result."""
    chance = random.Random(seed)
    batches = [Batch(size=3, wait=0.002), Batch(size=4), Batch(size=5, wait=0.001, cost=lambda item: item % 3)]
    operations = [operation(affinity, batch) for batch in batches]
    with ThreadPoolExecutor(3) as pool:
        for _ in range(10_000 if TORTURE else 10):
            embed = chance.choice(operations)
            players = [pool.submit(play, embed, random.Random(chance.random())) for _ in range(3)]
            for one, number, cancelled in [each for player in players for each in player.result(LIMIT)]:
                error = one.exception(LIMIT)
                assert isinstance(error, TokenTerminated) if cancelled and error else one.result()[0] == number
    deadline = time.monotonic() + LIMIT
    while gate._open_system.live and time.monotonic() < deadline:
        time.sleep(0.001)
    assert not [one for one in gate._open_system.live.values() if one.operation.startswith("work")]


class Big:
    """A value that can be watched."""


@pytest.mark.parametrize("by_key", [False, True])
def test_a_token_that_has_ended_keeps_nothing_of_the_others(gate: Gate, by_key: bool) -> None:
    """Neither arguments, nor, in a batch, the results of other tokens, however long one is held."""

    @token(policy=Policy(batch=Batch(size=2, wait=LONG)))
    def embed(items: list[Big]) -> list[Big]:
        return [Big() for _ in items]

    @token
    def plain(_item: Big) -> Big:
        return Big()

    items = [Big(), Big()]
    if by_key:
        tokens = [plain.with_options(key=number).submit(item) for number, item in enumerate(items)]
    else:
        tokens = [embed.submit(item) for item in items]
    gone = [weakref.ref(item) for item in (*items, tokens[1].result(LIMIT))]
    tokens[0].result(LIMIT)
    del items[:], tokens[1]
    deadline = time.monotonic() + LIMIT
    while any(one() is not None for one in gone) and time.monotonic() < deadline:
        gc.collect()  # the thread that has run it lets go of it in a moment
        time.sleep(0.001)
    assert [one() for one in gone] == [None] * 3
