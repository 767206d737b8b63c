"""Tokens of every kind that run until a test lets them end, for contract tests of control."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Any

import attrs
import pykka
import trio
from gated_code import Door, share

from actors import Token
from tokengate import AsyncioActor, CpuActor, Gate, IoActor, ProcessActor, checkpoint, token


def run_id(one: Token[Any]) -> int:
    """Return the id of the token that runs for another one."""
    return int(one.uid.rpartition(".")[2])


# Tokens of every kind, which run until their door is open; each can be stopped at a checkpoint, a yield or an await.


def turn(door: Door) -> str:
    door.reached.set()
    while not door.is_open:
        door.rounds += 1
        checkpoint()
    return "through"


def turn_in_steps(door: Door) -> Any:
    door.reached.set()
    while not door.is_open:
        door.rounds += 1
        yield
    return "through"


async def turn_and_await(door: Door) -> str:
    door.reached.set()
    while not door.is_open:
        door.rounds += 1
        await trio.lowlevel.checkpoint()
    return "through"


async def turn_and_await_in_asyncio(door: Door) -> str:
    door.reached.set()
    while not door.is_open:
        door.rounds += 1
        await asyncio.sleep(0)
    return "through"


cpu_operation = token(turn)
generator_operation = token(turn_in_steps)
io_operation = token(turn_and_await)
asyncio_operation = token(affinity="asyncio")(turn_and_await_in_asyncio)


class Turner(CpuActor):
    def turn(self, door: Door) -> str:
        return turn(door)

    def turn_in_steps(self, door: Door) -> Any:
        return (yield from turn_in_steps(door))


class PinnedTurner(Turner):
    dispatcher = "pinned"


class IoTurner(IoActor):
    async def turn(self, door: Door) -> str:
        return await turn_and_await(door)


class AsyncioTurner(AsyncioActor):
    async def turn(self, door: Door) -> str:
        return await turn_and_await_in_asyncio(door)


# These do not use `turn`: a child would have to import this whole module for it.


@token(affinity="process")
def process_operation(door: Door) -> str:
    door.reached.set()
    while not door.is_open:
        door.rounds += 1
        checkpoint()
    return "through"


@token(affinity="process")
def process_generator(door: Door) -> Any:
    door.reached.set()
    while not door.is_open:
        door.rounds += 1
        yield
    return "through"


class ProcessTurner(ProcessActor):
    def turn(self, door: Door) -> str:
        door.reached.set()
        while not door.is_open:
            door.rounds += 1
            checkpoint()
        return "through"

    def turn_in_steps(self, door: Door) -> Any:
        door.reached.set()
        while not door.is_open:
            door.rounds += 1
            yield
        return "through"


class ForeignTurner(pykka.ThreadingActor):
    def turn(self, door: Door) -> str:
        return turn(door)


@attrs.frozen
class Kind:
    """A way to have a token run.

    Attributes:
        name: for the id of the test.
        begin: sends a token that runs until its door is open, and returns it; for a gate, a door, and properties that
            its operation or actor class declares (`guard`, `show`, `idempotent`).
        queues: whether it goes through a mailbox.
        actor: whether it is a token of an actor.
        interruptible: whether its code may be interrupted.
        process: whether it runs in a child process, which can be killed.
    """

    name: str
    begin: Callable[..., Token[Any]]
    queues: bool = True
    actor: bool = False
    interruptible: bool = True
    process: bool = False


def _of_actor(
    cls: type[Any], method: str, prepare: Callable[[Door], Door] = lambda door: door
) -> Callable[..., Token[Any]]:
    def begin(gate: Gate, door: Door, **properties: Any) -> Token[Any]:
        name = cls.__name__.lower()
        known = [row.path for row in gate.control.actors() if row.path == f"spawned/{name}"]
        declared = type(cls.__name__, (cls,), {"__module__": cls.__module__, **properties}) if properties else cls
        ref = gate.find(known[0]) if known else gate.spawn(declared, name=name)
        sent: Token[Any] = getattr(ref.proxy(), method)(prepare(door))
        return sent

    return begin


def _of_operation(operation: Any, prepare: Callable[[Door], Door] = lambda door: door) -> Callable[..., Token[Any]]:
    def begin(gate: Gate, door: Door, **properties: Any) -> Token[Any]:
        sent: Token[Any] = _declared(operation, properties).submit(prepare(door))
        return sent

    return begin


def _declared(operation: Any, properties: dict[str, Any]) -> Any:
    """Return an operation with other properties."""
    return token(affinity=operation.affinity, **properties)(operation.__wrapped__) if properties else operation


def _direct_call(gate: Gate, door: Door, **properties: Any) -> Token[Any]:
    """Call an operation directly on a thread of the test, and return the call's token."""
    operation = _declared(cpu_operation, properties)

    def call() -> None:
        with gate.entered():
            try:
                operation(door)
            except BaseException:
                pass  # the token has it as well

    return _token_of(gate, door, call)


def _asyncio_call(gate: Gate, door: Door, **properties: Any) -> Token[Any]:
    """Await an operation directly in an asyncio loop on a thread of the test, and return the call's token."""
    operation = _declared(asyncio_operation, properties)

    async def main() -> None:
        with gate.entered():
            await operation(door)

    def call() -> None:
        try:
            asyncio.run(main())
        except BaseException:
            pass  # the token has it as well

    return _token_of(gate, door, call)


def _token_of(gate: Gate, door: Door, call: Callable[[], None]) -> Token[Any]:
    before = set(gate._system.live)
    threading.Thread(target=call, name="caller", daemon=True).start()
    door.wait_reached()
    [found] = [one for id, one in list(gate._system.live.items()) if id not in before and not one.serves_operators]
    return found


KINDS = [
    Kind("cpu operation", _of_operation(cpu_operation)),
    Kind("generator operation", _of_operation(generator_operation)),
    Kind("io operation", _of_operation(io_operation)),
    Kind("asyncio operation", _of_operation(asyncio_operation)),
    Kind("cpu actor", _of_actor(Turner, "turn"), actor=True),
    Kind("cpu actor, generator", _of_actor(Turner, "turn_in_steps"), actor=True),
    Kind("pinned actor", _of_actor(PinnedTurner, "turn"), actor=True),
    Kind("io actor", _of_actor(IoTurner, "turn"), actor=True),
    Kind("asyncio actor", _of_actor(AsyncioTurner, "turn"), actor=True),
    Kind("foreign actor", _of_actor(ForeignTurner, "turn"), actor=True, interruptible=False),
    Kind("process operation", _of_operation(process_operation, share), process=True),
    Kind("process generator", _of_operation(process_generator, share), process=True),
    Kind("process actor", _of_actor(ProcessTurner, "turn", share), actor=True, process=True),
    Kind("process actor, generator", _of_actor(ProcessTurner, "turn_in_steps", share), actor=True, process=True),
    Kind("direct call", _direct_call, queues=False),
    Kind("asyncio call", _asyncio_call, queues=False),
]
