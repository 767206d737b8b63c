"""What a decorated call costs beyond the plain function, with no gate open and on an idle operation of an open one.

Prints JSON lines; nanoseconds are medians over interleaved rounds.

    python tests/benchmarks/off.py
"""

from __future__ import annotations

import json
import statistics
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from tokengate import Gate, token


def plain(a: int, b: int = 1) -> int:
    return a + b


decorated = token(plain)


def nanoseconds(call: Callable[[], object], number: int) -> float:
    started = time.perf_counter_ns()
    for _ in range(number):
        call()
    return (time.perf_counter_ns() - started) / number


def main() -> None:
    version = sys.version.split()[0]
    rounds = [(nanoseconds(lambda: plain(1), 100_000), nanoseconds(lambda: decorated(1), 100_000)) for _ in range(15)]
    extra = statistics.median(ours - theirs for theirs, ours in rounds)
    print(json.dumps({"workload": "no gate", "python": version, "extra_ns": round(extra, 1)}))
    with Gate("off"), ThreadPoolExecutor(2) as pool:
        pairs = [
            (
                nanoseconds(lambda: pool.submit(plain, 1).result(), 2_000),
                nanoseconds(lambda: decorated(1), 2_000),
            )
            for _ in range(15)
        ]
    ratio = statistics.median(ours / theirs for theirs, ours in pairs)
    direct = statistics.median(ours for _, ours in pairs)
    print(
        json.dumps(
            {"workload": "direct call", "python": version, "ns": round(direct), "ratio_to_executor": round(ratio, 3)}
        )
    )


if __name__ == "__main__":
    main()
