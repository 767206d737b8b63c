"""The demo against the plain serial loop: speed and peak memory, in processes of their own, interleaved.

Prints one JSON line. `ratio_to_serial` is the serial loop's time over ours; `memory_over_limit` is our peak over what
is allowed, 1.5 times the serial loop's and 50 MiB.

    python tests/benchmarks/demo.py [ROUNDS] [PATH]
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Sequence

import psutil

SERIAL = """
import sys, warnings
from pathlib import Path
from tokengate.demo import find_sources, run_serially, standard_library
warnings.simplefilter("ignore")
root = Path(sys.argv[1]) if sys.argv[1:] else standard_library()
print(run_serially(find_sources(root), lambda done: None).seconds)
"""


def run(command: Sequence[str]) -> tuple[str, int]:
    """Run a command and return its output and its peak resident memory in bytes."""
    peak = 0
    child = psutil.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    done = threading.Event()

    def watch() -> None:
        nonlocal peak
        while not done.wait(0.02):
            try:
                peak = max(peak, child.memory_info().rss)
            except psutil.Error:
                return

    watcher = threading.Thread(target=watch)
    watcher.start()
    output, _ = child.communicate()
    done.set()
    watcher.join()
    return output, peak


def main() -> None:
    rounds = int(sys.argv[1]) if sys.argv[1:] else 3
    path = sys.argv[2:3]
    ratios, seconds, ours, theirs = [], [], [], []
    for _ in range(rounds):
        serial, serial_peak = run([sys.executable, "-c", SERIAL, *path])
        output, peak = run([sys.executable, "-m", "tokengate", "demo", "--json", *path])
        answer = json.loads(output)
        ratios.append(float(serial) / answer["seconds"])
        seconds.append(answer["seconds"])
        ours.append(peak / 2**20)
        theirs.append(serial_peak / 2**20)
    peak, limit = max(ours), 1.5 * min(theirs) + 50
    print(
        json.dumps(
            {
                "workload": "demo",
                "python": sys.version.split()[0],
                "rounds": rounds,
                "ratio_to_serial": {
                    "median": round(statistics.median(ratios), 3),
                    "min": round(min(ratios), 3),
                    "max": round(max(ratios), 3),
                },
                "seconds": round(statistics.median(seconds), 2),
                "peak_mib": round(peak, 1),
                "serial_peak_mib": round(min(theirs), 1),
                "memory_over_limit": round(peak / limit, 3),
                "at": time.strftime("%Y-%m-%d"),
            }
        )
    )


if __name__ == "__main__":
    main()
