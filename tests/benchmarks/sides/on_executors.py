"""The standard library: `ThreadPoolExecutor`, `ProcessPoolExecutor`, and a thread between two queues."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from queue import SimpleQueue

from sides._workload import Run
from sides.from_submits import CORES, Bind, Workloads, warm


@contextmanager
def open_threads() -> Iterator[Bind]:
    with ThreadPoolExecutor(CORES) as pool:
        yield partial(partial, pool.submit)


@contextmanager
def open_processes() -> Iterator[Bind]:
    with ProcessPoolExecutor(CORES) as pool:
        bind: Bind = partial(partial, pool.submit)
        warm(bind)
        yield bind


threads = Workloads(open_threads)
processes = Workloads(open_processes)


@contextmanager
def round_trips() -> Iterator[Run]:
    """Put into the queue of a thread that puts each message into a second queue, and get it from there."""
    there: SimpleQueue[int | None] = SimpleQueue()
    back: SimpleQueue[int] = SimpleQueue()

    def echo() -> None:
        while (message := there.get()) is not None:
            back.put(message)

    def run(number: int) -> None:
        for message in range(number):
            there.put(message)
            back.get()

    thread = threading.Thread(target=echo)
    thread.start()
    try:
        yield run
    finally:
        there.put(None)
        thread.join()
