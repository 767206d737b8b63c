"""Shortest first: what a rule that renices at submit saves, against first in, first out; on the runtime, and simulated.

Calls with recorded durations come at random times, at a load of 0.9, and two of them run at once, of whichever
operation: they sleep. The rule gives the slowest fifth, by what is predicted of them, a lower priority as they are
submitted; in the third experiment that is undone after 600 mean runs. Prints a JSON line for each data set and
experiment: the mean slowdown (wait + run, as a multiple of the run) and the longest wait, each as a multiple of those
of fifo with the same arrivals: the median, the least and the most of the rounds. Beside them is the same of a
simulation, which predicts as the gate does, leaves nothing alone for comparison, and has no machine.

    python tests/benchmarks/shortest_first.py [--data files jobs] [--rounds 3] [--calls 2500] [--mean 0.04]

The files are calls of six operations on source files, the jobs those of a public log (NASA iPSC/860, 1993; data by Bill
Nitzberg, conversion by Dror Feitelson). Durations are scaled so that their mean is `--mean` seconds. Each sample is a
fresh process, and a gate that has learned from the `--learned` calls before the measured ones. The samples of a round
run at the same time, so that whatever else the machine does is the same for all; and before them it is measured by how
much sleeps are late here, so that the load is 0.9 all the same.
"""

from __future__ import annotations

import argparse
import heapq
import json
import os
import platform
import random
import statistics
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

sys.path.insert(0, str(Path(__file__).parent.parent / "support"))

import attrs
import trio
from predicted_calls import SETS, TAGS

from tokengate import Gate, Token, token
from tokengate.predict import Predict, Rule, Sample
from tokengate.predict._kinds import Rules

SERVERS: Final = 2
LOAD: Final = 0.9
SLOWEST: Final = 0.2
EXPIRES: Final = 600  # mean runs
SHORTEST: Final = 0.025  # mean runs; a shorter one counts as this long, since the runtime takes some of it
DAY: Final = 86_400.0
LEARNED: Final = 2_000  # calls before those that are measured; each operation needs 200 to be calibrated
MEAN: Final = 0.04  # seconds of a run

MEASURED: Final = {"files": 2_500, "jobs": 16_200}
"""{data: calls after those that are learned from}; the undoing needs a queue that is 600 mean runs long."""

EXPERIMENTS: Final = ("rule", "rule, undone")

TARGETS: Final[Mapping[tuple[str, str], tuple[float, float]]] = {
    ("files", "rule"): (0.15, 1.5),
    ("jobs", "rule"): (0.3, 1.5),
    ("jobs", "rule, undone"): (0.45, 1.3),
}
"""{(data, experiment): (mean slowdown, longest wait), at most}."""


@attrs.frozen
class Call:
    """A call that was recorded.

    Attributes:
        operation: its name.
        tags: what it is about.
        features: numbers of its arguments.
        seconds: that it took.
    """

    operation: str
    tags: Mapping[str, str]
    features: Mapping[str, float]
    seconds: float


def calls_of(data: str, mean: float) -> list[Call]:
    """Return the calls of a data set in their order, so fast that they take this long in the mean."""
    recorded = SETS[data]()
    scale = mean / statistics.mean(call.seconds for call in recorded)
    samples = [(call.sample, call.seconds * scale) for call in recorded]
    return [Call(one.operation, one.tags, one.features, seconds) for one, seconds in samples]


# --- Predicted and simulated --------------------------------------------------------------------------------------


def predicted(data: str, calls: Sequence[Call]) -> list[float]:
    """Return the p50 that is expected of each call, each before it is learned from; 0 where none is."""
    from tokengate.predict._models import Models
    from tokengate.predict._sample import Attempt

    models = Models(TAGS[data], notice=lambda *_: None)
    found = []
    for call in calls:
        sample = Sample(call.operation, "io", 0, call.tags, call.features)
        outlook = models.outlook(sample)
        found.append(0.0 if outlook is None or outlook.run is None else outlook.run.p50)
        models.learn(Attempt(sample, call.seconds))
    return found


def threshold(expected: Sequence[float]) -> float:
    """Return the p50 above which is the slowest fifth."""
    return sorted(expected)[int((1 - SLOWEST) * len(expected))]


def arrivals(calls: Sequence[Call], seed: int) -> list[float]:
    """Return when each call comes, in seconds from the first."""
    chance, at, found = random.Random(seed), 0.0, []
    rate = LOAD * SERVERS / statistics.mean(call.seconds for call in calls)
    for _ in calls:
        at += chance.expovariate(rate)
        found.append(at)
    return found


def simulated(calls: Sequence[Call], due: Sequence[float], long: Sequence[bool], expires: float) -> list[float]:
    """Return the wait of each call: the long ones behind all others, until that is undone.

    Args:
        calls: the calls.
        due: when each comes.
        long: which ones have the lower priority.
        expires: seconds after which they have it no more.
    """
    free = [0.0] * SERVERS
    waiting: list[tuple[float, int]] = []  # (since when with the usual priority, which one)
    behind: deque[int] = deque()
    waits, coming = [0.0] * len(calls), 0
    for _ in calls:
        now = free[0]
        if not waiting and not behind:
            now = max(now, due[coming])
        while coming < len(calls) and due[coming] <= now:
            if long[coming]:
                behind.append(coming)
            else:
                heapq.heappush(waiting, (due[coming], coming))
            coming += 1
        while behind and due[behind[0]] + expires <= now:
            heapq.heappush(waiting, (due[behind[0]] + expires, behind.popleft()))
        one = heapq.heappop(waiting)[1] if waiting else behind.popleft()
        waits[one] = now - due[one]
        heapq.heapreplace(free, now + calls[one].seconds)
    return waits


def figures(calls: Sequence[Call], waits: Sequence[float], runs: Sequence[float]) -> dict[str, Any]:
    """Return what callers got."""
    least = SHORTEST * statistics.mean(call.seconds for call in calls)
    slowdowns = [(wait + run) / max(call.seconds, least) for call, wait, run in zip(calls, waits, runs, strict=True)]
    return {
        "slowdown": statistics.mean(slowdowns),
        "longest": max(waits),
        "wait": statistics.mean(waits),
        "slowdowns": statistics.quantiles(slowdowns, n=100),
    }


def simulation(calls: Sequence[Call], expected: Sequence[float], experiment: str, seed: int) -> dict[str, Any]:
    """Return the figures of a simulated experiment."""
    due, mean = arrivals(calls, seed), statistics.mean(call.seconds for call in calls)
    limit = threshold(expected) if experiment != "fifo" else float("inf")
    long = [one > limit for one in expected]
    expires = EXPIRES * mean if experiment == "rule, undone" else DAY
    return figures(calls, simulated(calls, due, long, expires), [call.seconds for call in calls])


# --- On the runtime -----------------------------------------------------------------------------------------------


def operations_of(calls: Sequence[Call]) -> dict[str, Any]:
    """Return {name: an operation that sleeps as long as a call has taken}."""

    def operation(name: str) -> Any:
        async def run(call: Call) -> None:
            await trio.sleep(call.seconds)

        run.__name__ = run.__qualname__ = name
        return token(features=lambda call: call.features, capacity=100_000)(run)

    return {name: operation(name) for name in sorted({call.operation for call in calls})}


@contextmanager
def queue(calls: Sequence[Call], plugins: Sequence[Any] = ()) -> Iterator[tuple[Gate, Callable[[Call], Token[None]]]]:
    """Open a gate in which two calls run at once, of whichever operations; yield it and what submits a call."""
    operations = operations_of(calls)
    with Gate("queue", control_socket=False, plugins=plugins) as gate:
        for operation in operations.values():
            gate.register(operation)
        gate.control.throttle("affinity=io", concurrency=SERVERS)
        yield gate, lambda call: operations[call.operation].with_options(tags=call.tags).submit(call)


def lateness(calls: Sequence[Call]) -> float:
    """Return how long calls take here, as a multiple of their durations."""
    with queue(calls) as (_, submit):
        began = time.monotonic()
        for one in [submit(call) for call in calls]:
            one.result()
        return (time.monotonic() - began) * SERVERS / sum(call.seconds for call in calls)


def sample(calls: Sequence[Call], given: argparse.Namespace, limit: float) -> dict[str, Any]:
    """Run an experiment in this process, and return its figures.

    Args:
        calls: the calls; the first ones are learned from only.
        given: the arguments of this process.
        limit: the p50 from which on a call is long.
    """
    first, measured, experiment = calls[: given.learned], calls[given.learned :], given.sample
    mean = statistics.mean(call.seconds for call in measured)
    rule = Rule(
        name="short-first",
        select=f"run.p50>{limit * 1000:.6f}ms",
        do="renice -1",
        mode="observe" if experiment == "fifo" else "act",
        expires=max(1.0, EXPIRES * mean) if experiment == "rule, undone" else DAY,
    )
    predict = Predict(tags=TAGS[given.data[0]], rules=[rule])
    with queue(calls, [predict]) as (gate, submit):
        for one in [submit(call) for call in first]:
            one.result()
        cpu = time.process_time()
        tokens, began = [], time.monotonic()
        for call, due in zip(measured, arrivals(measured, given.seed), strict=True):
            while (left := began + due * given.stretch - time.monotonic()) > 0:
                time.sleep(left)
            tokens.append(submit(call))
        for one in tokens:
            one.result()
        cpu = time.process_time() - cpu
        rows = [row for row in predict.calibration() if row.target == "run"]
        (of_rule,) = gate.control.ask(Rules())
    times = [(one.created_at, one.started_at or 0.0, one.finished_at or 0.0) for one in tokens]
    waits, runs = [start - made for made, start, _ in times], [end - start for _, start, end in times]
    found: dict[str, Any] = dict(figures(measured, waits, runs))
    found |= {"models": {row.operation: (row.estimator, row.why or "calibrated", row.drifts) for row in rows}}
    found |= {"rule": of_rule.counts, "load": LOAD * sum(runs) / sum(call.seconds for call in measured) / given.stretch}
    return found | {"cpu": cpu / len(tokens)}


def at_once(given: argparse.Namespace, data: str, experiments: Sequence[str], *options: str) -> list[dict[str, Any]]:
    """Return the figures of experiments, each in a process of its own, all at the same time.

    Raises:
        RuntimeError: one has failed.
    """
    command = [sys.executable, str(Path(__file__)), "--data", data, *options]
    command += ["--learned", str(given.learned), "--mean", str(given.mean)]
    command += ["--calls", str(given.calls or MEASURED[data])]
    processes = [
        subprocess.Popen([*command, "--sample", one], stdout=subprocess.PIPE, text=True) for one in experiments
    ]
    said = [process.communicate()[0] for process in processes]
    if any(process.returncode for process in processes):
        raise RuntimeError(f"an experiment with {data} has failed")
    return list(map(json.loads, said))


def pair(data: str) -> list[dict[str, Any]]:
    """Return the figures of a data set in one round, those of fifo and those with the rule."""
    given = argparse.Namespace(calls=None, learned=LEARNED, mean=MEAN)
    (late,) = at_once(given, data, ["lateness"])
    return at_once(given, data, ["fifo", "rule"], "--seed", "1", "--stretch", str(late["stretch"]))


# --- The lines ----------------------------------------------------------------------------------------------------


def ratios(found: Sequence[Mapping[str, Any]], fifo: Sequence[Mapping[str, Any]]) -> dict[str, list[float]]:
    """Return mean slowdown, longest and mean wait as multiples of those of fifo: median, least and most of all."""
    said = {}
    for what in ("slowdown", "longest", "wait"):
        values = [own[what] / other[what] for own, other in zip(found, fifo, strict=True)]
        said[what] = [round(value, 3) for value in (statistics.median(values), min(values), max(values))]
    return said


def shown(figures: Mapping[str, Any]) -> dict[str, Any]:
    """Return figures without the many ones."""
    return {name: value for name, value in figures.items() if name != "slowdowns"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", nargs="*", default=["files", "jobs"], choices=("files", "jobs"))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--calls", type=int, help=f"that are measured; by default {MEASURED}")
    parser.add_argument("--learned", type=int, default=LEARNED, help="calls before these")
    parser.add_argument("--mean", type=float, default=MEAN, help="seconds of a run")
    parser.add_argument("--simulated", action="store_true", help="only simulate")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--sample", help=argparse.SUPPRESS)
    parser.add_argument("--stretch", type=float, default=1.0, help=argparse.SUPPRESS)
    given = parser.parse_args()
    for data in given.data:
        calls = calls_of(data, given.mean)[: given.learned + (given.calls or MEASURED[data])]
        if given.sample == "lateness":
            print(json.dumps({"stretch": lateness(calls[:500])}))
            return
        expected = predicted(data, calls)[given.learned :]
        if given.sample:
            print(json.dumps(sample(calls, given, threshold(expected))))
            return
        for line in lines_of(given, data, calls[given.learned :], expected):
            print(json.dumps(line), flush=True)


def lines_of(
    given: argparse.Namespace, data: str, calls: Sequence[Call], expected: Sequence[float]
) -> Iterator[dict[str, Any]]:
    """Yield the line of each experiment."""
    all_of = ("fifo", *EXPERIMENTS)
    in_theory: dict[str, list[dict[str, Any]]] = {one: [] for one in all_of}
    here: dict[str, list[dict[str, Any]]] = {one: [] for one in all_of}
    for seed in range(given.seed, given.seed + given.rounds):
        for one in all_of:
            in_theory[one].append(simulation(calls, expected, one, seed))
        if not given.simulated:
            (late,) = at_once(given, data, ["lateness"])
            options = ("--seed", str(seed), "--stretch", str(late["stretch"]))
            for one, found in zip(all_of, at_once(given, data, all_of, *options), strict=True):
                here[one].append(found | late)
    for one in EXPERIMENTS:
        line: dict[str, Any] = {
            "data": data,
            "experiment": one,
            "date": time.strftime("%Y-%m-%d"),
            "python": platform.python_version(),
            "load": round(os.getloadavg()[0], 1),
            "calls": len(calls),
            "rounds": given.rounds,
            "simulated": ratios(in_theory[one], in_theory["fifo"]),
        }
        if not given.simulated:
            line |= {"measured": (measured := ratios(here[one], here["fifo"]))}
            if (target := TARGETS.get((data, one))) is not None:
                met = measured["slowdown"][0] <= target[0] and measured["longest"][0] <= target[1]
                line |= {"target": target, "met": met}
            line |= {"fifo": shown(here["fifo"][-1]), "last": shown(here[one][-1])}
        yield line


if __name__ == "__main__":
    main()
