"""Measure us and a peer in turn, in one process, and print one JSON line for each workload.

Absolute figures depend on the machine and on what else it does; ratios of runs that lie next to each other hold
better. So a workload is measured in pairs, one of us and one of the peer, after one of each that does not count, and
its ratio is ours over the peer's of the same pair. A limit in bytes or threads takes the place of the peer.
"""

from __future__ import annotations

import argparse
import gc
import json
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import TypeAlias

import attrs

PYTHON = sys.version.split()[0]

# Seconds; what an open gate sets, so that both sides have it.
SWITCH_INTERVAL = 0.0005

# Runs one side once; returns {figure: value}.
Side: TypeAlias = Callable[[], Mapping[str, float]]

Sides: TypeAlias = tuple[Side, Side]  # ours, the peer's


@attrs.frozen
class Size:
    """How large the workloads are: 1.0 is full size."""

    scale: float = 1.0

    def of(self, full: int) -> int:
        """Return how many of something whose full number is this."""
        return max(4, round(full * self.scale))


@attrs.frozen
class Workload:
    """What is measured, and what it shall be.

    Attributes:
        name: what the command line selects it by; it starts with the workload's number.
        figure: the one of the figures whose ratio counts.
        target: the ratio of ours to the peer's that is wanted.
        at_least: whether the target is the least ratio; else it is the most.
        sides: makes both sides, and takes down again what they need.
        pairs: how many pairs, where that is fixed: a limit that does not vary needs one.
        peer: what the peer is, where its name does not tell.
    """

    name: str
    figure: str
    target: float
    at_least: bool
    sides: Callable[[Size], AbstractContextManager[Sides]]
    pairs: int | None = None
    peer: str | None = None

    def measure(self, pairs: int, size: Size) -> dict[str, object]:
        """Return what the JSON line says."""
        pairs = self.pairs or pairs
        ratios: list[float] = []
        runs: list[tuple[Mapping[str, float], Mapping[str, float]]] = []
        with self.sides(size) as (ours, theirs):
            for number in range(pairs + 1):
                # Each side is first in every other pair, so that neither always finds the other's litter.
                if number % 2:
                    their, our = _run(theirs), _run(ours)
                else:
                    our, their = _run(ours), _run(theirs)
                if number:
                    runs.append((our, their))
                    ratios.append(our[self.figure] / their[self.figure])
        said = line(
            self.name, ratios, self.target, self.at_least, [our for our, _ in runs], [their for _, their in runs]
        )
        return said if self.peer is None else {**said, "peer": self.peer}


def workload(
    name: str,
    *,
    figure: str,
    at_least: float | None = None,
    at_most: float | None = None,
    pairs: int | None = None,
    peer: str | None = None,
) -> Callable[[Callable[[Size], Iterator[Sides]]], Workload]:
    """Make a workload of a generator function that yields both sides between setting up and tearing down."""
    target = at_most if at_least is None else at_least
    assert target is not None

    def decorate(function: Callable[[Size], Iterator[Sides]]) -> Workload:
        return Workload(name, figure, target, at_least is not None, contextmanager(function), pairs, peer)

    return decorate


def line(
    name: str,
    ratios: Sequence[float],
    target: float,
    at_least: bool,
    ours: Sequence[Mapping[str, float]],
    theirs: Sequence[Mapping[str, float]],
) -> dict[str, object]:
    """Return what the JSON line of some pairs says; absolute figures are medians."""
    median = statistics.median(ratios)
    return {
        "workload": name,
        "python": PYTHON,
        "pairs": len(ratios),
        "ratio": {"median": round(median, 3), "min": round(min(ratios), 3), "max": round(max(ratios), 3)},
        "target": {"at_least" if at_least else "at_most": target},
        "met": median >= target if at_least else median <= target,
        "ours": _medians(ours),
        "theirs": _medians(theirs),
    }


def limit(figure: str, value: float) -> Side:
    """Return the side of a peer that is a limit."""
    return lambda: {figure: value}


def rate(number: int, started: float) -> dict[str, float]:
    """Return the figure `per_second` of something that was done a number of times since then (`perf_counter`)."""
    return {"per_second": number / (time.perf_counter() - started)}


def each(call: Callable[[], object], number: int) -> dict[str, float]:
    """Call one after the other; return the figures `p50_us` and `p99_us`, in microseconds a call."""
    clock = time.perf_counter_ns
    times = []
    for _ in range(number):
        started = clock()
        call()
        times.append(clock() - started)
    return percentiles(times)


def percentiles(nanoseconds: list[int]) -> dict[str, float]:
    """Return the figures `p50_us` and `p99_us`."""
    nanoseconds.sort()
    last = len(nanoseconds) - 1
    return {"p50_us": nanoseconds[last // 2] / 1000, "p99_us": nanoseconds[round(last * 0.99)] / 1000}


def main(workloads: Sequence[Workload], description: str) -> None:
    """Be a script that measures the workloads it is given the names of."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("names", nargs="*", help="workloads, by the beginning of their name; all, if none is given")
    parser.add_argument("--pairs", type=int, default=7, help="pairs to measure (default: 7)")
    parser.add_argument("--quick", action="store_true", help="a tenth of the messages")
    parser.add_argument("--scale", type=float, default=1.0, help="this part of the messages (default: 1)")
    parser.add_argument("--list", action="store_true", help="name the workloads and do nothing")
    options = parser.parse_args()
    chosen = [w for w in workloads if not options.names or w.name.startswith(tuple(options.names))]
    if not chosen:
        parser.error(f"no workload begins with {options.names}; there are {[w.name for w in workloads]}")
    if options.pairs < 1 or options.scale <= 0:
        parser.error(f"pairs are {options.pairs}, scale is {options.scale}; both must be more than 0")
    size = Size(options.scale * (0.1 if options.quick else 1.0))
    before = sys.getswitchinterval()
    sys.setswitchinterval(SWITCH_INTERVAL)
    try:
        for one in chosen:
            print(one.name if options.list else json.dumps(one.measure(options.pairs, size)), flush=True)
    finally:
        sys.setswitchinterval(before)


def _run(side: Side) -> Mapping[str, float]:
    gc.collect()
    return side()


def _medians(runs: Sequence[Mapping[str, float]]) -> dict[str, float]:
    return {figure: float(f"{statistics.median(run[figure] for run in runs):.4g}") for figure in runs[0]}
