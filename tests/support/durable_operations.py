"""Durable operations and actors of tests, which programs of tests import, too."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from decimal import Decimal
from pathlib import Path
from typing import Any

import trio

from actors import AsyncioActor, BaseActor, CpuActor, IoActor, ProcessActor, Token
from tokengate import Gate, Policy, Retry, checkpoint, current_token, token
from tokengate.durable import Snooze, step
from tokengate.types import AsyncOperation, Operation


def note(path: str, line: str) -> None:
    """Append a line to a file, at once: the ledger of a test, outside of the process."""
    file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        os.write(file, f"{line}\n".encode())
    finally:
        os.close(file)


def noted(path: str | Path) -> list[str]:
    """Return the lines of a ledger."""
    return Path(path).read_text().splitlines() if Path(path).exists() else []


@token(durable=True, idempotent=True)
def add(a: int, b: int) -> int:
    return a + b


@token(durable=True, idempotent=True)
def pid() -> int:
    return os.getpid()


@token(durable=True)
def fails(text: str) -> None:
    raise ValueError(text)


@token(durable=True)
def halves(amount: Decimal) -> tuple[Decimal, ...]:
    return amount / 2, amount / 2


@token(durable=True)
def once(ledger: str, number: int) -> int:
    note(ledger, f"run {number}")
    return number


@token(durable=True, idempotent=True)
def again(ledger: str, number: int) -> int:
    note(ledger, f"run {number}")
    return number


@token(durable=True, idempotent=True)
def stepped(ledger: str, number: int) -> int:
    step("before", len, "abc")
    note(ledger, f"run {number}")
    return number


@token(durable=True, idempotent=True)
def hang(ledger: str, number: int) -> None:
    note(ledger, f"run {number}")
    threading.Event().wait()


@token(durable=True, idempotent=True)
async def in_trio(ledger: str, number: int) -> int:
    note(ledger, f"run {number}")
    return number


@token(durable=True, idempotent=True, affinity="asyncio")
async def in_asyncio(ledger: str, number: int) -> int:
    note(ledger, f"run {number}")
    return number


@token(durable=True, idempotent=True, affinity="process")
def in_process(ledger: str, number: int) -> int:
    note(ledger, f"run {number}")
    return number


KILLED = (again, once, in_trio, in_asyncio)
"""Operations that note `run` in a ledger, and their number."""


@token(durable=True, idempotent=True, capacity=10, concurrency=1)
def narrow(ledger: str, number: int) -> int:
    note(ledger, f"run {number}")
    return number


# Steps: the first run of each dies within the second "load", with its gate.


def counted(ledger: str) -> int:
    note(ledger, "count")
    return 3


def loaded(ledger: str, number: int) -> tuple[int, str]:
    note(ledger, f"load {number}")
    if number == 1 and noted(ledger).count("load 1") == 1:
        os.kill(int(noted(f"{ledger}.pid")[0]), 9)
        signal.pause()
    return number, f"row {number}"


async def counted_async(ledger: str) -> int:
    return counted(ledger)


async def loaded_async(ledger: str, number: int) -> tuple[int, str]:
    return loaded(ledger, number)


def _imported(ledger: str) -> list[str]:
    return [step("load", loaded, ledger, number)[1] for number in range(step("count", counted, ledger))]


async def _imported_async(ledger: str) -> list[str]:
    count = await step("count", counted_async, ledger)
    return [(await step("load", loaded_async, ledger, number))[1] for number in range(count)]


@token(durable=True, idempotent=True)
def steps_in_cpu(ledger: str) -> list[str]:
    return _imported(ledger)


@token(durable=True, idempotent=True, affinity="process")
def steps_in_process(ledger: str) -> list[str]:
    return _imported(ledger)


@token(durable=True, idempotent=True)
async def steps_in_trio(ledger: str) -> list[str]:
    return await _imported_async(ledger)


@token(durable=True, idempotent=True, affinity="asyncio")
async def steps_in_asyncio(ledger: str) -> list[str]:
    return await _imported_async(ledger)


class StepsInActor(CpuActor):
    durable = ("imported",)
    idempotent = True

    def imported(self, ledger: str) -> list[str]:
        return _imported(ledger)


class Refused(Exception):
    """An answer of `Counter`, which is no crash."""


class Counter(BaseActor):
    """Counts, and keeps the count; the ledger has a line for each run of a method."""

    durable = ("add", "crash", "refuse", "die", "die_again")
    idempotent = ("add", "crash", "refuse", "die_again")
    expected = (Refused,)
    last: int | None = None  # what its last hook saves

    def __init__(self, ledger: str = "", victim: int = 0) -> None:
        self.ledger = ledger
        self.victim = victim  # a process that `die` kills

    def on_start(self) -> None:
        self.n: int = self.saved(0)

    def add(self, by: int) -> int:
        self.n += by
        self.save(self.n)
        return self.n

    def crash(self, by: int) -> None:
        if self.ledger:
            note(self.ledger, "crash")
        self.add(by)
        raise ValueError("it crashes")

    def refuse(self, by: int) -> None:
        self.add(by)
        raise Refused(f"no {by}")

    def die(self) -> None:
        if self.victim:
            os.kill(self.victim, 9)

    def die_again(self) -> None:
        self.die()

    def count(self) -> int:
        return self.n

    def reset(self) -> None:
        self.n = 0
        self.save(0)

    def save_and_crash(self, n: int) -> None:
        self.save(n)
        raise ValueError("it crashes, plainly")

    def at_stop(self, n: int) -> None:
        self.last = n

    def on_stop(self) -> None:
        if self.last is not None:
            self.save(self.last)


class CpuCounter(Counter, CpuActor):
    """On a thread."""


class IoCounter(Counter, IoActor):
    """In a trio task."""


class AsyncioCounter(Counter, AsyncioActor):
    """In an asyncio task."""


class ProcessCounter(Counter, ProcessActor):
    """In a child process."""


COUNTERS: dict[str, type[Counter]] = {
    "cpu": CpuCounter, "io": IoCounter, "asyncio": AsyncioCounter, "process": ProcessCounter,
}  # fmt: skip


# One operation and one actor for each affinity. Each run is noted; the first run with the number -1, and the first
# three with -3, are the last thing that the process of the gate does.


def _run(ledger: str, number: int) -> int:
    note(ledger, f"run {number}")
    if number < 0 and noted(ledger).count(f"run {number}") <= -number:
        os.kill(int(noted(f"{ledger}.pid")[-1]), 9)
        signal.pause()
    return number


@token(durable=True)
def once_in_cpu(ledger: str, number: int) -> int:
    return _run(ledger, number)


@token(durable=True)
async def once_in_trio(ledger: str, number: int) -> int:
    return _run(ledger, number)


@token(durable=True, affinity="asyncio")
async def once_in_asyncio(ledger: str, number: int) -> int:
    return _run(ledger, number)


@token(durable=True, affinity="process")
def once_in_process(ledger: str, number: int) -> int:
    return _run(ledger, number)


@token(durable=True, idempotent=True)
def again_in_cpu(ledger: str, number: int) -> int:
    return _run(ledger, number)


@token(durable=True, idempotent=True)
async def again_in_trio(ledger: str, number: int) -> int:
    return _run(ledger, number)


@token(durable=True, idempotent=True, affinity="asyncio")
async def again_in_asyncio(ledger: str, number: int) -> int:
    return _run(ledger, number)


@token(durable=True, idempotent=True, affinity="process")
def again_in_process(ledger: str, number: int) -> int:
    return _run(ledger, number)


class Keeper(BaseActor):
    durable = True
    idempotent = ("again",)

    def once(self, ledger: str, number: int) -> int:
        return _run(ledger, number)

    def again(self, ledger: str, number: int) -> int:
        return _run(ledger, number)


class CpuKeeper(Keeper, CpuActor):
    """On a thread."""


class IoKeeper(Keeper, IoActor):
    """In a trio task."""


class AsyncioKeeper(Keeper, AsyncioActor):
    """In an asyncio task."""


class ProcessKeeper(Keeper, ProcessActor):
    """In a child process."""


OPERATIONS: dict[str, tuple[Operation[..., int] | AsyncOperation[..., int], ...]] = {
    "cpu": (once_in_cpu, again_in_cpu),
    "io": (once_in_trio, again_in_trio),
    "asyncio": (once_in_asyncio, again_in_asyncio),
    "process": (once_in_process, again_in_process),
}
"""{affinity: an operation that is not idempotent, and one that is}."""

KEEPERS: dict[str, type[Keeper]] = {
    "cpu actor": CpuKeeper, "io actor": IoKeeper, "asyncio actor": AsyncioKeeper, "process actor": ProcessKeeper,
}  # fmt: skip

KINDS = (*OPERATIONS, *KEEPERS)
"""What has durable tokens in the tests."""


class Sender:
    """Sends calls of one kind to a gate.

    Args:
        gate: the gate.
        kind: one of `KINDS`.
        idempotent: whether the calls may run twice.
    """

    def __init__(self, gate: Gate, kind: str, *, idempotent: bool = False) -> None:
        self._gate = gate
        self._operation: Any = None
        self._actor: Any = None
        if kind in OPERATIONS:
            self._operation = gate.register(OPERATIONS[kind][idempotent])
            self.path = f"operations/{self._operation.__name__}"
        else:
            self._actor = gate.spawn(KEEPERS[kind], name=kind.replace(" ", "_"))
            self._method = Keeper.again if idempotent else Keeper.once
            self.path = self._actor.path

    def submit(self, ledger: object, number: int) -> Token[int]:
        """Send a call."""
        if self._actor is not None:
            return self._actor.do(self._method, str(ledger), number)  # type: ignore[no-any-return]
        return self._operation.submit(str(ledger), number)  # type: ignore[no-any-return]

    def suspend(self) -> None:
        """Let none of its calls begin."""
        self._gate.control.suspend(self.path)

    def unsuspend(self) -> None:
        """Let them begin."""
        self._gate.control.unsuspend(self.path)


# Tokens that are put off; each notes its attempt.


def _noted_attempt(ledger: str) -> int:
    note(ledger, f"attempt {current_token().attempt}")  # type: ignore[union-attr]
    return len(noted(ledger))


@token(durable=True, idempotent=True)
def snoozes_in_cpu(ledger: str) -> int:
    if (runs := _noted_attempt(ledger)) < 3:
        raise Snooze(3600)
    return runs


@token(durable=True, idempotent=True, affinity="process")
def snoozes_in_process(ledger: str) -> int:
    if (runs := _noted_attempt(ledger)) < 3:
        raise Snooze(3600)
    return runs


@token(durable=True, idempotent=True)
async def snoozes_in_trio(ledger: str) -> int:
    if (runs := _noted_attempt(ledger)) < 3:
        raise Snooze(3600)
    return runs


@token(durable=True, idempotent=True, affinity="asyncio")
async def snoozes_in_asyncio(ledger: str) -> int:
    if (runs := _noted_attempt(ledger)) < 3:
        raise Snooze(3600)
    return runs


@token(durable=True, idempotent=True)
def snoozes_behind_a_door(ledger: str, door: str) -> int:
    runs = _noted_attempt(ledger)
    try:
        return runs
    finally:  # where no interrupt comes
        if runs == 1:
            while not Path(door).exists():
                time.sleep(0.002)
            raise Snooze(3600)


# Tokens whose first runs, as many as they are told, go on until they are ended.


@token(durable=True, idempotent=True)
def spins_in_cpu(ledger: str, runs: int) -> int:
    number = _noted_attempt(ledger)
    while number <= runs:
        checkpoint()
    return number


@token(durable=True, idempotent=True, affinity="process")
def spins_in_process(ledger: str, runs: int) -> int:
    number = _noted_attempt(ledger)
    while number <= runs:
        checkpoint()
    return number


@token(durable=True, idempotent=True)
async def spins_in_trio(ledger: str, runs: int) -> int:
    number = _noted_attempt(ledger)
    while number <= runs:
        await trio.sleep(0.001)
    return number


@token(durable=True, idempotent=True, affinity="asyncio")
async def spins_in_asyncio(ledger: str, runs: int) -> int:
    number = _noted_attempt(ledger)
    while number <= runs:
        await asyncio.sleep(0.001)
    return number


@token(durable=True, policy=Policy(retry=Retry(on=ValueError, wait=lambda _: 3600.0, max_wait=7200.0, attempts=3)))
def tried_each_hour(ledger: str) -> int:
    raise ValueError(_noted_attempt(ledger))


@token(durable=True, policy=Policy(retry=Retry(on=ValueError, wait=lambda _: 30.0, attempts=3)))
def tried_each_half_minute(ledger: str) -> int:
    raise ValueError(_noted_attempt(ledger))


@token(durable=True, idempotent=True, policy=Policy(deadline=600.0))
def soon(ledger: str) -> int:
    return _noted_attempt(ledger)


# A token of three steps, the last one with another within it.


def _part(ledger: str, one: int, other: int) -> int:
    note(ledger, f"{one} + {other}")
    return other


def _twice(ledger: str, number: int) -> int:
    note(ledger, f"2 * {number}")
    return 2 * number


def _whole(ledger: str, parts: int, factor: int) -> int:
    return step("twice", _twice, ledger, parts) * factor // min(factor, 1)


def _summed(ledger: str, factor: int) -> int:
    parts = step("part", _part, ledger, 1, 1) + step("part", _part, ledger, 1, 2)
    return step("whole", _whole, ledger, parts, factor)


@token(durable=True)
def summed(ledger: str, factor: int) -> int:
    return _summed(ledger, factor)


class Sums(CpuActor):
    durable = True

    def summed(self, ledger: str, factor: int) -> int:
        return _summed(ledger, factor)


# Tokens that run twice, by `Snooze`; tests say what they do then, by a name. Keys of `_RUNS` are these names.

_RUNS: dict[str, list[Callable[[str], Any]]] = {}


@contextmanager
def run_of(*runs: Callable[[str], Any]) -> Generator[str]:
    """Have the runs of a token be these functions of its ledger; give the name for that."""
    name = f"run {len(_RUNS)}"
    _RUNS[name] = list(runs)
    yield name
    del _RUNS[name][:]


@token(durable=True, idempotent=True)
def twice_in_cpu(ledger: str, name: str) -> Any:
    result = _RUNS[name].pop(0)(ledger)
    if _RUNS[name]:
        raise Snooze(0)
    return result


@token(durable=True, idempotent=True)
async def twice_in_trio(ledger: str, name: str) -> Any:
    result = await _RUNS[name].pop(0)(ledger)
    if _RUNS[name]:
        raise Snooze(0)
    return result


def _outer(ledger: str) -> tuple[int, str]:
    note(ledger, "outer")
    return 3, step("inner", _inner, ledger)


def _inner(ledger: str) -> str:
    note(ledger, "inner")
    return "x"


def _third(ledger: str) -> int:
    note(ledger, "third")
    return 3


@token(durable=True, idempotent=True, affinity="process")
def twice_in_process(ledger: str) -> list[Any]:
    number, text = step("outer", _outer, ledger)
    third = step("third", _third, ledger)
    if not os.path.exists(f"{ledger}.second"):
        note(f"{ledger}.second", "")
        raise Snooze(0)
    return [number, text, third]


# Tokens whose code makes others: the first run of each dies with its gate, when they are there.


@token(durable=True, idempotent=True)
def child(ledger: str, number: int) -> int:
    note(ledger, f"child {number}")
    return number


def _die_once(ledger: str) -> None:
    if not os.path.exists(f"{ledger}.died"):
        note(f"{ledger}.died", "")
        os.kill(int(noted(f"{ledger}.pid")[0]), 9)
        signal.pause()


def _parted(ledger: str) -> int:
    return child(ledger, 1)


@token(durable=True, idempotent=True)
def parent_in_cpu(ledger: str) -> list[Any]:
    tokens = [child.submit(ledger, number) for number in (3, 5, 7)]
    tokens += [child.submit(ledger, 1), child.submit(ledger, 1)]
    parted = step("parted", _parted, ledger)
    results = [one.result() for one in tokens]
    _die_once(ledger)
    return [sorted(results), child(ledger, 9), parted]


@token(durable=True, idempotent=True, affinity="process")
def parent_in_process(ledger: str) -> list[Any]:
    tokens = [child.submit(ledger, number) for number in (3, 5, 7)]
    tokens += [child.submit(ledger, 1), child.submit(ledger, 1)]
    parted = step("parted", _parted, ledger)
    results = [one.result() for one in tokens]
    _die_once(ledger)
    return [sorted(results), child(ledger, 9), parted]


@token(durable=True, idempotent=True)
async def parent_in_trio(ledger: str) -> list[Any]:
    tokens = [await child.asubmit(ledger, number) for number in (3, 5, 7)]
    tokens += [await child.asubmit(ledger, 1), await child.asubmit(ledger, 1)]
    parted = (await child.asubmit(ledger, 1)).wait()
    await parted
    results = [await one for one in tokens]
    _die_once(ledger)
    return [sorted(results), await (await child.asubmit(ledger, 9)), 1]


@token(durable=True, idempotent=True, affinity="asyncio")
async def parent_in_asyncio(ledger: str) -> list[Any]:
    tokens = [await child.asubmit(ledger, number) for number in (3, 5, 7)]
    tokens += [await child.asubmit(ledger, 1), await child.asubmit(ledger, 1)]
    await (await child.asubmit(ledger, 1)).wait()
    results = [await one for one in tokens]
    _die_once(ledger)
    return [sorted(results), await (await child.asubmit(ledger, 9)), 1]


class Parent(CpuActor):
    durable = idempotent = True

    def run(self, ledger: str) -> list[Any]:
        tokens = [child.submit(ledger, number) for number in (3, 5, 7)]
        tokens += [child.submit(ledger, 1), child.submit(ledger, 1)]
        parted = step("parted", _parted, ledger)
        results = [one.result() for one in tokens]
        _die_once(ledger)
        return [sorted(results), child(ledger, 9), parted]


@token(durable=True, idempotent=True)
def keyed_parent(ledger: str) -> int:
    return child.with_options(key="mine")(ledger, 1)


@token(durable=True, idempotent=True)
def neighbour(ledger: str) -> None:
    """Run until its process dies, the first two times."""
    note(ledger, "neighbour")
    while noted(ledger).count("neighbour") < 3:
        pass


@token(durable=True, idempotent=True)
def poison(ledger: str) -> None:
    """Kill its process, once the neighbour runs, too."""
    note(ledger, "poison")
    while noted(ledger).count("neighbour") < noted(ledger).count("poison"):
        pass
    os.kill(os.getpid(), signal.SIGKILL)
