"""Predictions on history: how right they would have been, and the records that they are made from."""

from __future__ import annotations

import math
from array import array
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import IO, Any, Final

import attrs
import msgspec

from tokengate.control.messages import Event
from tokengate.control.stream._record import FINISHED, LOST, RETRIED
from tokengate.predict._learner import attempt_of
from tokengate.predict._models import Models
from tokengate.predict._outcomes import CalibrationRow, means, thirds
from tokengate.predict._sample import Estimator, Target
from tokengate.telemetry._lines import record_of_event
from tokengate.telemetry._sketch import MEBIBYTE, Sketch

TOTAL: Final = "*"
"""The operation of the row that is about all."""

_WINDOW: Final = 500
_LEAST: Final = 30  # values of a quantile
_SMALLEST: Final = 1e-6  # seconds or bytes


@attrs.frozen
class EvaluationRow:
    """How right predictions would have been, each made before its attempt was learned.

    Attributes:
        operation: its name; `*`: all.
        target: `run` or `memory`.
        n: attempts that were predicted.
        coverage: the share that stayed below its p95; 95 % is right.
        worst: the same of the worst 500 in a row; None if there are fewer.
        thirds: the same of the lowest, the middle and the highest third of the predicted values.
        over: p95 as a multiple of the value, the geometric mean: how wide the bounds were.
        loss: pinball loss at p50, of logs.
        plain: the same of a quantile of all earlier attempts of the operation.
        drifts: how often values have changed all at once.
        estimator: what answers in the end.
        losses: {estimator: its pinball loss at p50 over the latest 500, of logs}.
    """

    operation: str
    target: str
    n: int
    coverage: float
    worst: float | None
    thirds: tuple[float, ...]
    over: float
    loss: float
    plain: float | None
    drifts: int = 0
    estimator: str = ""
    losses: dict[str, float] = attrs.field(factory=dict, metadata={"wide": True})


class _Score:
    """The predictions of one target, of one operation or of all, beside the values."""

    def __init__(self) -> None:
        self.expected, self.covered, self.weights = array("d"), array("b"), array("q")
        self.over = self.loss = self.plain = 0.0
        self.n = self.compared = 0
        self.worst: float | None = None
        self._latest: deque[int] = deque(maxlen=_WINDOW)
        self._inside = 0  # of the latest

    def add(self, p50: float, p95: float, value: float, plain: float | None, weight: int) -> None:
        """Add a prediction; `plain` is the p50 of the baseline."""
        covered = int(value <= p95 * (1 + 1e-9))
        self.expected.append(p50)
        self.covered.append(covered)
        self.weights.append(weight)
        self.n += weight
        self.over += weight * math.log(p95 / value)
        self.loss += weight * abs(math.log(value / p50)) / 2
        if plain is not None:
            self.plain += weight * abs(math.log(value / plain)) / 2
            self.compared += weight
        if len(self._latest) == _WINDOW:
            self._inside -= self._latest[0]
        self._latest.append(covered)
        self._inside += covered
        if len(self._latest) == _WINDOW:
            self.worst = min(self._inside / _WINDOW, 1.0 if self.worst is None else self.worst)

    def row(self, operation: str, target: str, told: CalibrationRow | None) -> EvaluationRow:
        entries = list(zip(self.expected, map(float, self.covered), self.weights, strict=True))
        return EvaluationRow(
            operation, target, self.n, means(entries)[1], self.worst,
            tuple(means(part)[1] for part in thirds(entries) if part), math.exp(self.over / self.n),
            self.loss / self.n, self.plain / self.compared if self.compared else None,
            told.drifts if told else 0, told.estimator if told else "", told.losses if told else {},
        )  # fmt: skip


class Evaluation:
    """Predicts attempts of the past, in order of time, and learns each one after that.

    Args:
        tags: names of the tags that are learned from.
        estimators: estimators of one's own.
    """

    def __init__(self, tags: Sequence[str] = (), estimators: Sequence[Estimator] = ()) -> None:
        self._tags = tags
        self._own = [type(one).__name__ for one in estimators]
        self._off: dict[str, str] = {}  # {estimator that was switched off: why}
        self._models = Models(tags, estimators, notice=self._note)
        self._scores: dict[tuple[str, Target], _Score] = {}
        self._values: dict[tuple[str, Target], Sketch] = {}
        self._lost: Counter[str] = Counter()

    def run(self, events: Iterable[Event]) -> None:
        """Let a part of the past go by.

        Args:
            events: in order of time.
        """
        chosen = frozenset(self._tags)
        for event in events:
            if event.kind == LOST:
                self._lost[event.text] += 1
            if event.kind not in (FINISHED, RETRIED) or event.run is None:
                continue
            attempt = attempt_of(
                record_of_event(event), lambda tags: {name: tags[name] for name in chosen if name in tags}
            )
            if not attempt.cut_short:
                outlook = self._models.outlook(attempt.sample)
                for target, value in (("run", attempt.run), ("memory", attempt.memory)):
                    if value is not None:
                        spread = None if outlook is None else getattr(outlook, target)
                        self._judge(attempt.sample.operation, target, spread, value, attempt.weight)
            self._models.learn(attempt)

    def _judge(self, operation: str, target: Any, spread: Any, value: float, weight: int) -> None:
        unit = MEBIBYTE if target == "memory" else 1.0
        value = max(value, _SMALLEST)
        known = self._values.setdefault((operation, target), Sketch())
        if spread is not None:
            plain = known.quantile(0.5) if known.count >= _LEAST else None
            for name in (operation, TOTAL):
                score = self._scores.setdefault((name, target), _Score())
                p50, p95 = max(spread.p50, _SMALLEST), max(spread.p95, _SMALLEST)
                score.add(p50, p95, value, max(plain * unit, _SMALLEST) if plain else None, weight)
        known.add(value / unit, weight)

    def _note(self, kind: str, _operation: str, details: Mapping[str, Any]) -> None:
        if kind == "model.estimator_off":
            self._off[str(details["estimator"])] = str(details["why"])

    def verdicts(self, rows: Iterable[EvaluationRow]) -> Iterator[str]:
        """Yield how estimators of one's own did beside those that are built in, a line for each row and estimator.

        Args:
            rows: see `rows`.
        """
        for name, why in self._off.items():
            yield f"{name} was switched off: {why}"
        for row in rows:
            built_in = [(loss, name) for name, loss in row.losses.items() if name not in self._own]
            for name in filter(row.losses.__contains__, self._own):
                loss, (least, best) = row.losses[name], min(built_in)
                than = "better than" if loss < least else "worse than" if loss > least else "no better than"
                losses = f"a loss of {loss:.3g}, and {least:.3g}, over the latest 500"
                yield f"{name} is {than} {best} for {row.target} of {row.operation}: {losses}"

    def rows(self) -> tuple[EvaluationRow, ...]:
        """Return how right predictions were: of all operations, and of each, those with most attempts first."""
        told = {(row.operation, row.target): row for row in self._models.calibration()}
        found = [
            score.row(operation, target, told.get((operation, target)))
            for (operation, target), score in self._scores.items()
        ]
        drifts = Counter[str]()
        for row in told.values():
            drifts[row.target] += row.drifts
        found = [attrs.evolve(row, drifts=drifts[row.target]) if row.operation == TOTAL else row for row in found]
        return tuple(sorted(found, key=lambda row: (row.operation != TOTAL, -row.n, row.operation, row.target)))

    def probabilities(self) -> tuple[CalibrationRow, ...]:
        """Return how right the latest 500 probabilities of failure and of lateness were, of each operation."""
        return tuple(row for row in self._models.calibration() if row.target in ("failing", "late"))

    def lacks(self) -> tuple[str, ...]:
        """Return what is missing in the records."""
        return tuple(self._lost)


def export(events: Iterable[Event], file: IO[bytes]) -> dict[str, int]:
    """Write what predictions are made from, a JSON object a line: attempts, and what is missing between them.

    Args:
        events: in order of time.
        file: for the lines.

    Returns:
        How many attempts there are, how many of them have no features, no memory, or stand for others that were not
        recorded, and how many lines say that records are missing.
    """
    counts = {"attempts": 0, "without features": 0, "without memory": 0, "that stand for several": 0, "gaps": 0}
    for event in events:
        if event.kind == LOST:
            counts["gaps"] += 1
            line: Mapping[str, Any] = {"missing": {"at": event.at, "gate": event.gate, "text": event.text}}
            line["missing"].update(event.details or {})
        elif event.kind in (FINISHED, RETRIED):
            line = dict(_columns(event))
            counts["attempts"] += 1
            counts["without features"] += not event.features
            counts["without memory"] += event.memory is None
            counts["that stand for several"] += (event.weight or 1) > 1
        else:
            continue
        file.write(msgspec.json.encode(line) + b"\n")
    return counts


def _columns(event: Event) -> Iterator[tuple[str, Any]]:
    record = record_of_event(event)
    attempt = attempt_of(record, lambda tags: tags)
    for name in ("uid", "gate", "at", "operation", "affinity", "priority", "attempt", "state"):
        yield name, getattr(event, name)
    yield from (("tags", event.tags or {}), ("features", event.features or {}))
    for name in ("wait", "run", "cpu", "memory", "deadline", "predicted"):
        if (value := getattr(event, name)) is not None:
            yield name, value
    yield from (("error", attempt.error), ("cut_short", attempt.cut_short), ("weight", attempt.weight))
