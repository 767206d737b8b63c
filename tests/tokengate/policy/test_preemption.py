"""A preemption beside what a policy holds a token to: what counts, what does not, and what is given back."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from gated_code import LIMIT
from ledgers import Ledger

from actors import Token, TokenState
from actors.lowlevel import place_of
from tokengate import Batch, Breaker, Gate, Policy, Retry, Route, Throttle, checkpoint, token
from tokengate.errors import TokenExpired, TokenRejected, TokenTerminated
from tokengate.policy import Budget, spend
from tokengate.policy._policies import policies_of

Until = Callable[[Callable[[], bool]], None]


@pytest.fixture
def gate() -> Iterator[Gate]:
    with Gate("preempted", threads=3, control_socket=False, shutdown=LIMIT) as opened:
        yield opened
        opened.close(drain=False)


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    return Ledger(str(tmp_path))


def spin_at_first(ledger: Ledger) -> int:
    """Go on until it is ended, in the first attempt; then return the number of the attempt."""
    number = ledger.begin()
    while number == 1:
        checkpoint()
    return number


def submitted(gate: Gate, ledger: Ledger, until: Until, policy: Policy | None = None, **options: Any) -> Token[Any]:
    """Submit a token whose first attempt runs."""
    sent = token(idempotent=True, policy=policy)(spin_at_first).with_options(**options).submit(ledger)
    until(lambda: ledger.begun == [1])
    return sent


def preempt(gate: Gate, sent: Token[Any], **options: Any) -> str:
    (outcome,) = gate.control.preempt(sent, wait=LIMIT, **options)
    return outcome.outcome


def test_a_breaker_does_not_count_it(gate: Gate, ledger: Ledger, until: Until) -> None:
    """Case 26: not even one that opens at the first bad attempt."""
    breaker = Breaker(minimum=1, failure_rate=0.01, open_for=LIMIT)
    sent = submitted(gate, ledger, until, Policy(breaker=breaker))

    assert preempt(gate, sent) == "preempted"
    assert sent.result(LIMIT) == 2
    (row,) = gate.control.breakers()
    assert (row.state, row.counted, row.bad) == ("closed", 1, 0)


def test_an_attempt_that_a_breaker_refuses_then_fails(gate: Gate, ledger: Ledger, until: Until) -> None:
    """As every later attempt does: code of it has run, so it cannot be `rejected`; the error says both."""
    sent = submitted(gate, ledger, until, Policy(breaker=Breaker(minimum=1)))
    gate.control.open_breaker("spin_at_first")

    assert preempt(gate, sent) == "preempted"
    error = sent.exception(LIMIT)

    assert sent.state is TokenState.FAILED
    assert isinstance(error, TokenTerminated)
    assert "preempted" in str(error)
    assert any("its breaker is open" in note for note in error.__notes__)
    assert ledger.begun == [1]


def test_the_share_of_retries_has_nothing_of_it(gate: Gate, ledger: Ledger, until: Until) -> None:
    """It is none: nothing is reserved for it, and no retry is counted."""
    sent = submitted(gate, ledger, until, Policy(retry=Retry(on=ConnectionError, attempts=2)))

    assert preempt(gate, sent) == "preempted"
    assert sent.result(LIMIT) == 2
    share = policies_of(place_of(sent)).governor_of(place_of(sent)).share
    assert share.reserved == 0
    assert share._retries.count(gate._system.clock()) == 0


def test_the_deadline_stays_and_counts(gate: Gate, ledger: Ledger, until: Until) -> None:
    """Case 26: the token keeps its deadline; a timeout is that of each attempt."""
    sent = submitted(gate, ledger, until, Policy(deadline=LIMIT, timeout=LIMIT / 2))
    before = sent.deadline

    assert preempt(gate, sent) == "preempted"
    assert sent.result(LIMIT) == 2
    assert sent.deadline == before


def test_a_deadline_ends_the_second_attempt(gate: Gate, ledger: Ledger, until: Until) -> None:
    """It is the token's."""

    def spin(ledger: Ledger) -> None:
        ledger.begin()
        while True:
            checkpoint()

    sent = token(idempotent=True, policy=Policy(deadline=0.5))(spin).submit(ledger)
    until(lambda: ledger.begun == [1] or sent.done())
    preempt(gate, sent)
    assert isinstance(sent.exception(LIMIT), TokenExpired)


def test_what_it_reserved_of_a_budget_is_given_back(gate: Gate, ledger: Ledger, until: Until) -> None:
    """What it has spent stays spent."""

    def spends(ledger: Ledger) -> int:
        number = ledger.begin()
        spend(2)
        while number == 1:
            checkpoint()
        return number

    policy = Policy(budget=Budget("usd", 100, estimate=10))
    sent = token(idempotent=True, policy=policy)(spends).submit(ledger)
    until(lambda: [row.spent for row in gate.control.budgets()] == [2])
    assert preempt(gate, sent) == "preempted"
    assert sent.result(LIMIT) == 2
    until(lambda: [(row.spent, row.reserved) for row in gate.control.budgets()] == [(4, 0)])


def test_a_fallback_that_runs_is_not_preempted(gate: Gate, ledger: Ledger, until: Until) -> None:
    """Nor does a preemption make one answer."""
    door = threading.Event()

    def answer(error: BaseException, ledger: Ledger) -> int:
        ledger.begin()
        while not door.is_set():
            checkpoint()
        return -1

    def fail(ledger: Ledger) -> int:
        number = ledger.begin()
        while number == 1:
            checkpoint()
        raise ConnectionError("down")

    sent = token(idempotent=True, policy=Policy(fallback=answer))(fail).submit(ledger)
    until(lambda: ledger.begun == [1])
    assert preempt(gate, sent) == "preempted"
    until(lambda: ledger.begun == [1, 2, 3])
    sent._extras.preempted = False  # as if it had not been
    (outcome,) = gate.control.preempt(sent)
    assert (outcome.outcome, outcome.note) == ("refused", "its fallback runs, and not its own code")
    door.set()
    assert sent.result(LIMIT) == -1


def test_a_route_goes_on_where_it_was(gate: Gate, ledger: Ledger, until: Until) -> None:
    """Its attempts at each alternative are counted without the one that was preempted."""

    def first(ledger: Ledger) -> int:
        number = ledger.begin()
        while number == 1:
            checkpoint()
        if number < 4:
            raise ConnectionError("down")
        return number

    retry = Policy(retry=Retry(on=ConnectionError, attempts=3, wait=0))
    primary = token(idempotent=True, policy=retry)(first)
    other = token(idempotent=True)(lambda ledger: -ledger.begin())
    sent = Route("either", [primary, other]).submit(ledger)
    until(lambda: ledger.begun == [1])

    assert preempt(gate, sent) == "preempted"
    assert sent.result(LIMIT) == 4
    assert sent.operation.endswith("first")


def test_a_batch_begins_anew_for_all_that_are_in_it(gate: Gate, until: Until) -> None:
    """Its tokens say which one to preempt; each has its result of the second attempt."""
    runs: list[list[int]] = []

    def double(numbers: list[int]) -> list[int]:
        runs.append(numbers)
        while len(runs) == 1:
            checkpoint()
        return [2 * number for number in numbers]

    batch: Any = token(idempotent=True, policy=Policy(batch=Batch(size=3, wait=LIMIT)))(double)
    sent = [batch.submit(number) for number in (1, 2, 3)]
    until(lambda: len(runs) == 1)
    (refused,) = gate.control.preempt(sent[0])
    assert refused.outcome == "refused"
    (run,) = gate.control.tokens("state=running")

    (outcome,) = run.preempt(wait=LIMIT)
    assert outcome.outcome == "preempted"
    assert [one.result(LIMIT) for one in sent] == [2, 4, 6]
    assert runs == [[1, 2, 3], [1, 2, 3]]


@pytest.mark.parametrize("mode", ["off", "observe"])
def test_a_flag_that_takes_the_policy_away_does_so_for_the_second_attempt(
    gate: Gate, ledger: Ledger, until: Until, mode: str
) -> None:
    """It is held to nothing before and after; what observes has counted the first attempt, and lets go of it."""
    gate.control.set_flag("operation=spin_at_first", mode)
    sent = submitted(gate, ledger, until, Policy(retry=Retry(on=Exception, attempts=9), fair="tenant"))
    lanes = type(place_of(sent).mailbox._lanes)

    assert preempt(gate, sent) == "preempted"
    assert sent.result(LIMIT) == 2
    assert sent.policy in (None, Policy())
    assert type(place_of(sent).mailbox._lanes) is lanes


def test_throttles_with_selectors_hold_the_second_attempt(gate: Gate, ledger: Ledger, until: Until) -> None:
    """One that is held to nothing else waits for its grant again, behind those that waited before it."""
    gate.control.throttle("tenant=acme", concurrency=1)
    sent = submitted(gate, ledger, until, tags={"tenant": "acme"})
    door = threading.Event()

    @token(tags={"tenant": "acme"})
    def other() -> None:
        assert door.wait(LIMIT)

    waiting = other.submit()
    until(lambda: waiting in gate._system.throttles._waiting)

    assert preempt(gate, sent) == "preempted"
    until(lambda: waiting.started_at is not None)
    until(lambda: gate.control.describe(sent).row.held == "throttled")
    assert ledger.begun == [1]
    door.set()
    assert sent.result(LIMIT) == 2
    until(lambda: not gate._system.throttles.grants)


def test_a_throttle_that_rejects_does_not_refuse_the_second_attempt_without_a_word(
    gate: Gate, ledger: Ledger, until: Until
) -> None:
    """A later attempt that it refuses fails, as those after a failure do."""
    policy = Policy(throttle=Throttle(rate=0.001, burst=1, over="reject"))
    sent = submitted(gate, ledger, until, policy)

    assert preempt(gate, sent) == "preempted"
    error = sent.exception(LIMIT)
    assert sent.state is TokenState.FAILED
    assert isinstance(error, TokenTerminated | TokenRejected)
    assert ledger.begun == [1]


def test_the_second_attempt_has_a_copy_of_the_context(gate: Gate, ledger: Ledger, until: Until) -> None:
    """What a policy has captured is as it was at submit; a token without one goes on with what its code has set."""
    from contextvars import ContextVar

    variable: ContextVar[int] = ContextVar("variable", default=0)

    def counts(ledger: Ledger) -> int:
        number = ledger.begin()
        seen = variable.get()
        variable.set(seen + 1)
        while number == 1:
            checkpoint()
        return seen

    for policy, seen in ((None, 1), (Policy(retry=Retry(on=ConnectionError)), 0)):
        folder = Path(ledger.folder, str(seen))
        folder.mkdir()
        own = Ledger(str(folder))
        sent = token(idempotent=True, policy=policy)(counts).submit(own)
        until(lambda own=own: own.begun == [1])  # type: ignore[misc]
        assert preempt(gate, sent) == "preempted"
        assert sent.result(LIMIT) == seen


def test_retries_can_be_stopped_without_ending_it(gate: Gate, ledger: Ledger, until: Until) -> None:
    """It has not failed, so there is no error to end with."""
    sent = submitted(gate, ledger, until, Policy(retry=Retry(on=ConnectionError)))
    gate.control.suspend(sent.actor)
    assert preempt(gate, sent) == "preempted"

    (outcome,) = gate.control.retry(sent, stop=True)
    assert outcome.outcome == "not_retried"
    assert not sent.done()
    gate.control.unsuspend(sent.actor)
    assert sent.result(LIMIT) == 2


def test_a_gate_that_closes_terminates_what_waits(gate: Gate, ledger: Ledger, until: Until) -> None:
    """It has not failed, though it has an attempt before."""
    sent = submitted(gate, ledger, until, Policy(retry=Retry(on=ConnectionError)))
    gate.control.suspend(sent.actor)
    assert preempt(gate, sent) == "preempted"
    gate.close(drain=False)

    assert sent.exception(LIMIT) is not None
    assert sent.state is TokenState.TERMINATED
