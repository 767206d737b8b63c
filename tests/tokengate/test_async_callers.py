"""Tokens awaited in asyncio and trio programs that the gate knows nothing of, and several gates at once."""

from __future__ import annotations

import ast
import asyncio
import threading
from collections.abc import Callable
from typing import Any

import pytest
import trio

from tokengate import CpuActor, Gate, IoActor, TokenState, token
from tokengate.errors import AmbiguousGate
from tokengate.types import current_gate

WAIT = 60.0  # seconds; only reached when something is broken


@token
def double(n: int) -> int:
    return 2 * n


@token
async def add_one(n: int) -> int:
    await trio.lowlevel.checkpoint()
    return n + 1


@token
def gate_name() -> str:
    gate = current_gate()
    assert gate is not None
    return gate.name


@token
def nested_gate_name() -> str:
    return gate_name.submit().result(WAIT)


class Counter(CpuActor):
    def __init__(self) -> None:
        super().__init__()
        self.value = 0

    def add(self) -> int:
        self.value += 1
        return self.value


class Slow(IoActor):
    async def forever(self) -> None:
        await trio.sleep_forever()


def test_handlers_of_an_asyncio_server_await_tokens() -> None:
    """Many at a time: operations of both kinds, actors, refs; each gets its own answer."""

    async def handler(n: int, counter: Any) -> tuple[int, int, int]:
        ref = await gate.aspawn(Counter, restart="temporary")
        assert await ref.call("ignored") is None
        return await add_one(n), await (await double.asubmit(n)), await counter.add()

    async def server() -> list[tuple[int, int, int]]:
        counter = (await gate.aspawn(Counter)).proxy()
        return await asyncio.wait_for(asyncio.gather(*(handler(n, counter) for n in range(100))), WAIT)

    with Gate("test") as gate:
        answers = asyncio.run(server())

    assert [answer[:2] for answer in answers] == [(n + 1, 2 * n) for n in range(100)]
    assert sorted(answer[2] for answer in answers) == list(range(1, 101))


def test_a_client_that_goes_away_cancels_its_operation_and_nobody_elses() -> None:
    """A cancelled handler cancels the operation that it called; a token that it only awaited goes on."""
    entered: list[Any] = []
    release = threading.Event()

    @token
    async def forever() -> None:
        entered.append(1)
        await trio.sleep_forever()

    @token
    def slow() -> str:
        release.wait(WAIT)
        return "done"

    async def server() -> None:
        shared = slow.submit()

        async def awaiting() -> None:
            await shared

        tasks = [asyncio.create_task(forever()), asyncio.create_task(awaiting())]
        while not entered:
            await asyncio.sleep(0)
        for task in tasks:
            task.cancel()
        results = await asyncio.gather(*tasks, return_exceptions=True)
        assert [type(result) for result in results] == [asyncio.CancelledError] * 2
        release.set()
        assert await shared == "done"

    with Gate("test") as gate:
        asyncio.run(asyncio.wait_for(server(), WAIT))
        report = gate.close()

    assert report.drained
    assert gate.statistics().tokens[TokenState.TERMINATED] == 1


def test_a_notebook_opens_a_gate_in_one_cell_and_awaits_in_others() -> None:
    """Each cell is a task of a loop that runs all the time, with a context of its own."""
    cells = [
        "gate = Gate('notebook').open()",
        "t = double.submit(21)",
        "answer = await t, await add_one(1), double(5), double.submit(4).result(60)",
        "counter = gate.spawn(Counter).proxy(); first = await counter.add()",
        "with gate.entered(): name = await gate_name.submit()",
        "report = gate.close()",
    ]
    space: dict[str, Any] = {**globals()}

    async def run(cell: str) -> None:
        value = eval(compile(cell, "cell", "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT), space)
        if value is not None:
            await value

    async def notebook() -> None:
        for cell in cells:
            await asyncio.create_task(run(cell))

    asyncio.run(asyncio.wait_for(notebook(), WAIT))

    assert space["answer"] == (42, 2, 10, 8)
    assert (space["first"], space["name"], space["report"].clean) == (1, "notebook", True)


def test_a_trio_program_awaits_tokens_of_a_gate_that_was_opened_outside() -> None:
    """Its io code has a loop of its own then; a cancelled wait leaves the token as it was."""

    async def program() -> None:
        with trio.fail_after(WAIT):
            assert await add_one(1) == 2
            assert await double.submit(4) == 8
            slow = (await gate.aspawn(Slow)).proxy().forever()
            with trio.move_on_after(0):
                await slow
            assert slow.done() is False
            slow.cancel()
            await slow.wait()
            assert slow.state is TokenState.TERMINATED

    with Gate("test") as gate:
        trio.run(program)


def test_nested_gates_serve_what_is_called_within_them() -> None:
    """The innermost of the context; a token's own calls stay in the token's gate."""
    with Gate("outer") as outer:
        assert gate_name() == "outer"
        with Gate("inner"):
            assert gate_name.submit().result(WAIT) == "inner"
            with outer.entered():
                assert nested_gate_name.submit().result(WAIT) == "outer"
            assert nested_gate_name.submit().result(WAIT) == "inner"
        assert nested_gate_name.submit().result(WAIT) == "outer"


def test_gates_side_by_side_in_threads_do_not_see_each_other() -> None:
    """Each thread opened its own; one that opened none cannot tell which is meant."""
    names: dict[str, set[str]] = {"a": set(), "b": set()}
    together = threading.Barrier(3)
    errors: list[BaseException] = []

    def work(name: str) -> None:
        with Gate(name):
            together.wait(WAIT)
            for _ in range(20):
                names[name] |= {gate_name(), nested_gate_name.submit().result(WAIT)}
            together.wait(WAIT)

    threads = [threading.Thread(target=work, args=(name,)) for name in names]
    for thread in threads:
        thread.start()
    together.wait(WAIT)
    submit: Callable[[], Any] = gate_name.submit
    for call in (submit, gate_name):
        with pytest.raises(AmbiguousGate, match=r"'a'.*'b'|'b'.*'a'"):
            call()
    together.wait(WAIT)
    for thread in threads:
        thread.join(WAIT)

    assert (names, errors) == ({"a": {"a"}, "b": {"b"}}, [])


def test_a_token_of_one_gate_can_be_awaited_in_a_token_of_another() -> None:
    """Gates share nothing, and outcomes are plain objects."""

    @token
    def wait_for(t: Any) -> Any:
        return t.result(WAIT)

    with Gate("one") as one, Gate("two") as two:
        with one.entered():
            first = double.submit(3)
        second = wait_for.submit(first)

        assert (one._owns(first), two._owns(second)) == (True, True)
        assert second.result(WAIT) == 6
