"""Workloads of all sides whose `submit` returns a future: our operations, and executors."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from typing import Any, TypeAlias

from sides._workload import Run, bursts

CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
MIB = 2**20

# Takes the argument of a function, returns a future.
Submit: TypeAlias = Callable[[Any], Any]

# Makes a `Submit` of a function.
Bind: TypeAlias = Callable[[Callable[[Any], Any]], Submit]


def same(value: int) -> int:
    return value


def burn(turns: int) -> int:
    """Compute in pure Python."""
    total = 0
    for i in range(turns):
        total += i * i % 7
    return total


TURNS = 300_000  # some 20 ms


def look_at_bytes(data: bytes) -> bytes:
    """Look at every page of what came, and send it back."""
    assert len(data[::4096])
    return data


def look_at_array(array: Any) -> Any:
    """Look at every page of what came, and send it back."""
    array[::512].sum()
    return array


def gather(submit: Submit, number: int) -> None:
    """Submit 10,000 calls and get all results, and then the next 10,000."""
    for size in bursts(number, 10_000):
        for one in [submit(value) for value in range(size)]:
            one.result()


def round_trips(submit: Submit, number: int) -> None:
    for value in range(number):
        submit(value).result()


def compute(submit: Submit, number: int) -> None:
    for one in [submit(TURNS) for _ in range(number)]:
        one.result()


def there_and_back(submit: Submit, data: Any, number: int) -> None:
    """Send data there and back, and look at every page of what came."""
    step = 4096 // getattr(data, "itemsize", 1)
    for _ in range(number):
        result = submit(data).result()
        same = result[::step] == data[::step]
        assert same if isinstance(data, bytes) else same.all()


class Workloads:
    """The workloads of something that is opened and then makes a `Submit` of a function."""

    def __init__(self, open: Callable[[], AbstractContextManager[Bind]]) -> None:
        self._open = open

    @contextmanager
    def gather(self) -> Iterator[Run]:
        with self._open() as bind:
            yield partial(gather, bind(same))

    @contextmanager
    def round_trips(self) -> Iterator[Run]:
        with self._open() as bind:
            yield partial(round_trips, bind(same))

    @contextmanager
    def compute(self) -> Iterator[Run]:
        with self._open() as bind:
            yield partial(compute, bind(burn))

    @contextmanager
    def large_bytes(self) -> Iterator[Run]:
        with self._open() as bind:
            yield partial(there_and_back, bind(look_at_bytes), os.urandom(64 * MIB))

    @contextmanager
    def large_array(self) -> Iterator[Run]:
        import numpy as np  # optional: without it the row is left out

        with self._open() as bind:
            yield partial(there_and_back, bind(look_at_array), np.arange(8 * MIB, dtype=np.float64))


def warm(bind: Bind) -> None:
    """Have as many processes as cores running, each of which has computed something."""
    compute(bind(burn), 4 * CORES)


@contextmanager
def compute_alone() -> Iterator[Run]:
    """Compute here, and return the microseconds of one divided by the number of cores: the best that is possible."""

    def run(number: int) -> float:
        started = time.perf_counter()
        for _ in range(number):
            burn(TURNS)
        return (time.perf_counter() - started) / number / CORES * 1e6

    yield run
