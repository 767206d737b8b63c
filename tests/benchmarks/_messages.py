"""Workloads of messages: tells, asks one at a time, asks in flight, asks to many."""

from __future__ import annotations

import threading
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from queue import SimpleQueue
from typing import Any

import pykka
import trio
from _harness import Sides, Size, each, percentiles, rate, workload

from actors import ActorSystem, BaseActor, CpuActor, IoActor
from tokengate import Gate, token


class OurCpuActor(CpuActor):
    def on_receive(self, message: Any) -> Any:
        return message


class OurIoActor(IoActor):
    def on_receive(self, message: Any) -> Any:
        return message


class PykkaActor(pykka.ThreadingActor):
    def on_receive(self, message: Any) -> Any:
        return message


@contextmanager
def open_system() -> Iterator[ActorSystem]:
    """Open a system of as many CPU threads as cores, at least two."""
    system = ActorSystem("benchmark")
    system.open()
    try:
        yield system
    finally:
        system.close(10.0)


@contextmanager
def both(cls: type[BaseActor], number: int = 1) -> Iterator[tuple[ActorSystem, list[Any], list[Any]]]:
    """Start actors of ours and of the peer's."""
    theirs = [PykkaActor.start() for _ in range(number)]
    try:
        with open_system() as system:
            yield system, [system.start_actor(cls, (), {}) for _ in range(number)], theirs
    finally:
        for ref in theirs:
            ref.stop()


# W1: one producer tells one actor


def tell_all(ref: Any, number: int) -> Mapping[str, float]:
    """Tell an actor a number of messages, and wait until it has handled all."""
    started = time.perf_counter()
    tell = ref.tell
    for message in range(number):
        tell(message)
    ref.ask(None)
    return rate(number, started)


def tell_all_in_loop(system: ActorSystem, ref: Any, number: int) -> Mapping[str, float]:
    """Do so from a task of the actor's own loop, a thousand at a time, because there a full mailbox does not wait."""

    async def send() -> Mapping[str, float]:
        started = time.perf_counter()
        for first in range(0, number, 1_000):
            for message in range(first, min(first + 1_000, number)):
                ref.tell(message)
            await ref.call(None)
        return rate(number, started)

    return system.io_host.run(send).result()  # type: ignore[no-any-return]


TELLS = 200_000


@workload("W1 tell cpu", figure="per_second", at_least=2.5)
def tell_cpu(size: Size) -> Iterator[Sides]:
    number = size.of(TELLS)
    with both(OurCpuActor) as (_, (ours,), (theirs,)):
        yield partial(tell_all, ours, number), partial(tell_all, theirs, number)


@workload("W1 tell io from a thread", figure="per_second", at_least=2.5)
def tell_io(size: Size) -> Iterator[Sides]:
    number = size.of(TELLS)
    with both(OurIoActor) as (_, (ours,), (theirs,)):
        yield partial(tell_all, ours, number), partial(tell_all, theirs, number)


@workload("W1 tell io from its loop", figure="per_second", at_least=4)
def tell_io_in_loop(size: Size) -> Iterator[Sides]:
    number = size.of(TELLS)
    with both(OurIoActor) as (system, (ours,), (theirs,)):
        yield partial(tell_all_in_loop, system, ours, number), partial(tell_all, theirs, number)


def plain(value: int) -> int:
    return value


operation = token(plain)


@workload("W1 direct call", figure="p50_us", at_most=0.1)
def direct_call(size: Size) -> Iterator[Sides]:
    number = size.of(5_000)
    with Gate("benchmark"), ThreadPoolExecutor(2) as pool:
        yield (
            lambda: each(lambda: operation(1), number),
            lambda: each(lambda: pool.submit(plain, 1).result(), number),
        )


# W2: asks, one at a time


@workload("W2 ask against pykka", figure="p50_us", at_most=0.85)
def ask_pykka(size: Size) -> Iterator[Sides]:
    number = size.of(3_000)
    with both(OurCpuActor) as (_, (ours,), (theirs,)):
        yield lambda: each(lambda: ours.ask(1), number), lambda: each(lambda: theirs.ask(1), number)


@workload("W2 ask against two queues", figure="p50_us", at_most=1.3)
def ask_queues(size: Size) -> Iterator[Sides]:
    number = size.of(3_000)
    there: SimpleQueue[int | None] = SimpleQueue()
    back: SimpleQueue[int] = SimpleQueue()

    def echo() -> None:
        while (message := there.get()) is not None:
            back.put(message)

    def round_trip() -> int:
        there.put(1)
        return back.get()

    peer = threading.Thread(target=echo)
    peer.start()
    try:
        with both(OurCpuActor) as (_, (ours,), _):
            yield lambda: each(lambda: ours.ask(1), number), lambda: each(round_trip, number)
    finally:
        there.put(None)
        peer.join()


async def each_async(call: Callable[[], Awaitable[object]], number: int) -> Mapping[str, float]:
    """Do as `each` does, with an async function."""
    clock = time.perf_counter_ns
    times = []
    for _ in range(number):
        started = clock()
        await call()
        times.append(clock() - started)
    return percentiles(times)


async def each_in_channel(number: int) -> Mapping[str, float]:
    """Measure the round trip between two tasks over a memory channel, each answered through an event."""
    send, receive = trio.open_memory_channel[tuple[int, list[int], trio.Event]](100)

    async def echo() -> None:
        async for message, answer, arrived in receive:
            answer.append(message)
            arrived.set()

    async def round_trip() -> int:
        answer: list[int] = []
        arrived = trio.Event()
        await send.send((1, answer, arrived))
        await arrived.wait()
        return answer[0]

    async with trio.open_nursery() as nursery:
        nursery.start_soon(echo)
        figures = await each_async(round_trip, number)
        nursery.cancel_scope.cancel()
    return figures


@workload("W2 ask within a loop", figure="p50_us", at_most=0.8)
def ask_in_loop(size: Size) -> Iterator[Sides]:
    number = size.of(5_000)
    with open_system() as system:
        ref = system.start_actor(OurIoActor, (), {})
        yield (
            lambda: system.io_host.run(partial(each_async, partial(ref.call, 1), number)).result(),
            lambda: system.io_host.run(partial(each_in_channel, number)).result(),
        )


# W3 and W4: asks in flight


def ask_in_flight(refs: list[Any], number: int) -> Mapping[str, float]:
    """Ask a number of times without waiting, then get all answers."""
    started = time.perf_counter()
    for _ in range(number):
        for future in [ref.ask(1, block=False) for ref in refs]:
            future.get()
    seconds = time.perf_counter() - started
    return {"seconds": seconds / number, "per_second": number * len(refs) / seconds}


@workload("W3 asks in flight", figure="per_second", at_least=6)
def asks_in_flight(size: Size) -> Iterator[Sides]:
    with both(OurCpuActor) as (_, (ours,), (theirs,)):
        in_flight, times = size.of(1_000), max(1, size.of(10))
        yield partial(ask_in_flight, [ours] * in_flight, times), partial(ask_in_flight, [theirs] * in_flight, times)


@workload("W4 fan-out cpu", figure="seconds", at_most=0.1)
def fan_out_cpu(size: Size) -> Iterator[Sides]:
    with both(OurCpuActor, 100) as (_, ours, theirs):
        yield partial(ask_in_flight, ours, size.of(30)), partial(ask_in_flight, theirs, size.of(30))


@workload("W4 fan-out io", figure="seconds", at_most=0.25)
def fan_out_io(size: Size) -> Iterator[Sides]:
    with both(OurIoActor, 100) as (_, ours, theirs):
        yield partial(ask_in_flight, ours, size.of(30)), partial(ask_in_flight, theirs, size.of(30))


WORKLOADS = [
    tell_cpu,
    tell_io,
    tell_io_in_loop,
    direct_call,
    ask_pykka,
    ask_queues,
    ask_in_loop,
    asks_in_flight,
    fan_out_cpu,
    fan_out_io,
]
