"""What telemetry costs: processor time of a tell that does nothing, on all threads, with one listener more each time.

Each sample is a fresh process; those of all listeners alternate, round by round, and each is set against the bare tell
of its own round. Prints a JSON line for each listener: what it adds, the target, and its ratio to the bare tell, as
medians of the rounds.

    python tests/benchmarks/telemetry.py [--rounds 15] [--number 100000] [--only sketches json] [--idle]

By default all cores but one are kept busy meanwhile.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any

from tokengate import CpuActor, Gate
from tokengate.control.stream import _queued

NEVER = 1_000_000_000  # records a second: nothing is thinned

TARGETS: dict[str, tuple[str, float | None]] = {
    "bare": ("", None),
    "collector": ("bare", 0.8),
    "draining": ("bare", 1.5),
    "sketches": ("bare", 2.5),
    "defaults": ("bare", None),
    "json": ("bare", 4.0),
    "json, thinned": ("bare", 4.0),
    "history": ("defaults", None),
    "history, counts": ("sketches", 0.6),
    "history, 2,000 rows a second": ("sketches", 1.0),
    "history, all rows": ("sketches", 2.5),
    "otel, api only": ("sketches", 3.0),
}
"""{listener: (what it is set against, microseconds that it may add)}."""


class Nothing(CpuActor):
    """Does nothing."""

    def on_receive(self, message: Any) -> None:
        pass


class Sink:
    """Reads nothing."""

    name = "nothing"
    lost = 0

    def take(self, batch: Any) -> None:
        pass

    def close(self, seconds: float) -> str:
        return ""


def plugins_of(listener: str, directory: str) -> list[Any]:
    """Return the plugins of a gate with a listener.

    Raises:
        ImportError: a package or a room is missing.
    """
    from tokengate.telemetry import Telemetry

    if listener == "sketches":
        return [Telemetry(thin_above=NEVER)]
    if listener == "defaults":
        return [Telemetry()]
    if listener.startswith("json"):
        return [Telemetry(thin_above=10_000 if "thinned" in listener else NEVER, sinks=[_writer()])]
    if listener.startswith("history"):
        from tokengate.history import History

        rows = {"history, counts": 0, "history, all rows": NEVER}.get(listener, 2_000)
        telemetry = [Telemetry(thin_above=NEVER)] if listener != "history" else []
        return [*telemetry, History(directory, max_bytes="4GiB", rows_per_second=rows)]
    if listener.startswith("otel"):
        from tokengate.telemetry import OpenTelemetry

        return [Telemetry(thin_above=NEVER, otel=OpenTelemetry())]
    return []


def _writer() -> Callable[[Sequence[Any]], object]:
    import msgspec

    encode = msgspec.json.Encoder().encode

    def write(events: Sequence[Any]) -> None:
        with open(os.devnull, "wb") as file:
            file.write(b"\n".join(map(encode, events)))

    return write


def sample(listener: str, number: int) -> float:
    """Return the microseconds of processor time of a tell, with all that follows."""
    _queued.LONGEST = NEVER  # type: ignore[misc]  # so that what is lost does not look cheap
    with (
        tempfile.TemporaryDirectory() as directory,
        Gate("costs", control_socket=False, plugins=plugins_of(listener, directory)) as gate,
    ):
        stream: Any = gate._stream
        if listener == "collector":
            gate._system.add_observer(stream.collector)
        elif listener == "draining":
            stream.attach(Sink())
        ref = gate.spawn(Nothing)
        _tell(ref, number // 5)
        before = time.process_time()
        _tell(ref, number)
        if listener != "collector":
            stream.flush()
        for sink in stream.sinks:
            while getattr(sink, "_queue", None) or getattr(sink, "_in_hand", 0):
                time.sleep(0.01)
        return (time.process_time() - before) / number * 1e6


def _tell(ref: Any, number: int) -> None:
    for _ in range(number // 1_000):
        for message in range(1_000):
            ref.tell(message)
        ref.ask(None)


@contextmanager
def busy() -> Iterator[None]:
    """Keep all cores but one busy."""
    spin = "import os, sys\nwhile os.getppid() == int(sys.argv[1]):\n    for _ in range(1_000_000): pass"
    command = [sys.executable, "-c", spin, str(os.getpid())]
    processes = [subprocess.Popen(command) for _ in range(max(1, len(os.sched_getaffinity(0)) - 1))]
    try:
        yield
    finally:
        for process in processes:
            process.kill()
            process.wait()


def measured(listeners: Sequence[str], rounds: int, number: int) -> dict[str, list[float]]:
    """Return {listener: its samples}; without those that lack a package or a room."""
    taken: dict[str, list[float]] = {listener: [] for listener in listeners}
    for _ in range(rounds):
        for listener in list(taken):
            command = [sys.executable, __file__, "--sample", listener, "--number", str(number)]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if "ImportError" in done.stderr or "ModuleNotFoundError" in done.stderr:
                del taken[listener]
                continue
            done.check_returncode()
            taken[listener].append(float(done.stdout))
    return taken


def line_of(listener: str, taken: dict[str, list[float]]) -> dict[str, Any]:
    """Return the line of a listener."""
    against, target = TARGETS[listener]
    line: dict[str, Any] = {
        "listener": listener,
        "python": platform.python_version(),
        "rounds": len(taken[listener]),
        "us": round(statistics.median(taken[listener]), 2),
    }
    if against and taken.get(against):
        pairs = list(zip(taken[listener], taken[against], strict=True))
        line |= {"beside": against, "adds": round(statistics.median(own - other for own, other in pairs), 2)}
        line["ratio"] = round(
            statistics.median(own / bare for own, bare in zip(taken[listener], taken["bare"], strict=True)), 2
        )
        line |= {"target": target, "met": None if target is None else line["adds"] <= target}
    return line


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--number", type=int, default=100_000, help="tells of a sample")
    parser.add_argument("--only", nargs="*", default=list(TARGETS), choices=list(TARGETS), metavar="LISTENER")
    parser.add_argument("--idle", action="store_true", help="keep no core busy")
    parser.add_argument("--sample", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.sample:
        print(sample(given.sample, given.number))
        return
    listeners = [one for one in TARGETS if one in {"bare", *given.only, *(TARGETS[only][0] for only in given.only)}]
    with nullcontext() if given.idle else busy():
        taken = measured(listeners, given.rounds, given.number)
        for listener in taken:
            print(json.dumps(line_of(listener, taken)), flush=True)


if __name__ == "__main__":
    main()
