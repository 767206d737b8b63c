"""Verbs that come just as a token begins or ends: one end each, nothing lost, and never a hit on the next one.

The traffic writes into a ledger outside of the system, and the answers of control are compared with that.
TOKENGATE_SEED repeats the draws; threads are not repeated, so a race that is found here belongs into `interleave`, too.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import attrs
import pytest
import trio
from gated_code import LIMIT

from actors import Observer, Token, TokenState
from tokengate import AsyncioActor, CpuActor, Gate, IoActor, token
from tokengate.control import messages as m

Rounds = Callable[[int], int]


@attrs.define
class Ledger:
    """What the code of tokens has done, by their numbers; lists only, whose `append` nothing can cut in two."""

    begun: list[int] = attrs.field(factory=list)
    ended: list[int] = attrs.field(factory=list)
    where: list[tuple[int, str]] = attrs.field(factory=list)


ledger = Ledger()


def work(number: int, spins: int, place: str = "") -> int:
    ledger.begun.append(number)
    ledger.where.append((number, place))
    for _ in range(spins):
        pass
    ledger.ended.append(number)
    return number


def work_in_steps(number: int, spins: int, place: str = "") -> Any:
    ledger.begun.append(number)
    ledger.where.append((number, place))
    for _ in range(spins // 100):
        yield
    ledger.ended.append(number)
    return number


async def work_and_await(number: int, spins: int, place: str = "") -> int:
    ledger.begun.append(number)
    ledger.where.append((number, place))
    for _ in range(spins // 100):
        await trio.lowlevel.checkpoint()
    ledger.ended.append(number)
    return number


async def work_in_asyncio(number: int, spins: int, place: str = "") -> int:
    ledger.begun.append(number)
    ledger.where.append((number, place))
    for _ in range(spins // 100):
        await asyncio.sleep(0)
    ledger.ended.append(number)
    return number


plain = token(concurrency=1)(work)
steps = token(concurrency=1)(work_in_steps)
tasks = token(concurrency=1)(work_and_await)
asyncio_tasks = token(affinity="asyncio", concurrency=1)(work_in_asyncio)


class Worker(CpuActor):
    def __init__(self, name: str) -> None:
        super().__init__()
        self.name = name

    def work(self, number: int, spins: int) -> int:
        return work(number, spins, self.name)

    def work_in_steps(self, number: int, spins: int) -> Any:
        return (yield from work_in_steps(number, spins, self.name))


class PinnedWorker(Worker):
    dispatcher = "pinned"


class IoWorker(IoActor):
    def __init__(self, name: str) -> None:
        super().__init__()
        self.name = name

    async def work(self, number: int, spins: int) -> int:
        return await work_and_await(number, spins, self.name)


class AsyncioWorker(AsyncioActor):
    def __init__(self, name: str) -> None:
        super().__init__()
        self.name = name

    async def work(self, number: int, spins: int) -> int:
        return await work_in_asyncio(number, spins, self.name)


class Ends(Observer):
    """Counts how often each token has ended."""

    def __init__(self) -> None:
        self.of: list[int] = []

    def token_finished(self, token: Token[Any], /) -> None:
        self.of.append(token.id)


Send = Callable[[int, int], Token[int]]


@attrs.define
class Floor:
    """A gate with one of each kind, and whoever keeps count outside of it.

    Attributes:
        kinds: {name: sends a token}.
        ends: of all tokens.
        numbers: of tokens so far.
    """

    gate: Gate
    kinds: dict[str, Send]
    ends: Ends
    chance: random.Random
    numbers: int = 0

    def send(self, kind: str, spins: int) -> tuple[int, Token[int]]:
        self.numbers += 1
        return self.numbers, self.kinds[kind](self.numbers, spins)

    def ask(self, message: m.Message[Any]) -> Token[Any]:
        asked: Token[Any] = self.gate.find("$system/control").ask(message, block=False)
        return asked

    def spins(self, most: int) -> int:
        return int(most * self.chance.random() ** 2)

    def dawdle(self, most: int = 6_000) -> None:
        for _ in range(self.spins(most)):
            pass

    def check_in_the_end(self) -> None:
        """Nothing is left of anything, and each token has ended once."""
        assert [one for one in list(self.gate._system.live.values()) if not one.serves_operators] == []
        assert max(Counter(self.ends.of).values()) == 1
        assert max(Counter(ledger.begun).values()) == 1
        assert max(Counter(ledger.ended).values()) == 1
        for place in self.gate._system.places():
            assert place.mailbox.size == 0


@pytest.fixture
def floor(seed: int) -> Iterator[Floor]:
    ledger.begun.clear()
    ledger.ended.clear()
    ledger.where.clear()
    with Gate("races", threads=2, control_socket=False, intensity=10**6, switch_interval=0.00005) as gate:
        kinds: dict[str, Send] = {"operation": plain.submit, "steps": steps.submit, "tasks": tasks.submit}
        kinds["asyncio-tasks"] = asyncio_tasks.submit
        for name, cls in (("cpu", Worker), ("pinned", PinnedWorker), ("io", IoWorker), ("asyncio", AsyncioWorker)):
            for side in ("left", "right"):
                kinds[f"{name}-{side}"] = gate.spawn(cls, f"{name}-{side}", name=f"{name}-{side}").proxy().work
        kinds["generator"] = gate.find("cpu-left").proxy().work_in_steps
        ends = Ends()
        gate._system.add_observer(ends)
        yield Floor(gate, kinds, ends, random.Random(seed))


def test_an_end_that_races_completion_ends_one_token_once(floor: Floor, rounds: Rounds) -> None:
    """It has completed, or it is terminated, as the answer says; those behind it never know."""
    told: Counter[str] = Counter()
    states: Counter[str] = Counter()
    for _ in range(rounds(200)):
        kind = floor.chance.choice(list(floor.kinds))
        (number, first), second, third = (floor.send(kind, floor.spins(8_000)) for _ in range(3))
        floor.dawdle()
        mode = floor.chance.choice(["cancel", "interrupt", "kill"])
        asked = floor.ask(
            m.Terminate(
                (first.id,),
                mode=mode,
                wait=floor.chance.choice([0, 0.001, LIMIT]),
                grace=floor.chance.choice([0.0, 0.0005, 0.001]),
            )
        )
        [outcome] = asked.result(LIMIT)
        told[outcome.outcome] += 1

        for expected, one in (second, third):
            assert one.result(LIMIT) == expected, (kind, mode, outcome)
        first.exception(LIMIT)
        states[str(first.state)] += 1
        assert first.state in {TokenState.COMPLETED, TokenState.TERMINATED}, (kind, mode, outcome)
        if first.state is TokenState.COMPLETED:
            assert first.result() == number
            assert number in ledger.ended[-9:]
            assert outcome.outcome not in {"terminated", "abandoned"}, (kind, mode, outcome)
        elif outcome.outcome == "ended":
            pytest.fail(f"{outcome} of a token that was not to end by itself")
    print(told, states)

    assert set(states) == {"completed", "terminated"}
    floor.check_in_the_end()


def test_a_pause_that_races_completion_loses_nothing(floor: Floor, rounds: Rounds) -> None:
    """What is said to be paused does nothing until it is resumed; all complete, once each."""
    told: Counter[str] = Counter()
    for _ in range(rounds(200)):
        kind = floor.chance.choice(list(floor.kinds))
        sent = [floor.send(kind, floor.spins(8_000)) for _ in range(3)]
        number, first = sent[floor.chance.choice([0, 0, 0, 1])]
        floor.dawdle()
        [outcome] = floor.ask(m.Pause((first.id,), wait=floor.chance.choice([0, 0.001, 0.01]))).result(LIMIT)
        told[outcome.outcome] += 1
        if outcome.outcome == "paused":
            before = (ledger.begun[-20:].count(number), ledger.ended[-20:].count(number), first.steps)
            other = "tasks" if kind != "tasks" else "operation"
            _, busy = floor.send(other, 500)
            assert busy.exception(LIMIT) is None
            assert (ledger.begun[-20:].count(number), ledger.ended[-20:].count(number), first.steps) == before, (
                kind,
                outcome,
            )
            assert not first.done()
        [resumed] = floor.ask(m.Resume((first.id,))).result(LIMIT)
        assert resumed.outcome in {"resumed", "ended"}, (kind, outcome, resumed)

        for expected, one in sent:
            assert one.result(LIMIT) == expected, (kind, outcome)
            assert one.state is TokenState.COMPLETED
    print(told)

    assert told["paused"] > 0
    floor.check_in_the_end()


def test_a_new_priority_that_races_the_dequeue_loses_nothing(floor: Floor, rounds: Rounds) -> None:
    """Each runs once; those that nobody touched, in their order."""
    told: Counter[str] = Counter()
    for _ in range(rounds(200)):
        kind = floor.chance.choice(list(floor.kinds))
        sent = [floor.send(kind, floor.spins(1_500)) for _ in range(6)]
        touched = dict(floor.chance.sample(sent, 2))
        floor.dawdle(2_000)
        asked = [floor.ask(m.Renice((one.id,), priority=floor.chance.choice([-1, 1, 2]))) for one in touched.values()]
        for answer in asked:
            [outcome] = answer.result(LIMIT)
            told[outcome.outcome] += 1
        for expected, one in sent:
            assert one.result(LIMIT) == expected, kind
        numbers = {number for number, _ in sent}
        order = [number for number in ledger.begun[-20:] if number in numbers]
        assert sorted(order) == sorted(numbers), kind
        free = [number for number in order if number not in touched]
        assert free == sorted(free), (kind, order, touched)
    print(told)

    assert told["reniced"] > 0
    assert set(told) <= {"reniced", "noted", "ended", "unchanged"}
    floor.check_in_the_end()


def test_a_move_that_races_the_start_runs_once_where_it_is_said_to(floor: Floor, rounds: Rounds) -> None:
    """`rerouted` runs there; all else has run, or runs, where it was."""
    told: Counter[str] = Counter()
    for _ in range(rounds(200)):
        family = floor.chance.choice(["cpu", "pinned", "io", "asyncio"])
        source, target = floor.chance.sample([f"{family}-left", f"{family}-right"], 2)
        sent = [floor.send(source, floor.spins(2_000)) for _ in range(4)]
        others = [floor.send(target, floor.spins(1_000)) for _ in range(2)]
        floor.dawdle(3_000)
        moved = floor.chance.sample(sent, 2)
        answers = {
            one.id: floor.ask(m.Reroute((one.id,), actor=target)) for _, one in moved
        }  # fmt: skip
        outcomes = {id: answer.result(LIMIT)[0].outcome for id, answer in answers.items()}
        told.update(outcomes.values())
        for expected, one in (*sent, *others):
            assert one.result(LIMIT) == expected, (family, outcomes)
        where = dict(ledger.where[-12:])
        for number, one in sent:
            at = target if outcomes.get(one.id) == "rerouted" else source
            assert (where[number], one.actor) == (at, f"spawned/{at}"), (family, outcomes)
        for number, _ in others:
            assert where[number] == target
    print(told)

    assert told["rerouted"] > 0
    assert set(told) <= {"rerouted", "refused", "ended"}
    floor.check_in_the_end()


def test_a_move_between_affinities_that_races_the_start_runs_once(floor: Floor, rounds: Rounds) -> None:
    """From threads to the loop and back; the token says where it was."""
    told: Counter[str] = Counter()
    for _ in range(rounds(200)):
        sent = [floor.send("steps", floor.spins(2_000)) for _ in range(4)]
        floor.dawdle(3_000)
        one = floor.chance.choice(sent)[1]
        there = floor.ask(m.Reroute((one.id,), affinity="io"))
        back = floor.ask(m.Reroute((one.id,), affinity="cpu"))
        told.update(answer.result(LIMIT)[0].outcome for answer in (there, back))
        for expected, each in sent:
            assert each.result(LIMIT) == expected
    print(told)

    assert set(told) <= {"rerouted", "refused", "ended", "unchanged"}
    floor.check_in_the_end()
