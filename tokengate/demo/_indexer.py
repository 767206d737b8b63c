"""Run the indexer: open a gate over its hierarchy, wait, close it, and say what came of it."""

from __future__ import annotations

import os
import sysconfig
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import attrs

from tokengate import ActorRef, ChildSpec, Gate, Supervisor, TokenState
from tokengate.demo._actors import Begin, Coordinator, Index, Parser, Progress, Reader, Report, total
from tokengate.demo._crash_plan import CrashPlan
from tokengate.demo._measure import Measure, Unmeasurable, measure
from tokengate.types import GateStatistics, ShutdownReport

_READERS = 2
# One: under one interpreter lock a second one would only compete for it.
_PARSERS = 1

# Seconds between two looks at the progress.
_LOOK = 0.25

# Seconds that a gate gets to close when the work is done, or on Ctrl-C.
_CLOSE = 3.0


@attrs.frozen
class Outcome:
    """What a run came to.

    Attributes:
        report: the coordinator's final report.
        statistics: the gate's figures after it closed.
        shutdown: how it closed.
        crashes: crashes that were injected.
        seconds: from before the gate was opened until after it was closed.
        finished: whether all files were settled; False after an interruption.
    """

    report: Report
    statistics: GateStatistics
    shutdown: ShutdownReport
    crashes: int
    seconds: float
    finished: bool

    @property
    def tokens_per_second(self) -> float:
        """Tokens that ended, over the seconds of the run."""
        live = (TokenState.CREATED, TokenState.QUEUED, TokenState.RUNNING, TokenState.PAUSED)
        return sum(n for state, n in self.statistics.tokens.items() if state not in live) / self.seconds


def standard_library() -> Path:
    """Return where the running interpreter has its standard library."""
    return Path(sysconfig.get_paths()["stdlib"])


def find_sources(root: Path) -> list[str]:
    """Return the paths of all `*.py` files below a directory, sorted; installed packages are no part of it."""

    def walk() -> Iterator[str]:
        for folder, folders, files in os.walk(root):
            folders[:] = [name for name in folders if name not in ("site-packages", "dist-packages")]
            found = (os.path.join(folder, file) for file in files if file.endswith(".py"))
            # A broken link counts as a file that cannot be read; pipes and devices are skipped.
            yield from (path for path in found if os.path.isfile(path) or not os.path.exists(path))

    return sorted(walk())


def hierarchy(plan: CrashPlan, crashes: int) -> ChildSpec:
    """Return the spec of the indexer's supervisor, with all that it holds."""
    readers = [f"reader-{number}" for number in range(1, _READERS + 1)]
    parsers = [f"parser-{number}" for number in range(1, _PARSERS + 1)]
    return Supervisor.child_spec(
        "indexer",
        [
            *(ChildSpec(name, Reader) for name in readers),
            *(ChildSpec(name, Parser, args=(plan,)) for name in parsers),
            ChildSpec("index", Index, args=(plan,)),
            # Its ledger is all there is to rebuild from: without it, starting again would only seem to work.
            ChildSpec("coordinator", Coordinator, args=(readers, parsers, "index", plan, crashes), restart="temporary"),
        ],
        intensity=3 + crashes,
    )


def run_indexer(
    paths: list[str],
    *,
    crashes: int,
    seed: int,
    look: Callable[[Report, GateStatistics], None],
    opened: Callable[[Gate], object],
) -> Outcome:
    """Index files in a gate of its own.

    Args:
        paths: of the files.
        crashes: how often actors are made to crash.
        seed: decides when, and which.
        look: called some times a second with the progress.
        opened: called with the gate when it is open; `gate.request_stop()` ends the run early.
    """
    plan = CrashPlan(crashes, seed, len(paths), ("parser", "index"))
    started = time.perf_counter()
    # One thread: pure Python holds the interpreter lock, so a second one would only trade it back and forth.
    gate = Gate("demo", children=[hierarchy(plan, crashes)], shutdown=_CLOSE, threads=1)
    with gate:
        opened(gate)
        coordinator = gate.find("coordinator")
        coordinator.tell(Begin(tuple(paths)))
        _watch(gate, coordinator, look)
        report: Report = coordinator.ask(Progress(), timeout=_CLOSE)
        finished = report.totals is not None
        if finished:
            _await_restarts(gate, plan.struck)
        shutdown = gate.close(drain=finished)
    return Outcome(report, gate.statistics(), shutdown, plan.struck, time.perf_counter() - started, finished)


def _watch(gate: Gate, coordinator: ActorRef[Coordinator], look: Callable[[Report, GateStatistics], None]) -> None:
    while not gate.wait(_LOOK):
        look(coordinator.ask(Progress()), gate.statistics())


def _await_restarts(gate: Gate, crashes: int) -> None:
    """Wait until each actor that crashed is back: another one may have done its work, and the run be over before."""
    deadline = time.monotonic() + _CLOSE
    while gate.statistics().restarts < crashes and time.monotonic() < deadline:
        time.sleep(0.001)


@attrs.frozen
class Serial:
    """What the plain loop came to."""

    measures: Mapping[str, Measure] = attrs.field(repr=False)
    failures: Mapping[str, str] = attrs.field(repr=False)
    seconds: float


def run_serially(paths: list[str], look: Callable[[int], None]) -> Serial:
    """Compute the same with a plain loop; `look` is called with the number of files done."""
    measures: dict[str, Measure] = {}
    failures: dict[str, str] = {}
    started = time.perf_counter()
    for done, path in enumerate(paths):
        look(done)
        try:
            measures[path] = measure(Path(path).read_bytes())
        except (OSError, Unmeasurable) as error:
            failures[path] = str(error)
    return Serial(measures, failures, time.perf_counter() - started)


def differences(outcome: Outcome, serial: Serial) -> list[str]:
    """Compare a finished run with the plain loop, file by file and in total; return a line for each difference."""
    ours = outcome.report
    found = [
        f"{path}: {ours.measures.get(path)} here, {serial.measures.get(path)} in the serial loop"
        for path in sorted({*ours.measures, *serial.measures})
        if ours.measures.get(path) != serial.measures.get(path)
    ]
    found += [
        f"{path}: failed with {ours.failures.get(path)!r} here, {serial.failures.get(path)!r} in the serial loop"
        for path in sorted({*ours.failures, *serial.failures})
        if ours.failures.get(path) != serial.failures.get(path)
    ]
    if ours.totals != total(serial.measures):
        found.append(f"totals: {ours.totals} here, {total(serial.measures)} in the serial loop")
    return found
