"""TokenGate in an asyncio program: actors and operations in the caller's loop; and asyncio alone."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import AsyncExitStack, contextmanager
from functools import partial
from typing import Any

import attrs
from sides._workload import Run
from sides.from_submits import Bind, Workloads
from sides.on_asyncio import Library
from sides.on_asyncio import Workloads as LoopWorkloads

from tokengate import AsyncioActor, Gate, token


class Echo(AsyncioActor):
    def on_receive(self, message: Any) -> Any:
        return message


@attrs.frozen
class Ref:
    """A ref with the method that the workloads await."""

    tell: Callable[[Any], None]
    ask: Callable[[Any], Awaitable[Any]]
    begin: Callable[..., Any]


class TokenGate(Library):
    async def open(self, stack: AsyncExitStack) -> None:
        self._gate = await stack.enter_async_context(Gate("benchmark", control_socket=False))

    async def spawn(self, name: str) -> Ref:
        ref = await self._gate.aspawn(Echo)
        return Ref(ref.tell, ref.call, ref.ask)

    async def ask_all(self, refs: Sequence[Ref]) -> None:
        for answer in [ref.begin(self.message, block=False) for ref in refs]:
            await answer


workloads = LoopWorkloads(TokenGate)


# Operations


async def nap() -> None:
    await asyncio.sleep(0.1)


async def answer(value: int) -> int:
    return value


sleep = token(affinity="asyncio", concurrency=10_000, capacity=10_000)(nap)
operation = token(affinity="asyncio")(answer)


def in_gate(run: Callable[[int], Awaitable[float | None]]) -> Callable[[], Any]:
    """Return the workload of an async function in the loop in which a gate is open."""

    @contextmanager
    def workload() -> Iterator[Run]:
        gate = Gate("benchmark", control_socket=False)
        with asyncio.Runner() as runner:

            async def work(number: int) -> float | None:
                return await run(number)

            runner.run(gate.__aenter__())
            try:
                yield lambda number: runner.run(work(number))
            finally:
                runner.run(gate.aclose())

    return workload


@in_gate
async def sleepers(number: int) -> None:
    for one in [sleep.submit() for _ in range(number)]:
        await one


async def sleep_in_group(number: int) -> None:
    async with asyncio.TaskGroup() as group:
        for _ in range(number):
            group.create_task(nap())


@contextmanager
def group_of_sleepers() -> Iterator[Run]:
    yield lambda number: asyncio.run(sleep_in_group(number))


@in_gate
async def direct_await(number: int) -> float:
    """Measure what a direct await costs beyond the plain coroutine, in us of processor time."""

    async def microseconds(function: Callable[[int], Awaitable[int]]) -> float:
        started = time.process_time()
        for value in range(number):
            await function(value)
        return (time.process_time() - started) / number * 1e6

    without = await microseconds(answer)
    return await microseconds(operation) - without


@contextmanager
def open_operations(affinity: Any) -> Iterator[Bind]:
    """Submit coroutine functions that await nothing."""

    def bind(function: Callable[..., Any]) -> Callable[..., Any]:
        async def run(*args: Any) -> Any:
            return function(*args)

        return token(affinity=affinity)(run).submit

    with Gate("benchmark", control_socket=False):
        yield bind


operations = Workloads(partial(open_operations, "asyncio"))
io_operations = Workloads(partial(open_operations, "io"))
