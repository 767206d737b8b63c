"""huey on SQLite, in one thread and without the pauses of its consumer, which is its best."""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import huey
from sides._workload import Run, bursts

IN_FLIGHT = 1_000


@contextmanager
def _huey(run: Callable[[Any, Any, int], Any], fsync: bool) -> Iterator[Run]:
    with tempfile.TemporaryDirectory(dir=".") as folder:
        queue = huey.SqliteHuey(filename=str(Path(folder) / "huey.db"), fsync=fsync)

        @queue.task()  # type: ignore[untyped-decorator]
        def work(number: int) -> int:
            return number

        yield lambda number: run(queue, work, number)
        queue.storage.close()


def _in_flight(queue: Any, work: Any, number: int) -> None:
    for size in bursts(number, IN_FLIGHT):
        results = [work(one) for one in range(size)]
        for _ in results:
            queue.execute(queue.dequeue())
        assert [result.get() for result in results] == list(range(size))


def _one_at_a_time(queue: Any, work: Any, number: int) -> float:
    times = []
    for one in range(number):
        began = time.perf_counter()
        result = work(one)
        queue.execute(queue.dequeue())
        assert result.get() == one
        times.append(time.perf_counter() - began)
    return statistics.median(times) * 1e6


def in_flight() -> Any:
    return _huey(_in_flight, fsync=False)


def in_flight_fsync() -> Any:
    return _huey(_in_flight, fsync=True)


def one_at_a_time_fsync() -> Any:
    return _huey(_one_at_a_time, fsync=True)
