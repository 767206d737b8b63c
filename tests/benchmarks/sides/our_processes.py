"""TokenGate: tokens in child processes, and the end of workers and tokens."""

from __future__ import annotations

import importlib
import os
import re
import select
import signal
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from sides._workload import Run
from sides.from_submits import CORES, Bind, Workloads, same, warm

from tokengate import Gate, token
from tokengate.types import ProcessPool

PATIENCE = 30.0  # seconds after which something hangs


def bind(function: Callable[[Any], Any]) -> Callable[[Any], Any]:
    return token(affinity="process", capacity=20_000)(function).submit


@contextmanager
def open_processes() -> Iterator[Bind]:
    with Gate("benchmark", processes=ProcessPool(size=CORES), control_socket=False):
        warm(bind)
        yield bind


workloads = Workloads(open_processes)

our_same = token(affinity="process")(same)


@contextmanager
def calls() -> Iterator[Run]:
    """Call without `submit`, one at a time."""

    def run(number: int) -> None:
        for value in range(number):
            our_same(value)

    with open_processes():
        yield run


# Workers that are killed, and tokens that cannot be interrupted


@token(affinity="process")
def whoami() -> int:
    return os.getpid()


@token(affinity="process")
def sleep_long(told: str) -> None:
    Path(told).write_text(str(os.getpid()))
    time.sleep(60)


@token(affinity="process")
def backtrack(told: str) -> None:
    Path(told).write_text(str(os.getpid()))
    re.match(r"(a+)+$", "a" * 40 + "b")


@token(affinity="process")
def multiply(told: str) -> None:
    """Spend some ten seconds in one call of NumPy."""
    import numpy as np  # optional: without it the row is left out

    matrix = np.ones((2_500, 2_500), dtype=np.int64)
    Path(told).write_text(str(os.getpid()))
    matrix @ matrix


class Bell:
    """A file into which a token writes the pid of the process that runs it."""

    def __init__(self, directory: str) -> None:
        self.path = str(Path(directory) / "pid")

    def wait(self) -> int:
        """Return the pid that was written, and remove it."""
        path = Path(self.path)
        ends = time.monotonic() + PATIENCE
        while not (text := path.read_text() if path.exists() else ""):
            assert time.monotonic() < ends, "the token did not begin"
            time.sleep(0.0005)
        path.unlink()
        return int(text)


def settle(gate: Gate, workers: int) -> None:
    """Wait until there are so many workers, and a moment for them to be warm."""
    ends = time.monotonic() + PATIENCE
    while len(gate.statistics().system.processes.pids) < workers:
        assert time.monotonic() < ends, "a spare did not come"
        time.sleep(0.002)
    time.sleep(0.05)


@contextmanager
def one_worker() -> Iterator[tuple[Gate, Bell]]:
    """Have one worker, and a spare."""
    pool = ProcessPool(size=1, spares=1)
    with tempfile.TemporaryDirectory() as directory, Gate("benchmark", processes=pool, control_socket=False) as gate:
        whoami.submit().result(PATIENCE)
        yield gate, Bell(directory)


@contextmanager
def replacing(busy: bool) -> Iterator[Run]:
    """Kill the only worker; return the median of the microseconds to the first result of the next one."""

    def once() -> float:
        settle(gate, 2)
        if busy:
            sleep_long.submit(bell.path)
            killed, waiting = bell.wait(), [whoami.submit()]
        else:
            killed, waiting = whoami.submit().result(PATIENCE), []
        started = time.perf_counter()
        os.kill(killed, signal.SIGKILL)
        pid = (waiting or [whoami.submit()])[0].result(PATIENCE)
        assert pid != killed
        return (time.perf_counter() - started) * 1e6

    with one_worker() as (gate, bell):
        yield lambda number: statistics.median(once() for _ in range(number))


@contextmanager
def ending(victim: Any) -> Iterator[Run]:
    """Terminate a token; return the median of the microseconds until its process is gone."""

    def once() -> float:
        settle(gate, 2)
        target = victim.submit(bell.path)
        descriptor = os.pidfd_open(bell.wait())
        time.sleep(0.01)  # so that it is where it stays
        started = time.perf_counter()
        (outcome,) = gate.control.terminate(target)
        assert outcome.outcome == "killed", outcome
        assert select.select([descriptor], [], [], PATIENCE)[0], "the process did not end"
        gone = time.perf_counter()
        os.close(descriptor)
        assert whoami.submit().result(PATIENCE)
        return (gone - started) * 1e6

    with one_worker() as (gate, bell):
        yield lambda number: statistics.median(once() for _ in range(number))


replacing_idle = partial(replacing, False)
replacing_busy = partial(replacing, True)
ending_sleep = partial(ending, sleep_long)
ending_regex = partial(ending, backtrack)


def ending_numpy() -> AbstractContextManager[Run]:
    importlib.import_module("numpy")  # where it is missing, the error comes here, and not in the child
    return ending(multiply)
