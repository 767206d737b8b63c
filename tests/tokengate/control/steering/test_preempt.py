"""Preemption over every affinity and over actors: another attempt, once, by the account of the code itself."""

from __future__ import annotations

import contextlib
import random
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import trio
from gated_code import LIMIT, Door, opened_at_the_end, share
from ledgers import ACTORS, CODE, OPERATIONS, CpuLabourer, Ledger, ProcessLabourer, labour, operation
from running_tokens import Kind
from tiers import in_ci

from actors import Observer, Token, TokenState
from tokengate import CpuActor, Gate, Policy, Retry, Throttle, checkpoint, token
from tokengate.control import BadRequest
from tokengate.control.messages import Outcome
from tokengate.control.steering import _preempt
from tokengate.errors import LimitExceeded, TokenTerminated, UnknownActor

Until = Callable[[Callable[[], bool]], None]

IN_CI = pytest.param("process", marks=in_ci)
EACH = pytest.mark.parametrize("affinity", ["cpu", "io", "asyncio", IN_CI])


@pytest.fixture
def gate() -> Iterator[Gate]:
    with Gate("preempting", threads=2, processes=2, control_socket=False, shutdown=LIMIT) as opened:
        yield opened
        opened.close(drain=False)


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    folder = tmp_path / "ledger"
    folder.mkdir()
    return Ledger(str(folder))


@pytest.fixture
def door() -> Iterator[Door]:
    with opened_at_the_end() as make:
        yield share(make())


def begin(gate: Gate, way: str, ledger: Ledger, door: Door) -> Token[Any]:
    """Send a token in a way, such as `actor cpu`; its code keeps the ledger until the door is open."""
    what, affinity = way.split()
    if what == "operation":
        called: Token[Any] = OPERATIONS[affinity].with_options(priority=3, tags={"tenant": "acme"}).submit(ledger, door)
        return called
    ref = gate.spawn(ACTORS[affinity], name="labourer")
    sent: Token[Any] = ref.proxy().labour(ledger, door)
    return sent


def one(outcomes: Any) -> Outcome:
    (found,) = outcomes
    assert isinstance(found, Outcome)
    return found


@pytest.mark.parametrize("affinity", CODE)
@pytest.mark.parametrize("what", ["operation", "actor"])
def test_another_attempt_begins_from_the_start(
    gate: Gate, what: str, affinity: str, ledger: Ledger, door: Door, until: Until
) -> None:
    """Case 26: the code of one attempt is over before that of the next begins, and the token stays what it is."""
    sent = begin(gate, f"{what} {affinity}", ledger, door)
    before = sent.id, sent.uid, sent.priority, sent.tags, sent.operation, sent.actor, sent.created_at
    until(lambda: ledger.begun == [1])

    preempted = one(gate.control.preempt(sent, wait=LIMIT, reason="too long"))

    assert preempted.outcome == "preempted", preempted.note
    assert preempted.note == f"its next attempt is number 2, at '{sent.actor}'"
    until(lambda: ledger.begun == [1, 2])
    assert ledger.ended == ([] if affinity == "process" else [1])
    assert (sent.id, sent.uid, sent.priority, sent.tags, sent.operation, sent.actor, sent.created_at) == before
    assert not sent.done()
    door.open()
    assert sent.result(LIMIT) == 2
    assert ledger.ended[-1] == 2
    assert (sent.state, sent.attempt) == (TokenState.COMPLETED, 2)
    first, second = sent.attempts
    assert isinstance(first.error, TokenTerminated)
    assert str(first.error).endswith("was ended: it was preempted: too long")
    assert (first.number, second.number, second.error) == (1, 2, None)
    if affinity == "process":
        first_pid, second_pid = ledger.pids
        assert first_pid != second_pid


@EACH
def test_it_is_done_once(gate: Gate, affinity: str, ledger: Ledger, door: Door, until: Until) -> None:
    """Case 26: a second one is refused, and says so, while the next attempt waits and while it runs."""
    sent = begin(gate, f"operation {affinity}", ledger, door)
    until(lambda: ledger.begun == [1])
    assert one(gate.control.preempt(sent, wait=LIMIT)).outcome == "preempted"

    again = one(gate.control.preempt(sent))
    assert (again.outcome, again.note) == ("refused", "it was preempted before, and that is done once")
    until(lambda: ledger.begun == [1, 2])
    again = one(gate.control.preempt(sent))
    assert (again.outcome, again.note) == ("refused", "it was preempted before, and that is done once")
    door.open()
    assert sent.result(LIMIT) == 2
    assert one(gate.control.preempt(sent)).outcome == "ended"
    assert ledger.begun == [1, 2]


@EACH
@pytest.mark.parametrize("what", ["operation", "actor"])
def test_what_is_not_idempotent_runs_on(
    gate: Gate, what: str, affinity: str, ledger: Ledger, door: Door, until: Until
) -> None:
    """Case 26: the refusal names what it would run twice; nothing has changed."""
    declared = operation(affinity, CODE[affinity])
    if what == "operation":
        sent = declared.submit(ledger, door)
    else:
        careful = type("Careful", (ACTORS[affinity],), {"idempotent": (), "__module__": ACTORS[affinity].__module__})
        sent = gate.spawn(careful, name="careful").proxy().labour(ledger, door)
    until(lambda: ledger.begun == [1])

    refused = one(gate.control.preempt(sent, wait=LIMIT))

    assert refused.outcome == "refused"
    assert refused.note == f"{sent.operation} is not idempotent, so running it twice may do harm"
    door.open()
    assert sent.result(LIMIT) == 1
    assert (ledger.begun, sent.attempt, sent.attempts) == ([1], 1, ())


def test_a_file_can_take_idempotence_away(gate: Gate, ledger: Ledger, door: Door, until: Until) -> None:
    """As it does for retries."""
    sent = begin(gate, "operation cpu", ledger, door)
    until(lambda: ledger.begun == [1])
    gate.control.set_policy("labour", {"idempotent": "none"})

    assert one(gate.control.preempt(sent)).outcome == "refused"
    gate.control.reset_policy("labour")
    assert one(gate.control.preempt(sent, wait=LIMIT)).outcome == "preempted"


def test_every_kind_of_token_is_preempted_or_says_why_not(gate: Gate, kind: Kind, door: Door) -> None:
    """Case 26: direct calls run at their callers, where they cannot begin anew."""
    sent = kind.begin(gate, door, idempotent=True)
    door.wait_reached()

    found = one(gate.control.preempt(sent, wait=LIMIT))

    assert found.outcome == ("preempted" if kind.queues else "refused"), found.note
    if not kind.queues:
        assert found.note.startswith("it is a direct call and runs on the thread, or in the task, of its caller")
    door.open()
    assert sent.result(LIMIT) == "through"
    assert sent.attempt == (2 if kind.queues else 1)


def test_a_queued_token_stays_where_it_is(gate: Gate, ledger: Ledger, door: Door, until: Until) -> None:
    """It has not begun, so there is nothing to preempt; that uses up nothing."""
    narrow = token(idempotent=True, concurrency=1)(labour)
    folder = Path(ledger.folder, "second")
    folder.mkdir()
    first = narrow.submit(ledger, door)
    second = narrow.submit(Ledger(str(folder)), door)
    until(lambda: ledger.begun == [1])

    found = one(gate.control.preempt(second))
    assert (found.outcome, found.note) == ("unchanged", "it has not begun")
    moved = one(gate.control.preempt(second, to="process", memory="1GiB"))
    assert moved.outcome == "rerouted"
    assert moved.note.startswith(f"to '{second.actor}'; memory 1")
    assert second.affinity == "process"
    door.open()
    assert (first.result(LIMIT), second.result(LIMIT)) == (1, 1)
    assert second.attempt == 1


def test_a_queued_token_of_a_process_gets_the_limit_at_once(gate: Gate, ledger: Ledger, door: Door) -> None:
    """As by `limit`."""
    sent = begin(gate, "operation process", ledger, door)
    gate.control.suspend(sent.actor)
    waiting = OPERATIONS["process"].submit(ledger, door)

    assert one(gate.control.preempt(waiting, memory="2GiB")).outcome == "limited"
    assert one(gate.control.preempt(waiting, memory="2GiB")).outcome == "unchanged"
    gate.control.terminate([sent, waiting])
    gate.control.unsuspend(sent.actor)


@pytest.mark.parametrize(
    ("source", "target"),
    [("cpu", "cpu"), ("cpu", "process"), *(pytest.param("process", to, marks=in_ci) for to in ("cpu", "process"))],
)
def test_the_next_attempt_is_where_it_is_wanted(
    gate: Gate, source: str, target: str, ledger: Ledger, door: Door, until: Until
) -> None:
    """`to` is an affinity, as of `reroute`; the same one changes nothing."""
    sent = begin(gate, f"operation {source}", ledger, door)
    until(lambda: ledger.begun == [1])

    assert one(gate.control.preempt(sent, to=target, wait=LIMIT)).outcome == "preempted"
    assert sent.affinity == target
    until(lambda: ledger.begun == [1, 2])
    door.open()
    assert sent.result(LIMIT) == 2


def test_a_message_goes_to_another_actor(gate: Gate, ledger: Ledger, door: Door, until: Until) -> None:
    """`to` is the path of an actor that has the method, else it is refused."""
    sent = begin(gate, "actor cpu", ledger, door)
    gate.spawn(CpuLabourer, name="second")
    gate.spawn(CpuActor, name="idle")
    until(lambda: ledger.begun == [1])

    refused = one(gate.control.preempt(sent, to="idle"))
    assert (refused.outcome, refused.note) == ("refused", "'spawned/idle' has no 'labour'")
    with pytest.raises(UnknownActor):
        gate.control.preempt(sent, to="nobody")
    assert one(gate.control.preempt(sent, to="second", wait=LIMIT)).note.endswith("at 'spawned/second'")
    until(lambda: ledger.begun == [1, 2])
    assert sent.actor == "spawned/second"
    door.open()
    assert sent.result(LIMIT) == 2


def test_a_place_that_has_stopped_meanwhile_is_not_gone_to(
    gate: Gate, ledger: Ledger, door: Door, until: Until, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The next attempt is where the one before was."""
    sent = begin(gate, "actor cpu", ledger, door)
    second = gate.spawn(CpuLabourer, name="second")
    until(lambda: ledger.begun == [1])
    begin_preemption = _preempt.begin

    def stop_first(*args: Any) -> Any:
        second._place.mailbox.close()
        return begin_preemption(*args)

    monkeypatch.setattr(_preempt, "begin", stop_first)

    assert one(gate.control.preempt(sent, to="second", wait=LIMIT)).note.endswith("at 'spawned/labourer'")
    door.open()
    assert sent.result(LIMIT) == 2


@token(affinity="process", idempotent=True)
def hoard(ledger: Ledger, size: int) -> int:
    """Use memory in the second attempt, until a limit ends it."""
    number = ledger.begin()
    if number == 1:
        while True:
            checkpoint()
    kept = bytearray(size)
    end = time.monotonic() + 30
    while kept and time.monotonic() < end:
        checkpoint()
    return number


def test_the_next_attempt_has_another_limit_of_memory(gate: Gate, ledger: Ledger, until: Until) -> None:
    """It holds for that attempt, and not for the one that runs."""
    sent = hoard.submit(ledger, 300 << 20)
    until(lambda: ledger.begun == [1])

    assert one(gate.control.preempt(sent, memory="150MiB", wait=LIMIT)).outcome == "preempted"
    error = sent.exception(LIMIT)

    assert isinstance(error, LimitExceeded)
    assert ledger.begun == [1, 2]
    assert sent.attempt == 2


def test_bad_arguments_are_refused(gate: Gate, ledger: Ledger, door: Door, until: Until) -> None:
    """Each names the value and the remedy, and nothing has changed."""
    sent = begin(gate, "operation cpu", ledger, door)
    until(lambda: ledger.begun == [1])

    for size in ("much", -1, 0):
        with pytest.raises(BadRequest, match="memory"):
            gate.control.preempt(sent, memory=size)
    refused = one(gate.control.preempt(sent, memory="1GiB"))
    assert (refused.outcome, refused.note) == (
        "refused",
        "its next attempt is in no child process, and only there a limit holds; add to=process",
    )
    door.open()
    assert sent.result(LIMIT) == 1


def test_code_that_cannot_be_ended_yet_is_said_to_be_asked(gate: Gate, ledger: Ledger, until: Until) -> None:
    """In C code an attempt ends as soon as it is back; until then the token runs, and another one is refused."""
    bolt = threading.Lock()
    bolt.acquire()

    @token(idempotent=True)
    def block() -> int:
        number = ledger.begin()
        if number == 1:
            bolt.acquire()
            checkpoint()
        return number

    sent = block.submit()
    until(lambda: ledger.begun == [1])

    asked = one(gate.control.preempt(sent, wait=0))
    assert asked.outcome == "preempt_requested"
    again = one(gate.control.preempt(sent, wait=0))
    assert (again.outcome, again.note) == ("refused", "it is being preempted, and that is done once")
    assert (sent.state, sent.attempt) == (TokenState.RUNNING, 1)
    bolt.release()
    assert sent.result(LIMIT) == 2
    assert ledger.begun == [1, 2]


@pytest.mark.parametrize("affinity", ["cpu", "io"])
def test_an_attempt_that_completes_all_the_same_is_the_end(
    gate: Gate, affinity: str, ledger: Ledger, door: Door, until: Until
) -> None:
    """Code may catch the interrupt: what it returns counts, since the token has its result then."""

    def stubborn() -> int:
        number = ledger.begin()
        while True:
            try:
                while not door.is_open:
                    checkpoint()
            except BaseException:
                return number

    async def stubborn_in_trio() -> int:
        number = ledger.begin()
        try:
            await trio.sleep_forever()
        except BaseException:
            pass
        return number

    code: Any = stubborn if affinity == "cpu" else stubborn_in_trio
    sent = operation(affinity, code, idempotent=True).submit()
    until(lambda: ledger.begun == [1])

    assert one(gate.control.preempt(sent, wait=LIMIT)).outcome == "ended"
    assert sent.result(LIMIT) == 1
    assert (ledger.begun, sent.attempt) == ([1], 1)


def test_what_was_asked_to_end_is_not_preempted(gate: Gate, ledger: Ledger, until: Until) -> None:
    """Neither after a cancel nor after a terminate; and what is preempted can still be ended."""
    bolt = threading.Lock()
    bolt.acquire()

    @token(idempotent=True)
    def block(ledger: Ledger) -> int:
        number = ledger.begin()
        bolt.acquire()
        checkpoint()
        return number

    sent = block.submit(ledger)
    until(lambda: ledger.begun == [1])
    sent.cancel()
    refused = one(gate.control.preempt(sent, wait=0))
    assert (refused.outcome, refused.note) == ("refused", "it was asked to end")
    bolt.release()
    assert isinstance(sent.exception(LIMIT), TokenTerminated)
    assert ledger.begun == [1]


@pytest.mark.parametrize("how", ["cancel", "terminate"])
def test_a_request_to_end_wins_over_a_preemption_under_way(gate: Gate, how: str, ledger: Ledger, until: Until) -> None:
    """Whoever comes second: a token that somebody has asked to end begins no other attempt."""
    bolt = threading.Lock()
    bolt.acquire()

    @token(idempotent=True)
    def block(ledger: Ledger) -> int:
        number = ledger.begin()
        bolt.acquire()
        checkpoint()
        return number

    sent = block.submit(ledger)
    until(lambda: ledger.begun == [1])
    assert one(gate.control.preempt(sent, wait=0)).outcome == "preempt_requested"
    if how == "cancel":
        sent.cancel()
    else:
        gate.control.terminate(sent, wait=0)
    bolt.release()

    assert isinstance(sent.exception(LIMIT), TokenTerminated)
    assert (ledger.begun, sent.state, sent.attempt) == ([1], TokenState.TERMINATED, 1)


def test_a_paused_token_stays_paused(
    gate: Gate, ledger: Ledger, door: Door, until: Until, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The pause holds for the next attempt, which begins when it is resumed, however late the reconciler looks."""
    monkeypatch.setattr("actors.system._reconciler._LOOK_FIRST", LIMIT)
    sent = begin(gate, "operation cpu", ledger, door)
    until(lambda: ledger.begun == [1])
    assert one(gate.control.pause(sent, wait=LIMIT)).outcome == "paused"

    assert one(gate.control.preempt(sent, wait=LIMIT)).outcome == "preempted"
    until(lambda: gate.control.describe(sent).row.held == "paused")
    assert ledger.begun == [1]
    assert one(gate.control.resume(sent)).outcome == "resumed"
    until(lambda: ledger.begun == [1, 2])
    door.open()
    assert sent.result(LIMIT) == 2


def test_it_is_no_failure(gate: Gate, ledger: Ledger, until: Until) -> None:
    """Case 26: no retry is used up, no breaker counts it, and the attempt is another one."""
    door = threading.Event()

    def work(ledger: Ledger) -> int:
        number = ledger.begin()
        while number == 1 and not door.is_set():
            checkpoint()
        if number < 4:
            raise ConnectionError(f"attempt {number}")
        return number

    held = token(idempotent=True, policy=Policy(retry=Retry(on=ConnectionError, attempts=3, wait=0)))(work)
    sent = held.submit(ledger)
    until(lambda: ledger.begun == [1])

    assert one(gate.control.preempt(sent, wait=LIMIT)).outcome == "preempted"

    assert sent.result(LIMIT) == 4
    assert [type(attempt.error) for attempt in sent.attempts] == [
        TokenTerminated, ConnectionError, ConnectionError, type(None),
    ]  # fmt: skip
    assert [attempt.number for attempt in sent.attempts] == [1, 2, 3, 4]


def test_its_grants_are_given_back(gate: Gate, ledger: Ledger, door: Door, until: Until) -> None:
    """The next attempt has grants of its own, of throttles of its policy and of operators."""
    gate.control.throttle("tenant=acme", concurrency=1)
    limited = token(idempotent=True, policy=Policy(throttle=Throttle(concurrency=1)))(labour)
    for called in (OPERATIONS["cpu"], limited):
        folder = Path(ledger.folder, str(id(called)))
        folder.mkdir()
        own = Ledger(str(folder))
        sent = called.with_options(tags={"tenant": "acme"}).submit(own, door)
        until(lambda own=own: own.begun == [1])  # type: ignore[misc]

        assert one(gate.control.preempt(sent, wait=LIMIT)).outcome == "preempted"
        until(lambda own=own: own.begun == [1, 2])  # type: ignore[misc]
        assert len(gate._system.throttles.grants) == 1
        door.open()
        assert sent.result(LIMIT) == 2
        until(lambda: not gate._system.throttles.grants)
        door.is_open = False
    gate.control.lift("*")
    door.open()


def test_its_place_is_as_fast_as_before_once_it_has_ended(gate: Gate, ledger: Ledger, door: Door, until: Until) -> None:
    """The lock-free way of its mailbox is open again, and no governor is left."""
    sent = begin(gate, "operation cpu", ledger, door)
    place = sent._place
    until(lambda: ledger.begun == [1])
    assert one(gate.control.preempt(sent, wait=LIMIT)).outcome == "preempted"
    assert place.mailbox._throttles is not None  # type: ignore[attr-defined]
    door.open()

    assert sent.result(LIMIT) == 2
    until(lambda: place.mailbox._throttles is None)  # type: ignore[attr-defined]
    assert place.governor is None


def test_waiters_and_callbacks_hear_of_one_end(gate: Gate, ledger: Ledger, door: Door, until: Until) -> None:
    """The outcome is that of the second attempt, for all who wait."""
    sent = begin(gate, "operation cpu", ledger, door)
    heard: list[int] = []
    sent.add_done_callback(lambda one: heard.append(one.result()))
    waiter = threading.Thread(target=lambda: heard.append(sent.result(LIMIT)))
    waiter.start()
    until(lambda: ledger.begun == [1])
    assert one(gate.control.preempt(sent, wait=LIMIT)).outcome == "preempted"
    assert heard == []
    door.open()
    waiter.join(LIMIT)

    until(lambda: heard == [2, 2])


class Watcher(Observer):
    """Notes what it is told of tokens."""

    def __init__(self) -> None:
        self.told: list[tuple[str, int, str]] = []

    def token_retried(self, token: Token[Any], error: BaseException, reason: str, /) -> None:
        self.told.append(("retried", token.attempt, reason))

    def token_finished(self, token: Token[Any], /) -> None:
        self.told.append(("finished", token.attempt, token.state.value))


def test_observers_and_records_tell_the_preemption(gate: Gate, ledger: Ledger, door: Door, until: Until) -> None:
    """`token.retried` with the reason `preempt`, once; the attempt's number is that of the one that has ended."""
    watcher = Watcher()
    gate._system.add_observer(watcher)
    with gate.control.watch("operation=labour") as events:
        sent = begin(gate, "operation cpu", ledger, door)
        until(lambda: ledger.begun == [1])
        assert one(gate.control.preempt(sent, wait=LIMIT)).outcome == "preempted"
        door.open()
        assert sent.result(LIMIT) == 2
        seen = []
        for event in events:
            seen.append(event)
            if event.kind == "token.finished":
                break

    assert [told for told in watcher.told if told[0] == "retried"] == [("retried", 1, "preempt")]
    assert watcher.told[-1] == ("finished", 2, "completed")
    retried = [event for event in seen if event.kind == "token.retried"]
    assert len(retried) == 1
    assert (retried[0].reason, retried[0].attempt, retried[0].error) == ("preempt", 1, "TokenTerminated")
    assert retried[0].steered


@token(affinity="process", idempotent=True)
def send_a_child(ledger: Ledger, door: Door) -> str:
    number = ledger.begin()
    while number == 1:
        checkpoint()
    child: str = small.submit(number).result()
    return child


@token
def small(number: int) -> str:
    return f"child of attempt {number}"


def test_the_next_attempt_may_send_tokens(gate: Gate, ledger: Ledger, door: Door, until: Until) -> None:
    """What a killed process sent is refused; its token's next attempt is not taken for that."""
    sent = send_a_child.submit(ledger, door)
    until(lambda: ledger.begun == [1])
    assert one(gate.control.preempt(sent, wait=LIMIT)).outcome == "preempted"

    assert sent.result(LIMIT) == "child of attempt 2"


@pytest.mark.parametrize("what", ["operation", pytest.param("actor", marks=in_ci)])
def test_the_death_of_the_old_process_does_not_fail_the_next_attempt(
    gate: Gate, what: str, ledger: Ledger, door: Door, until: Until, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its death may be noticed after the next attempt has begun elsewhere."""
    lifecycle = gate._system.processes.lifecycle
    late: list[tuple[Any, Any]] = []
    on_exited = lifecycle._on_exited
    monkeypatch.setattr(lifecycle, "_on_exited", lambda worker, code: late.append((worker, code)))
    sent = begin(gate, f"{what} process", ledger, door)
    until(lambda: ledger.begun == [1])

    assert one(gate.control.preempt(sent, wait=LIMIT)).outcome == "preempted"
    until(lambda: ledger.begun == [1, 2])
    until(lambda: len(late) == 1)
    monkeypatch.undo()
    gate._system.processes.call_soon(lambda: on_exited(*late[0]))
    until(lambda: late[0][0] not in gate._system.processes.pool.workers)
    door.open()

    assert sent.result(LIMIT) == 2


@in_ci
def test_an_actor_that_is_not_started_again_keeps_its_process(
    gate: Gate, ledger: Ledger, door: Door, until: Until
) -> None:
    """To kill the process of a temporary actor would end it for good, with its queue."""
    sent = gate.spawn(ProcessLabourer, name="once", restart="temporary").proxy().labour(ledger, door)
    until(lambda: ledger.begun == [1])

    refused = one(gate.control.preempt(sent))
    assert refused.outcome == "refused"
    assert refused.note == "its process would be killed, and 'spawned/once' is not started again"
    door.open()
    assert sent.result(LIMIT) == 1


def test_a_token_that_runs_for_others_is_preempted_for_all(
    gate: Gate, ledger: Ledger, door: Door, until: Until
) -> None:
    """Those that it runs for say which one to preempt; all of them get the outcome of its second attempt."""
    sent = [OPERATIONS["cpu"].with_options(key="same").submit(ledger, door) for _ in range(3)]
    until(lambda: ledger.begun == [1])
    refused = one(gate.control.preempt(sent[0]))
    assert refused.outcome == "refused"
    run = int(refused.note.split()[1])

    assert one(gate.control.preempt(run, wait=LIMIT)).outcome == "preempted"
    door.open()
    assert [each.result(LIMIT) for each in sent] == [2, 2, 2]
    assert ledger.begun == [1, 2]


def test_members_of_a_transaction_that_is_rolled_back_are_not_preempted(
    gate: Gate, ledger: Ledger, until: Until
) -> None:
    """The rollback ends them, and must not race with another attempt."""
    bolt, fails = threading.Lock(), threading.Event()
    bolt.acquire()

    @token(idempotent=True)
    def book(ledger: Ledger) -> int:
        number = ledger.begin()
        bolt.acquire()
        checkpoint()
        return number

    @book.compensate
    def cancel(_done: Any) -> None: ...

    def run() -> None:
        with gate.entered(), contextlib.suppress(RuntimeError), gate.transaction("order"):
            book.submit(ledger)
            assert fails.wait(LIMIT)
            raise RuntimeError("enough")

    block = threading.Thread(target=run)
    block.start()
    until(lambda: ledger.begun == [1])
    (sent,) = gate.control.tokens("operation=book")
    fails.set()
    until(lambda: [row.state for row in gate.control.transactions()] == ["rolling_back"])
    refused = one(gate.control.preempt(sent, wait=0))
    bolt.release()
    block.join(LIMIT)

    assert refused.outcome == "refused"
    assert refused.note in ("it was asked to end", "its transaction 'order' is being rolled back")
    assert ledger.begun == [1]


def test_the_guard_counts(gate: Gate, ledger: Ledger, door: Door, until: Until) -> None:
    """It ends code that has begun, so `force` needs force and a reason, and `never` is never."""
    for guard in ("force", "never"):
        folder = Path(ledger.folder, guard)
        folder.mkdir()
        own = Ledger(str(folder))
        sent = operation("cpu", labour, idempotent=True, guard=guard).submit(own, door)
        until(lambda own=own: own.begun == [1])  # type: ignore[misc]
        refused = one(gate.control.preempt(sent))
        assert refused.outcome == "refused"
        if guard == "force":
            assert refused.note == "its guard is 'force'; use force to preempt it"
            forced = gate.control.preempt(sent, force=True, reason="a test", wait=LIMIT)
            assert one(forced).outcome == "preempted"
        else:
            assert "'never'" in refused.note


def test_handles_and_coroutines_have_the_verb(gate: Gate, ledger: Ledger, door: Door, until: Until) -> None:
    """With the same arguments as the method of `gate.control`."""
    sent = begin(gate, "operation cpu", ledger, door)
    until(lambda: ledger.begun == [1])
    handle = gate.control.token(sent)

    async def ask() -> Outcome:
        return one(await gate.control.aio.preempt(sent, to="cpu", wait=LIMIT))

    assert trio.run(ask).outcome == "preempted"
    until(lambda: ledger.begun == [1, 2])
    assert one(handle.preempt()).outcome == "refused"
    assert one(gate.control.tokens("operation=labour").preempt(to="cpu")).outcome == "refused"


def test_a_dry_run_changes_nothing_and_is_applied_once(gate: Gate, ledger: Ledger, door: Door, until: Until) -> None:
    """Its proposal resolves the ids."""
    sent = begin(gate, "operation cpu", ledger, door)
    until(lambda: ledger.begun == [1])

    planned = gate.control.preempt("operation=labour", to="cpu", dry_run=True)
    assert one(planned).outcome == "would"
    assert planned.proposal is not None
    assert (sent.attempt, ledger.begun) == (1, [1])
    done = gate.control.apply(planned.proposal.number)
    assert one(done.outcomes).outcome in {"preempted", "preempt_requested"}
    until(lambda: ledger.begun == [1, 2])
    door.open()
    assert sent.result(LIMIT) == 2


@pytest.mark.parametrize(
    "affinities", [("cpu", "io", "asyncio"), pytest.param(("cpu", "io", "asyncio", "process"), marks=in_ci)]
)
@pytest.mark.parametrize("closes", [False, True])
def test_nothing_is_lost_or_doubled_in_a_storm(
    chance: random.Random, tmp_path: Path, affinities: tuple[str, ...], closes: bool, rounds: Callable[[int], int]
) -> None:
    """Case 26. Preempted, cancelled, terminated and moved at random, and as the gate closes: each token ends once."""
    sent: list[tuple[Token[Any], Ledger]] = []
    ends: list[int] = []
    with (
        opened_at_the_end() as make,
        Gate("storm", threads=4, processes=2, control_socket=False, shutdown=0.5 if closes else LIMIT) as gate,
    ):
        for number in range(rounds(30)):
            folder = tmp_path / str(number)
            folder.mkdir()
            own, door = Ledger(str(folder)), share(make())
            one = OPERATIONS[chance.choice(affinities)].submit(own, door)
            one.add_done_callback(lambda ended: ends.append(ended.id))
            sent.append((one, own))
            if chance.random() < 0.3:
                door.open()
            for target, _ in chance.sample(sent, min(3, len(sent))):
                act = chance.choice(("preempt", "preempt", "preempt", "cancel", "terminate", "move"))
                if act == "preempt":
                    gate.control.preempt(target, wait=chance.choice((0, 0.01)))
                elif act == "cancel" and chance.random() < 0.3:
                    target.cancel()
                elif act == "terminate" and chance.random() < 0.3:
                    gate.control.terminate(target, wait=0)
                elif act == "move":
                    gate.control.preempt(target, to=chance.choice(affinities), wait=0)
        if not closes:
            for one, _ in sent:
                one.args[1].open() if one.args else None
            for one, _ in sent:
                one.exception(LIMIT)

    assert sorted(ends) == sorted(one.id for one, _ in sent)
    for one, own in sent:
        assert len(own.begun) <= 1 + one._extras.preempted
        assert own.begun == list(range(1, len(own.begun) + 1))
        if one.state is TokenState.COMPLETED:
            assert one.result() == own.begun[-1] <= one.attempt  # it may be preempted before its first line
