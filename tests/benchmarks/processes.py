"""Process tokens against `concurrent.futures.ProcessPoolExecutor`: W10 to W15.

Prints one JSON line for each workload, like `run.py`. The peer's processes are started before the gate opens its
threads, by the method that is the platform's default (each line says which), and stay for the whole workload. What no
peer can do is measured against a limit in milliseconds.

    python tests/benchmarks/processes.py [--quick] [--pairs N] [W10 W11 ...]

Those with NumPy are left out where it is missing.
"""

from __future__ import annotations

import importlib.util
import multiprocessing
import os
import re
import select
import signal
import statistics
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from _harness import Sides, Size, Workload, each, limit, main, rate, workload

from tokengate import Gate, token
from tokengate.types import ProcessPool

METHOD = multiprocessing.get_start_method()
PEER = f"ProcessPoolExecutor, start method '{METHOD}', started before the gate"
CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
MIB = 2**20
PATIENCE = 30.0  # seconds after which something hangs


def noop(value: int) -> int:
    return value


def burn(turns: int) -> int:
    """Compute in pure Python."""
    total = 0
    for i in range(turns):
        total += i * i % 7
    return total


def burn_often(turns: int, times: int) -> None:
    for _ in range(times):
        burn(turns)


def echo(data: Any) -> Any:
    """Look at every page of what came, and send it back."""
    assert len(data[::4096])
    return data


def looked_at(array: Any) -> Any:
    """Look at every page of an array, and send it back."""
    array[::512].sum()
    return array


our_noop = token(affinity="process", capacity=20_000)(noop)
our_burn = token(affinity="process")(burn)
our_echo = token(affinity="process")(echo)
our_looked_at = token(affinity="process")(looked_at)


@contextmanager
def both(size: Size) -> Iterator[ProcessPoolExecutor]:
    """Have the peer's processes and ours running and warm, as many of each as cores."""
    with ProcessPoolExecutor(CORES) as peer:
        for future in [peer.submit(time.sleep, 0.2) for _ in range(CORES)]:  # so that each is started
            future.result()
        with Gate("benchmark", processes=ProcessPool(size=CORES), control_socket=False):
            for one in [our_burn.submit(min(3_000_000, size.of(30_000_000))) for _ in range(CORES)]:
                one.result(PATIENCE)
            yield peer


# W10: computing


def turns_of(seconds: float) -> int:
    """Return how many turns of `burn` take so much processor time, in a process of its own."""
    burn(100_000)
    turns = 100_000
    times = []
    for _ in range(9):
        started = time.process_time()
        burn(turns)
        times.append(time.process_time() - started)
    return round(turns * seconds / statistics.median(times))


COMPUTATIONS = 200
COMPUTATION = 0.020  # seconds of one


def compute(submit: Callable[[int], Any], turns: int, number: int) -> Mapping[str, float]:
    started = time.perf_counter()
    for one in [submit(turns) for _ in range(number)]:
        one.result()
    return rate(number, started)


@workload("W10 computing against the executor", figure="per_second", at_least=1, peer=PEER)
def computing(size: Size) -> Iterator[Sides]:
    number, turns = size.of(COMPUTATIONS), turns_of(COMPUTATION)
    with both(size) as peer:
        yield (
            partial(compute, our_burn.submit, turns, number),
            partial(compute, partial(peer.submit, burn), turns, number),
        )


@workload(
    "W10 computing against the ideal",
    figure="per_second",
    at_least=0.95,
    peer=f"what one process does alone, times {CORES} cores; and what {CORES} processes do that get an equal part each",
)
def computing_ideal(size: Size) -> Iterator[Sides]:
    number, turns = size.of(COMPUTATIONS), turns_of(COMPUTATION)

    def ideal() -> Mapping[str, float]:
        # In a process of its own, so that none of our threads takes part in it.
        alone = max(4, number // 10)
        started = time.perf_counter()
        peer.submit(burn_often, turns, alone).result()
        one = rate(alone, started)["per_second"]
        parts = [number // CORES] * CORES
        started = time.perf_counter()
        for future in [peer.submit(burn_often, turns, part) for part in parts]:
            future.result()
        return {"per_second": one * CORES, "in_equal_parts": rate(sum(parts), started)["per_second"]}

    with both(size) as peer:
        yield partial(compute, our_burn.submit, turns, number), ideal


# W11: one at a time


@workload("W11 round trip by submit", figure="p50_us", at_most=0.25, peer=PEER)
def round_trip(size: Size) -> Iterator[Sides]:
    number = size.of(2_000)
    with both(size) as peer:
        yield (
            lambda: each(lambda: our_noop.submit(1).result(), number),
            lambda: each(lambda: peer.submit(noop, 1).result(), number),
        )


@workload("W11 round trip by call", figure="p50_us", at_most=0.25, peer=PEER)
def round_trip_by_call(size: Size) -> Iterator[Sides]:
    number = size.of(2_000)
    with both(size) as peer:
        yield lambda: each(lambda: our_noop(1), number), lambda: each(lambda: peer.submit(noop, 1).result(), number)


# W12: many at once


@workload(
    "W12 small tokens at once",
    figure="per_second",
    at_least=20,
    peer=f"{PEER}: submit, which is what map does with chunks of 1; and map with chunks of 64",
)
def small_tokens(size: Size) -> Iterator[Sides]:
    number = size.of(10_000)

    def ours() -> Mapping[str, float]:
        started = time.perf_counter()
        results = [one.result() for one in [our_noop.submit(value) for value in range(number)]]
        figures = rate(number, started)
        assert results == list(range(number))
        return figures

    def theirs() -> Mapping[str, float]:
        started = time.perf_counter()
        for future in [peer.submit(noop, value) for value in range(number)]:
            future.result()
        figures = rate(number, started)
        started = time.perf_counter()
        for _ in peer.map(noop, range(number), chunksize=64):
            pass
        return {**figures, "in_chunks_of_64": rate(number, started)["per_second"]}

    with both(size) as peer:
        yield ours, theirs


# W13: large data


def there_and_back(call: Callable[[Any], Any], data: Any, times: int) -> Mapping[str, float]:
    """Send data there and back, and look at every page of what came."""
    seconds = []
    for _ in range(times):
        started = time.perf_counter()
        result = call(data)
        assert len(result) == len(data)
        step = 4096 // getattr(result, "itemsize", 1)
        same = result[::step] == data[::step]
        assert same if isinstance(data, bytes) else same.all()
        seconds.append(time.perf_counter() - started)
        del result
    return {"seconds": statistics.median(seconds)}


@workload("W13 64 MiB of bytes", figure="seconds", at_most=0.5, peer=PEER)
def large_bytes(size: Size) -> Iterator[Sides]:
    data = os.urandom(size.of(64 * MIB))
    with both(size) as peer:
        yield (
            partial(there_and_back, lambda data: our_echo.submit(data).result(), data, 3),
            partial(there_and_back, lambda data: peer.submit(echo, data).result(), data, 3),
        )


@workload("W13 64 MiB of a NumPy array", figure="seconds", at_most=0.5, peer=PEER)
def large_array(size: Size) -> Iterator[Sides]:
    import numpy as np

    data = np.arange(size.of(8 * MIB), dtype=np.float64)
    with both(size) as peer:
        yield (
            partial(there_and_back, lambda data: our_looked_at.submit(data).result(), data, 3),
            partial(there_and_back, lambda data: peer.submit(looked_at, data).result(), data, 3),
        )


# W14: how soon a worker that was killed is replaced


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
    """Be in one call of NumPy's for some ten seconds."""
    import numpy as np

    matrix = np.ones((2_500, 2_500), dtype=np.int64)
    Path(told).write_text(str(os.getpid()))
    matrix @ matrix


class Bell:
    """A file into which a token writes the pid of the process that runs it."""

    def __init__(self, directory: str) -> None:
        self.path = str(Path(directory) / "pid")

    def wait(self) -> int:
        """Return the pid that was written, and take it away."""
        path = Path(self.path)
        ends = time.monotonic() + PATIENCE
        while not (text := path.read_text() if path.exists() else ""):
            assert time.monotonic() < ends, "the token did not begin"
            time.sleep(0.0005)
        path.unlink()
        return int(text)


def end_of(pid: int) -> Callable[[], float]:
    """Return a function that waits for the end of a process and returns when that was (`perf_counter`)."""
    descriptor = os.pidfd_open(pid)
    when: list[float] = []

    def watch() -> None:
        if select.select([descriptor], [], [], PATIENCE)[0]:
            when.append(time.perf_counter())
        os.close(descriptor)

    watching = threading.Thread(target=watch)
    watching.start()

    def wait() -> float:
        watching.join()
        assert when, f"process {pid} did not end"
        return when[0]

    return wait


def settle(gate: Gate, workers: int) -> None:
    """Wait until there are so many workers, and a moment for them to be warm."""
    ends = time.monotonic() + PATIENCE
    while len(gate._system.statistics().processes.pids) < workers:
        assert time.monotonic() < ends, "a spare did not come"
        time.sleep(0.002)
    time.sleep(0.05)


def spread(name: str, seconds: list[float]) -> dict[str, float]:
    milliseconds = sorted(1000 * one for one in seconds)
    return {
        f"{name}_ms": statistics.median(milliseconds),
        f"{name}_p90_ms": milliseconds[round(0.9 * (len(milliseconds) - 1))],
        f"{name}_max_ms": milliseconds[-1],
    }


@contextmanager
def one_worker() -> Iterator[tuple[Gate, Bell]]:
    """Have one worker, and a spare."""
    pool = ProcessPool(size=1, spares=1)
    with tempfile.TemporaryDirectory() as directory, Gate("benchmark", processes=pool, control_socket=False) as gate:
        whoami.submit().result(PATIENCE)
        yield gate, Bell(directory)


def replaced(size: Size, busy: bool) -> Iterator[Sides]:
    """Kill the only worker, and measure the time to the first result of the next one."""
    times = size.of(50)

    def ours() -> Mapping[str, float]:
        seconds = []
        for _ in range(times):
            settle(gate, 2)
            if busy:
                sleep_long.submit(bell.path)
                killed = bell.wait()
                waiting = [whoami.submit()]
            else:
                killed = whoami.submit().result(PATIENCE)
                waiting = []
            started = time.perf_counter()
            os.kill(killed, signal.SIGKILL)
            pid = (waiting or [whoami.submit()])[0].result(PATIENCE)
            seconds.append(time.perf_counter() - started)
            assert pid != killed
        return spread("replaced", seconds)

    with one_worker() as (gate, bell):
        yield ours, limit("replaced_ms", 50)


@workload("W14 replacing an idle worker that was killed", figure="replaced_ms", at_most=1, pairs=1, peer="the limit")
def replacing_idle(size: Size) -> Iterator[Sides]:
    yield from replaced(size, busy=False)


@workload("W14 replacing a busy worker that was killed", figure="replaced_ms", at_most=1, pairs=1, peer="the limit")
def replacing_busy(size: Size) -> Iterator[Sides]:
    yield from replaced(size, busy=True)


# W15: ending what cannot be interrupted


def terminating(size: Size, victim: Any) -> Iterator[Sides]:
    """End a token, and measure when its process is gone and when the next token has its result."""
    times = size.of(20)

    def ours() -> Mapping[str, float]:
        answered, gone, following = [], [], []
        for number in range(times):
            settle(gate, 2)
            target = victim.submit(bell.path)
            pid = bell.wait()
            time.sleep(0.01)  # so that it is where it stays
            end = end_of(pid)
            started = time.perf_counter()
            (outcome,) = gate.control.terminate(target)
            answered.append(time.perf_counter() - started)
            assert our_noop.submit(number).result(PATIENCE) == number
            following.append(time.perf_counter() - started)
            gone.append(end() - started)
            assert outcome.outcome == "killed", outcome
        return {**spread("gone", gone), **spread("answer", answered), **spread("next_result", following)}

    with one_worker() as (gate, bell):
        yield ours, limit("gone_ms", 100)


@workload("W15 ending a sleep", figure="gone_ms", at_most=1, pairs=1, peer="the limit")
def ending_sleep(size: Size) -> Iterator[Sides]:
    yield from terminating(size, sleep_long)


@workload("W15 ending a regular expression", figure="gone_ms", at_most=1, pairs=1, peer="the limit")
def ending_regex(size: Size) -> Iterator[Sides]:
    yield from terminating(size, backtrack)


@workload("W15 ending a product of NumPy", figure="gone_ms", at_most=1, pairs=1, peer="the limit")
def ending_numpy(size: Size) -> Iterator[Sides]:
    yield from terminating(size, multiply)


WITH_NUMPY = (large_array, ending_numpy)

WORKLOADS: list[Workload] = [
    computing,
    computing_ideal,
    round_trip,
    round_trip_by_call,
    small_tokens,
    large_bytes,
    large_array,
    replacing_idle,
    replacing_busy,
    ending_sleep,
    ending_regex,
    ending_numpy,
]

if __name__ == "__main__":
    found = importlib.util.find_spec("numpy") is not None
    main([one for one in WORKLOADS if found or one not in WITH_NUMPY], __doc__ or "")
