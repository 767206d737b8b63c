"""Cancellations, pauses and ends that race with the end of tokens on asyncio loops: one end each, and no later victim.

A ledger outside of the system is compared with what the tokens and their callers say. 200 rounds for each kind of loop,
10,000 with TOKENGATE_TORTURE=1; TOKENGATE_SEED repeats the draws.
"""

from __future__ import annotations

import asyncio
import os
import random
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any

import attrs
import pytest
from gated_code import LIMIT

from actors import Token, TokenState, current_token
from tokengate import AsyncioActor, Gate, token
from tokengate.control import messages as m
from tokengate.errors import TokenTerminated

ROUNDS = 200
PARTS = range(50 if os.environ.get("TOKENGATE_TORTURE") == "1" else 1)

WAYS = ("call", "submit", "elsewhere", "actor")


@attrs.define
class Ledger:
    """What the code of tokens has done, by their numbers.

    Attributes:
        tokens: {number: its token}.
        dirty: numbers of tokens that found a cancellation which was meant for another.
    """

    begun: list[int] = attrs.field(factory=list)
    ended: list[int] = attrs.field(factory=list)
    tokens: dict[int, Token[Any]] = attrs.field(factory=dict)
    dirty: list[int] = attrs.field(factory=list)


ledger = Ledger()


async def work(number: int, seed: int, before: int) -> int:
    """Await some things, as a seed says; `before` is the number of cancellations that the task has had already."""
    chance, task, inside = random.Random(seed), asyncio.current_task(), current_token()
    assert task is not None
    assert inside is not None
    ledger.begun.append(number)
    ledger.tokens[number] = inside
    if task.cancelling() > before:
        ledger.dirty.append(number)
    for _ in range(chance.randrange(6)):
        await chance.choice(AWAITS)()
    ledger.ended.append(number)
    return number


async def in_time() -> None:
    try:
        async with asyncio.timeout(LIMIT):
            await asyncio.sleep(0)
    finally:
        await asyncio.sleep(0)


async def too_late() -> None:
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0):
            await asyncio.get_running_loop().create_future()


async def in_group() -> None:
    async with asyncio.TaskGroup() as group:
        group.create_task(asyncio.sleep(0))
        await asyncio.sleep(0)


async def shielded() -> None:
    await asyncio.shield(asyncio.sleep(0))


async def nested() -> None:
    await small(0)


AWAITS: tuple[Callable[[], Awaitable[None]], ...] = (
    lambda: asyncio.sleep(0),
    lambda: asyncio.sleep(0),
    in_time,
    too_late,
    in_group,
    shielded,
    nested,
)


@token(affinity="asyncio")
async def small(ticks: int) -> None:
    for _ in range(ticks):
        await asyncio.sleep(0)


operation = token(affinity="asyncio", concurrency=2)(work)


class Worker(AsyncioActor):
    async def work(self, number: int, seed: int, before: int) -> int:
        return await work(number, seed, before)


@attrs.define
class Round:
    """A few tokens of one way, and what happens to the first of them."""

    gate: Gate
    chance: random.Random
    worker: Any
    asked: list[Token[Any]] = attrs.field(factory=list)

    def send(self, way: str, number: int) -> asyncio.Task[Any]:
        seed = self.chance.randrange(2**32)
        if way == "call":
            return asyncio.create_task(self.call(number, seed))
        if way == "elsewhere":
            return asyncio.create_task(self.elsewhere(number, seed))
        sent = operation.submit(number, seed, 0) if way == "submit" else self.worker.work(number, seed, 0)
        return asyncio.create_task(self.outcome(number, sent))

    async def call(self, number: int, seed: int) -> Any:
        try:
            value = await operation(number, seed, 0)
        except TokenTerminated as error:
            value = error
        task = asyncio.current_task()
        assert task is not None
        await asyncio.sleep(0)  # what was meant for the token is not raised here
        assert task.cancelling() == 0
        return value

    async def elsewhere(self, number: int, seed: int) -> Any:
        return await self.outcome(number, await asyncio.to_thread(operation.submit, number, seed, 0))

    @staticmethod
    async def outcome(number: int, sent: Token[Any]) -> Any:
        ledger.tokens[number] = sent
        await sent.wait()
        return sent.exception() or sent.result()

    def ask(self, message: m.Message[Any]) -> None:
        self.asked.append(self.gate.find("$system/control").ask(message, block=False))

    def strike(self, victim: Token[Any], task: asyncio.Task[Any], way: str) -> None:
        select, wait = (victim.id,), self.chance.choice([0, 0.001])
        verb = self.chance.randrange(6 if way == "call" else 5)
        if verb == 0:
            victim.cancel()
        elif verb == 1:
            self.ask(m.Terminate(select, mode=self.chance.choice(["cancel", "interrupt", "kill"]), wait=wait))
        elif verb == 2:
            self.ask(m.Pause(select, wait=wait))
        elif verb == 3:
            self.ask(m.Step(select, self.chance.randrange(1, 3), wait=wait))
        elif verb == 4:
            self.ask(m.Resume(select))
        else:
            task.cancel()

    async def run(self, first: int) -> str:
        way = self.chance.choice(WAYS)
        tasks = [self.send(way, first + number) for number in range(3)]
        for _ in range(self.chance.randrange(1, 4)):
            for _ in range(self.chance.randrange(8)):
                await asyncio.sleep(0)
            victim = ledger.tokens.get(first)
            if victim is not None:
                self.strike(victim, tasks[0], way)
        for asked in self.asked:
            await asked
        if first in ledger.tokens:
            self.ask(m.Resume((ledger.tokens[first].id,)))
            await self.asked[-1]
        self.asked.clear()
        struck, *others = await asyncio.wait_for(asyncio.gather(*tasks, return_exceptions=True), LIMIT)
        assert others == [first + 1, first + 2], (way, struck)
        victim = ledger.tokens.get(first)
        if victim is None:  # its caller was cancelled before it began
            assert isinstance(struck, asyncio.CancelledError)
            return "never"
        await asyncio.to_thread(victim.exception, LIMIT)
        assert victim.state in (TokenState.COMPLETED, TokenState.TERMINATED), (way, victim, victim.exception())
        if victim.state is TokenState.COMPLETED:
            assert first in ledger.ended[-9:]
            assert struck == first or (way == "call" and isinstance(struck, asyncio.CancelledError))
        else:
            assert isinstance(struck, TokenTerminated | asyncio.CancelledError), (way, struck)
        return str(victim.state)


async def race(gate: Gate, chance: random.Random, rounds: int) -> Counter[str]:
    worker = (await gate.aspawn(Worker)).proxy()
    states: Counter[str] = Counter()
    for number in range(rounds):
        states[await Round(gate, chance, worker).run(3 * number)] += 1
    assert ledger.dirty == []
    assert [one for one in list(gate._system.live.values()) if not one.serves_operators] == []
    return states


@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize("attached", [True, False], ids=["in the gate's loop", "in another loop"])
def test_verbs_that_race_with_the_end_of_a_token_hit_it_or_nothing(attached: bool, part: int, seed: int) -> None:
    """The outcome is one, and the token's caller, its worker and the next tokens go on as if nothing had been."""
    for numbers in (ledger.begun, ledger.ended, ledger.dirty):
        numbers.clear()
    ledger.tokens.clear()
    chance = random.Random(seed + part)

    async def main() -> Counter[str]:
        async with Gate("races", control_socket=False, intensity=10**6) as gate:
            return await race(gate, chance, ROUNDS)

    if attached:
        states = asyncio.run(main())
    else:
        with Gate("races", control_socket=False, intensity=10**6) as gate:
            states = asyncio.run(race(gate, chance, ROUNDS))
    print(states)

    assert {"completed", "terminated"} <= set(states)
    assert max(Counter(ledger.begun).values()) == 1
    assert max(Counter(ledger.ended).values()) == 1
