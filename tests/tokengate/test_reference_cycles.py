"""A failure is freed with its last reference: no error references itself by the frames of its traceback."""

from __future__ import annotations

import asyncio
import gc
import sys
import weakref
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import pytest
import trio

from tokengate import ActorRef, AsyncioActor, CpuActor, Gate, IoActor, token
from tokengate.errors import ActorDead

LIMIT = 10.0

Until = Callable[[Callable[[], bool]], None]
Failing = Callable[[], Any]
Awaiting = Callable[[], Awaitable[Any]]


class Boom(Exception):
    pass


def fail(*_: object) -> Any:
    raise Boom("it failed")


@token
def direct() -> None:
    fail()


@token
def steps() -> Any:
    yield
    fail()


@token
def nested() -> None:
    direct()


@token
def nested_in_a_thread() -> None:
    direct.submit().result()


@token
async def in_trio() -> None:
    fail()


@token
async def waits_in_trio() -> None:
    await trio.lowlevel.checkpoint()
    fail()


@token(affinity="asyncio")
async def in_asyncio() -> None:
    fail()


@token(affinity="asyncio")
async def waits_in_asyncio() -> None:
    await asyncio.sleep(0)
    fail()


@token(affinity="process")
def in_a_process() -> None:
    raise ValueError("it failed")


class _Failing:
    expected = (Boom,)

    def method(self) -> None:
        fail()

    def on_receive(self, message: Any) -> Any:
        fail()


class OnAThread(_Failing, CpuActor):
    pass


class InTrio(_Failing, IoActor):
    pass


class InAsyncio(_Failing, AsyncioActor):
    pass


class WaitsInTrio(IoActor):
    expected = (Boom,)

    async def on_receive(self, message: Any) -> Any:  # type: ignore[override]
        await trio.lowlevel.checkpoint()
        fail()


ACTORS: list[Any] = [OnAThread, InTrio, InAsyncio]
COROUTINES: list[Any] = [in_trio, waits_in_trio, in_asyncio, waits_in_asyncio]


@pytest.fixture
def gate(monkeypatch: pytest.MonkeyPatch) -> Iterator[Gate]:
    """A gate; nothing is freed by the collector in a test."""
    if sys.version_info < (3, 13):
        # There a look of recovery at the variables of a frame leaves a copy of them in it, which the collector frees.
        for name in ("_LOOK", "_IDLE_LOOK"):
            monkeypatch.setattr(f"actors.system._recovery.{name}", 3_600.0)
    gc.disable()
    try:
        with Gate("cycles", threads=2, control_socket=False) as opened:
            yield opened
    finally:
        gc.enable()


class Probe:
    """What lives as long as the error that it is attached to; errors of built-in types have no weak references."""


def probe_of(error: BaseException) -> weakref.ref[Probe]:
    probe = error.probe = Probe()  # type: ignore[attr-defined]
    return weakref.ref(probe)


def error_of(call: Failing) -> weakref.ref[Probe]:
    """Return a reference to what lives as long as the error of a call; `pytest.raises` would keep the error alive."""
    try:
        call()
    except (Boom, ValueError, ActorDead) as error:
        return probe_of(error)
    raise AssertionError("it has not failed")


async def error_of_awaiting(call: Awaiting) -> weakref.ref[Probe]:
    try:
        await call()
    except Boom as error:
        return probe_of(error)
    raise AssertionError("it has not failed")


def of_operation(operation: Any) -> list[Failing]:
    return [operation, lambda: operation.submit().result(), lambda: operation.submit().get()]


def of_actor(ref: ActorRef[Any]) -> list[Failing]:
    method = ref.proxy().method
    return [
        lambda: ref.ask("message"),
        lambda: ref.ask("message", timeout=LIMIT),
        lambda: method().get(),
        lambda: method().map(int).get(),
        lambda: method().filter(bool).get(),
        lambda: method().join(method()).get(),
        lambda: method().reduce(max).get(),
    ]


def test_failures_of_operations_are_freed(gate: Gate, until: Until) -> None:
    """Of direct calls, in place and queued, and of submitted ones; in any affinity."""
    executor = gate.executor()
    calls = [lambda: executor.submit(fail).result(), lambda: list(executor.map(fail, [1]))]
    for operation in (direct, steps, nested, nested_in_a_thread, in_a_process):
        calls += of_operation(operation)
    for coroutine in COROUTINES:
        calls += of_operation(coroutine)[1:]

    for error in [error_of(call) for call in calls]:
        until(lambda error=error: error() is None)  # type: ignore[misc]


def test_failures_at_the_end_of_a_quantum_are_freed(gate: Gate, until: Until) -> None:
    """The thread's frame, which the error references, has no token left."""
    for operation in (direct, nested_in_a_thread):
        gate._operations[operation._spec].drain.throughput_deadline = 0.0  # type: ignore[attr-defined]
    calls: list[Failing] = [lambda: direct.submit().result(), lambda: nested_in_a_thread.submit().result()]

    for error in [error_of(call) for call in calls]:
        until(lambda error=error: error() is None)  # type: ignore[misc]


@pytest.mark.parametrize("kind", ACTORS)
def test_failures_of_actors_are_freed(gate: Gate, until: Until, kind: Any) -> None:
    """Of asks, of calls through a proxy, and of what is made of them."""
    for error in [error_of(call) for call in of_actor(gate.spawn(kind))]:
        until(lambda error=error: error() is None)  # type: ignore[misc]


def test_a_message_to_a_dead_actor_is_refused_with_an_error_that_is_freed(gate: Gate, until: Until) -> None:
    """Told, asked or called."""
    ref = gate.spawn(OnAThread)
    ref.stop()
    calls: list[Failing] = [
        lambda: ref.tell("too late"),
        lambda: ref.ask("too late"),
        lambda: ref.do(OnAThread.method).result(),
    ]

    for error in [error_of(call) for call in calls]:
        until(lambda error=error: error() is None)  # type: ignore[misc]


async def errors_of_awaiting(gate: Gate) -> list[weakref.ref[Probe]]:
    calls: list[Awaiting] = []
    for coroutine in COROUTINES:
        calls += [coroutine, coroutine.submit, lambda coroutine=coroutine: waited_twice(coroutine)]  # type: ignore[misc]
    for kind in (*ACTORS, WaitsInTrio):
        ref = await gate.aspawn(kind)
        calls.append(lambda ref=ref: ref.call("message"))  # type: ignore[misc]
    return [await error_of_awaiting(call) for call in calls]


async def waited_twice(coroutine: Any) -> None:
    """Await room for a token, and then the token."""
    await (await coroutine.asubmit())


def run_in_io_loop(gate: Gate, function: Callable[[Gate], Any]) -> Any:
    return gate._system.io_host.run(lambda: function(gate)).result(LIMIT)


def run_in_asyncio_loop(gate: Gate, function: Callable[[Gate], Any]) -> Any:
    gate._system.asyncio_hosts.own.open()
    return gate._system.asyncio_hosts.own.run(lambda: function(gate)).result(LIMIT)


@pytest.mark.parametrize(
    "run",
    [
        lambda gate, function: trio.run(function, gate),
        lambda gate, function: asyncio.run(function(gate)),
        run_in_io_loop,
        run_in_asyncio_loop,
    ],
    ids=["trio", "asyncio", "io loop", "asyncio loop"],
)
def test_failures_that_are_awaited_are_freed(gate: Gate, until: Until, run: Any) -> None:
    """In any loop; what fails there in the caller's own task, too."""
    for error in run(gate, errors_of_awaiting):
        until(lambda error=error: error() is None)  # type: ignore[misc]
