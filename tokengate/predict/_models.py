"""The models of all operations: they learn from attempts, and say what is expected of a call."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from operator import itemgetter
from typing import Final, Literal, TypeAlias

from tokengate.predict._cells import MOST as CELLS
from tokengate.predict._cells import Cell, Cells, Key
from tokengate.predict._factors import Factors
from tokengate.predict._failures import Failures
from tokengate.predict._line import Line
from tokengate.predict._outcomes import CalibrationRow, Outcomes, means, thirds, why_not_probable
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
        why_not: {`failing` or `late`: why rules may not act by it; empty: they may}; replaced as a whole.
        since: when it began to learn, seconds since the epoch.
    """

    def __init__(self, targets: Mapping[Target, TargetModel]) -> None:
        self.targets = targets
        self.failures = Failures()
        self.failing, self.late, self.cut_short = Outcomes(), Outcomes(), Outcomes()
        self.attempts = 0
        self.why_not: Mapping[Literal["failing", "late"], str] = {"failing": "0 records", "late": "0 records"}
        self.since = time.time()

    def settle(self) -> None:
        """See anew whether rules may act by probabilities."""
        self.why_not = {
            "failing": why_not_probable(self.failing.entries()),
            "late": why_not_probable(self.late.entries()),
        }


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
        model = self.operations.use(attempt.sample.operation)
        point = point_of(attempt.sample, self.tags)
        model.cut_short.add(0.0, float(attempt.cut_short), attempt.weight)
        run, late = model.targets["run"], attempt.late
        expected = run.predictions(point)
        if late is not None and attempt.left is not None:
            beyond = run.beyond(point, expected, attempt.left)
            if beyond is not None:
                model.late.add(beyond, float(late), attempt.weight)
        if not attempt.cut_short:
            if model.attempts >= ENOUGH:
                model.failing.add(model.failures.rate, float(bool(attempt.error)), attempt.weight)
            model.attempts += 1
            model.failures.learn(attempt.error, attempt.weight)
            self._learn(model, "run", point, expected, attempt.run, attempt)
            if attempt.memory is not None and 0 <= attempt.memory < math.inf:
                expected = model.targets["memory"].predictions(point)
                self._learn(model, "memory", point, expected, attempt.memory, attempt)
        if model.attempts % JUDGED_EACH == 0:
            model.settle()
        self._tell_off(attempt.sample.operation)

    def _learn(
        self,
        model: OperationModel,
        target: Target,
        point: Point,
        expected: Sequence[float | None],
        value: float,
        attempt: Attempt,
    ) -> None:
        one, cut = model.targets[target], model.cut_short.mean or 0.0
        if one.learn(point, expected, value, attempt.weight, bool(attempt.error), cut):
            details = {"target": target, "records": one.n, "drifts": one.drifts}
            self._notice("model.drifted", point.sample.operation, details)

    def _tell_off(self, operation: str) -> None:
        for own in self._own:
            if own.off and own not in self._told_off:
                self._told_off.add(own)
                self._notice("model.estimator_off", operation, {"estimator": own.name, "why": own.off})

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
        said = run or memory
        if said is None:
            return None
        target = model.targets["memory" if run is None else "run"]
        calibrated: list[str] = [name for name, why in model.why_not.items() if not why]
        if run is not None and run.is_calibrated:
            calibrated.append("run")
        if memory is not None and memory.is_calibrated:
            calibrated.append("memory")
        return Outlook(
            None if run is None else run.spread,
            None if memory is None else memory.spread,
            model.failures.rate if model.attempts >= ENOUGH else None,
            said.answer.basis,
            target.n,
            said.contender.coverage.mean,
            frozenset(calibrated),
            f"{said.contender.estimator.name} {target.drifts + 1}",
            Factors(said.answer.factors),
        )

    def asks_own(self, operation: str) -> bool:
        """Tell whether an estimator of the user answers for an operation now."""
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
    cut = model.cut_short.mean or 0.0
    for name, target in model.targets.items():
        standing = target.standing
        if not target.n:
            continue
        first = standing.ranking[0] if standing.ranking else target.contenders[0]
        entries = first.coverage.entries()
        yield CalibrationRow(
            operation,
            name,
            target.n,
            first.coverage.mean,
            tuple([means(part)[1] for part in thirds(entries) if part]),
            (),
            not standing.why_not,
            standing.why_not,
            estimator=first.estimator.name if standing.ranking else "",
            losses={one.estimator.name: one.losses.mean for one in target.contenders if one.losses.mean is not None},
            cut_short=cut,
            drifts=target.drifts,
            since_drift=target.since,
        )
    for probability, why in model.why_not.items():
        outcomes = model.failing if probability == "failing" else model.late
        entries = outcomes.entries()
        parts = [part for part in thirds(entries) if part]
        if parts:
            yield CalibrationRow(
                operation,
                probability,
                model.attempts,
                outcomes.mean,
                tuple([means(part)[1] for part in parts]),
                tuple([means(part)[0] for part in parts]),
                not why,
                why,
                shares=model.failures.shares() if probability == "failing" else {},
                cut_short=cut,
            )
