"""Routes: a call that is tried at one of several operations, by failover or by load."""

from __future__ import annotations

import asyncio
import os
import pickle
import random
import threading
from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import Any

import pytest
import trio
from running_tokens import run_id

from tokengate import Batch, Breaker, Gate, Policy, Retry, Route, Throttle, Token, TokenState, checkpoint, token
from tokengate.errors import (
    BadOperation,
    BadPolicy,
    NeedsGate,
    TokenExpired,
    TokenRejected,
    TokenTerminated,
)
from tokengate.policy._attempt import End
from tokengate.policy._failover import by_load, fails_over
from tokengate.types import AsyncRoute

LIMIT = 60.0  # seconds; only reached when something is broken
Until = Callable[[Callable[[], bool]], None]
AFFINITIES = ("cpu", "io", "asyncio", "process")

ONCE = Retry(on=ConnectionError, attempts=1)
BREAKS = Breaker(on=ConnectionError, failure_rate=0.01, minimum=1, open_for=1_000)


@pytest.fixture
def gate() -> Iterator[Gate]:
    with Gate("routes", threads=4, processes=1, shutdown=5.0, control_socket=False) as opened:
        yield opened


class Blocker:
    """A function that tells when it runs, and runs until the test lets it end."""

    def __init__(self) -> None:
        self.started, self.release = threading.Event(), threading.Event()

    def __call__(self) -> str:
        self.started.set()
        assert self.release.wait(LIMIT)
        return "released"


@pytest.fixture
def blocker() -> Iterator[Blocker]:
    made = Blocker()
    yield made
    made.release.set()


def outcome_of(one: Token[Any]) -> BaseException:
    error = one.exception(LIMIT)
    assert error is not None
    return error


def fail(number: int) -> str:
    raise ConnectionError(f"{number} is down")


def answer(number: int) -> str:
    return f"answer to {number}"


async def fail_in_a_task(number: int) -> str:
    await asyncio.sleep(0) if asyncio._get_running_loop() else await trio.sleep(0)
    return fail(number)


async def answer_in_a_task(number: int) -> str:
    await asyncio.sleep(0) if asyncio._get_running_loop() else await trio.sleep(0)
    return answer(number)


FAILING: dict[str, Any] = {"cpu": fail, "io": fail_in_a_task, "asyncio": fail_in_a_task, "process": fail}
ANSWERING: dict[str, Any] = {"cpu": answer, "io": answer_in_a_task, "asyncio": answer_in_a_task, "process": answer}


def operation(function: Any, **options: Any) -> Any:
    return token(**options)(function)


# What decides


@pytest.mark.parametrize("retry", [None, ONCE])
@pytest.mark.parametrize("idempotent", [False, True])
@pytest.mark.parametrize("end", End)
def test_the_next_alternative_follows_errors_of_the_retry_and_harmless_unknown_outcomes(
    retry: Retry | None, idempotent: bool, end: End
) -> None:
    """Case 56: code that was left behind, a deadline, a crash and a stop are final."""
    unknown = end in (End.LOST, End.TIMED_OUT)

    assert fails_over(retry, end, ConnectionError(), idempotent) is (
        (end is End.FAILED and retry is not None) or (unknown and idempotent)
    )
    assert not fails_over(retry, End.FAILED, ValueError(), idempotent)


def test_the_least_busy_one_has_the_fewest_tokens_per_slot(seed: int) -> None:
    """Equals remain in the order in which they are named."""
    drawn = random.Random(seed)
    for _ in range(200):
        loads = [(drawn.randrange(5), drawn.randrange(1, 4)) for _ in range(drawn.randrange(1, 6))]
        order = by_load(loads)

        assert sorted(order) == list(range(len(loads)))
        for one, other in pairwise(order):
            load, more = loads[one][0] / loads[one][1], loads[other][0] / loads[other][1]
            assert load < more or (load == more and one < other)


# Failover


def tried(one: Token[Any]) -> list[tuple[str, str]]:
    """Return the operation and the name of the error of each attempt."""
    return [
        (attempt.operation, "" if attempt.error is None else type(attempt.error).__name__) for attempt in one.attempts
    ]


def assert_nothing_is_left(gate: Gate, until: Until) -> None:
    """No operation has a token, and no rule waits for one or has given it a grant."""
    throttles = gate._system.throttles
    places = list(gate._operations.values())
    until(lambda: not throttles.grants and not throttles._waiting)
    until(lambda: all(not place.mailbox.size and not place.mailbox.active for place in places))


@pytest.mark.parametrize("first", AFFINITIES)
def test_a_token_that_fails_is_tried_at_the_next_alternative(gate: Gate, first: Any, until: Until) -> None:
    """Case 56: it keeps its id; place and affinity are those of the alternative; its attempts tell where it was."""
    failing = operation(fail, affinity=first, policy=Policy(retry=Retry(on=ConnectionError, attempts=2, wait=0)))
    for second in AFFINITIES:
        answering = operation(answer, affinity=second)

        one = Route("render", [failing, answering]).submit(7)
        number = one.id

        assert one.result(LIMIT) == "answer to 7"
        assert one.id == run_id(one) == number
        assert (one.operation, one.affinity, one.attempt) == ("answer", second, 3)
        assert one.actor == gate._operations[answering._spec].path
        assert dict(one.tags) == {"route": "render"}
        assert tried(one) == [("fail", "ConnectionError"), ("fail", "ConnectionError"), ("answer", "")]
        assert one.reason == "ConnectionError"
    assert_nothing_is_left(gate, until)


@pytest.mark.parametrize("second", ["io", "asyncio"])
@pytest.mark.parametrize("first", ["io", "asyncio"])
def test_coroutine_functions_have_routes_that_are_awaited(gate: Gate, first: Any, second: Any) -> None:
    """Case 56: awaited from trio and from asyncio."""
    failing = operation(fail_in_a_task, affinity=first, policy=Policy(retry=ONCE))
    render = Route("render", [failing, operation(answer_in_a_task, affinity=second)])

    async def call() -> tuple[str, str]:
        return await render(7), await (await render.asubmit(8))

    assert isinstance(render, AsyncRoute)
    assert trio.run(call) == asyncio.run(call()) == ("answer to 7", "answer to 8")


def test_an_asyncio_alternative_runs_in_the_loop_that_has_called(gate: Gate) -> None:
    """So it may use what belongs to that loop, also when it is not the first one."""
    loops: list[asyncio.AbstractEventLoop] = []

    async def note_loop(number: int) -> None:
        loops.append(asyncio.get_running_loop())

    failing = operation(fail_in_a_task, affinity="io", policy=Policy(retry=ONCE))
    render = Route("render", [failing, operation(note_loop, affinity="asyncio")])

    async def call() -> asyncio.AbstractEventLoop:
        await render(7)
        return asyncio.get_running_loop()

    assert [asyncio.run(call())] == loops


def test_a_direct_call_fails_over_off_its_thread(gate: Gate) -> None:
    """The first attempt runs on the thread of the caller, as that of an operation does."""
    threads: list[int] = []

    def fail_here(number: int) -> str:
        threads.append(threading.get_ident())
        return fail(number)

    render = Route("render", [operation(fail_here, policy=Policy(retry=ONCE)), operation(answer)])

    assert render(7) == "answer to 7"
    assert threads == [threading.get_ident()]
    assert [one.result(LIMIT) for one in render.map([1, 2])] == ["answer to 1", "answer to 2"]


def test_without_a_gate_the_first_function_is_called() -> None:
    """As for operations: nothing else happens."""
    render, awaited = Route("a", [operation(answer), operation(fail)]), Route("b", [operation(answer_in_a_task)])

    async def call() -> str:
        return await awaited(8)

    assert (render(7), trio.run(call)) == ("answer to 7", "answer to 8")
    with pytest.raises(NeedsGate):
        render.submit(7)


def test_a_breaker_that_is_open_passes_tokens_on_at_the_door(gate: Gate, until: Until) -> None:
    """Case 56: none of its code ran there, and the record of the attempt tells why."""
    failing = operation(fail, policy=Policy(breaker=BREAKS))
    render = Route("render", [failing, operation(answer)])
    outcome_of(failing.submit(1))

    one = render.submit(7)

    assert one.result(LIMIT) == "answer to 7"
    assert tried(one) == [("fail", "TokenRejected"), ("answer", "")]
    assert (one.attempts[0].started_at, one.attempts[0].number, one.attempt) == (None, 1, 2)
    assert one.reason == "breaker"
    assert_nothing_is_left(gate, until)


def test_tokens_that_are_refused_at_their_turn_are_tried_elsewhere(gate: Gate, blocker: Blocker, until: Until) -> None:
    """Case 56: they were queued when the breaker opened."""

    def block_and_fail(number: int) -> str:
        blocker()
        return fail(number)

    failing = operation(block_and_fail, concurrency=1, policy=Policy(breaker=BREAKS))
    render = Route("render", [failing, operation(answer)])
    first = failing.submit(1)
    assert blocker.started.wait(LIMIT)
    queued = render.map(range(20))
    blocker.release.set()

    assert [one.result(LIMIT) for one in queued] == [f"answer to {number}" for number in range(20)]
    assert all(tried(one) == [("block_and_fail", "TokenRejected"), ("answer", "")] for one in queued)
    assert first.state is TokenState.FAILED
    assert_nothing_is_left(gate, until)


@pytest.mark.parametrize("overflow", ["reject", "drop_newest"])
def test_a_full_mailbox_passes_tokens_on(gate: Gate, blocker: Blocker, overflow: Any) -> None:
    """Case 56: at the door, and between two attempts, where one whose senders wait takes a token beyond its bound."""

    def block(number: int) -> str:
        return blocker()

    full: Any = operation(block, concurrency=1, capacity=1, overflow=overflow)
    waiting: Any = operation(block, concurrency=1, capacity=1)
    running = [full.submit(0), waiting.submit(0)]
    assert blocker.started.wait(LIMIT)
    while full.submit(0).state is not TokenState.REJECTED:
        pass
    failing = operation(fail, policy=Policy(retry=ONCE))

    at_door = Route("a", [full, operation(answer)]).submit(1)
    between = Route("b", [failing, full, operation(answer)]).submit(2)
    nowhere = Route("c", [failing, full]).submit(3)
    queued = Route("d", [failing, waiting, operation(answer)])
    beyond = queued.map(range(3))

    assert (at_door.result(LIMIT), between.result(LIMIT)) == ("answer to 1", "answer to 2")
    assert tried(at_door) == [("block", "MailboxFull"), ("answer", "")]
    assert tried(between) == [("fail", "ConnectionError"), ("block", "TokenRejected"), ("answer", "")]
    assert (at_door.reason, between.reason) == ("overload", "overload")
    error = outcome_of(nowhere)
    assert isinstance(error, ConnectionError)
    assert (nowhere.state, nowhere.reason, nowhere.started_at is None) == (TokenState.FAILED, "overload", False)
    assert "Attempt 2 was refused" in error.__notes__[0]
    blocker.release.set()
    assert [one.result(LIMIT) for one in beyond] == ["released"] * 3
    assert [one.result(LIMIT) for one in running] == ["released"] * 2


def test_the_outcome_is_that_of_the_last_alternative(gate: Gate) -> None:
    """Case 56: rejected, if no code ran at all; failed, with the error of the attempt before, if some did."""
    failing = operation(fail, policy=Policy(breaker=BREAKS))
    broken = operation(answer, policy=Policy(breaker=BREAKS))
    breaker = gate._operations[failing._spec], gate._operations[broken._spec]
    for place in breaker:
        state = place.governor.breaker_of((), gate._system.clock())  # type: ignore[union-attr, attr-defined]
        state.hold("open")

    rejected = Route("a", [failing, broken]).submit(7)
    failed = Route("b", [operation(fail, policy=Policy(retry=ONCE)), broken]).submit(7)

    error = outcome_of(rejected)
    assert isinstance(error, TokenRejected)
    assert (rejected.state, rejected.reason, error.reason) == (TokenState.REJECTED, "breaker", "breaker")
    assert tried(rejected) == [("fail", "TokenRejected"), ("answer", "TokenRejected")]
    assert (rejected.operation, rejected.started_at) == ("answer", None)
    assert isinstance(outcome_of(failed), ConnectionError)
    assert (failed.state, failed.reason) == (TokenState.FAILED, "breaker")
    assert "Attempt 2 was refused" in outcome_of(failed).__notes__[0]


def test_a_fallback_answers_after_the_last_alternative_only(gate: Gate) -> None:
    """It is that of the alternative that the token is at; one of `with_options` is that of all."""

    def fall_back(error: BaseException, number: int) -> str:
        return f"fallback for {number}: {error}"

    failing = operation(fail, policy=Policy(retry=ONCE, fallback=fall_back))
    last = operation(fail, policy=Policy(retry=ONCE))
    broken = operation(answer, policy=Policy(breaker=BREAKS))
    gate._operations[broken._spec].governor.breaker_of((), 0.0).hold("open")  # type: ignore[union-attr, attr-defined]

    answered = Route("a", [failing, operation(answer)]).submit(1)
    failed = Route("b", [failing, last]).submit(2)
    own = Route("c", [last, broken]).with_options(policy=Policy(fallback=fall_back))

    assert answered.result(LIMIT) == "answer to 1"
    assert isinstance(outcome_of(failed), ConnectionError)
    assert own.submit(3).result(LIMIT) == "fallback for 3: 3 is down"
    assert own(4) == "fallback for 4: 4 is down"


def test_the_deadline_is_that_of_the_first_and_other_times_those_of_each(gate: Gate) -> None:
    """Case 56: whatever the deadline of the others is."""
    failing = operation(fail, policy=Policy(deadline=500, retry=ONCE))
    endless = operation(spin, policy=Policy(timeout=0.05, deadline=0.01))

    one = Route("a", [failing, endless]).submit(7)
    error = outcome_of(one)

    assert isinstance(error, TokenExpired)
    assert (error.which, error.seconds) == ("timeout", 0.05)
    assert one.deadline is not None
    assert one.deadline == pytest.approx(one.created_at + 500)
    assert (one.policy.deadline, one.policy.timeout) == (500, 0.05)

    short = Route("b", [operation(fail, policy=Policy(deadline=1, retry=ONCE)), operation(spin)])
    error = outcome_of(short.submit(7))
    assert isinstance(error, TokenExpired)
    assert (error.which, error.seconds) == ("deadline", 1)


def spin(number: int) -> str:
    while True:
        checkpoint()


def die(number: int) -> str:
    os._exit(3)


def test_an_unknown_outcome_is_tried_elsewhere_if_that_does_no_harm(gate: Gate) -> None:
    """Case 56: a process has died; without a Retry, too."""
    dying = operation(die, affinity="process", idempotent=True)

    one = Route("render", [dying, operation(answer)]).submit(7)

    assert one.result(LIMIT) == "answer to 7"
    assert tried(one) == [("die", "WorkerDied"), ("answer", "")]


def test_other_errors_and_a_cancel_are_final(gate: Gate, blocker: Blocker) -> None:
    """Case 56: what the retry does not name is an answer, and who cancels wants none."""

    def block_and_fail(number: int) -> str:
        blocker()
        return fail(number)

    def fail_otherwise(number: int) -> str:
        raise ValueError(number)

    answering = operation(answer)
    one = Route("a", [operation(fail_otherwise, policy=Policy(retry=ONCE)), answering]).submit(7)
    other = Route("b", [operation(block_and_fail, policy=Policy(retry=ONCE)), answering]).submit(7)
    assert blocker.started.wait(LIMIT)
    other.cancel()
    blocker.release.set()

    assert isinstance(outcome_of(one), ValueError)
    assert isinstance(outcome_of(other), ConnectionError | TokenTerminated)
    assert {one.operation, other.operation} == {"fail_otherwise", "block_and_fail"}


def test_a_throttle_that_rejects_passes_tokens_on(gate: Gate, blocker: Blocker, until: Until) -> None:
    """Case 56: at the door, and between two attempts; what it let begin elsewhere is given back there."""

    def block(number: int) -> str:
        return blocker()

    limited = operation(block, policy=Policy(throttle=Throttle(concurrency=1, over="reject")))
    failing = operation(fail, policy=Policy(retry=ONCE, throttle=Throttle(concurrency=1, over="reject")))
    running = limited.submit(0)
    assert blocker.started.wait(LIMIT)

    at_door = Route("a", [limited, operation(answer)]).submit(1)
    between = Route("b", [failing, limited, operation(answer)]).submit(2)

    assert (at_door.result(LIMIT), between.result(LIMIT)) == ("answer to 1", "answer to 2")
    assert tried(at_door) == [("block", "TokenRejected"), ("answer", "")]
    assert tried(between) == [("fail", "ConnectionError"), ("block", "TokenRejected"), ("answer", "")]
    assert at_door.reason == between.reason == "throttle"
    blocker.release.set()
    assert running.result(LIMIT) == "released"
    assert isinstance(outcome_of(failing.submit(3)), ConnectionError)
    assert_nothing_is_left(gate, until)


def test_a_grant_of_the_door_is_given_back_where_the_mailbox_is_full(gate: Gate, until: Until) -> None:
    """Whether another alternative follows, or none."""
    failing = operation(fail, policy=Policy(retry=ONCE))
    rejects = Policy(throttle=Throttle(concurrency=9, over="reject"))
    full = operation(answer, capacity=1, overflow="reject", policy=rejects)
    mailbox = gate._operations[full._spec].mailbox
    mailbox.suspend()
    queued = full.submit(0)
    routes = [Route("a", [failing, full]), Route("b", [failing, full, operation(answer)]), Route("c", [full])]

    ended = [route.submit(1) for route in routes]

    assert isinstance(outcome_of(ended[0]), ConnectionError)
    assert ended[1].result(LIMIT) == "answer to 1"
    assert (ended[2].state, ended[2].reason) == (TokenState.REJECTED, "overload")
    until(lambda: list(gate._system.throttles.grants) == [queued])
    mailbox.resume()
    assert queued.result(LIMIT) == "answer to 0"


def test_calls_with_one_key_share_a_run_that_fails_over(gate: Gate, blocker: Blocker, until: Until) -> None:
    """The run is tried at each alternative once; at the door, too."""
    runs: list[int] = []

    def block_and_fail(number: int) -> str:
        runs.append(number)
        blocker()
        return fail(number)

    failing = operation(block_and_fail, policy=Policy(deadline=60, retry=ONCE, breaker=BREAKS))
    render = Route("render", [failing, operation(answer)]).with_options(key="order 7")
    calls = [render.submit(7) for _ in range(3)]
    blocker.release.set()

    assert [one.result(LIMIT) for one in calls] == ["answer to 7"] * 3
    assert len({one.uid for one in calls}) == len(runs) == 1
    assert tried(calls[2]) == [("block_and_fail", "ConnectionError"), ("answer", "")]
    assert render.submit(7).result(LIMIT) == "answer to 7"  # past the breaker
    assert render(7) == "answer to 7"
    assert len(runs) == 1
    assert_nothing_is_left(gate, until)
    with pytest.raises(ValueError, match="'least_busy', which would spread the calls"):
        Route("busy", [failing], "least_busy").with_options(key=1)


def test_a_rollback_undoes_what_the_last_alternative_has_done(gate: Gate) -> None:
    """Each operation has a compensation of its own: that of the one that has completed is called."""
    undone: list[tuple[str, tuple[object, ...], object]] = []
    failing, answering = operation(fail, policy=Policy(retry=ONCE)), operation(answer)
    failing.compensate(lambda done: undone.append(("fail", done.args, done.result)))
    answering.compensate(lambda done: undone.append(("answer", done.args, done.result)))
    routes = Route("a", [failing, answering]), Route("b", [operation(fail, policy=Policy(retry=ONCE)), answering])

    with gate.transaction("two") as transaction:
        assert [route(number) for number, route in enumerate(routes)] == ["answer to 0", "answer to 1"]
        transaction.roll_back()

    assert undone == [("answer", (1,), "answer to 1"), ("answer", (0,), "answer to 0")]


# The least busy


def test_a_token_goes_to_the_least_busy_alternative_that_does_not_refuse_it(
    gate: Gate, blocker: Blocker, until: Until
) -> None:
    """Case 56: tokens per slot count; and it stays there, also when it fails."""

    def block(number: int) -> str:
        return blocker()

    def block_in_two(number: int) -> str:
        return blocker()

    narrow = operation(block, concurrency=1)
    wide = operation(block_in_two, concurrency=2, capacity=2, overflow="reject")
    render = Route("render", [narrow, wide], "least_busy")
    chosen = []
    for _ in range(6):
        chosen.append(render.submit(7))
        until(lambda: chosen[-1].state is not TokenState.QUEUED or len(chosen) > 3)

    assert [one.operation for one in chosen[:4]] == ["block", "block_in_two", "block_in_two", "block"]
    blocker.release.set()
    assert {one.result(LIMIT) for one in chosen} == {"released"}
    failing = operation(fail, policy=Policy(retry=ONCE))
    one = Route("stays", [failing, operation(answer)], "least_busy").submit(7)
    assert isinstance(outcome_of(one), ConnectionError)
    assert tried(one) == [("fail", "ConnectionError")]


def test_the_least_busy_alternative_that_refuses_a_token_is_passed_over(gate: Gate, blocker: Blocker) -> None:
    """Case 56: a refusal at the door counts; the outcome is that of the last one if all refuse."""

    def block(number: int) -> str:
        return blocker()

    broken = operation(answer, policy=Policy(breaker=BREAKS))
    breaker = gate._operations[broken._spec].governor.breaker_of((), 0.0)  # type: ignore[union-attr, attr-defined]
    breaker.hold("open")
    busy = operation(block, concurrency=1)
    render = Route("render", [broken, busy], "least_busy")
    first = render.submit(1)
    assert blocker.started.wait(LIMIT)
    second = render.submit(2)
    none = Route("none", [broken, broken], "least_busy").submit(3)
    blocker.release.set()

    assert (first.result(LIMIT), second.result(LIMIT)) == ("released", "released")
    assert tried(second) == [("answer", "TokenRejected"), ("block", "")]
    assert isinstance(outcome_of(none), TokenRejected)
    assert none.state is TokenState.REJECTED


# As an operation


def test_a_route_has_options_for_single_calls(gate: Gate) -> None:
    """They are those of its alternatives: priority, tags, and parts of a policy."""
    render = Route("render", [operation(fail), operation(answer)])
    urgent = render.with_options(priority=3, tags={"tenant": "acme"}, policy=Policy(deadline=60, retry=ONCE))

    one = urgent.submit(7)

    assert one.result(LIMIT) == "answer to 7"
    assert (one.priority, dict(one.tags)) == (3, {"route": "render", "tenant": "acme"})
    assert (one.policy.deadline, one.policy.retry) == (60, ONCE)
    assert isinstance(outcome_of(render.submit(7)), ConnectionError)
    with pytest.raises(BadPolicy, match="fair"):
        render.with_options(policy=Policy(fair="tenant"))


def answer_all(numbers: list[int]) -> list[str]:
    return [answer(number) for number in numbers]


@token
def first(number: int) -> str:
    return answer(number)


def test_a_route_is_pickled_with_its_alternatives() -> None:
    """As operations are, by their names."""
    render = Route("render", [first], "least_busy")
    keyed = pickle.loads(pickle.dumps(Route("render", [first]).with_options(key=3, priority=2)))
    other = pickle.loads(pickle.dumps(render))

    assert repr(render) == repr(other) == "<Route 'render', least_busy of first>"
    assert other.alternatives[0]._spec is first._spec
    assert type(other) is Route
    assert (keyed._key, keyed.alternatives[0].priority) == (3, 2)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Route("r", []), "has no alternatives; give it a list"),
        (lambda: Route("r", [answer]), "is no operation; put @token"),  # type: ignore[list-item]
        (lambda: Route("r", 3), "has 3 among its alternatives"),  # type: ignore[call-overload]
        (lambda: Route("r", [Route("s", [first])]), "another Route is none"),  # type: ignore[list-item]
        (lambda: Route("r", [first, token(answer_in_a_task)]), "one is a coroutine function, and one"),  # type: ignore[list-item]
        (lambda: Route("r", [first.with_options(key=1)]), "'first' of Route 'r' has a key; give it"),
        (lambda: Route("r", [token(policy=Policy(batch=Batch(size=2)))(answer_all)]), "has a batch"),
    ],
)
def test_what_cannot_be_an_alternative_is_refused(make: Callable[[], object], message: str) -> None:
    """The error names the route, the thing and the remedy."""
    with pytest.raises(BadOperation, match=message):
        make()


def test_a_strategy_and_a_name_are_checked() -> None:
    """The error names what there is."""
    with pytest.raises(ValueError, match=r"strategy of Route 'r' is 'any'; choose one of \('failover', 'least_busy'\)"):
        Route("r", [first], "any")  # type: ignore[call-overload]
    with pytest.raises(ValueError, match="name of a Route is 3; it must be a text"):
        Route(3, [first])  # type: ignore[call-overload]


def test_code_of_a_process_is_told_that_it_cannot_use_a_route(gate: Gate) -> None:
    """And what to do: the gate tries the calls of a route, and a child knows operations only."""
    route = Route("away", [token(lambda: "one"), token(lambda: "two")])

    @token(affinity="process")
    def away() -> str:
        return route.submit().result()

    error = away.submit().exception(LIMIT)

    assert isinstance(error, BadOperation)
    assert "Route 'away' cannot be used in a child process" in str(error)
