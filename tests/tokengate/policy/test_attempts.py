"""Times and retries of tokens: an operation of each affinity, and actors."""

from __future__ import annotations

import asyncio
import contextvars
import math
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import trio

from actors.lowlevel import place_of
from tokengate import (
    CpuActor,
    Gate,
    Policy,
    ProcessActor,
    Retry,
    Throttle,
    TokenState,
    checkpoint,
    current_token,
    remaining,
    token,
)
from tokengate.errors import TokenExpired, TokenRejected, TokenTerminated, WorkerDied
from tokengate.policy._attempt import End
from tokengate.policy._governor import PlaceGovernor

LIMIT = 60.0  # seconds; only reached when something is broken
Until = Callable[[Callable[[], bool]], None]

AFFINITIES = ("cpu", "io", "asyncio", "process")


@pytest.fixture
def gate() -> Iterator[Gate]:
    with Gate("attempts", threads=3, processes=1, shutdown=5.0, control_socket=False) as opened:
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


def spin() -> None:
    while True:
        checkpoint()


async def sleep_in_trio() -> None:
    await trio.sleep_forever()


async def sleep_in_asyncio() -> None:
    await asyncio.Event().wait()


ENDLESS = {"cpu": spin, "io": sleep_in_trio, "asyncio": sleep_in_asyncio, "process": spin}


def fail_twice(folder: str) -> int:
    """Fail in the first two attempts, whose number it keeps in files, since a process keeps no memory."""
    number = 1 + sum(1 for _ in Path(folder).iterdir())
    Path(folder, str(number)).touch()
    if number < 3:
        raise ConnectionError(f"attempt {number}")
    return number


async def fail_twice_in_a_task(folder: str) -> int:
    return fail_twice(folder)


FAILING = {"cpu": fail_twice, "io": fail_twice_in_a_task, "asyncio": fail_twice_in_a_task, "process": fail_twice}


def outcome_of(one: Any) -> BaseException:
    error = one.exception(LIMIT)
    assert error is not None
    return error  # type: ignore[no-any-return]


# Times


def test_a_token_that_waits_too_long_to_begin_never_runs(gate: Gate, blocker: Blocker) -> None:
    """Case 1: it ends while it is queued, not only at its turn."""
    ran: list[int] = []

    def run(what: Callable[[], object] | None) -> None:
        if what is None:
            ran.append(1)
        else:
            what()

    operation = token(policy=Policy(queue_timeout=0.05), concurrency=1)(run)
    first = operation.submit(blocker)
    second = operation.submit(None)

    error = outcome_of(second)

    assert isinstance(error, TokenExpired)
    assert (error.which, error.seconds, error.left_running) == ("queue_timeout", 0.05, False)
    assert second.state is TokenState.EXPIRED
    assert second.started_at is None
    assert not first.done()
    blocker.release.set()
    assert first.exception(LIMIT) is None
    assert ran == []


@pytest.mark.parametrize("affinity", AFFINITIES)
def test_a_time_that_is_over_ends_the_code(gate: Gate, affinity: Any) -> None:
    """Case 2: a Python loop, a task, a process."""
    endless: Any = token(affinity=affinity, policy=Policy(timeout=0.05))(ENDLESS[affinity])

    one = endless.submit()
    error = outcome_of(one)

    assert isinstance(error, TokenExpired)
    assert isinstance(error, TimeoutError)
    assert (error.which, error.seconds, error.left_running) == ("timeout", 0.05, False)
    assert one.state is TokenState.EXPIRED


def test_code_that_cannot_be_ended_is_left_behind_and_named(gate: Gate, until: Until) -> None:
    """Case 3: its thread is named and replaced, and what it returns later is dropped."""
    lock = threading.Lock()
    lock.acquire()

    def hang() -> None:
        lock.acquire()

    operation = token(policy=Policy(timeout=0.05, throttle=Throttle(concurrency=1)))(hang)
    try:
        one = operation.submit()
        error = outcome_of(one)
        assert isinstance(error, TokenExpired)
        assert error.left_running
        until(lambda: len(gate._system.abandoned()) == 1)
        waiting = operation.submit()  # the code that was left behind counts until it returns
        until(lambda: waiting.state is TokenState.QUEUED)
    finally:
        lock.release()
    until(lambda: waiting.started_at is not None)
    lock.release()
    assert waiting.exception(LIMIT) is None


@pytest.mark.parametrize("source", ["code", "operator"])
def test_code_that_an_operator_leaves_behind_counts_until_it_returns(gate: Gate, until: Until, source: str) -> None:
    """Case 3: no other one of its throttle begins beside it, also under a throttle of an operator."""
    lock = threading.Lock()
    lock.acquire()

    def hang() -> None:
        lock.acquire()

    operation = token(policy=Policy(throttle=Throttle(concurrency=1)) if source == "code" else None)(hang)
    if source == "operator":
        gate.control.throttle("operation=hang", concurrency=1)
    try:
        one = operation.submit()
        until(lambda: one.started_at is not None)
        (outcome,) = gate.control.terminate(one.id, mode="kill", grace=0)
        assert outcome.outcome == "abandoned"
        waiting = operation.submit()
        until(lambda: waiting in gate._system.throttles._waiting)
    finally:
        lock.release()
    until(lambda: waiting.started_at is not None)
    lock.release()
    assert waiting.exception(LIMIT) is None
    until(lambda: not gate._system.throttles.grants)


def test_the_deadline_holds_over_all_attempts(gate: Gate) -> None:
    """Case 4: no attempt begins that it comes before, and the one that runs is ended by it."""
    began: list[float] = []

    def fail() -> None:
        began.append(time.monotonic())
        raise ConnectionError("down")

    retry = Retry(on=ConnectionError, attempts=1_000, wait=lambda _: 0.01)
    one = token(policy=Policy(deadline=0.2, retry=retry))(fail).submit()

    assert isinstance(outcome_of(one), ConnectionError | TokenExpired)
    assert one.deadline is not None
    assert all(started < one.deadline for started in began)
    assert len(began) == len(one.attempts) > 1
    assert one.attempt - len(began) in (0, 1)  # the latest one may not have begun


@token
def endless() -> None:
    spin()


@token(affinity="process")
def endless_in_a_process() -> None:
    spin()


@token
def remaining_seconds() -> float | None:
    return remaining()


@pytest.mark.parametrize("inner", [endless, endless_in_a_process], ids=["cpu", "process"])
def test_what_a_step_submits_inherits_its_deadline(gate: Gate, inner: Any) -> None:
    """Case 5: in processes, too; a deadline of inf inherits none."""
    sent: list[Any] = []

    def outer() -> None:
        sent.append(inner.submit())
        free = inner.with_options(policy=Policy(deadline=math.inf)).submit()
        sent.append(free)
        spin()

    one = token(policy=Policy(deadline=0.1))(outer).submit()

    assert isinstance(outcome_of(one), TokenExpired)
    error = outcome_of(sent[0])
    assert isinstance(error, TokenExpired)
    assert error.which == "inherited"
    assert sent[0].deadline == one.deadline
    assert sent[1].deadline is None
    assert not sent[1].done()
    sent[1].cancel()
    assert isinstance(outcome_of(sent[1]), TokenTerminated)


def test_code_in_a_process_is_told_what_time_it_has_left(gate: Gate) -> None:
    """Case 5: that of its own policy, or what it inherits; None without a deadline."""

    @token(affinity="process")
    def left() -> float | None:
        return remaining()

    own = left.with_options(policy=Policy(deadline=LIMIT)).submit().result(LIMIT)
    inherited = token(policy=Policy(deadline=LIMIT))(lambda: left.submit().result()).submit().result(LIMIT)

    assert own is not None
    assert inherited is not None
    assert 0 < own < LIMIT
    assert 0 < inherited < LIMIT
    assert left.submit().result(LIMIT) is None


class Counter(CpuActor):
    """An actor that notes what it was told, and the deadline that the message had."""

    def __init__(self) -> None:
        super().__init__()
        self.told: list[float | None] = []
        self.noted = threading.Event()

    def on_receive(self, message: Any) -> float | None:
        self.told.append(remaining())
        self.noted.set()
        return remaining()


def test_what_nobody_waits_for_inherits_no_deadline(gate: Gate) -> None:
    """Case 5: `tell` and timers do not; `ask` and calls do."""
    ref = gate.spawn(Counter)

    def outer() -> tuple[float | None, float | None, float | None]:
        ref.tell("one")
        return ref.ask("two"), remaining_seconds(), remaining()

    asked, called, own = token(policy=Policy(deadline=LIMIT))(outer).submit().result(LIMIT)

    assert asked is not None
    assert called is not None
    assert own is not None
    assert 0.0 < own <= called <= LIMIT
    assert 0.0 < asked <= LIMIT
    proxy: Any = ref.proxy()
    assert proxy.told.get()[0] is None


def test_a_pause_counts_unless_the_clock_is_stopped(gate: Gate, blocker: Blocker) -> None:
    """Case 6: a paused token ends when its time is over; with its clock stopped it does not."""
    operation = token(policy=Policy(queue_timeout=0.2), concurrency=1)(lambda run: run())
    busy = operation.with_options(policy=Policy(queue_timeout=LIMIT)).submit(blocker)
    assert blocker.started.wait(LIMIT)

    def paused(stop_clock: bool) -> Any:
        while True:  # a machine that stands still may let its time be over before
            one = operation.submit(print)
            (outcome,) = gate.control.pause(one.id, stop_clock=stop_clock)
            if outcome.outcome == "paused":
                return one

    stopped, going = paused(stop_clock=True), paused(stop_clock=False)

    assert isinstance(outcome_of(going), TokenExpired)
    assert stopped.state is TokenState.PAUSED
    gate.control.resume(stopped.id)
    assert isinstance(outcome_of(stopped), TokenExpired)
    blocker.release.set()
    assert busy.result(LIMIT) == "released"


class Opener(ProcessActor):
    policy = Policy(timeout=0.05, throttle=Throttle(concurrency=1))

    def open(self, path: str) -> str:
        while not Path(path).exists():
            time.sleep(0.001)
        return "open"


def test_a_message_to_a_process_gives_back_its_grant_as_its_code_returns(gate: Gate, tmp_path: Path) -> None:
    """Case 8: late, and all the same."""
    proxy: Any = gate.spawn(Opener).proxy()
    path = tmp_path / "path"

    assert isinstance(outcome_of(proxy.open(str(path))), TokenExpired)
    (actor,) = [row.path for row in gate.control.actors() if "Opener" in row.path]
    gate.control.set_policy(actor, {"timeout": LIMIT})
    path.touch()
    assert proxy.open(str(path)).result(LIMIT) == "open"


def test_a_message_to_an_actor_is_not_interrupted(gate: Gate, blocker: Blocker) -> None:
    """Case 8: its caller is told at once, its code runs to its end, and the next message waits."""

    class Worker(CpuActor):
        policy = Policy(timeout=0.05)

        def work(self, what: Callable[[], str]) -> str:
            return what()

    proxy: Any = gate.spawn(Worker).proxy()
    first = proxy.work(blocker)

    error = outcome_of(first)
    second = proxy.work(str)

    assert isinstance(error, TokenExpired)
    assert error.left_running
    assert not second.done()
    assert blocker.started.is_set()
    blocker.release.set()
    assert second.result(LIMIT) == ""


# Retry


@pytest.mark.parametrize("affinity", AFFINITIES)
def test_a_call_that_fails_twice_succeeds_in_its_third_attempt(gate: Gate, tmp_path: Path, affinity: Any) -> None:
    """Case 10: one id, one outcome, callbacks once."""
    retry = Retry(on=ConnectionError, attempts=3, wait=0.001)
    operation: Any = token(affinity=affinity, policy=Policy(retry=retry))(FAILING[affinity])
    called: list[Any] = []

    one = operation.submit(str(tmp_path))
    one.add_done_callback(called.append)

    assert one.result(LIMIT) == 3
    assert one.attempt == 3
    assert [(record.number, type(record.error)) for record in one.attempts] == [
        (1, ConnectionError), (2, ConnectionError), (3, type(None)),
    ]  # fmt: skip
    assert [record.delay is None for record in one.attempts] == [False, False, True]
    assert one.state is TokenState.COMPLETED
    assert called == [one]


def test_an_error_that_is_not_named_and_a_cancel_are_final(gate: Gate, blocker: Blocker, until: Until) -> None:
    """Case 11."""

    def fail(what: Any) -> None:
        if isinstance(what, BaseException):
            raise what
        what()
        spin()

    operation = token(policy=Policy(retry=Retry(on=ConnectionError, attempts=5, wait=0.0)))(fail)

    failed = operation.submit(ValueError("no"))
    assert isinstance(outcome_of(failed), ValueError)
    assert failed.attempt == 1
    cancelled = operation.submit(blocker)
    assert blocker.started.wait(LIMIT)
    cancelled.cancel()
    blocker.release.set()
    assert isinstance(outcome_of(cancelled), TokenTerminated)
    assert cancelled.attempt == 1


def die_once(folder: str) -> str:
    """End the process in the first attempt."""
    import os

    if not list(Path(folder).iterdir()):
        Path(folder, "1").touch()
        os._exit(3)
    return "alive"


@pytest.mark.parametrize("idempotent", [False, True])
def test_an_unknown_outcome_is_retried_only_if_that_does_no_harm(gate: Gate, tmp_path: Path, idempotent: bool) -> None:
    """Case 12: `WorkerDied`."""
    policy = Policy(retry=Retry(on=ConnectionError, attempts=2, wait=0.0))
    operation = token(affinity="process", idempotent=idempotent, policy=policy)(die_once)

    one = operation.submit(str(tmp_path))

    if idempotent:
        assert one.result(LIMIT) == "alive"
    else:
        assert isinstance(outcome_of(one), WorkerDied)
    assert one.attempt == 1 + idempotent


@pytest.mark.parametrize("idempotent", [False, True])
def test_a_timeout_is_retried_only_if_that_does_no_harm(gate: Gate, idempotent: bool) -> None:
    """Case 12: a `timeout` whose code has ended is an unknown outcome."""
    began: list[int] = []

    def hang_once() -> str:
        began.append(1)
        if len(began) == 1:
            spin()
        return "done"

    policy = Policy(timeout=0.1, retry=Retry(on=ConnectionError, attempts=2, wait=0.0))
    one = token(idempotent=idempotent, policy=policy)(hang_once).submit()

    if idempotent:
        assert one.result(LIMIT) == "done"
        assert isinstance(one.attempts[0].error, TokenExpired)
    else:
        assert isinstance(outcome_of(one), TokenExpired)
    assert one.attempt == 1 + idempotent


def sleep_for(seconds: float) -> None:
    """Run code that nothing but the end of its process ends."""
    time.sleep(seconds)


def nonsense(error: BaseException) -> float:
    raise KeyError("url")


@pytest.mark.parametrize("flag", ["enforce", "observe"])
@pytest.mark.parametrize("affinity", AFFINITIES)
def test_a_wait_that_raises_ends_the_token(gate: Gate, tmp_path: Path, affinity: Any, flag: Any) -> None:
    """With the error of its code, and a note; its worker goes on."""
    policy = Policy(retry=Retry(on=ConnectionError, wait=nonsense))
    operation: Any = token(affinity=affinity, policy=policy)(FAILING[affinity])
    gate.control.set_flag("*", flag)

    for _ in range(2):
        error = outcome_of(operation.submit(str(tmp_path)))
        assert isinstance(error, ConnectionError)
        assert "It was not tried again: wait of Retry is" in error.__notes__[-1]
    assert operation.submit(str(tmp_path)).result(LIMIT) == 3


def test_a_process_that_was_killed_says_nothing_of_the_next_attempt(gate: Gate, until: Until) -> None:
    """Case 12: its exit is seen when the token waits for that attempt already; it neither begins nor ends by it."""
    policy = Policy(timeout=0.05, retry=Retry(on=ConnectionError, attempts=3, wait=lambda _: LIMIT, max_wait=LIMIT))
    operation = token(affinity="process", idempotent=True, policy=policy)(sleep_for)
    operation.with_options(policy=Policy(timeout=LIMIT)).submit(0).result(LIMIT)
    gate.control.set_policy("sleep_for", {"grace": 0.01})

    one = operation.submit(LIMIT)
    until(lambda: one.attempt == 2)
    token(affinity="process")(math.sqrt).submit(4).result(LIMIT)  # in another process, as the old one is gone

    assert one.state is TokenState.QUEUED
    assert (one.attempt, len(one.attempts)) == (2, 1)
    one.cancel()
    assert isinstance(outcome_of(one), TokenTerminated)


def test_a_thousand_failures_cause_a_tenth_more_attempts(gate: Gate) -> None:
    """Case 14: beyond the share, tokens fail at once."""
    began: list[int] = []

    def fail() -> None:
        began.append(1)
        raise ConnectionError("down")

    operation = token(policy=Policy(retry=Retry(on=ConnectionError, attempts=3, wait=0.0)))(fail)

    tokens = [operation.submit() for _ in range(1_000)]
    errors = [one.exception(LIMIT) for one in tokens]

    assert all(isinstance(error, ConnectionError) for error in errors)
    assert 1_000 <= len(began) <= 1_000 + 10 + 112  # a tenth of all attempts, the retries among them


def test_a_retry_that_never_begins_takes_up_no_share(gate: Gate, until: Until) -> None:
    """Case 14: tokens that are cancelled in their delay leave the retries to others."""

    def fail(delay: float) -> None:
        raise ConnectionError(delay)

    retry = Retry(on=ConnectionError, attempts=2, wait=lambda error: float(error.args[0]), max_wait=LIMIT)
    operation = token(policy=Policy(retry=retry))(fail)

    delayed = [operation.submit(LIMIT) for _ in range(10)]
    for one in delayed:
        until(lambda one=one: one.due_at is not None)  # type: ignore[misc]
        one.cancel()
    others = [operation.submit(0) for _ in range(10)]

    assert all(isinstance(one.exception(LIMIT), TokenTerminated) for one in delayed)
    assert all(isinstance(one.exception(LIMIT), ConnectionError) for one in others)
    assert [one.attempt for one in others] == [2] * 10


def test_a_fallback_in_the_place_of_a_retry_takes_up_no_share(gate: Gate, until: Until) -> None:
    """Case 14: tokens whose retries are stopped, and whose fallback answers, leave the retries to others."""

    def fail(delay: float) -> None:
        raise ConnectionError(delay)

    retry = Retry(on=ConnectionError, attempts=2, wait=lambda error: float(error.args[0]), max_wait=LIMIT)
    operation = token(policy=Policy(retry=retry, fallback=lambda *_: "fallback"))(fail)

    delayed = [operation.submit(LIMIT) for _ in range(10)]
    until(lambda: all(one.due_at is not None for one in delayed))
    gate.control.retry([one.id for one in delayed], stop=True)
    others = [operation.submit(0) for _ in range(10)]

    assert [one.result(LIMIT) for one in (*delayed, *others)] == ["fallback"] * 20
    assert [len(one.attempts) for one in others] == [3] * 10


variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="none")


def test_each_attempt_has_a_fresh_context_and_no_grant_while_it_is_delayed(gate: Gate) -> None:
    """Case 15."""
    seen: list[str] = []
    retry = Retry(on=ConnectionError, attempts=2, wait=lambda _: LIMIT, max_wait=LIMIT)

    def work(fails: bool) -> str:
        seen.append(variable.get())
        variable.set("changed")
        if fails and len(seen) == 1:
            raise ConnectionError("down")
        return "done"

    policy = Policy(retry=retry, throttle=Throttle(concurrency=1))
    operation = token(policy=policy)(work)
    variable.set("captured")
    delayed = operation.submit(True)
    other = operation.submit(False)

    assert other.result(LIMIT) == "done"
    assert delayed.state is TokenState.QUEUED
    assert delayed.due_at is not None
    delayed.cancel()
    assert isinstance(outcome_of(delayed), TokenTerminated)
    assert seen == ["captured", "captured"]


def fail_or_tell(what: Any) -> str | None:
    """Fail in the first attempt, after `what`; then tell where it runs."""
    one = current_token()
    assert one is not None
    if one.attempt == 1:
        what()
        raise ConnectionError("down")
    return one.actor


async def fail_or_tell_in_a_task(what: Any) -> str | None:
    return fail_or_tell(what)


STEERED = {"cpu": fail_or_tell, "io": fail_or_tell_in_a_task, "asyncio": fail_or_tell_in_a_task}
ELSEWHERE = {"cpu": "io", "io": "asyncio", "asyncio": "io"}


@pytest.mark.parametrize("affinity", STEERED)
def test_a_delayed_token_is_steered_at_once(gate: Gate, until: Until, affinity: Any) -> None:
    """Case 16: cancel, pause, renice, reroute, terminate."""
    retry = Retry(on=ConnectionError, attempts=2, wait=lambda _: LIMIT, max_wait=LIMIT)
    operation: Any = token(affinity=affinity, policy=Policy(retry=retry))(STEERED[affinity])
    tokens = one, two, three, four = [operation.submit(bool) for _ in range(4)]
    until(lambda: all(each.state is TokenState.QUEUED and each.attempt == 2 for each in tokens))

    assert one.cancel()
    assert isinstance(outcome_of(one), TokenTerminated)
    (outcome,) = gate.control.renice(two.id, 5)
    assert outcome.outcome == "reniced"
    assert two.priority == 5
    (outcome,) = gate.control.pause(three.id)
    assert outcome.outcome == "paused"
    assert three.state is TokenState.PAUSED
    other = ELSEWHERE[affinity]
    (outcome,) = gate.control.reroute(four.id, affinity=other)
    assert outcome.outcome == "rerouted"
    assert (four.affinity, four.state) == (other, TokenState.QUEUED)
    gate.control.terminate([two.id, three.id, four.id])
    assert all(isinstance(outcome_of(each), TokenTerminated) for each in (two, three, four))
    assert not gate._system.throttles.grants


@pytest.mark.parametrize("affinity", STEERED)
def test_a_token_that_is_rerouted_while_it_runs_is_elsewhere_at_its_next_attempt(
    gate: Gate, blocker: Blocker, affinity: Any
) -> None:
    """Case 17: held to the rules of that place; one without another attempt stays."""
    retry = Retry(on=ConnectionError, attempts=2, wait=0.001)
    operation: Any = token(affinity=affinity, policy=Policy(retry=retry, throttle=Throttle(concurrency=1)))(
        STEERED[affinity]
    )
    other = ELSEWHERE[affinity]
    one = operation.submit(blocker)
    assert blocker.started.wait(LIMIT)

    (outcome,) = gate.control.reroute(one.id, affinity=other)
    there = gate._place_with(gate._operations[operation._spec], other)

    assert outcome.outcome == "noted"
    assert there.path in outcome.note
    assert one.affinity == affinity
    blocker.release.set()
    assert one.result(LIMIT) == there.path
    assert (one.affinity, one.attempt) == (other, 2)
    assert operation.submit(bool).result(LIMIT) == gate._operations[operation._spec].path
    assert not gate._system.throttles.grants


def test_a_queued_token_that_is_rerouted_is_held_to_the_rules_of_its_new_place(gate: Gate, blocker: Blocker) -> None:
    """Each affinity of an operation has its own grants; those of a key go on there, too."""

    def call(what: Callable[[], object], tenant: str) -> str:
        what()
        one = current_token()
        assert one is not None
        return one.affinity

    operation = token(policy=Policy(throttle=Throttle(concurrency=1, key="tenant")))(call)
    busy, kept_back = operation.submit(blocker, "acme"), operation.submit(bool, "acme")
    assert blocker.started.wait(LIMIT)

    (outcome,) = gate.control.reroute(kept_back.id, affinity="io")

    assert outcome.outcome == "rerouted"
    assert kept_back.result(LIMIT) == "io"
    assert not busy.done()
    blocker.release.set()
    assert busy.result(LIMIT) == "cpu"
    assert not gate._system.throttles.grants


def test_a_crash_of_an_actor_is_final_and_an_expected_error_is_not(gate: Gate) -> None:
    """Case 18."""
    tried: list[str] = []

    class Worker(CpuActor):
        expected = (ConnectionError,)
        policy = Policy(retry=Retry(on=(ConnectionError, KeyError), attempts=3, wait=0.0))

        def work(self, what: str) -> str:
            tried.append(what)
            if what == "crash":
                raise KeyError(what)
            if tried.count(what) < 3:
                raise ConnectionError(what)
            return what

    proxy: Any = gate.spawn(Worker).proxy()

    assert proxy.work("again").result(LIMIT) == "again"
    assert isinstance(outcome_of(proxy.work("crash")), KeyError)
    assert tried == ["again"] * 3 + ["crash"]


def test_closing_leaves_no_caller_hanging(until: Until) -> None:
    """Case 19: a retry that is not due in time ends with the gate."""

    def fail() -> None:
        raise ConnectionError("down")

    retry = Retry(on=ConnectionError, attempts=2, wait=lambda _: LIMIT, max_wait=LIMIT)
    operation = token(policy=Policy(retry=retry))(fail)
    with Gate("closing", shutdown=0.5, control_socket=False):
        one = operation.submit()
        until(lambda: one.state is TokenState.QUEUED and one.attempt == 2)

    assert one.done()
    assert isinstance(one.exception(), ConnectionError)


def test_a_direct_call_begins_on_its_thread_and_is_tried_again_elsewhere(gate: Gate) -> None:
    """Case 20."""
    threads: list[threading.Thread] = []

    def fail_once() -> str:
        threads.append(threading.current_thread())
        if len(threads) == 1:
            raise ConnectionError("down")
        one = current_token()
        assert one is not None
        return f"attempt {one.attempt}"

    operation = token(policy=Policy(retry=Retry(on=ConnectionError, attempts=2, wait=0.0)))(fail_once)

    assert operation() == "attempt 2"
    assert threads[0] is threading.current_thread()
    assert threads[1] is not threads[0]


@pytest.mark.parametrize("loop", ["trio", "asyncio"])
def test_a_direct_call_on_the_thread_of_a_loop_is_not_tried_again(gate: Gate, loop: str) -> None:
    """Case 20: its delay would hold up the loop, whether that runs tokens or not."""

    def fail() -> None:
        raise ConnectionError("down")

    operation = token(policy=Policy(retry=Retry(on=ConnectionError, attempts=2, wait=lambda _: LIMIT)))(fail)

    async def call() -> BaseException | None:
        with pytest.raises(ConnectionError) as caught:
            operation()
        return caught.value

    assert isinstance(trio.run(call) if loop == "trio" else asyncio.run(call()), ConnectionError)


def test_a_deadline_that_has_passed_refuses_at_the_door(gate: Gate, blocker: Blocker) -> None:
    """Rule 2: `rejected`, with its reason; none of the code ran."""
    sent: list[Any] = []

    def outer() -> None:
        try:
            spin()
        finally:
            sent.append(endless.submit())

    one = token(policy=Policy(deadline=0.05))(outer).submit()
    assert isinstance(outcome_of(one), TokenExpired)

    error = outcome_of(sent[0])
    assert isinstance(error, TokenRejected)
    assert error.reason == sent[0].reason == "deadline"
    assert sent[0].state is TokenState.REJECTED


def test_a_token_that_is_sent_to_its_process_twice_begins_once(gate: Gate, blocker: Blocker) -> None:
    """What its process has not begun is taken back, and sent again: its rate counts the attempt once."""

    def limited() -> str:
        return blocker()

    one = token(policy=Policy(throttle=Throttle(rate=1_000, burst=5)))(limited).submit()
    assert blocker.started.wait(LIMIT)
    held, place = one._extras.policy, place_of(one)
    governor = place.governor
    assert isinstance(governor, PlaceGovernor)
    held.begin(one, gate._system.clock())
    with governor.lock:
        (rule,) = governor.throttles_of({}, gate._system.clock())

    assert rule.state._unbegun == 0
    blocker.release.set()
    assert one.result(LIMIT) == "released"


def test_ends_have_texts_for_operators() -> None:
    """Each says how the attempt ended."""
    assert all(end.value for end in End)
