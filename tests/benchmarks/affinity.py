"""The same computation as io, cpu and process tokens, at sizes of work from a microsecond to a tenth of a second.

Each line is a size of work: how many are done in a second by each kind, and by the bare function in a loop; and the
ratios of these, as medians of interleaved rounds. `at_once` tokens are submitted, and the next ones when all are done:
first four for each core, then a thousand, of which more go in a batch. The last line of each tells the size from which
on process tokens are faster.

    python tests/benchmarks/affinity.py [--rounds 9] [--quick]
"""

from __future__ import annotations

import argparse
import gc
import json
import logging
import math
import os
import platform
import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any

from tokengate import Gate, token
from tokengate.types import ProcessPool

CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1

# Microseconds of work, and how many tokens a round has.
SIZES = {1: 8_000, 10: 4_000, 100: 800, 1_000: 160, 10_000: 40, 100_000: 8}

LONGEST = 5.0  # seconds of work in a round; sizes that would take longer are left out

KINDS = ("io", "cpu", "process")


def burn(turns: int) -> int:
    """Compute in pure Python."""
    total = 0
    for i in range(turns):
        total += i * i % 7
    return total


OPERATIONS: dict[str, Any] = {kind: token(affinity=kind, capacity=10_000)(burn) for kind in KINDS}  # type: ignore[call-overload]


def turns_of(microseconds: float) -> int:
    """Return how many turns take so long: calls of no turns, which take some time, too, are left out."""

    def seconds(turns: int) -> float:
        started = time.perf_counter()
        for _ in range(max(1, 200_000 // (turns + 1))):
            burn(turns)
        return (time.perf_counter() - started) / max(1, 200_000 // (turns + 1))

    seconds(10_000)
    one = statistics.median(seconds(10_000) for _ in range(15)) / 10_000
    none = statistics.median(seconds(0) for _ in range(5))
    return max(1, round((microseconds * 1e-6 - none) / one))


def plain(turns: int, number: int, _at_once: int) -> float:
    started = time.perf_counter()
    for _ in range(number):
        burn(turns)
    return number / (time.perf_counter() - started)


def tokens_of(operation: Any) -> Callable[[int, int, int], float]:
    """Return a function that computes by tokens of an operation, so many at once, and returns how many in a second."""

    def compute(turns: int, number: int, at_once: int) -> float:
        submit = operation.submit
        started = time.perf_counter()
        for _ in range(max(1, number // at_once)):
            for one in [submit(turns) for _ in range(at_once)]:
                one.result()
        return max(1, number // at_once) * at_once / (time.perf_counter() - started)

    return compute


def crossover(ratios: Sequence[tuple[float, float]]) -> float | None:
    """Return the size from which on the ratio is at least 1, interpolated by logarithms; None if it never is.

    Args:
        ratios: (size, ratio), the smallest first.
    """
    below = [number for number, (_, ratio) in enumerate(ratios) if ratio < 1]
    first = below[-1] + 1 if below else 0
    if first == 0 or first == len(ratios):
        return None if first else ratios[0][0]
    (small, lower), (large, upper) = ratios[first - 1 : first + 1]
    share = math.log(1 / lower) / math.log(upper / lower)
    return small * (large / small) ** share


def measure(sizes: Sequence[int], at_once: int, rounds: int, scale: float) -> None:
    sides = {"plain": plain, **{kind: tokens_of(operation) for kind, operation in OPERATIONS.items()}}
    over: dict[str, list[tuple[float, float]]] = {kind: [] for kind in sides if kind != "process"}
    for size in sizes:
        turns, number = turns_of(size), max(at_once, round(SIZES[size] * scale))
        if size * 1e-6 * number > LONGEST:
            continue
        rates: dict[str, list[float]] = {kind: [] for kind in sides}
        for side in sides.values():
            side(turns, min(number, 2 * at_once), at_once)
        for round_number in range(rounds):
            order = list(sides)
            for kind in order if round_number % 2 else reversed(order):
                gc.collect()
                rates[kind].append(sides[kind](turns, number, at_once))
        ratio = {}
        for kind, ratios in over.items():
            ratio[kind] = statistics.median(ours / its for ours, its in zip(rates["process"], rates[kind], strict=True))
            ratios.append((size, ratio[kind]))
        line = {
            "workload": "affinity",
            "python": platform.python_version(),
            "cores": CORES,
            "at_once": at_once,
            "work_us": size,
            "rounds": rounds,
            "per_second": {kind: float(f"{statistics.median(rates[kind]):.4g}") for kind in sides},
            "process_over": {kind: round(value, 3) for kind, value in ratio.items()},
        }
        print(json.dumps(line), flush=True)
    found = {kind: crossover(ratios) for kind, ratios in over.items()}
    line = {
        "workload": "affinity crossover",
        "python": platform.python_version(),
        "cores": CORES,
        "at_once": at_once,
        "work_us": {kind: None if size is None else float(f"{size:.2g}") for kind, size in found.items()},
    }
    print(json.dumps(line), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="*", choices=SIZES, default=list(SIZES), help="microseconds of work")
    parser.add_argument("--rounds", type=int, default=9, help="of each size and kind (default: 9)")
    parser.add_argument("--quick", action="store_true", help="a tenth of the tokens")
    parser.add_argument("--scale", type=float, default=1.0, help="this part of the tokens (default: 1)")
    options = parser.parse_args()
    scale = options.scale * (0.1 if options.quick else 1.0)
    logging.disable(logging.WARNING)  # the io tokens block their loop, which is told of
    with Gate("benchmark", processes=ProcessPool(size=CORES), control_socket=False):
        for at_once in (4 * CORES, 1_000):
            measure(options.sizes, at_once, options.rounds, scale)


if __name__ == "__main__":
    main()
