"""What looking at very many live tokens costs their gate: the verbs of the admin page, by one client of the socket.

The gate is in a fresh process, in which nothing else runs: 100,000 tokens of eight operations, with tags and
priorities, are queued or held. Prints one JSON line for each verb:

    python tests/benchmarks/admin.py [--tokens 100000] [--calls 15] [--verbs TEXT ...]

* `p50_ms`, `max_ms`: until the answer is read by the client.
* `cpu_ms`: processor time of the gate's system loop for one answer.
* `held_ms`: the longest step of a task of that loop while it answers, in its processor time, so that what else the
  machine does is no part of it; `held_wall_ms` is the same by the clock.
* `gc_ms`: the longest collection of garbage in such a step, which is left out there: it comes with whatever makes the
  next object, and takes as long as there are objects (`Gate(gc="tuned")` makes it rare).
"""

from __future__ import annotations

import argparse
import gc
import json
import platform
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import trio

from tokengate import Gate, Token, token
from tokengate.control import ControlClient
from tokengate.control import messages as m
from tokengate.telemetry import Telemetry

OPERATIONS: Final = 8
CHILDREN: Final = 1_000
HELD_MS: Final = 5.0

over = threading.Event()


def named(name: str) -> Callable[[], None]:
    """Return a function that waits for the end."""

    def wait_for_the_end() -> None:
        over.wait()

    wait_for_the_end.__name__ = wait_for_the_end.__qualname__ = name
    return wait_for_the_end


def family(submit: Callable[[int], Token[Any]]) -> None:
    """Have children, and wait."""
    for number in range(CHILDREN):
        submit(number)
    over.wait()


class Steps(trio.abc.Instrument):
    """The steps of the tasks of a loop, in seconds: the longest one, and their sum."""

    def __init__(self) -> None:
        self.clear()
        self.before_task_step(None)  # it is added within a step

    def clear(self) -> None:
        self.cpu = self.longest = self.longest_wall = self.pause = self._paused = 0.0

    def collected(self, phase: str, _info: object) -> None:
        """Note a collection of garbage."""
        if phase == "start":
            self._collects = time.thread_time()
        else:
            took = time.thread_time() - self._collects
            self._paused += took
            self.pause = max(self.pause, took)

    def before_task_step(self, _task: Any) -> None:
        self._began, self._used, self._paused = time.perf_counter(), time.thread_time(), 0.0

    def after_task_step(self, _task: Any) -> None:
        used = time.thread_time() - self._used
        self.cpu += used
        self.longest = max(self.longest, used - self._paused)
        self.longest_wall = max(self.longest_wall, time.perf_counter() - self._began)


def serve(tokens: int) -> None:
    """Be the gate; write its socket, and the steps of its loop for each line that is read."""
    operations = [token(named(f"operation_{number}"), concurrency=1, capacity=tokens) for number in range(OPERATIONS)]

    def submit(number: int) -> Token[Any]:
        one = operations[number % OPERATIONS]
        return one.with_options(tags={"tenant": f"t{number % 50}"}, priority=number % 5).submit()

    steps = Steps()
    with Gate("bench", plugins=[Telemetry()]) as gate:
        gate.control.throttle("tenant=t7", concurrency=1)
        parent = token(family).submit(submit)
        for number in range(tokens - CHILDREN):
            submit(number)
        while gate.control.tokens(f"parent={parent.id}", limit=1).page.matching < CHILDREN:
            time.sleep(0.01)
        gate._system.system_host.call_soon(lambda: trio.lowlevel.add_instrument(steps))
        gc.callbacks.append(steps.collected)
        assert gate._control_server is not None
        print(json.dumps({"socket": str(gate._control_server.path), "parent": parent.id}), flush=True)
        for _ in sys.stdin:
            said = {"cpu": steps.cpu, "longest": steps.longest, "wall": steps.longest_wall, "gc": steps.pause}
            steps.clear()
            print(json.dumps(said), flush=True)
        over.set()
        gate.close(drain=False)


def verbs(parent: int, tokens: int) -> dict[str, tuple[m.Message[Any], float | None]]:
    """Return {what: (message, target in milliseconds)}."""
    last = max(0, tokens - 200)
    found: dict[str, tuple[m.Message[Any], float | None]] = {
        "info": (m.Info(), 5.0),
        "list, first rows": (m.Tokens(limit=200), 150.0),
        "list, sorted by age": (m.Tokens(sort="-age", limit=200), 150.0),
        "list, sorted by operation": (m.Tokens(sort="operation", limit=200), 150.0),
        "list, filtered": (m.Tokens("operation=operation_3,tenant=t3", sort="-age", limit=200), 150.0),
        "list, held": (m.Tokens("held=throttled", limit=200), 150.0),
        "list, deep": (m.Tokens(sort="-age", limit=200, offset=last), 150.0),
        "list, 1,000 rows": (m.Tokens(limit=1_000), 150.0),
        "describe": (m.Describe(parent), 50.0),
    }
    if hasattr(m, "Propose"):
        found["propose, all"] = (m.Propose("terminate", {"select": "*"}), 500.0)
        found["propose, a tenant"] = (m.Propose("pause", {"select": "tenant=t3"}), 500.0)
    if hasattr(m, "Overview"):
        found["overview"] = (m.Overview(), 150.0)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tokens", type=int, default=100_000)
    parser.add_argument("--calls", type=int, default=15)
    parser.add_argument("--verbs", nargs="*", default=[], help="parts of their names")
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        serve(options.tokens)
        return
    command = [sys.executable, __file__, "--serve", "--tokens", str(options.tokens)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1) as gate:
        assert gate.stdin is not None
        assert gate.stdout is not None

        def read() -> Any:
            assert gate.stdout is not None
            return json.loads(gate.stdout.readline())

        def steps() -> Any:
            print(file=gate.stdin, flush=True)
            return read()

        begun = read()
        with ControlClient(Path(begun["socket"]), timeout=60) as client:
            for name, (message, target) in verbs(begun["parent"], options.tokens).items():
                if options.verbs and not any(part in name for part in options.verbs):
                    continue
                client.ask(message)
                times, used = [], []
                for _ in range(options.calls):
                    steps()
                    started = time.perf_counter()
                    client.ask(message)
                    times.append((time.perf_counter() - started) * 1_000)
                    used.append(steps())
                times.sort()
                held = max(one["longest"] for one in used) * 1_000
                p50 = times[len(times) // 2]
                line = {
                    "workload": name,
                    "python": platform.python_version(),
                    "tokens": options.tokens,
                    "p50_ms": round(p50, 2),
                    "max_ms": round(times[-1], 2),
                    "cpu_ms": round(sorted(one["cpu"] for one in used)[len(used) // 2] * 1_000, 2),
                    "held_ms": round(held, 2),
                    "held_wall_ms": round(max(one["wall"] for one in used) * 1_000, 2),
                    "gc_ms": round(max(one["gc"] for one in used) * 1_000, 2),
                    "target": {"p50_ms": target, "held_ms": HELD_MS},
                    "met": held <= HELD_MS and (target is None or p50 <= target),
                }
                print(json.dumps(line), flush=True)
        gate.stdin.close()
        gate.wait(30)


if __name__ == "__main__":
    main()
