"""Breakers, throttles, shedding, budgets, fallbacks of tokens, by ledgers of their own."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import trio

from tokengate import Breaker, Gate, Policy, Retry, Throttle, TokenState, token
from tokengate.errors import BudgetExceeded, TokenRejected
from tokengate.policy import Budget, _place_rules, spend
from tokengate.policy._throttle import ThrottleState

LIMIT = 60.0  # seconds; only reached when something is broken
Until = Callable[[Callable[[], bool]], None]


@pytest.fixture
def gate() -> Iterator[Gate]:
    with Gate("rules", threads=8, processes=1, shutdown=5.0, control_socket=False) as opened:
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


def fail_or(what: Any) -> Any:
    if isinstance(what, BaseException):
        raise what
    return what() if callable(what) else what


def refusal(one: Any) -> TokenRejected:
    error = one.exception(LIMIT)
    assert isinstance(error, TokenRejected)
    return error


# Breaker


def test_a_breaker_opens_refuses_at_the_door_and_closes_after_three_probes(gate: Gate, until: Until) -> None:
    """Cases 21 and 23: the refusal has its reason, and when to come again."""
    operation = token(policy=Policy(breaker=Breaker(minimum=4, failure_rate=0.5, open_for=0.05)))(fail_or)
    for what in (1, 2, KeyError(), KeyError()):
        operation.submit(what).exception(LIMIT)

    refused = operation.submit(3)
    error = refusal(refused)
    assert refused.state is TokenState.REJECTED
    assert error.reason == refused.reason == "breaker"
    assert error.retry_after is not None
    assert 0 <= error.retry_after <= 0.05

    until(lambda: operation.submit(3).exception(LIMIT) is None)
    until(lambda: [operation.submit(3).exception(LIMIT) for _ in range(8)] == [None] * 8)


def test_queued_tokens_are_refused_at_their_turn(gate: Gate, blocker: Blocker) -> None:
    """Case 22: they were accepted while it was closed."""
    policy = Policy(breaker=Breaker(minimum=1, open_for=LIMIT))
    operation = token(policy=policy, concurrency=1)(fail_or)
    ran: list[int] = []

    def fail_later() -> None:
        blocker()
        raise KeyError("down")

    failing = operation.submit(fail_later)
    queued = [operation.submit(lambda: ran.append(1)) for _ in range(5)]
    blocker.release.set()

    assert isinstance(failing.exception(LIMIT), KeyError)
    assert [refusal(one).reason for one in queued] == ["breaker"] * 5
    assert {one.state for one in queued} == {TokenState.REJECTED}
    assert ran == []


def test_one_key_alone_is_refused(gate: Gate) -> None:
    """Case 25: tokens of other keys, and those without the key, begin."""
    policy = Policy(breaker=Breaker(minimum=1, open_for=LIMIT, key="host"))

    def call(what: Any, host: str | None = None) -> Any:
        return fail_or(what)

    operation = token(policy=policy)(call)
    operation.submit(KeyError(), "a").exception(LIMIT)

    assert refusal(operation.submit(1, "a")).reason == "breaker"
    assert operation.submit(1, host="b").result(LIMIT) == 1
    assert operation.submit(1).result(LIMIT) == 1


def test_a_fallback_answers_for_a_refusal_and_for_the_last_failure(gate: Gate) -> None:
    """Case 27: the token completes, and its reason says why."""
    policy = Policy(
        breaker=Breaker(minimum=2, open_for=LIMIT),
        retry=Retry(on=KeyError, attempts=2, wait=0.0),
        fallback=lambda error, what: type(error).__name__,
    )
    operation = token(policy=policy)(fail_or)

    failed = operation.submit(KeyError())
    assert failed.result(LIMIT) == "KeyError"
    assert failed.state is TokenState.COMPLETED
    assert failed.reason == "KeyError"
    refused = operation.submit(1)
    assert refused.result(LIMIT) == "TokenRejected"
    assert refused.reason == "breaker"


def answer(error: BaseException, what: object) -> str:
    return f"{type(error).__name__} {what!r}"


def fail(what: object) -> object:
    raise KeyError(what)


async def fail_in_a_task(what: object) -> object:
    raise KeyError(what)


@pytest.mark.parametrize("affinity", ["cpu", "io", "asyncio", "process"])
def test_the_fallback_of_each_affinity_answers(gate: Gate, affinity: Any) -> None:
    """For the code that has failed, and at the door of an open breaker; that of a process runs on a thread here."""
    failing: Any = fail_in_a_task if affinity in ("io", "asyncio") else fail
    policy = Policy(breaker=Breaker(minimum=1, open_for=LIMIT), fallback=answer)
    operation = token(affinity=affinity, policy=policy)(failing)

    failed, refused = (operation.submit(1).result(LIMIT) for _ in range(2))

    assert failed == "KeyError 1"
    assert refused == "TokenRejected 1"


def test_a_fallback_that_raises_is_the_error_of_its_token(gate: Gate) -> None:
    """Case 27."""

    def fall_back(error: BaseException, what: object) -> object:
        raise ValueError("no answer") from error

    operation = token(policy=Policy(fallback=fall_back))(fail_or)

    error = operation.submit(KeyError("down")).exception(LIMIT)

    assert isinstance(error, ValueError)
    assert isinstance(error.__cause__, KeyError)


# Throttle


class Ledger:
    """A count of what runs at once, for each key."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._running: Counter[str] = Counter()
        self.most: Counter[str] = Counter()
        self.ended: list[str] = []

    def work(self, key: str, seconds: float = 0.0) -> str:
        with self._lock:
            self._running[key] += 1
            self.most[key] = max(self.most[key], self._running[key])
        time.sleep(seconds)
        with self._lock:
            self._running[key] -= 1
            self.ended.append(key)
        return key


def test_never_more_of_a_key_run_than_its_throttle_allows(gate: Gate) -> None:
    """Case 28, by their own count; each ends."""
    ledger = Ledger()
    operation = token(policy=Policy(throttle=Throttle(concurrency=2, key="key")))(ledger.work)

    tokens = [operation.submit(key, 0.001) for _ in range(50) for key in "abc"]

    assert [one.result(LIMIT) for one in tokens] == list("abc") * 50
    assert max(ledger.most.values()) <= 2


def test_nesting_under_one_key_does_not_lock_up(gate: Gate) -> None:
    """Case 29: a token that waits for another one does not count."""

    def nest(key: str, depth: int) -> int:
        return depth if depth == 0 else nested.submit(key, depth - 1).result(LIMIT) + 1

    nested: Any = token(policy=Policy(throttle=Throttle(concurrency=1, key="key")))(nest)

    assert nested.submit("a", 5).result(LIMIT) == 5


def test_a_key_at_its_limit_holds_up_no_other(gate: Gate, blocker: Blocker) -> None:
    """Case 30."""

    def call(key: str, what: Callable[[], Any]) -> Any:
        return what()

    operation = token(policy=Policy(throttle=Throttle(concurrency=1, key="key")))(call)
    busy = operation.submit("a", blocker)
    waiting = [operation.submit("a", str) for _ in range(20)]

    assert operation.submit("b", lambda: "begun").result(LIMIT) == "begun"
    assert not any(one.done() for one in waiting)
    blocker.release.set()
    assert busy.result(LIMIT) == "released"
    assert [one.result(LIMIT) for one in waiting] == [""] * 20


def test_what_never_began_is_given_back(gate: Gate, blocker: Blocker) -> None:
    """Case 34: cancelled ones use up nothing."""
    operation = token(policy=Policy(throttle=Throttle(concurrency=1)))(fail_or)
    busy = operation.submit(blocker)
    waiting = [operation.submit(1) for _ in range(20)]
    assert all(one.cancel() for one in waiting)
    blocker.release.set()

    assert busy.result(LIMIT) == "released"
    assert operation.submit(2).result(LIMIT) == 2
    assert not gate._system.throttles.grants
    assert not gate._system.throttles._waiting


# Budget


def test_concurrent_tokens_do_not_overspend_a_budget(gate: Gate) -> None:
    """Case 41: three at once under 100 spend 100, where estimates are upper bounds."""
    lock = threading.Lock()
    spent: list[float] = []

    def buy() -> None:
        spend(25)
        with lock:
            spent.append(25)

    budget = Budget("usd", 100, estimate=25)
    operation = token(policy=Policy(budget=budget, queue_timeout=0.5), concurrency=3)(buy)

    tokens = [operation.submit() for _ in range(8)]
    errors = [one.exception(LIMIT) for one in tokens]

    assert sum(spent) == 100
    assert sum(error is None for error in errors) == 4


def test_a_cost_beyond_the_limit_is_booked_and_raises(gate: Gate) -> None:
    """Case 42."""
    operation = token(policy=Policy(budget=Budget("eur", 10)))(spend)

    assert operation.submit(8).exception(LIMIT) is None
    error = operation.submit(5).exception(LIMIT)

    assert isinstance(error, BudgetExceeded)
    assert error.spent == 13


# Keys


def test_a_key_that_cannot_be_read_rejects_the_token_and_names_the_rule(gate: Gate) -> None:
    """None of its code ran, and nothing is left behind."""

    def key(what: object) -> str:
        raise ZeroDivisionError(what)

    operation = token(policy=Policy(throttle=Throttle(concurrency=1, key=key)))(fail_or)
    wrong = token(policy=Policy(throttle=Throttle(concurrency=1, key="what")))(fail_or)

    error, other = refusal(operation.submit(1)), refusal(wrong.submit(1.5))

    assert error.reason == other.reason == "key"
    assert "ZeroDivisionError" in str(error)
    assert "throttle.key" in str(other)
    assert not gate._system.live or all(one.operation != "fail_or" for one in gate._system.live.values())


def test_code_in_a_process_spends_of_its_budget(gate: Gate) -> None:
    """Case 42: what is beyond the limit is booked, and raised there; the code may catch it."""

    @token(affinity="process", policy=Policy(budget=Budget("gbp", 10, key="tenant")))
    def work(tenant: str, cost: float, catches: bool = False) -> str:
        try:
            spend(cost)
        except BudgetExceeded as error:
            if catches:
                return f"{error.spent:g} of {error.limit:g}"
            raise
        return "done"

    assert work.submit("acme", 9).result(LIMIT) == "done"
    error = work.submit("acme", 2).exception(LIMIT)
    assert isinstance(error, BudgetExceeded)
    assert (error.name, error.key, error.limit, error.spent) == ("gbp", "acme", 10, 11)
    assert work.submit("third", 12, catches=True).result(LIMIT) == "12 of 10"
    assert work.submit("other", 2).result(LIMIT) == "done"


# Rates


@pytest.mark.parametrize("affinity", ["cpu", "io"])
def test_a_beginning_counts_from_after_its_grant(gate: Gate, affinity: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Case 32: a drainer reads the clock before it takes a token; counted from then, more than the rate would begin."""
    looks: list[float] = []
    begun: list[tuple[float, float]] = []  # (the latest look at what is due, the time that counts)

    class State(ThrottleState):
        __slots__ = ()

        def due_at(self, now: float) -> float:
            looks.append(now)
            return super().due_at(now)

        def begin(self, now: float) -> None:
            begun.append((looks[-1], now))
            super().begin(now)

    monkeypatch.setattr(_place_rules, "ThrottleState", State)
    operation = token(affinity=affinity, policy=Policy(throttle=Throttle(rate=1e6, burst=100)))(lambda: None)

    for _ in range(20):
        operation.submit().result(LIMIT)

    assert len(begun) == 20
    assert all(counted >= looked for looked, counted in begun)


# Shedding


@pytest.mark.parametrize("answers", [False, True])
def test_tokens_that_throttles_keep_back_are_shed_at_their_turn(gate: Gate, blocker: Blocker, answers: bool) -> None:
    """Case 40. When all have waited too long for some time, those that still do are refused, or their fallback answers.

    None of their code runs, and they leave their room to others.
    """
    late = [0.0]  # seconds by which the throttles see a later time
    throttles = gate._system.throttles
    throttles._clock = lambda: gate._system.clock() + late[0]
    ran: list[int] = []

    def work(what: Callable[[], str] | int) -> str:
        if isinstance(what, int):
            ran.append(what)
            return "done"
        return what()

    policy = Policy(
        deadline=1_000,  # so a wait of 50 s is too long
        throttle=Throttle(concurrency=1),
        fallback=(lambda error, what: error.reason) if answers else None,
    )
    operation = token(policy=policy)(work)
    first, second = Blocker(), blocker
    running = [operation.submit(first), operation.submit(second)]
    assert first.started.wait(LIMIT)
    waiting = [operation.submit(number) for number in range(100)]

    late[0] = 60.0
    first.release.set()
    assert second.started.wait(LIMIT)  # the first one that has waited too long begins
    late[0] = 170.0
    second.release.set()
    errors = [one.exception(LIMIT) for one in waiting]

    assert [one.result(LIMIT) for one in running] == ["released"] * 2
    assert ran == []
    assert {one.reason for one in waiting} == {"overload"}
    if answers:
        assert [one.result(LIMIT) for one in waiting] == ["overload"] * 100
    else:
        assert all(isinstance(error, TokenRejected) and error.reason == "overload" for error in errors)
        assert {one.state for one in waiting} == {TokenState.REJECTED}
    place = gate._operations[operation._spec]
    figures = place.mailbox.statistics()
    assert (figures.depth, figures.held) == (0, 0)
    assert throttles._waiting == {}


def test_a_drainer_that_keeps_many_tokens_back_lets_other_tasks_of_its_loop_run(gate: Gate, blocker: Blocker) -> None:
    """Else a loop that has much to refuse would end nothing of what it has begun."""
    waits = threading.Event()

    async def hang() -> None:
        waits.set()
        await trio.sleep_forever()

    operation = token(policy=Policy(throttle=Throttle(concurrency=1)), concurrency=2)(hang)
    place = gate._operations[operation._spec]
    first = operation.submit()
    assert waits.wait(LIMIT)

    @token
    async def block_the_loop() -> str:
        return blocker()

    @token
    async def look() -> int:
        return place.mailbox.statistics().held

    blocking = block_the_loop.submit()
    assert blocker.started.wait(LIMIT)
    others = [operation.submit() for _ in range(2_000)]
    looked = look.submit()
    blocker.release.set()

    assert looked.result(LIMIT) < 2_000
    for one in (first, *others):
        one.cancel()
    assert blocking.result(LIMIT) == "released"
