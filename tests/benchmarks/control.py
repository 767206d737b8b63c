"""How soon control answers: beside an idle gate, and while two CPU threads spin and a token blocks the io loop.

Prints one JSON line for each verb and way in: 50th and 99th percentile and the longest of the calls, in milliseconds,
beside an idle gate and under fire; and whether the 99th percentile under fire is below 50 ms.

    python tests/benchmarks/control.py [--calls 1000] [--verbs ps describe pause terminate] [--ways python socket]
"""

from __future__ import annotations

import argparse
import json
import platform
import threading
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tokengate import Gate, Token, token
from tokengate.control import Control, ControlClient
from tokengate.control import messages as m

TARGET_MS = 50.0

_over = threading.Event()


@token(concurrency=4)
def spin() -> int:
    turns = 0
    while not _over.is_set():
        turns += 1
    return turns


@token
async def block() -> None:
    """Keep the io loop from everybody else, as code does that should be on a thread."""
    while not _over.is_set():
        time.sleep(0.001)


@token(concurrency=1)
def wait_for_the_end() -> None:
    """Be what is queued behind one that runs."""
    _over.wait()


@contextmanager
def fire() -> Generator[Token[int]]:
    """Have two threads spin and the io loop blocked, for the length of a block."""
    spinning = [spin.submit() for _ in range(2)]
    blocking = block.submit()
    while not all(one.started_at for one in (*spinning, blocking)):
        time.sleep(0.001)
    yield spinning[0]


def timed(call: Callable[[], object]) -> float:
    started = time.perf_counter()
    call()
    return (time.perf_counter() - started) * 1000


def verbs(
    ask: Callable[[m.Message[Any]], object], target: Callable[[], Token[object]]
) -> dict[str, Callable[[], float]]:
    """Return {verb: a function that calls it once and returns the milliseconds}."""

    def pause() -> float:
        victim = target()
        milliseconds = timed(lambda: ask(m.Pause((victim.id,))))
        ask(m.Resume((victim.id,)))
        return milliseconds

    def terminate() -> float:
        victim = wait_for_the_end.submit()
        return timed(lambda: ask(m.Terminate((victim.id,))))

    return {
        "ps": lambda: timed(lambda: ask(m.Tokens())),
        "describe": lambda: timed(lambda: ask(m.Describe(target().id))),
        "pause": pause,
        "terminate": terminate,
    }


def figures(times: list[float]) -> dict[str, float]:
    times.sort()
    last = len(times) - 1
    return {
        "p50_ms": round(times[last // 2], 3),
        "p99_ms": round(times[round(last * 0.99)], 3),
        "max_ms": round(times[-1], 3),
    }


def measure(way: str, ask: Callable[[m.Message[Any]], object], chosen: list[str], calls: int) -> None:
    _over.clear()
    waiting = wait_for_the_end.submit()
    queued = wait_for_the_end.submit()

    def all_of(target: Token[object]) -> dict[str, dict[str, float]]:
        calls_of = verbs(ask, lambda: target)
        return {name: figures([calls_of[name]() for _ in range(calls)]) for name in chosen}

    idle = all_of(queued)
    with fire() as spinning:
        burning = all_of(spinning)
    _over.set()
    for one in (waiting, queued):
        one.exception(10)
    for name in chosen:
        line = {
            "workload": f"{name} by {way}",
            "python": platform.python_version(),
            "calls": calls,
            "idle": idle[name],
            "fire": burning[name],
            "target": {"p99_ms": TARGET_MS},
            "met": burning[name]["p99_ms"] < TARGET_MS,
        }
        print(json.dumps(line), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--calls", type=int, default=1000, help="of each verb (default: 1000)")
    parser.add_argument("--verbs", nargs="*", default=["ps", "describe", "pause", "terminate"])
    parser.add_argument("--ways", nargs="*", default=["python", "socket"], help="python, socket")
    options = parser.parse_args()
    for way in options.ways:
        with Gate("bench") as gate:
            if way == "python":
                control: Control = gate.control
                measure(way, control._ask, options.verbs, options.calls)
            else:
                assert gate._control_server is not None
                assert gate._control_server.path is not None
                with ControlClient(Path(gate._control_server.path)) as client:
                    measure(way, client.ask, options.verbs, options.calls)


if __name__ == "__main__":
    main()
