"""The models of all operations: they learn from attempts, and say what is expected of a call."""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from operator import itemgetter
from typing import Final, Literal, TypeAlias

from tokengate.predict._cells import MOST as CELLS
from tokengate.predict._cells import Cell, Cells, Key
from tokengate.predict._factors import Factors
from tokengate.predict._failures import Failures
from tokengate.predict._line import Line
from tokengate.predict._outcomes import CalibrationRow, Entry, latest, listed, means, thirds, why_not_probable
from tokengate.predict._outlook import Outlook
from tokengate.predict._own import Own
from tokengate.predict._point import Point, Tags, point_of
from tokengate.predict._residuals import Window
from tokengate.predict._sample import Attempt, Estimator, Sample, Target
from tokengate.predict._table import Table
from tokengate.predict._target import ENOUGH, JUDGED_EACH, WINDOWS, Contender, TargetModel

Notice: TypeAlias = Callable[[str, str, Mapping[str, str | int | float | bool]], object]
"""Takes the kind of an event, an operation, and details."""

TARGETS: Final[tuple[Target, ...]] = ("run", "memory")

Probability: TypeAlias = Literal["failing", "late"]

_RUN: Final = frozenset(["run"])
_MEMORY: Final = frozenset(["memory"])
_OPERATIONS: Final = 1_000  # at most; the longest unused goes


class OperationModel:
    """What is known of one operation.

    Attributes:
        targets: {target: what is known of it}.
        failures: how often it fails.
        failing: (probability of failure, whether it failed, weight).
        late: (probability to miss the deadline, whether it did, weight).
        cut_short: (0, whether it was, weight).
        attempts: how many were learned from.
        licensed: the probabilities that rules may act by.
        since: when it began to learn, seconds since the epoch.
    """

    def __init__(self, targets: Mapping[Target, TargetModel]) -> None:
        self.targets = targets
        self.failures = Failures()
        self.failing: deque[Entry] = latest()
        self.late: deque[Entry] = latest()
        self.cut_short: deque[Entry] = latest()
        self.attempts = 0
        self.why_not = {"failing": "0 records", "late": "0 records"}
        self.since = time.time()

    @property
    def why_not(self) -> Mapping[Probability, str]:
        """{probability: why rules may not act by it; empty: they may}."""
        return self._why_not

    @why_not.setter
    def why_not(self, why_not: Mapping[Probability, str]) -> None:
        self._why_not = why_not
        self.licensed = frozenset([name for name, why in why_not.items() if not why])

    def settle(self) -> None:
        """See anew whether rules may act by probabilities."""
        self.why_not = {"failing": why_not_probable(listed(self.failing)), "late": why_not_probable(listed(self.late))}


class Models:
    """The models of all operations.

    Args:
        tags: names of the tags that are learned from.
        estimators: those of the user.
        notice: called, by the thread that learns, with what happened: `model.drifted`, `model.estimator_off`.

    Attributes:
        cells: the cells of all.
        windows: residuals of tags, of all.
        operations: {name: what is known of it}.
    """

    def __init__(self, tags: Sequence[str] = (), estimators: Sequence[Estimator] = (), *, notice: Notice) -> None:
        self.tags = tuple(tags)
        self.cells: Table[Key, Cell] = Table(CELLS, lambda _key: Cell())
        self.windows: Table[tuple[Contender, Tags], Window] = Table(WINDOWS, lambda _key: Window())
        self.operations: Table[str, OperationModel] = Table(_OPERATIONS, self._made)
        self._own = [Own(estimator) for estimator in estimators]
        self._told_off: set[Own] = set()
        self._notice = notice

    def _made(self, operation: str) -> OperationModel:
        return OperationModel(
            {
                target: TargetModel(
                    operation,
                    [Cells(self.cells, target), Line(), *[own for own in self._own if own.target == target]],
                    self.windows,
                )
                for target in TARGETS
            }
        )

    # Learning

    def learn(self, attempt: Attempt) -> None:
        """Learn of an attempt that has begun, after judging what was expected of it; on one thread."""
        if attempt.run is None or not 0 <= attempt.run < math.inf:
            return
        sample, weight = attempt.sample, attempt.weight
        model, point = self.operations.use(sample.operation), point_of(sample, self.tags)
        late, left = attempt.late, attempt.left
        if late is not None and left is not None:
            beyond = model.targets["run"].beyond(point, left)
            if beyond is not None:
                model.late.append((beyond, float(late), weight))
        model.cut_short.append((0.0, float(attempt.cut_short), weight))
        if attempt.cut_short:
            for one in model.targets.values():
                if not one.standing.why_not:
                    one.settle(model.cut_short, judge=True)
        else:
            if model.attempts >= ENOUGH:
                model.failing.append((model.failures.rate, float(attempt.error != ""), weight))
            model.attempts += 1
            model.failures.learn(attempt.error, weight)
            self._teach(model, "run", point, attempt.run, attempt)
            if attempt.memory is not None and 0 <= attempt.memory < math.inf:
                self._teach(model, "memory", point, attempt.memory, attempt)
            if model.attempts % JUDGED_EACH == 0:
                model.settle()
        for own in self._own:
            if own.off and own not in self._told_off:
                self._told_off.add(own)
                self._notice("model.estimator_off", sample.operation, {"estimator": own.name, "why": own.off})

    def _teach(self, model: OperationModel, target: Target, point: Point, value: float, attempt: Attempt) -> None:
        one = model.targets[target]
        if one.learn(point, value, attempt.weight, attempt.error != "", model.cut_short):
            details = {"target": target, "records": one.n, "drifts": one.drifts}
            self._notice("model.drifted", point.sample.operation, details)

    # What is expected; on any thread

    def outlook(self, sample: Sample, *, own: bool = True) -> Outlook | None:
        """Return what is expected of a call; None: nothing is known.

        Args:
            sample: the call.
            own: whether estimators of the user may be asked.
        """
        model = self.operations.get(sample.operation)
        if model is None:
            return None
        point = point_of(sample, self.tags)
        run, memory = model.targets["run"].said(point, own), model.targets["memory"].said(point, own)
        first = run or memory
        if first is None:
            return None
        _, answer, contender, _ = first
        target = model.targets["memory" if run is None else "run"]
        licensed: frozenset[str] = model.licensed
        if run is not None and run[3]:
            licensed |= _RUN
        if memory is not None and memory[3]:
            licensed |= _MEMORY
        return Outlook(
            None if run is None else run[0],
            None if memory is None else memory[0],
            model.failures.rate if model.attempts >= ENOUGH else None,
            answer.basis,
            target.n,
            contender.scores.coverage,
            licensed,
            f"{contender.estimator.name} {target.drifts + 1}",
            Factors(answer.factors),
        )

    def asks_own(self, operation: str) -> bool:
        """Tell whether an estimator of the user answers for an operation now."""
        if not self._own:
            return False
        model = self.operations.get(operation)
        return model is not None and any(
            one.estimator.is_own for target in model.targets.values() for one in target.standing.ranking[:1]
        )

    def calibration(self, operation: str = "") -> tuple[CalibrationRow, ...]:
        """Return how right predictions were, of one operation or of all; on any thread."""
        found = [
            (name, model)
            for name, model in sorted(self.operations.rows(), key=itemgetter(0))
            if operation in ("", name)
        ]
        return tuple([row for name, model in found for row in _rows(name, model)])


def _rows(operation: str, model: OperationModel) -> Iterator[CalibrationRow]:
    """Yield how right the predictions of an operation were."""
    _, cut = means(listed(model.cut_short))
    for name, target in model.targets.items():
        if target.n:
            ranking, why = target.standing[:2]
            first = (ranking or target.contenders)[0]
            yield CalibrationRow(
                operation,
                name,
                target.n,
                first.scores.coverage,
                tuple([means(part)[1] for part in thirds(first.scores.entries()) if part]),
                (),
                not why,
                why,
                estimator=first.estimator.name if ranking else "",
                losses={
                    one.estimator.name: one.scores.loss for one in target.contenders if one.scores.loss is not None
                },
                cut_short=cut,
                drifts=target.drifts,
                since_drift=target.since,
            )
    for probability, why in model.why_not.items():
        entries = listed(model.failing if probability == "failing" else model.late)
        if entries:
            parts = [means(part) for part in thirds(entries) if part]
            yield CalibrationRow(
                operation,
                probability,
                model.attempts,
                means(entries)[1],
                tuple([seen for _, seen in parts]),
                tuple([said for said, _ in parts]),
                not why,
                why,
                shares=model.failures.shares() if probability == "failing" else {},
                cut_short=cut,
            )
