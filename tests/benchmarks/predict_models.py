"""How right predictions are on two data sets, and what they cost: JSON lines.

    python tests/benchmarks/predict_models.py [--only files jobs cost] [--record FILE.csv.gz]

Each call is predicted, and then learned. Costs are those of one call: a quarter are below the
first figure, half below the second. `--record` measures
the calls of `files` anew, in one order at random, and writes them in another: else what else the machine does, which
comes and goes, would be a drift of what is measured.
"""

from __future__ import annotations

import argparse
import ast
import csv
import gzip
import hashlib
import io
import json
import platform
import random
import statistics
import sys
import sysconfig
import time
import tokenize
import warnings
import zlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent / "support"))

import predicted_calls as sets

from tokengate.predict._models import Models
from tokengate.predict._sample import Attempt

CALLS = 5_993


def _tokens(data: bytes) -> int:
    return sum(1 for _ in tokenize.tokenize(io.BytesIO(data).readline))


OPERATIONS: Mapping[str, Callable[[bytes], object]] = {
    "count_lines": lambda data: sum(1 for _ in io.BytesIO(data)),
    "checksum": lambda data: hashlib.sha256(data).hexdigest(),
    "compress": lambda data: zlib.compress(data, 6),
    "split": _tokens,
    "parse": ast.parse,
    "compile": lambda data: compile(data, "<file>", "exec", dont_inherit=True),
}


def record(out: Path) -> None:
    """Measure calls of the operations on the source files of the standard library."""
    warnings.simplefilter("ignore")
    root = Path(sysconfig.get_path("stdlib"))
    found = [path for path in sorted(root.rglob("*.py")) if "site-packages" not in path.parts and path.stat().st_size]
    pairs = [(name, path) for name in OPERATIONS for path in found]
    chance, rows = random.Random(1), []
    chance.shuffle(pairs)
    for name, path in pairs:
        data = path.read_bytes()
        began = time.perf_counter()
        try:
            OPERATIONS[name](path.read_bytes())
        except (SyntaxError, ValueError, tokenize.TokenError):  # the test suite has files that are no Python
            continue
        rows.append((name, len(data), data.count(b"\n"), f"{time.perf_counter() - began:.4g}"))
        if len(rows) == CALLS:
            break
    chance.shuffle(rows)
    with gzip.open(out, "wt", newline="") as file:
        file.write(f"# calls on the standard library of CPython {platform.python_version()}\n")
        file.write("# operation, bytes, lines, seconds; in an order at random\n")
        csv.writer(file, lineterminator="\n").writerows(rows)


def table(name: str) -> Iterator[dict[str, Any]]:
    """Yield how right predictions are on a data set, beside quantiles of each operation or user."""
    calls = sets.SETS[name]()
    plain = [sets.Judged(call, p50, p95, 0.0, False) for p50, p95, call in sets.baseline(calls)]
    found = sets.run(calls, sets.TAGS[name])
    for label, judged in (("quantiles", plain), ("predictions", found.judged)):
        row = {
            "set": name,
            "by": label,
            "calls": len(judged),
            "coverage": round(100 * sets.coverage(judged), 2),
            "worst 500": round(100 * sets.worst(judged), 1),
            "thirds": [round(100 * sets.coverage(part), 1) for part in sets.parts(judged, 3, lambda one: one.p50)],
            "p95 / actual": round(statistics.median(one.p95 / one.call.seconds for one in judged), 2),
            "pinball p50": round(statistics.fmean(one.loss for one in judged), 4),
        }
        if judged is not plain:
            row["of the quantiles"] = round(row["pinball p50"] / statistics.fmean(one.loss for one in plain), 3)
            row["late is off by"] = round(100 * sets.off_late(judged), 1)
            row["drifts"] = len(found.drifts)
        yield row


def cost(name: str) -> Iterator[dict[str, Any]]:
    """Yield what it costs to learn and to predict, in microseconds."""
    calls = sets.SETS[name]()[:6_000]
    models = Models(sets.TAGS[name], notice=lambda *_: None)
    times: dict[str, list[int]] = {}
    now = time.perf_counter_ns
    for number, call in enumerate(calls):
        attempt, began = Attempt(call.sample, run=call.seconds), now()
        outlook = models.outlook(call.sample)
        predicted = now()
        if outlook is not None:
            outlook.at(1.0, 1.0)
        told = now()
        models.learn(attempt)
        if number >= 1_000:
            for what, took in (
                ("learn", now() - told),
                ("predict", predicted - began),
                ("while it runs", told - predicted),
            ):
                times.setdefault(what, []).append(took)
    for what, found in times.items():
        low, median, _ = statistics.quantiles(found, n=4)
        yield {
            "set": name,
            "cost of": what,
            "a quarter below us": round(low / 1000, 1),
            "median us": round(median / 1000, 1),
        }


def main() -> None:
    """Print what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="*", choices=("files", "jobs", "cost"), default=("files", "jobs", "cost"))
    parser.add_argument("--record", type=Path)
    arguments = parser.parse_args()
    if arguments.record is not None:
        record(arguments.record)
        return
    for name in sets.SETS:
        if name in arguments.only:
            for row in table(name):
                print(json.dumps(row), flush=True)
        if "cost" in arguments.only:
            for row in cost(name):
                print(json.dumps(row), flush=True)


if __name__ == "__main__":
    main()
