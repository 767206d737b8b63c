"""Durable tokens: each is on disk when it is accepted, and again when it ends, before that is seen."""

from __future__ import annotations

import asyncio
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sides._workload import Run, bursts

from tokengate import Gate, token
from tokengate.durable import Journal

IN_FLIGHT = 1_000


@token(durable=True, idempotent=True)
def work(number: int) -> int:
    return number


@token(durable=True)
def work_once(number: int) -> int:
    return number


@contextmanager
def _gate(run: Callable[[int], Any]) -> Iterator[Run]:
    with (
        tempfile.TemporaryDirectory(dir=".") as folder,
        Gate("benchmark", plugins=[Journal(Path(folder) / "journal")], control_socket=False),
    ):
        yield run


def _mapped(operation: Any) -> Run:
    def run(number: int) -> None:
        for size in bursts(number, IN_FLIGHT):
            for one in operation.map(range(size)):
                one.result()

    return run


def _one_at_a_time(number: int) -> float:
    times = []
    for one in range(number):
        began = time.perf_counter()
        work.submit(one).result()
        times.append(time.perf_counter() - began)
    return statistics.median(times) * 1e6


def _in_tasks(number: int) -> None:
    numbers = iter(range(number))

    async def task() -> None:
        for one in numbers:
            await (await work.asubmit(one))

    async def main() -> None:
        await asyncio.gather(*(task() for _ in range(IN_FLIGHT)))

    asyncio.run(main())


def mapped() -> Any:
    return _gate(_mapped(work))


def mapped_not_idempotent() -> Any:
    return _gate(_mapped(work_once))


def in_tasks() -> Any:
    return _gate(_in_tasks)


def one_at_a_time() -> Any:
    return _gate(_one_at_a_time)
