"""Takes one sample in this process: runs a workload once to warm up, with a tenth of the operations, and once measured.

Prints one JSON line: `figure`, the microseconds of an operation (or what the workload returns), `cpu`, the
microseconds of processor time of an operation, in all threads and child processes, and the Python. `run.py` starts it:

    python tests/benchmarks/_sample.py MODULE.WORKLOAD NUMBER
"""

from __future__ import annotations

import gc
import importlib
import json
import platform
import signal
import sys
import time
from operator import attrgetter
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sides._workload import Run, Workload


def main(path: str, number: int) -> None:
    signal.pthread_sigmask(signal.SIG_SETMASK, ())  # the driver starts this with interrupts blocked
    module, _, name = path.partition(".")
    workload: Workload = attrgetter(name)(importlib.import_module(f"sides.{module}"))
    with workload() as run:
        run(max(1, number // 10))
        print(json.dumps({"python": platform.python_version(), **measure(run, number)}), flush=True)


def measure(run: Run, number: int) -> dict[str, float]:
    gc.collect()
    of_children, cpu, wall = seconds_of_children(), time.process_time(), time.perf_counter()
    figure = run(number)
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    if figure is not None:
        return {"figure": figure}
    cpu += seconds_of_children() - of_children
    return {"figure": wall / number * 1e6, "cpu": cpu / number * 1e6}


def seconds_of_children() -> float:
    """Return the processor time of all child processes that are alive."""
    try:
        import psutil  # the runtime needs it; where it is missing, a peer is measured that has no child processes
    except ModuleNotFoundError:
        return 0.0
    return sum(sum(child.cpu_times()[:2]) for child in psutil.Process().children(recursive=True))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
