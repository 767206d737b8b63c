"""What is known of one target of one operation: which estimator answers, how right each was, and drift."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple, Protocol, TypeAlias

from tokengate.predict._outcomes import Outcomes, why_not_covered
from tokengate.predict._outlook import Spread
from tokengate.predict._point import Answer, Point, Tags, log_of
from tokengate.predict._residuals import (
    AFTER_DRIFT,
    COVERED,
    KEPT,
    SAME,
    Drift,
    Residuals,
    Window,
    corrected,
    quantile,
    share_above,
)
from tokengate.predict._table import Table

ENOUGH: Final = 30
"""Records below which an estimator says nothing."""
WINDOWS: Final = 1_000
"""Windows of residuals of tags, at most."""

RANKED_EACH: Final = 10
"""Records after which it is seen anew which estimator is the best."""
JUDGED_EACH: Final = 50
"""Records after which it is seen anew whether predictions are calibrated."""

_LOGS: Final = (-30.0, 60.0)  # what predictions may be, so that no line leads beyond all numbers


class Estimating(Protocol):
    """What estimates. Logs are of seconds or bytes.

    Attributes:
        name: as reports have it.
        is_own: whether it is code of the user.
    """

    name: str
    is_own: bool

    def learn(self, point: Point, log: float, weight: int, /) -> bool:
        """Learn of a record; return whether it could."""
        ...

    def predict(self, point: Point, /) -> float | None:
        """Return the log of the median that is expected; None: not known."""
        ...

    def explained(self, point: Point, /) -> Answer | None:
        """Return the same, with what it was made from."""
        ...

    def widen(self, operation: str, /) -> None:
        """Trust less in what is known: calls have changed."""
        ...


Bounds: TypeAlias = tuple[Residuals, float, Residuals]
"""(residuals of all calls, which quantile of them is the bound, residuals of calls that failed)."""


class Contender:
    """An estimator, and how right it was.

    Attributes:
        estimator: the estimator.
        learned: the number of records that it could learn from.
        level: which quantile of residuals is the bound.
        bounds: what leads to bounds; replaced as a whole, so that any thread may read it.
        coverage: (log of the prediction, whether its bound covered the value, weight).
        losses: pinball losses at p50, of logs.
        window: its residuals.
        failed: those of calls that failed.
        of_tags: {(contender, tags): their residuals}, of all contenders.
    """

    __slots__ = ("bounds", "coverage", "estimator", "failed", "learned", "level", "losses", "of_tags", "window")

    def __init__(self, estimator: Estimating, of_tags: Table[tuple[Contender, Tags], Window]) -> None:
        self.estimator = estimator
        self.of_tags = of_tags
        self.learned = 0
        self.restore(COVERED, (), (), (), ())

    def restore(
        self,
        level: float,
        residuals: Iterable[tuple[float, int]],
        failed: Iterable[tuple[float, int]],
        coverage: Iterable[Sequence[float]],
        losses: Iterable[Sequence[float]],
    ) -> None:
        """Take what is known from elsewhere."""
        self.level = level
        self.window, self.failed = Window(residuals), Window(failed)
        self.coverage, self.losses = Outcomes(coverage), Outcomes(losses)
        self._publish()

    def _publish(self) -> None:
        self.bounds: Bounds = (self.window.known, self.level, self.failed.known)

    def bounds_for(self, tags: Tags) -> Bounds:
        """Return what leads to bounds of calls with some tags, of which residuals of all are used if these have few."""
        bounds = self.bounds
        own = self.of_tags.get((self, tags)) if tags else None
        if own is None or len(own.known[0]) < KEPT:
            return bounds
        return (own.known, *bounds[1:])

    def judge(self, tags: Tags, predicted: float, residual: float, weight: int, failed: bool) -> None:
        """Take in how right a prediction was."""
        residuals, level, failures = self.bounds_for(tags) if tags else self.bounds
        if residuals[0]:
            off = residual - quantile(residuals, level)
            covered = 1.0 if off < -SAME else 0.0 if off > SAME else COVERED
            self.coverage.add(predicted, covered, weight)
            level = self.level = corrected(self.level, covered, self.window.relative(weight))
        self.losses.add(0.0, abs(residual) / 2, weight)
        self.window.add(residual, weight)
        if failed:
            self.failed.add(residual, weight)
            failures = self.failed.known
        if tags:
            self.of_tags.use((self, tags)).add(residual, weight)
        self.bounds = (self.window.known, level, failures)

    def forget(self) -> None:
        """Keep only the newest residuals: calls have changed."""
        self.window = Window(list(self.window.newest)[-AFTER_DRIFT:])
        self.failed = Window(list(self.failed.newest)[-AFTER_DRIFT:])
        for key in [key for key in self.of_tags if key[0] is self]:
            del self.of_tags[key]
        self._publish()


class Standing(NamedTuple):
    """What may answer.

    Attributes:
        ranking: the contenders that may, the best first.
        why_not: why rules may not act by the first of them; empty: they may.
    """

    ranking: tuple[Contender, ...] = ()
    why_not: str = "0 records"


class Said(NamedTuple):
    """What is expected of a call.

    Attributes:
        spread: of its value.
        answer: of the estimator.
        contender: the estimator, and how right it was.
        is_calibrated: whether rules may act by it.
    """

    spread: Spread
    answer: Answer
    contender: Contender
    is_calibrated: bool


class TargetModel:
    """What is known of one target of one operation.

    Args:
        operation: its name.
        estimators: the estimators; of equal ones, the first answers.
        of_tags: {(contender, tags): residuals}, of all models.

    Attributes:
        contenders: the estimators, in their order.
        standing: what may answer now; replaced as a whole, so that any thread may read it.
        n: records.
        drifts: how often calls have changed.
        since: records since the latest of these.
        drift: the test for it.
    """

    def __init__(
        self, operation: str, estimators: Iterable[Estimating], of_tags: Table[tuple[Contender, Tags], Window]
    ) -> None:
        self._operation = operation
        self.contenders = tuple([Contender(estimator, of_tags) for estimator in estimators])
        self.standing = Standing()
        self.drift = Drift()
        self.drifts = self.since = self.n = 0

    def said(self, point: Point, own: bool) -> Said | None:
        """Return what is expected of a call; on any thread.

        Args:
            point: the call.
            own: whether estimators of the user may be asked.
        """
        ranking, why_not = self.standing
        for contender in ranking:
            if contender.estimator.is_own and not own:
                continue
            answer = contender.estimator.explained(point)
            residuals, level, failed = contender.bounds_for(point.tags)
            if answer is None or not residuals[0]:
                continue
            expected = math.exp(_within(answer.log))
            p95 = expected * math.exp(quantile(residuals, level))
            spread = Spread(expected, min(expected, p95), p95, residuals, level, failed)
            return Said(spread, answer, contender, not why_not and contender is ranking[0])
        return None

    def predictions(self, point: Point) -> list[float | None]:
        """Return the log of what each contender expects of a call, to be judged by its end."""
        logs = [contender.estimator.predict(point) for contender in self.contenders]
        return [None if log is None else _within(log) for log in logs]

    def answering(self, predictions: Sequence[float | None]) -> int | None:
        """Return the place of the contender whose prediction is the one that is said."""
        for contender in self.standing.ranking:
            place = self.contenders.index(contender)
            if predictions[place] is not None:
                return place
        return None

    def beyond(self, point: Point, predictions: Sequence[float | None], value: float) -> float | None:
        """Return the probability that a call takes more than a value; None: not known."""
        place = self.answering(predictions)
        expected = None if place is None else predictions[place]
        if place is None or expected is None:
            return None
        residuals = self.contenders[place].bounds_for(point.tags)[0]
        return share_above(residuals, log_of(value) - expected) if residuals[0] else None

    def learn(
        self, point: Point, predictions: Sequence[float | None], value: float, weight: int, failed: bool, cut: float
    ) -> bool:
        """Learn of a call, after judging what was expected of it; return whether calls have changed.

        Args:
            point: the call.
            predictions: what was expected of it.
            value: seconds or bytes that it took.
            weight: the number of calls that it stands for.
            failed: whether it failed.
            cut: the share of the latest attempts that were cut short.
        """
        log, loss = log_of(value), None
        answering = self.answering(predictions)
        changed = False
        for place, (contender, expected) in enumerate(zip(self.contenders, predictions, strict=True)):
            if expected is None:
                if loss is not None:  # that it said nothing makes it neither better nor worse than the one before
                    contender.losses.add(0.0, loss, weight)
                continue
            residual = log - expected
            if place == answering:
                changed = self.drift.add(residual)
            contender.judge(point.tags, expected, residual, weight, failed)
            loss = abs(residual) / 2 if loss is None else loss
        if changed:
            self.drifts += 1
            self.since, self.drift = 0, Drift()
        for contender in self.contenders:
            if changed:
                contender.forget()
                contender.estimator.widen(self._operation)
            contender.learned += contender.estimator.learn(point, log, weight)
        self.since += 1
        self.n += 1
        if changed or self.since % RANKED_EACH == 0 or not self.standing.ranking:
            self.settle(cut, judge=changed or self.since % JUDGED_EACH == 0)
        return changed

    def settle(self, cut: float, *, judge: bool) -> None:
        """See which contender is the best, and whether rules may act by it.

        Args:
            cut: the share of the latest attempts that were cut short.
            judge: whether to see that anew even if it is the same contender.
        """
        able = [one for one in self.contenders if one.learned >= ENOUGH and one.losses.mean is not None]
        ranking, before = tuple(sorted(able, key=_loss)), self.standing
        why = before.why_not
        if ranking and (judge or (before.ranking and ranking[0] is not before.ranking[0])):
            why = why_not_covered(ranking[0].coverage.entries(), self.since, cut)
        self.standing = Standing(ranking, why)


def _loss(contender: Contender) -> float:
    return contender.losses.mean or 0.0


def _within(log: float) -> float:
    return log if _LOGS[0] < log < _LOGS[1] else _LOGS[1] if log >= _LOGS[1] else _LOGS[0]  # also for a NaN
