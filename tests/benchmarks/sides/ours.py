"""TokenGate: actors and operations on threads and loops, through its public names."""

from __future__ import annotations

import gc
import threading
import time
import tracemalloc
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import trio
from sides import from_threads
from sides._workload import Run, bursts
from sides.from_submits import Bind, Workloads, same

from actors import ActorSystem, BaseActor, CpuActor, IoActor, Observer, Token
from supervisors import ChildSpec, Supervisor
from tokengate import Gate, token


class CpuEcho(CpuActor):
    def on_receive(self, message: Any) -> Any:
        return message


class CountingEcho(CpuEcho):
    """Has code that runs when an instance is made: not on a loop."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0


class IoEcho(IoActor):
    def on_receive(self, message: Any) -> Any:
        return message


class WaitingEcho(IoActor):
    async def on_receive(self, message: Any) -> Any:
        await trio.lowlevel.checkpoint()
        return message


@contextmanager
def actors(cls: type[BaseActor], number: int = 1, **options: Any) -> Iterator[list[Any]]:
    """Start actors of a gate."""
    with Gate("benchmark", control_socket=False, **options) as gate:
        yield [gate.spawn(cls) for _ in range(number)]


def in_loop(function: Callable[[int], Coroutine[Any, Any, None]]) -> Run:
    """Return what runs an async function in the gate's loop, where its io actors are."""
    operation = token(function)
    return lambda number: operation.submit(number).result()


# Messages


@contextmanager
def tell_cpu(**options: Any) -> Iterator[Run]:
    with actors(CpuEcho, **options) as (ref,):
        yield partial(from_threads.tell, ref)


tell_cpu_tuned = partial(tell_cpu, gc="tuned")


@contextmanager
def tell_io() -> Iterator[Run]:
    with actors(IoEcho) as (ref,):
        yield partial(from_threads.tell, ref)


@contextmanager
def tell_in_loop() -> Iterator[Run]:
    """Tell a thousand at a time, and wait until these are handled: a full mailbox does not wait in a loop."""

    async def run(number: int) -> None:
        for size in bursts(number, 1_000):
            for message in range(size):
                ref.tell(message)
            await ref.call(None)

    with actors(IoEcho) as (ref,):
        yield in_loop(run)


@contextmanager
def ask_cpu() -> Iterator[Run]:
    with actors(CpuEcho) as (ref,):
        yield partial(from_threads.ask, ref)


@contextmanager
def ask_in_loop(cls: type[BaseActor] = IoEcho) -> Iterator[Run]:
    async def run(number: int) -> None:
        for message in range(number):
            await ref.call(message)

    with actors(cls) as (ref,):
        yield in_loop(run)


ask_one_that_waits = partial(ask_in_loop, WaitingEcho)


@contextmanager
def ask_in_flight() -> Iterator[Run]:
    with actors(CpuEcho) as (ref,):
        yield partial(from_threads.ask_in_flight, ref)


@contextmanager
def ask_in_flight_in_loop() -> Iterator[Run]:
    async def run(number: int) -> None:
        for size in bursts(number, 1_000):
            for answer in [ref.ask(1, block=False) for _ in range(size)]:
                await answer

    with actors(IoEcho) as (ref,):
        yield in_loop(run)


@contextmanager
def fan_out_cpu() -> Iterator[Run]:
    with actors(CpuEcho, 100) as refs:
        yield partial(from_threads.fan_out, refs)


@contextmanager
def fan_out_io() -> Iterator[Run]:
    with actors(IoEcho, 100) as refs:
        yield partial(from_threads.fan_out, refs)


@contextmanager
def tell_observed() -> Iterator[Run]:
    """Tell a cpu actor of a system whose observer counts three events of each token."""

    class Counting(Observer):
        queued = started = finished = 0

        def token_queued(self, token: Token[Any], /) -> None:
            self.queued += 1

        def token_started(self, token: Token[Any], /) -> None:
            self.started += 1

        def token_finished(self, token: Token[Any], /) -> None:
            self.finished += 1

    system = ActorSystem("benchmark")
    system.open()
    try:
        system.add_observer(Counting())
        yield partial(from_threads.tell, system.start_actor(CpuEcho, (), {}))
    finally:
        system.close(10.0)


# Actors


@contextmanager
def spawn_in_turn(beside: int = 0) -> Iterator[Run]:
    with Gate("benchmark", control_socket=False) as gate:
        refs: list[Any] = [gate.spawn(CpuEcho) for _ in range(beside)]
        yield partial(from_threads.spawn_in_turn, partial(gate.spawn, CpuEcho), refs)


spawn_beside_many = partial(spawn_in_turn, 3_000)


@contextmanager
def spawn_at_once() -> Iterator[Run]:
    with Gate("benchmark", control_socket=False) as gate:
        yield partial(from_threads.spawn_at_once, partial(gate.spawn, CpuEcho), [])


@contextmanager
def aspawn_in_turn(cls: type[BaseActor] = CpuEcho) -> Iterator[Run]:
    """Await the start of an actor and its answer in a trio loop, and then the next; all stay alive."""
    refs: list[Any] = []

    async def run(number: int) -> None:
        for _ in range(number):
            ref = await gate.aspawn(cls)
            await ref.call(1)
            refs.append(ref)

    with Gate("benchmark", control_socket=False) as gate:
        yield partial(trio.run, run)


aspawn_initialized = partial(aspawn_in_turn, CountingEcho)


@contextmanager
def aspawn_at_once() -> Iterator[Run]:
    """Start a number of actors in as many tasks of a trio loop, each of which asks its own; all stay alive."""
    refs: list[Any] = []

    async def spawn() -> None:
        ref = await gate.aspawn(CpuEcho)
        await ref.call(1)
        refs.append(ref)

    async def run(number: int) -> None:
        async with trio.open_nursery() as nursery:
            for _ in range(number):
                nursery.start_soon(spawn)

    with Gate("benchmark", control_socket=False) as gate:
        yield partial(trio.run, run)


@contextmanager
def start_and_stop() -> Iterator[Run]:
    """Start a supervisor of a number of actors, and stop it."""

    def run(number: int) -> None:
        gate.spawn(Supervisor, [ChildSpec(f"actor-{n}", CpuEcho) for n in range(number)], restart="temporary").stop()

    with Gate("benchmark", control_socket=False) as gate:
        yield run


def bytes_of(make: Callable[[int], object], number: int) -> float:
    """Return what is allocated, in bytes for each of a number of things, while the result of `make` is held."""
    gc.collect()
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        made = make(number)
        gc.collect()
        after, _ = tracemalloc.get_traced_memory()
        del made
    finally:
        tracemalloc.stop()
    return (after - before) / number


@contextmanager
def bytes_per_actor() -> Iterator[Run]:
    with Gate("benchmark", control_socket=False) as gate:
        yield partial(bytes_of, lambda number: [gate.spawn(CpuEcho) for _ in range(number)])


@contextmanager
def threads() -> Iterator[Run]:
    """Count the threads of a gate with a number of actors that have answered."""
    before = threading.active_count()

    def run(number: int) -> float:
        from_threads.ask_all([gate.spawn(CpuEcho) for _ in range(number)])
        return threading.active_count() - before

    with Gate("benchmark", control_socket=False) as gate:
        yield run


# Operations


@contextmanager
def open_operations(**options: Any) -> Iterator[Bind]:
    with Gate("benchmark", control_socket=False, **options):
        yield lambda function: token(function).submit


operations = Workloads(open_operations)
operations_tuned = Workloads(partial(open_operations, gc="tuned"))

operation = token(same)


@contextmanager
def bytes_per_token() -> Iterator[Run]:
    opened = threading.Event()

    @token(concurrency=1, capacity=100_000)
    def wait(_value: int) -> None:
        opened.wait()

    def run(number: int) -> float:
        opened.clear()
        try:
            return bytes_of(lambda number: [wait.submit(value) for value in range(number)], number)
        finally:
            opened.set()
            wait.submit(number).result()  # behind all of them

    with Gate("benchmark", control_socket=False):
        yield run


@token(concurrency=10_000, capacity=10_000)
async def sleep() -> None:
    await trio.sleep(0.1)


@contextmanager
def sleepers() -> Iterator[Run]:
    def run(number: int) -> None:
        for one in [sleep.submit() for _ in range(number)]:
            one.result()

    with Gate("benchmark", control_socket=False):
        yield run


def call(function: Callable[[int], int], number: int) -> None:
    for value in range(number):
        function(value)


@contextmanager
def direct_call() -> Iterator[Run]:
    with Gate("benchmark", control_socket=False):
        yield partial(call, operation)


@contextmanager
def off() -> Iterator[Run]:
    """Measure what a decorated call costs beyond the plain function while no gate is open, in us of processor time."""

    def microseconds(function: Callable[[int], int], number: int) -> float:
        started = time.process_time()
        call(function, number)
        return (time.process_time() - started) / number * 1e6

    def run(number: int) -> float:
        without = microseconds(same, number)
        return microseconds(operation, number) - without

    yield run
