"""trio alone: tasks in nurseries, and memory channels."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

import trio
from sides._workload import Run


async def round_trips(number: int) -> None:
    """Send to a task over a memory channel, and wait for its answer by an event."""
    send, receive = trio.open_memory_channel[tuple[int, list[int], trio.Event]](100)

    async def echo() -> None:
        async for message, answer, arrived in receive:
            answer.append(message)
            arrived.set()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(echo)
        for message in range(number):
            answer: list[int] = []
            arrived = trio.Event()
            await send.send((message, answer, arrived))
            await arrived.wait()
        nursery.cancel_scope.cancel()


async def sleep_all(number: int) -> None:
    async with trio.open_nursery() as nursery:
        for _ in range(number):
            nursery.start_soon(trio.sleep, 0.1)


@contextmanager
def ask() -> Iterator[Run]:
    yield partial(trio.run, round_trips)


@contextmanager
def sleepers() -> Iterator[Run]:
    yield partial(trio.run, sleep_all)
