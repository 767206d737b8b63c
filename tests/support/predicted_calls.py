"""Two data sets on which predictions are judged, and how right they are on them.

`files` are 5,993 calls of six operations on source files of the standard library, as `benchmarks/predict_models.py` has
recorded them; `jobs` are 18,239 jobs of the NASA Ames iPSC/860, October to December 1993 (Parallel Workloads Archive;
data by Bill Nitzberg, conversion by Dror Feitelson).
"""

from __future__ import annotations

import csv
import gzip
import math
import random
from bisect import insort
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import attrs

from tokengate.predict._models import Models
from tokengate.predict._sample import Attempt, Estimator, Sample

DATA = Path(__file__).parent.parent / "tokengate" / "predict" / "data"


@attrs.frozen
class Call:
    """One call of a data set.

    Attributes:
        sample: what is known of it before.
        seconds: that it took.
        group: its group in the baseline, a quantile for each group: its operation, or its user.
    """

    sample: Sample
    seconds: float
    group: str


def files() -> list[Call]:
    """Return the calls on source files, in the order in which they came."""
    with gzip.open(DATA / "files.csv.gz", "rt") as file:
        rows = [row for row in csv.reader(file) if not row[0].startswith("#")]
    return [
        Call(Sample(name, features={"bytes": float(size), "lines": float(lines)}), float(seconds), name)
        for name, size, lines, seconds in rows
    ]


def jobs() -> list[Call]:
    """Return the jobs, in the order in which they came. A run time of 0 seconds is one below 1."""
    with gzip.open(DATA / "nasa-ipsc-1993.swf.gz", "rt") as file:
        rows = [line.split() for line in file if line.strip() and not line.startswith(";")]
    return [
        Call(
            Sample("job", tags={"user": row[11], "program": row[13]}, features={"processors": float(row[4])}),
            max(1.0, float(row[3])),
            row[11],
        )
        for row in rows
    ]


TAGS: Mapping[str, tuple[str, ...]] = {"files": (), "jobs": ("user", "program")}
SETS: Mapping[str, Callable[[], list[Call]]] = {"files": files, "jobs": jobs}


@attrs.frozen
class Judged:
    """A call that was predicted before it was learned.

    Attributes:
        call: the call.
        p50: what was predicted, seconds.
        p95: the bound.
        late: the probability to miss a deadline.
        was_late: whether it did.
    """

    call: Call
    p50: float
    p95: float
    late: float
    was_late: bool

    @property
    def covered(self) -> bool:
        """Whether it stayed below its bound."""
        return self.call.seconds <= self.p95 * (1 + 1e-9)

    @property
    def loss(self) -> float:
        """The pinball loss at p50, of logs."""
        return abs(math.log(self.call.seconds / self.p50)) / 2


@attrs.frozen
class Run:
    """What came of a data set.

    Attributes:
        judged: the calls that were predicted.
        models: what was learned.
        drifts: (operation, the number of its calls before) of each drift.
    """

    judged: list[Judged]
    models: Models
    drifts: list[tuple[str, int]]


def run(calls: Sequence[Call], tags: Sequence[str] = (), estimators: Sequence[Estimator] = (), seed: int = 1) -> Run:
    """Predict each call, and then learn it.

    The time that each has is what is expected of it, times a number between 1/7 and 7, so that all probabilities come.
    """
    chance, judged = random.Random(seed), []
    drifts: list[tuple[str, int]] = []
    seen: dict[str, int] = defaultdict(int)

    def note(kind: str, operation: str, _details: object) -> None:
        if kind == "model.drifted":
            drifts.append((operation, seen[operation]))

    models = Models(tags, estimators, notice=note)
    for call in calls:
        outlook, left = models.outlook(call.sample), None
        if outlook is not None and outlook.run is not None:
            left = outlook.run.p50 * math.exp(chance.uniform(-2, 2))
            said = outlook.at(None, left)
            assert said.run is not None
            assert said.timeout_probability is not None
            judged.append(Judged(call, said.run.p50, said.run.p95, said.timeout_probability, call.seconds > left))
        models.learn(Attempt(call.sample, run=call.seconds, left=left))
        seen[call.sample.operation] += 1
    return Run(judged, models, drifts)


def parts(judged: Sequence[Judged], number: int, key: Callable[[Judged], float]) -> list[Sequence[Judged]]:
    """Return so many parts of equal size, by what was predicted."""
    ordered, size = sorted(judged, key=key), len(judged)
    return [ordered[size * part // number : size * (part + 1) // number] for part in range(number)]


def coverage(judged: Sequence[Judged]) -> float:
    """Return the share that stayed below p95."""
    return sum(one.covered for one in judged) / len(judged)


def worst(judged: Sequence[Judged], number: int = 500) -> float:
    """Return the coverage of the worst so many in a row."""
    found = inside = sum(one.covered for one in judged[:number])
    for old, new in zip(judged, judged[number:], strict=False):
        inside += new.covered - old.covered
        found = min(found, inside)
    return found / number


def off_late(judged: Sequence[Judged]) -> float:
    """Return what the mean probability to be late is off in the worst tenth."""
    return max(
        abs(sum(one.late - one.was_late for one in part)) / len(part)
        for part in parts(judged, 10, lambda one: one.late)
    )


def baseline(calls: Sequence[Call]) -> Iterator[tuple[float, float, Call]]:
    """Yield (p50, p95, call): quantiles of all earlier calls of its group, or of all if it has fewer than 10."""
    groups: dict[str, list[float]] = defaultdict(list)
    everything: list[float] = []
    for number, call in enumerate(calls):
        own = groups[call.group] if len(groups[call.group]) >= 10 else everything
        if number >= 30:
            yield own[len(own) // 2], own[min(len(own) - 1, math.ceil(0.95 * (len(own) + 1)) - 1)], call
        insort(groups[call.group], call.seconds)
        insort(everything, call.seconds)
