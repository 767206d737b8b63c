"""Transactions: what a block has done is undone, in reverse, whatever ends it."""

# ruff: noqa: PT012  # a whole block is what raises

from __future__ import annotations

import asyncio
import contextlib
import os
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import trio
from gated_code import LIMIT, Door, opened_at_the_end
from shared_lists import Boom
from tiers import in_ci

from tokengate import CpuActor, Gate, TokenState, current_token, token
from tokengate._exceptions import BadOperation, CompensationFailed, GateState
from tokengate.errors import TokenInterrupt, TokenRejected, TokenTerminated, WorkerDied, WouldBlock
from tokengate.policy._events import TransactionStuck
from tokengate.policy._policy import Batch, Policy, Retry
from tokengate.policy._undo import Done
from tokengate.types import ProcessPool

Until = Callable[[Callable[[], bool]], None]

AFFINITIES = ("cpu", "io", "asyncio", "process")


class Ledger:
    """An outside ledger: what was done and undone, in this order."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.seen: list[Done[Any]] = []

    def undo(self, done: Done[Any]) -> None:
        self.seen.append(done)
        self.lines.append(f"undo {done.args[0]}")

    async def undo_async(self, done: Done[Any]) -> None:
        self.undo(done)


def doubling() -> Any:
    """Return a function that processes get by value, so that they need not import this module."""

    def double(number: int) -> int:
        if number < 0:
            raise Boom(number)
        return 2 * number

    return double


double = doubling()


async def double_async(number: int) -> int:
    return int(double(number))


def operation_of(affinity: str, ledger: Ledger, **options: Any) -> Any:
    """Return an operation with a compensation that runs where it runs, a process apart."""
    on_loop = affinity in ("io", "asyncio")
    made: Any = token(affinity=affinity, **options)(double_async if on_loop else double)  # type: ignore[call-overload]
    undo: Any = token(affinity="cpu" if affinity == "process" else affinity)(  # type: ignore[call-overload]
        ledger.undo_async if on_loop else ledger.undo
    )
    made.compensate(undo)
    return made


@pytest.fixture
def gate() -> Iterator[Gate]:
    pool = ProcessPool(size=1, spares=0)
    with Gate("shop", threads=2, processes=pool, control_socket=False, shutdown=LIMIT) as opened:
        opened._ledger().grace = 0.0
        yield opened


@pytest.fixture
def ledger() -> Ledger:
    return Ledger()


# What is undone, and in which order


@pytest.mark.parametrize("affinity", AFFINITIES)
def test_an_error_undoes_what_completed_in_reverse_order(gate: Gate, ledger: Ledger, affinity: str) -> None:
    """Case 47. The error comes out, with a note of what was undone; what failed is not undone."""
    op = operation_of(affinity, ledger)
    with pytest.raises(Boom) as raised, gate.transaction("order 7") as tx:
        first = op.submit(1)
        first.result()
        second = op.submit(2)
        second.result()
        op.submit(-1).result()

    assert ledger.lines == ["undo 2", "undo 1"]
    assert [(done.kwargs, done.result, done.state) for done in ledger.seen] == [
        ({}, 4, TokenState.COMPLETED),
        ({}, 2, TokenState.COMPLETED),
    ]
    assert tx.state == "rolled_back"
    assert raised.value.__notes__[-1] == (
        f"transaction 'order 7' was rolled back; undone: {op._name} (token {second.id}), {op._name} (token {first.id})"
    )


def test_direct_calls_are_members_too(gate: Gate, ledger: Ledger) -> None:
    """Case 47. A call that runs on the thread of its caller, and the calls that it makes."""
    inner = operation_of("cpu", ledger)

    @token
    def outer(number: int) -> int:
        return int(inner(number + 1))

    outer.compensate(ledger.undo)
    with pytest.raises(Boom), gate.transaction("order"):
        assert outer(1) == 4
        inner(-1)

    assert ledger.lines == ["undo 2", "undo 1"]


@pytest.mark.parametrize("affinity", ["io", "asyncio"])
@pytest.mark.parametrize("loop", ["trio", "asyncio"])
def test_async_blocks_undo_awaited_calls(affinity: str, loop: str) -> None:
    """Case 47. In a loop, `async with`; a compensation of asyncio runs in the loop of the block."""
    ledger = Ledger()
    op = operation_of(affinity, ledger)

    async def main() -> None:
        async with Gate("shop", control_socket=False) as gate:
            with pytest.raises(Boom):
                async with gate.transaction("order"):
                    assert await op(1) == 2
                    assert await (await op.asubmit(2)) == 4
                    await op(-1)

    if loop == "trio":
        trio.run(main)
    else:
        asyncio.run(main())
    assert ledger.lines == ["undo 2", "undo 1"]


def test_compensations_of_asyncio_run_in_the_loop_of_the_block() -> None:
    """Case 47. Also where the gate was opened outside of that loop."""
    threads: list[threading.Thread] = []

    @token(affinity="asyncio")
    async def work() -> None:
        pass

    @work.compensate
    @token(affinity="asyncio")
    async def undo(done: Done[None]) -> None:
        threads.append(threading.current_thread())

    async def main(gate: Gate) -> None:
        async with gate.transaction("order") as tx:
            await work()
            tx.roll_back()

    with Gate("shop", control_socket=False) as gate:
        asyncio.run(main(gate))
    assert threads == [threading.current_thread()]


def test_a_block_that_ends_well_undoes_nothing_and_keeps_nothing(gate: Gate, ledger: Ledger) -> None:
    """Case 47. Its end waits for its tokens, and for those that these have made."""
    op = operation_of("cpu", ledger)
    results: list[int] = []

    @token
    def later() -> None:
        results.append(op.submit(3).result())

    with gate.transaction("order") as tx:
        op.submit(1)
        later.submit()
    assert results == [6]
    assert ledger.lines == []
    assert tx.state == "committed"
    assert gate._ledger().all() == []


def test_what_never_ran_is_not_undone(gate: Gate, ledger: Ledger) -> None:
    """Case 47. A token that was rejected, and one that was still queued."""
    with opened_at_the_end() as door_of:
        door = door_of()

        @token(concurrency=1)
        def work(door: Door | None) -> None:
            if door is not None:
                door.pass_through()

        work.compensate(on="any")(lambda done: ledger.lines.append("undone"))
        outside = work.submit(door)
        door.wait_reached()
        with gate.transaction("order") as tx:
            queued = work.submit(None)
            tx.roll_back()
            refused = work.submit(None)

        assert queued.state is TokenState.TERMINATED
        assert isinstance(refused.exception(), TokenRejected)
        assert refused.exception().reason == "transaction"  # type: ignore[union-attr]
        assert ledger.lines == []
        assert not outside.done()


def test_on_any_undoes_what_has_raised(gate: Gate, ledger: Ledger) -> None:
    """Case 47. `done.state` says that it failed, and there is no result."""
    op = token(double)
    op.compensate(on="any")(ledger.undo)
    with pytest.raises(Boom), gate.transaction("order"):
        op(-1)
    assert [(done.args, done.result, done.state) for done in ledger.seen] == [((-1,), None, TokenState.FAILED)]


def test_an_unknown_outcome_is_undone(gate: Gate, ledger: Ledger) -> None:
    """Case 47. A process that died may have done it."""

    @token(affinity="process")
    def die(number: int) -> None:
        os._exit(number)

    die.compensate(ledger.undo)
    with pytest.raises(WorkerDied), gate.transaction("order"):
        die(3)
    assert [(done.args, done.state) for done in ledger.seen] == [((3,), TokenState.FAILED)]


def test_a_retried_call_is_undone_once_by_its_last_attempt(gate: Gate, ledger: Ledger) -> None:
    """Case 47. Attempts that failed before it change nothing; it began when its last attempt did."""
    attempts: list[int] = []

    @token(policy=Policy(retry=Retry(on=Boom, attempts=3, wait=0)))
    def flaky(number: int) -> int:
        attempts.append(number)
        if len(attempts) < 3:
            raise Boom
        return number

    flaky.compensate(ledger.undo)
    with gate.transaction("order") as tx:
        assert flaky.submit(5).result() == 5
        tx.roll_back()
    assert ledger.lines == ["undo 5"]


def test_what_a_fallback_has_answered_for_is_not_undone(gate: Gate, ledger: Ledger) -> None:
    """Case 47. Its token completes, but its own code has failed, or never ran."""
    op = token(policy=Policy(fallback=lambda error, number: 0))(double)
    op.compensate(ledger.undo)
    with gate.transaction("order") as tx:
        assert op.submit(-1).result() == 0
        tx.roll_back()
    assert ledger.lines == []


def test_calls_that_share_a_run_are_undone_once_with_their_key(gate: Gate, ledger: Ledger) -> None:
    """Case 47. The run is what is undone: it is a member of the transaction of its first caller."""
    op = operation_of("cpu", ledger).with_options(key="order 7")
    with gate.transaction("order") as tx:
        first, second = op.submit(1), op.submit(1)
        assert (first.result(), second.result()) == (2, 2)
        tx.roll_back()
    assert len(ledger.seen) in (1, 2)  # the second call has a run of its own if the first one had ended before
    assert {(done.args, done.result, done.key) for done in ledger.seen} == {((1,), 2, "order 7")}


def test_tokens_of_a_batch_are_undone_one_by_one(gate: Gate, ledger: Ledger) -> None:
    """Case 47. Each with its own argument and result; one whose result is an error is not undone."""

    @token(policy=Policy(batch=Batch(size=3, wait=LIMIT)))
    def embed(numbers: list[int]) -> list[Any]:
        return [2 * number if number > 0 else Boom(number) for number in numbers]

    embed.compensate(ledger.undo)
    with gate.transaction("order") as tx:
        sent: list[Any] = [embed.submit(number) for number in (1, -2, 3)]  # type: ignore[arg-type]
        assert [one.exception() is None for one in sent] == [True, False, True]
        tx.roll_back()
    assert sorted((done.args[0], done.result) for done in ledger.seen) == [(1, 2), (3, 6)]


def test_messages_of_actors_are_waited_for_and_ended(gate: Gate, ledger: Ledger) -> None:
    """Case 47. They have no compensation; the calls that they make have."""
    op = operation_of("cpu", ledger)

    class Clerk(CpuActor):
        def sell(self, number: int) -> int:
            return int(op(number))

    clerk: Any = gate.spawn(Clerk).proxy()
    with gate.transaction("order") as tx:
        sold = clerk.sell(4)
        assert sold.result() == 8
        tx.roll_back()
    assert ledger.lines == ["undo 4"]
    assert clerk.sell(5).result() == 10  # the actor lives on


@pytest.mark.parametrize("direct", [True, False])
def test_tokens_of_child_processes_are_members(gate: Gate, ledger: Ledger, direct: bool) -> None:
    """Case 47. Code of a process calls or submits operations of the gate."""
    inner = operation_of("cpu", ledger)

    @token(affinity="process")
    def outer(number: int) -> int:
        return int(inner(number) if direct else inner.submit(number).result())

    outer.compensate(lambda done: ledger.lines.append("undo outer"))
    with gate.transaction("order") as tx:
        outer(1)
        tx.roll_back()
    assert ledger.lines == ["undo 1", "undo outer"]


@in_ci  # the child imports much for it
def test_a_compensation_in_a_process_gets_the_call(gate: Gate) -> None:
    """Case 47. Its argument crosses, with the arguments and the result."""
    op = token(affinity="process")(double)

    @op.compensate
    @token(affinity="process")
    def undo(done: Done[int]) -> None:
        raise Boom(done.args, done.result, done.state, os.getpid())

    with pytest.raises(CompensationFailed) as raised, gate.transaction("order") as tx:
        op(21)
        tx.roll_back()
    error = raised.value.exceptions[0]
    assert error.args[:3] == ((21,), 42, "completed")
    assert error.args[3] != os.getpid()


# A compensation fails


def test_the_others_are_undone_and_an_operator_repeats_the_step(gate: Gate, ledger: Ledger, until: Until) -> None:
    """Case 48. The block raises a group, its own error first; it is stuck until the step is repeated."""
    op, broken = operation_of("cpu", ledger), [True]
    events: list[object] = []
    gate.subscribe(events.append)
    bad = token(double)

    @bad.compensate
    def undo(done: Done[int]) -> None:
        if broken[0]:
            raise Boom("no bank")
        ledger.undo(done)

    with pytest.raises(CompensationFailed) as raised, gate.transaction("order") as tx:
        op(1)
        bad(2)
        op(3)
        raise KeyError("of the block")

    assert ledger.lines == ["undo 3", "undo 1"]
    assert [type(error) for error in raised.value.exceptions] == [KeyError, Boom]
    assert tx.state == "stuck"
    stuck = gate._ledger().named("order")
    assert stuck is not None
    step = next(iter(stuck.failed))
    assert [event for event in events if isinstance(event, TransactionStuck)] == [
        TransactionStuck("order", {step: "Boom: no bank"})
    ]
    assert stuck.repeat()
    until(lambda: tx.state == "stuck")
    broken[0] = False
    assert stuck.repeat()
    until(lambda: tx.state == "rolled_back")
    assert ledger.lines == ["undo 3", "undo 1", "undo 2"]
    assert not stuck.repeat()
    assert gate._ledger().all() == []


def test_an_operator_skips_the_step(gate: Gate, ledger: Ledger) -> None:
    """Case 48. Then the transaction is rolled back, as far as it can be."""
    op = token(double)
    op.compensate(lambda done: 1 / 0)
    with pytest.raises(CompensationFailed), gate.transaction("order") as tx:
        op(1)
        tx.roll_back()
    stuck = gate._ledger().named("order")
    assert stuck is not None
    (step,) = stuck.failed
    assert not stuck.skip(step + 1)
    assert stuck.skip(step)
    assert tx.state == "rolled_back"


def test_an_operator_rolls_back_an_open_block(gate: Gate, ledger: Ledger) -> None:
    """Case 48. Its own end tells it, if no error of a token has."""
    op = operation_of("cpu", ledger)
    with pytest.raises(TokenTerminated, match="an operator") as raised, gate.transaction("order"):
        member = op.submit(1)
        member.result()
        found = gate._ledger().of(member.id)
        assert found is not None
        found.roll_back("an operator asked for it")
    assert ledger.lines == ["undo 1"]
    assert "undone" in str(raised.value)


# Nothing cuts it short


def test_the_cancelled_scope_of_a_block_does_not_cut_its_rollback_short(ledger: Ledger) -> None:
    """Case 49. In trio; neither does the deadline of the token that the block is in."""

    @token
    async def work() -> None:
        pass

    @work.compensate
    async def undo(done: Done[None]) -> None:
        await trio.sleep(0)
        ledger.lines.append("undone")

    async def main() -> None:
        async with Gate("shop", control_socket=False) as gate:
            with trio.CancelScope() as scope:
                async with gate.transaction("order") as tx:
                    await work()
                    scope.cancel()
                    await trio.sleep_forever()
            assert scope.cancelled_caught
            assert tx.state == "rolled_back"

    trio.run(main)
    assert ledger.lines == ["undone"]


def test_a_cancelled_task_does_not_cut_its_rollback_short(ledger: Ledger) -> None:
    """Case 49. In asyncio, cancelled again and again."""

    @token(affinity="asyncio")
    async def work() -> None:
        pass

    async def main() -> None:
        undoing, go_on = asyncio.Event(), asyncio.Event()

        @work.compensate
        @token(affinity="asyncio")
        async def undo(done: Done[None]) -> None:
            undoing.set()
            await go_on.wait()
            ledger.lines.append("undone")

        async with Gate("shop", control_socket=False) as gate:
            tx = gate.transaction("order")

            async def block() -> None:
                async with tx:
                    await work()
                    await asyncio.sleep(LIMIT)

            task = asyncio.create_task(block())
            while not gate._transactions or not gate.statistics().tokens[TokenState.COMPLETED]:
                await asyncio.sleep(0.001)
            task.cancel()
            await undoing.wait()
            task.cancel()
            await asyncio.sleep(0)
            task.cancel()
            go_on.set()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert tx.state == "rolled_back"

    asyncio.run(main())
    assert ledger.lines == ["undone"]


def test_a_block_in_a_token_that_is_cancelled_is_rolled_back(gate: Gate, ledger: Ledger, until: Until) -> None:
    """Case 49. The compensation is no child of the token, and inherits neither its end nor its deadline."""
    op, parents = token(double), []

    @op.compensate
    def undo(done: Done[int]) -> None:
        inside = current_token()
        assert inside is not None
        parents.append((inside.parent, inside.deadline, dict(inside.tags)["transaction"]))
        ledger.undo(done)

    with opened_at_the_end() as door_of:
        door = door_of()

        @token(policy=Policy(deadline=LIMIT))
        def block(door: Door) -> None:
            with gate.transaction("order"):
                op(1)
                door.reached.set()
                while not door.is_open:
                    pass

        running = block.submit(door)
        door.wait_reached()
        gate.control.terminate(running.id)
        with pytest.raises(TokenTerminated):
            running.result(LIMIT)
        until(lambda: ledger.lines == ["undo 1"])
    assert parents == [(None, None, "order")]


def test_compensations_have_policies_of_their_own(gate: Gate, ledger: Ledger) -> None:
    """Case 49. A retry, say."""
    op, attempts = token(double), []

    @op.compensate(policy=Policy(retry=Retry(on=Boom, attempts=3, wait=0)))
    def undo(done: Done[int]) -> None:
        attempts.append(done)
        if len(attempts) < 3:
            raise Boom
        ledger.undo(done)

    with gate.transaction("order") as tx:
        op(1)
        tx.roll_back()
    assert ledger.lines == ["undo 1"]
    assert len(attempts) == 3


# What runs


def test_what_runs_is_ended_first(gate: Gate, ledger: Ledger) -> None:
    """Case 50. Then it is undone, since it is unknown how far it came."""
    with opened_at_the_end() as door_of:
        door = door_of()

        @token
        def spin(door: Door) -> None:
            try:
                door.reached.set()
                while not door.is_open:
                    pass
            finally:
                ledger.lines.append("ended")

        @spin.compensate
        def undo(done: Done[None]) -> None:
            ledger.lines.append(f"undone, {done.state}")

        gate._ledger().grace = LIMIT
        with gate.transaction("order") as tx:
            spin.submit(door)
            door.wait_reached()
            tx.roll_back()
    assert ledger.lines == ["ended", "undone, terminated"]


@pytest.mark.parametrize(
    ("way", "undone"),
    [
        ("is interrupted", ["undone, terminated, None"]),
        ("returns", ["undone, completed, after all"]),
        ("raises", ["undone, terminated, None"]),
    ],
)
def test_code_left_behind_is_undone_when_it_has_returned(
    gate: Gate, ledger: Ledger, until: Until, way: str, undone: list[str]
) -> None:
    """Case 50. Until then the transaction is stuck; the others are undone at once."""
    op = operation_of("cpu", ledger)
    with opened_at_the_end() as door_of:
        door = door_of()

        @token
        def hang(door: Door) -> str:
            try:
                door.pass_through()
            except TokenInterrupt:
                if way == "is interrupted":
                    raise
            if way == "raises":
                raise Boom
            return "after all"

        @hang.compensate
        def undo(done: Done[str]) -> None:
            ledger.lines.append(f"undone, {done.state}, {done.result}")

        with pytest.raises(CompensationFailed), gate.transaction("order") as tx:
            op(1)
            hang.submit(door)
            door.wait_reached()
            tx.roll_back()
        assert ledger.lines == ["undo 1"]
        assert tx.state == "stuck"
        door.open()
        until(lambda: tx.state == "rolled_back")
    assert ledger.lines == ["undo 1", *undone]
    assert gate._ledger().all() == []


# Closing


def test_closing_the_gate_rolls_back(ledger: Ledger) -> None:
    """Case 51. The block is told; nothing is left, and the report says so."""
    op = operation_of("cpu", ledger)
    begun, closed = threading.Event(), threading.Event()
    errors: list[BaseException] = []
    gate = Gate("shop", control_socket=False, shutdown=LIMIT).open()

    def block() -> None:
        try:
            with gate.transaction("order"):
                op(1)
                begun.set()
                closed.wait(LIMIT)
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=block)
    thread.start()
    assert begun.wait(LIMIT)
    report = gate.close()
    closed.set()
    thread.join(LIMIT)

    assert ledger.lines == ["undo 1"]
    assert [type(error) for error in errors] == [TokenTerminated]
    assert "gate was closed" in str(errors[0])
    assert report.uncompensated == ()
    assert report.clean
    assert report.stages["undo"] == "done"


def test_what_closing_could_not_undo_is_named(ledger: Ledger) -> None:
    """Case 51. A compensation that has failed, and one that there was no time for."""
    op = token(double)
    op.compensate(lambda done: 1 / 0)
    with Gate("shop", control_socket=False) as gate:
        with pytest.raises(CompensationFailed), gate.transaction("order") as tx:
            op(1)
            tx.roll_back()
        hanging = gate.transaction("cut short")
        hanging.__enter__()
        op(2)
        gate.hurry()
        report = gate.close()
        with contextlib.suppress(BaseException):
            hanging.__exit__(None, None, None)
    assert [name.partition(" (")[0] for name in report.uncompensated] == ["order: double", "cut short: double"]
    assert not report.clean


# Blocks in blocks


def test_a_block_in_a_block_gives_its_tokens_to_the_outer_one(gate: Gate, ledger: Ledger) -> None:
    """Case 52. An error of the outer block undoes both, the latest first."""
    op = operation_of("cpu", ledger)
    with pytest.raises(Boom), gate.transaction("outer") as outer:
        op(1)
        with gate.transaction("inner") as inner:
            op(2)
        op(3)
        assert inner.state == "committed"
        assert ledger.lines == []
        op(-1)
    assert ledger.lines == ["undo 3", "undo 2", "undo 1"]
    assert outer.state == "rolled_back"


def test_an_error_of_the_inner_block_leaves_the_outer_one(gate: Gate, ledger: Ledger) -> None:
    """Case 52. It goes on, if it catches the error."""
    op = operation_of("cpu", ledger)
    with gate.transaction("outer") as outer:
        op(1)
        with contextlib.suppress(Boom), gate.transaction("inner"):
            op(2)
            op(-1)
        assert ledger.lines == ["undo 2"]
        op(3)
    assert ledger.lines == ["undo 2"]
    assert outer.state == "committed"


def test_the_rollback_of_the_outer_block_takes_the_open_inner_one_with_it(gate: Gate, ledger: Ledger) -> None:
    """Case 52. All in one order; the inner block raises as the outer one does."""
    op = operation_of("cpu", ledger)
    with pytest.raises(TokenTerminated), gate.transaction("outer") as outer:
        op(1)
        with gate.transaction("inner"):
            op(2)
            outer._begun.roll_back("an operator asked for it")
            assert isinstance(op.submit(3).exception(), TokenRejected)
            with pytest.raises(TokenRejected):
                gate.transaction("third").__enter__()
    assert ledger.lines == ["undo 2", "undo 1"]


# Around it


def test_names_of_open_transactions_are_unique(gate: Gate) -> None:
    """Operators name one of them."""
    with gate.transaction("order") as first, gate.transaction("order") as second, gate.transaction("other") as third:
        assert (first.name, second.name, third.name) == ("order", "order~2", "other")


def test_code_after_the_block_is_free(gate: Gate, ledger: Ledger) -> None:
    """Its tokens are members of nothing, also after a rollback."""
    op = operation_of("cpu", ledger)
    with gate.transaction("order") as tx:
        tx.roll_back()
    assert op.submit(1).result() == 2
    assert op(2) == 4
    assert ledger.lines == []


def test_a_block_without_async_refuses_a_loop(gate: Gate) -> None:
    """Its end would block the loop."""

    async def main() -> None:
        with pytest.raises(WouldBlock, match="async with"), gate.transaction("order"):
            pass

    trio.run(main)


def test_a_block_begins_once(gate: Gate) -> None:
    """A second time is an error that says what to do."""
    tx = gate.transaction("order")
    with pytest.raises(GateState, match="has not begun"):
        tx.roll_back()
    with tx:
        pass
    with pytest.raises(GateState, match="make a new one"), tx:
        pass
    with pytest.raises(ValueError, match="order 7"):
        gate.transaction("")


def test_bad_compensations_are_named() -> None:
    """The error names the value and the remedy."""
    op = token(double)
    with pytest.raises(ValueError, match="it must be 'any' or None"):
        op.compensate(on="all")  # type: ignore[call-overload]
    with pytest.raises(BadOperation):
        op.compensate(3)  # type: ignore[type-var]
    with pytest.raises(BadOperation, match="give the policy to its @token"):
        op.compensate(policy=Policy())(token(double))


def test_a_compensation_stays_the_function_that_it_was() -> None:
    """It is called as before, with a gate or without one."""
    op = token(double)

    @op.compensate
    def undo(done: str) -> str:
        return done

    assert undo("it") == "it"
