"""What prediction costs: processor time of a call that does nothing, on all threads, with one part more each time.

Each sample is a fresh process; those of all parts alternate, round by round and in turns from either end, and each is
set against others of its own round. Prints a JSON line for each part: what it adds to the one before, and its ratio to
the bare gate, as medians of the rounds. Further lines are about a look at live tokens, and what `predict` takes.

    python tests/benchmarks/predict_cost.py [--rounds 7] [--number 20000] [--live 10000] [--only features look]
    python tests/benchmarks/predict_cost.py --before DIRECTORY        # beside another working tree

With `--before`, which names the root of a tree without the room, a gate without `Predict` is measured on both.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import platform
import statistics
import subprocess
import sys
import threading
import time
import tracemalloc
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from tokengate import Gate, token
from tokengate.telemetry import Telemetry

ROOT: Final = Path(__file__).parents[2]
AT_ONCE: Final = 1_000  # calls in flight
WARM: Final = 2_000  # calls before the measured ones, from which is learned

PARTS: Final[Mapping[str, str]] = {
    "bare": "",
    "telemetry": "bare",
    "predict": "telemetry",
    "features": "predict",
    "rule, no match": "features",
    "rule, match": "features",
    "rule of tags, match": "features",
}
"""{part: the one that it is set against}."""

BEFORE: Final[Mapping[str, str]] = {"bare": "bare, before", "telemetry": "telemetry, before"}
"""{part: the same in the tree before}."""

LOOKS: Final = ("look", "memory", "predict()")


def size(number: int) -> dict[str, float]:
    return {"number": number}


def operation(part: str) -> Any:
    """Return the operation of a part, which does nothing."""

    def work(number: int) -> None:
        pass

    if PARTS.get(part, "features") in ("features", "predict"):
        return token(features=size, capacity=100_000)(work)
    return token(capacity=100_000)(work)


def plugins_of(part: str) -> list[Any]:
    """Return the plugins of a gate of a part."""
    if part == "bare":
        return []
    if part == "telemetry":
        return [Telemetry()]
    from tokengate.predict import Predict, Rule

    def rule(select: str) -> Rule:
        return Rule(name="one", select=select, do="renice -1", mode="act")

    rules = {
        "rule, no match": [rule("operation=work,run.p50>1h")],
        "rule, match": [rule("operation=work,run.p50<1h")],
        "rule of tags, match": [rule("operation=work,tenant=acme")],
    }
    return [Predict(rules=rules.get(part, ()))]


def call(work: Any, number: int) -> None:
    """Submit so many calls, a thousand at once, and wait for their ends."""
    for _ in range(number // AT_ONCE):
        tokens = [work.submit(one) for one in range(AT_ONCE)]
        for one in tokens:
            one.result()


def settled(gate: Gate) -> None:
    """Have passed on, and learned from, what is there."""
    stream: Any = gate._stream
    if stream is not None:
        stream.flush()


def sample(part: str, number: int) -> float:
    """Return the microseconds of processor time of a call, with all that follows."""
    work = operation(part).with_options(tags={"tenant": "acme"})
    with Gate("costs", control_socket=False, plugins=plugins_of(part)) as gate:
        call(work, WARM)
        settled(gate)
        before = time.process_time()
        call(work, number)
        settled(gate)
        return (time.process_time() - before) / number * 1e6


def look(live: int) -> dict[str, float]:
    """Return the milliseconds of a look at so many live tokens by three rules, on the system loop."""
    from tokengate.predict import Predict, Rule

    def rule(name: str, select: str, do: str) -> Rule:
        return Rule(name=name, select=select, do=do, mode="act", for_="1s")

    work = operation("features")
    rules = [
        rule("long", "operation=work,run.p95>1h", "renice -1"),
        rule("stuck", "operation=work,overrun>5", "pause"),
        rule("late", "late>80%,tenant=acme", "limit wall_time=10s"),
    ]
    predict = Predict(rules=rules)
    with Gate("costs", control_socket=False, plugins=[predict]) as gate:
        call(work, WARM)
        settled(gate)
        gate.control.suspend("work")
        tokens = [work.submit(one) for one in range(live)]
        taken = [on_system_loop(gate, predict._look) for _ in range(4)]
        gate.control.unsuspend("work")
        for one in tokens:
            one.result()
    return {"first_ms": taken[0] * 1e3, "ms": statistics.median(taken[1:]) * 1e3}


def on_system_loop(gate: Gate, work: Callable[[], Any]) -> float:
    """Run a coroutine function on the system loop, and return the seconds of processor time of its thread."""
    over = threading.Event()
    taken: list[float] = []
    host = gate._system.system_host

    async def run() -> None:
        before = time.thread_time()
        await work()
        taken.append(time.thread_time() - before)
        over.set()

    host.call_soon(lambda: host.start_task(run, "look"))
    over.wait()
    return taken[0]


def memory(part: str, live: int) -> float:
    """Return the bytes that a live token needs, of which a selector has asked what it will need."""
    work = operation(part)
    with Gate("costs", control_socket=False, plugins=plugins_of(part)) as gate:
        call(work, WARM)
        settled(gate)
        gate.control.suspend("work")
        gc.collect()
        tracemalloc.start()
        tokens = [work.submit(one) for one in range(live)]
        if part != "telemetry":
            gate.control.tokens("run.p95>1h")
        gc.collect()
        taken, _ = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        gate.control.unsuspend("work")
        for one in tokens:
            one.result()
    return taken / live


def predict(number: int) -> float:
    """Return the microseconds of processor time of `operation.predict`."""
    work = operation("features")
    with Gate("costs", control_socket=False, plugins=plugins_of("features")) as gate:
        call(work, WARM)
        settled(gate)
        before = time.thread_time()
        for one in range(number):
            work.predict(one)
        return (time.thread_time() - before) / number * 1e6


def fresh(part: str, *arguments: str, tree: Path = ROOT) -> float:
    """Return what a sample in a process of its own prints.

    Raises:
        subprocess.CalledProcessError: it has failed.
    """
    command = [sys.executable, str(Path(__file__)), "--sample", part, *arguments]
    environment = {**os.environ, "PYTHONPATH": str(tree), "TOKENGATE_CONTROL": "0"}
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, env=environment)
    return float(done.stdout)


def measured(parts: Sequence[str], rounds: int, number: int, before: Path | None) -> dict[str, list[float]]:
    """Return {part: its samples}."""
    sides = [(part, part, ROOT) for part in parts]
    if before is not None:
        sides += [(BEFORE[part], part, before) for part in parts if part in BEFORE]
    taken: dict[str, list[float]] = {name: [] for name, _, _ in sides}
    for turn in range(rounds):
        for name, part, tree in sides if turn % 2 else reversed(sides):
            taken[name].append(fresh(part, "--number", str(number), tree=tree))
    return taken


def line_of(part: str, taken: Mapping[str, Sequence[float]]) -> dict[str, Any]:
    """Return the line of a part."""
    line: dict[str, Any] = {**about(), "part": part, "rounds": len(taken[part])}
    line["us"] = round(statistics.median(taken[part]), 2)
    for against in (PARTS[part], BEFORE.get(part, "")):
        if against in taken:
            pairs = list(zip(taken[part], taken[against], strict=True))
            line[f"adds to {against}"] = round(statistics.median(own - other for own, other in pairs), 2)
            line[f"ratio to {against}"] = round(statistics.median(own / other for own, other in pairs), 3)
    return line


def about() -> dict[str, Any]:
    return {
        "date": time.strftime("%Y-%m-%d"),
        "python": platform.python_version(),
        "load": round(os.getloadavg()[0], 1),
    }


def say(**line: Any) -> None:
    print(json.dumps(line), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--number", type=int, default=20_000, help="calls of a sample")
    parser.add_argument("--live", type=int, default=10_000, help="tokens of a look")
    parser.add_argument("--only", nargs="*", default=[*PARTS, *LOOKS], choices=[*PARTS, *LOOKS], metavar="PART")
    parser.add_argument("--before", type=Path, metavar="DIRECTORY", help="a working tree without the room")
    parser.add_argument("--sample", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.sample:
        part, _, what = given.sample.partition("/")
        print({"": lambda: sample(part, given.number), "memory": lambda: memory(part, given.live)}[what]())
        return
    parts = [part for part in PARTS if part in {*given.only, *(PARTS.get(one) for one in given.only)}]
    taken = measured(parts, given.rounds, given.number, given.before)
    for part in parts:
        say(**line_of(part, taken))
    if "look" in given.only:
        say(**about(), part="look", live=given.live, rules=3, **look(given.live))
    if "memory" in given.only:
        bytes_of = {one: fresh(f"{one}/memory", "--live", str(given.live)) for one in ("telemetry", "features")}
        say(**about(), part="memory", live=given.live, bytes=bytes_of)
    if "predict()" in given.only:
        say(**about(), part="predict()", us=round(predict(given.number), 2))


if __name__ == "__main__":
    main()
