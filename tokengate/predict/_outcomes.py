"""Outcomes: the latest predictions beside what became of them, and whether they are right often enough to act by."""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Iterable, Sequence
from operator import itemgetter, mul
from typing import Final, TypeAlias, TypeVar

import attrs

from tokengate.predict._residuals import COVERED

JUDGED: Final = 500
"""Predictions by which the coming ones are judged, the latest."""
CUT_SHORT: Final = 0.05
"""The share of attempts that may have been cut short."""
LICENSED: Final = 200
"""Records, since the latest drift, from which on predictions can be calibrated."""

_IN_ALL: Final = 0.03  # what coverage may be off, in all, in each third, and probabilities in each third
_IN_THIRD: Final = 0.08
_OF_PROBABILITY: Final = 0.05
_SPARSE: Final = {"sparse": True}  # columns of tables that are there if a row has a value, those of wide tables,
_WIDE: Final = {"wide": True}
_SPARE: Final = {"sparse": True, "spare": True}  # and those that narrow terminals have no room for

_predicted_of, _weight_of = itemgetter(0), itemgetter(2)

Entry: TypeAlias = tuple[float, float, int]
"""(what was predicted, what became of it, weight)."""

Score: TypeAlias = tuple[float | None, float, int, float]
"""(the log of a prediction or None, whether its bound covered the value, weight, pinball loss)."""

T = TypeVar("T")


def latest(entries: Iterable[T] = ()) -> deque[T]:
    """Return a collection of the latest 500 of something."""
    return deque(entries, JUDGED)


def listed(entries: Collection[T]) -> list[T]:
    """Return what a collection has, on any thread while it changes."""
    while True:
        try:
            return list(entries)
        except RuntimeError:  # it has changed meanwhile
            continue


class Scores:
    """How right an estimator was of late.

    Attributes:
        latest: of its predictions; without one there is none, and the loss is that of another estimator.
    """

    __slots__ = ("_covered", "_lost", "_said", "_weight", "latest")

    def __init__(self, scores: Iterable[Score] = ()) -> None:
        self.latest: deque[Score] = deque()
        self._lost = self._covered = 0.0
        self._weight = self._said = 0  # of all, and of those that have a prediction
        for score in scores:
            self.add(*score)

    def add(self, predicted: float | None, covered: float, weight: int, loss: float) -> None:
        """Add one; if they are too many, the oldest goes."""
        scores = self.latest
        if len(scores) == JUDGED:
            old, was_covered, its_weight, its_loss = scores.popleft()
            self._weight -= its_weight
            self._lost -= its_loss * its_weight
            if old is not None:
                self._said -= its_weight
                self._covered -= was_covered * its_weight
        scores.append((predicted, covered, weight, loss))
        self._weight += weight
        self._lost += loss * weight
        if predicted is not None:
            self._said += weight
            self._covered += covered * weight

    @property
    def loss(self) -> float | None:
        """The mean pinball loss at p50, of logs; None before the first."""
        return self._lost / self._weight if self._weight else None

    @property
    def coverage(self) -> float | None:
        """The share of values that were below their bounds; None before the first."""
        return self._covered / self._said if self._said else None

    def entries(self) -> list[Entry]:
        """Return (prediction, whether its bound covered the value, weight) of each; on any thread."""
        return [(said, covered, weight) for said, covered, weight, _ in listed(self.latest) if said is not None]


def thirds(entries: Sequence[Entry]) -> list[Sequence[Entry]]:
    """Return the lowest, the middle and the highest third of predictions."""
    ordered, number = sorted(entries, key=_predicted_of), len(entries)
    return [ordered[number * part // 3 : number * (part + 1) // 3] for part in range(3)]


def means(entries: Sequence[Entry]) -> tuple[float, float]:
    """Return the means of what was predicted and of what became of it; 0 without entries."""
    if not entries:
        return 0.0, 0.0
    predicted, outcomes, weights = zip(*entries, strict=True)
    total = sum(weights)
    if total == len(entries):  # each counts once
        return sum(predicted) / total, sum(outcomes) / total
    return sum(map(mul, predicted, weights)) / total, sum(map(mul, outcomes, weights)) / total


def why_not_covered(entries: Sequence[Entry], since: int, cut_short: float) -> str:
    """Return why bounds are not calibrated; empty if they are.

    A value that is just its bound is on either side of it: that of a constant is the constant.

    Args:
        entries: (prediction, whether its bound covered the value, weight).
        since: records since the latest drift.
        cut_short: the share of the latest attempts that were.
    """
    if min(since, len(entries)) < LICENSED:
        return f"{min(since, len(entries))} of {LICENSED} records since the latest change"
    if cut_short > CUT_SHORT:
        return f"{cut_short:.0%} were cut short, {CUT_SHORT:.0%} may be"
    found = [_weights(part) for part in thirds(entries)]
    whole = [sum(weights) for weights in zip(*found, strict=True)]
    for name, tolerance, (total, above, not_below) in zip(
        ("all", "the lowest third", "the middle third", "the highest third"),
        (_IN_ALL, _IN_THIRD, _IN_THIRD, _IN_THIRD),
        (whole, *found),
        strict=True,
    ):
        least, most = 1 - not_below / total, 1 - above / total
        if not least - tolerance <= COVERED <= most + tolerance:
            return f"of {name}, {most:.1%} stayed below p95"
    return ""


def _weights(entries: Sequence[Entry]) -> tuple[int, int, int]:
    """Return the weight of all, of those above their bounds, and of those that are not below them."""
    not_below = [entry for entry in entries if entry[1] != 1.0]
    above = sum([weight for _, covered, weight in not_below if not covered])
    return sum(map(_weight_of, entries)), above, sum(map(_weight_of, not_below))


def why_not_probable(entries: Sequence[Entry]) -> str:
    """Return why probabilities are not calibrated; empty if they are."""
    if len(entries) < LICENSED:
        return f"{len(entries)} of {LICENSED} records"
    for name, part in zip(("lowest", "middle", "highest"), thirds(entries), strict=True):
        said, seen = means(part)
        if abs(said - seen) > _OF_PROBABILITY:
            return f"in the {name} third, {said:.1%} were expected and {seen:.1%} seen"
    return ""


@attrs.frozen
class CalibrationRow:
    """How right the predictions of one operation were.

    Attributes:
        operation: its name.
        target: what is predicted: `run`, `memory`, `failing` or `late`.
        n: attempts that were learned from.
        coverage: of the latest 500, the share that stayed below their p95, where one that is just its p95 counts as
            0.95; of probabilities, the observed share.
        thirds: the same of the lowest, the middle and the highest third of the predicted values.
        predicted: of probabilities, the mean of what was predicted in each of these thirds; else empty.
        calibrated: whether rules may act by it.
        why: why it is not calibrated; empty if it is.
        estimator: what answers: `cells`, `line`, or the class of one's own.
        losses: {estimator: its pinball loss at p50 over the latest 500, of logs}.
        shares: of failing, {class of error: the probability that a call fails with it}.
        cut_short: the share of the latest 500 that others have ended, which are not learned.
        drifts: how often its durations have changed all at once.
        since_drift: attempts since the latest of these.
    """

    operation: str
    target: str
    n: int
    coverage: float | None
    thirds: tuple[float, ...]
    predicted: tuple[float, ...] = attrs.field(metadata=_SPARE)
    calibrated: bool
    why: str = attrs.field(default="", metadata=_SPARSE)
    estimator: str = attrs.field(default="", metadata=_SPARE)
    losses: dict[str, float] = attrs.field(factory=dict, metadata=_WIDE)
    shares: dict[str, float] = attrs.field(factory=dict, metadata=_WIDE)
    cut_short: float = attrs.field(default=0.0, metadata=_WIDE)
    drifts: int = attrs.field(default=0, metadata=_WIDE)
    since_drift: int = attrs.field(default=0, metadata=_WIDE)
