"""Workloads of many actors and many tokens: what they cost to start, to keep, and to wait for."""

from __future__ import annotations

import gc
import sys
import threading
import time
import tracemalloc
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import trio
from _harness import Sides, Size, limit, rate, workload
from _messages import OurCpuActor, PykkaActor

from actors.lowlevel import cores
from tokengate import Gate, Token, token

KIB = 1024
POPULATION = 10_000


def bytes_of(make: Callable[[], object], number: int) -> Mapping[str, float]:
    """Return what is allocated, in bytes for each of a number of things, while `make`'s result is held."""
    gc.collect()
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        made = make()
        gc.collect()
        after, _ = tracemalloc.get_traced_memory()
        del made
    finally:
        tracemalloc.stop()
    return {"bytes": (after - before) / number}


# W5: actors, as users start them: by `gate.spawn` from a thread, by `gate.aspawn` from a trio loop


def one_by_one(start: Callable[[], Any], number: int) -> Mapping[str, float]:
    """Start an actor, ask it, stop it, and then the next."""
    started = time.perf_counter()
    for _ in range(number):
        ref = start()
        ref.ask(1)
        ref.stop()
    return {"seconds": time.perf_counter() - started}


def all_at_once(start: Callable[[], Any], number: int) -> Mapping[str, float]:
    """Start all actors, then ask all, then stop all."""
    started = time.perf_counter()
    return ask_and_stop([start() for _ in range(number)], started)


def ask_and_stop(refs: list[Any], started: float) -> Mapping[str, float]:
    """Ask all actors, then stop all; return the seconds since then (`perf_counter`)."""
    for future in [ref.ask(1, block=False) for ref in refs]:
        future.get()
    for future in [ref.stop(block=False) for ref in refs]:
        future.get()
    return {"seconds": time.perf_counter() - started}


def awaited_one_by_one(gate: Gate, number: int) -> Mapping[str, float]:
    """Do as `one_by_one` does, awaiting each."""

    async def main() -> None:
        for _ in range(number):
            ref = await gate.aspawn(OurCpuActor)
            await ref.ask(1, block=False)
            await ref.stop(block=False)

    started = time.perf_counter()
    trio.run(main)
    return {"seconds": time.perf_counter() - started}


def awaited_all_at_once(gate: Gate, number: int) -> Mapping[str, float]:
    """Do as `all_at_once` does, with a task for each actor that is started."""
    refs: list[Any] = []

    async def spawn() -> None:
        refs.append(await gate.aspawn(OurCpuActor))

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            for _ in range(number):
                nursery.start_soon(spawn)

    started = time.perf_counter()
    trio.run(main)
    return ask_and_stop(refs, started)


spawn_workload = partial(workload, figure="seconds", at_most=0.2, peer="pykka.ThreadingActor.start")


@spawn_workload("W5 gate.spawn one by one")
def spawn_one_by_one(size: Size) -> Iterator[Sides]:
    """`gate.spawn` against `pykka.ThreadingActor.start`."""
    number = size.of(1_000)
    with Gate("benchmark") as gate:
        start = partial(gate.spawn, OurCpuActor)
        yield partial(one_by_one, start, number), partial(one_by_one, PykkaActor.start, number)


@spawn_workload("W5 gate.spawn all at once")
def spawn_all_at_once(size: Size) -> Iterator[Sides]:
    """`gate.spawn` against `pykka.ThreadingActor.start`."""
    number = size.of(1_000)
    with Gate("benchmark") as gate:
        start = partial(gate.spawn, OurCpuActor)
        yield partial(all_at_once, start, number), partial(all_at_once, PykkaActor.start, number)


@spawn_workload("W5 gate.spawn beside 10,000 actors")
def spawn_beside_many(size: Size) -> Iterator[Sides]:
    """`gate.spawn` against `pykka.ThreadingActor.start`; the peer has none beside it, as most machines allow no such
    number of threads."""
    number = size.of(1_000)
    with Gate("benchmark") as gate:
        start = partial(gate.spawn, OurCpuActor)
        others = [start() for _ in range(size.of(POPULATION))]
        yield partial(all_at_once, start, number), partial(all_at_once, PykkaActor.start, number)
        del others


@spawn_workload("W5 gate.aspawn one by one")
def aspawn_one_by_one(size: Size) -> Iterator[Sides]:
    """`gate.aspawn`, awaited in a trio loop, against `pykka.ThreadingActor.start` on a thread."""
    number = size.of(1_000)
    with Gate("benchmark") as gate:
        yield partial(awaited_one_by_one, gate, number), partial(one_by_one, PykkaActor.start, number)


@spawn_workload("W5 gate.aspawn all at once")
def aspawn_all_at_once(size: Size) -> Iterator[Sides]:
    """`gate.aspawn` in as many tasks of a trio loop, against `pykka.ThreadingActor.start` on a thread."""
    number = size.of(1_000)
    with Gate("benchmark") as gate:
        yield partial(awaited_all_at_once, gate, number), partial(all_at_once, PykkaActor.start, number)


@workload("W5 bytes per idle actor of gate.spawn", figure="bytes", at_most=1, pairs=1, peer="the limit")
def bytes_per_actor(size: Size) -> Iterator[Sides]:
    number = size.of(POPULATION)
    with Gate("benchmark") as gate:
        start = partial(gate.spawn, OurCpuActor)
        start()
        yield lambda: bytes_of(lambda: [start() for _ in range(number)], number), limit("bytes", 5 * KIB)


@workload("W5 threads of 10,000 actors of gate.spawn", figure="threads", at_most=1, pairs=1, peer="the limit")
def threads_of_many(size: Size) -> Iterator[Sides]:
    before = threading.active_count()
    with Gate("benchmark") as gate:
        refs = [gate.spawn(OurCpuActor) for _ in range(size.of(POPULATION))]
        for future in [ref.ask(1, block=False) for ref in refs]:
            future.get()
        yield lambda: {"threads": threading.active_count() - before}, limit("threads", cores() + 4)


# W6: calls of a plain operation


def plain(value: int) -> int:
    return value


operation = token(plain)


@workload("W6 submit and gather", figure="per_second", at_least=8 if sys.version_info < (3, 12) else 4)
def submit_and_gather(size: Size) -> Iterator[Sides]:
    number = size.of(10_000)

    def ours() -> Mapping[str, float]:
        started = time.perf_counter()
        for one in [operation.submit(n) for n in range(number)]:
            one.result()
        return rate(number, started)

    with Gate("benchmark"), ThreadPoolExecutor(max(2, cores())) as pool:

        def theirs() -> Mapping[str, float]:
            started = time.perf_counter()
            for one in [pool.submit(plain, n) for n in range(number)]:
                one.result()
            return rate(number, started)

        yield ours, theirs


@workload("W6 bytes per token in flight", figure="bytes", at_most=1, pairs=1)
def bytes_per_token(size: Size) -> Iterator[Sides]:
    number = size.of(10_000)
    opened = threading.Event()

    @token(concurrency=1, capacity=number + 1)
    def wait(_number: int) -> None:
        opened.wait()

    def fill() -> list[Token[None]]:
        return [wait.submit(n) for n in range(number)]

    def ours() -> Mapping[str, float]:
        opened.clear()
        try:
            return bytes_of(fill, number)
        finally:
            opened.set()
            wait.submit(number).result()  # behind all of them

    with Gate("benchmark"):
        yield ours, limit("bytes", 1.2 * KIB)


# W7: tokens that sleep

SLEEP = 0.1  # seconds


@token(concurrency=POPULATION, capacity=POPULATION)
async def sleep() -> None:
    await trio.sleep(SLEEP)


async def nursery_of_sleepers(number: int) -> None:
    async with trio.open_nursery() as nursery:
        for _ in range(number):
            nursery.start_soon(trio.sleep, SLEEP)


@workload("W7 sleepers", figure="seconds", at_most=1.3)
def sleepers(size: Size) -> Iterator[Sides]:
    number = size.of(POPULATION)

    def ours() -> Mapping[str, float]:
        started = time.perf_counter()
        for one in [sleep.submit() for _ in range(number)]:
            one.result()
        return {"seconds": time.perf_counter() - started}

    def theirs() -> Mapping[str, float]:
        started = time.perf_counter()
        trio.run(nursery_of_sleepers, number)
        return {"seconds": time.perf_counter() - started}

    with Gate("benchmark"):
        yield ours, theirs


WORKLOADS = [
    spawn_one_by_one,
    spawn_all_at_once,
    spawn_beside_many,
    aspawn_one_by_one,
    aspawn_all_at_once,
    bytes_per_actor,
    threads_of_many,
    submit_and_gather,
    bytes_per_token,
    sleepers,
]
