"""What is known of one target of one operation: which estimator answers, how right each was, and drift."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from math import exp, inf
from typing import Final, NamedTuple, Protocol, TypeAlias

from tokengate.predict._outcomes import Entry, Scores, listed, means, why_not_covered
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
JUDGED_EACH: Final = 100
"""Records after which it is seen anew whether predictions are calibrated."""

_BEYOND: Final = -log_of(0.5)  # how far beyond the predictions that were judged others count as judged, too
_LEAST: Final = -30.0  # what predictions may be, so that no line leads beyond all numbers
_MOST: Final = 60.0


class Estimating(Protocol):
    """What estimates. Logs are of seconds or bytes.

    Attributes:
        name: as reports have it.
    """

    name: str

    @property
    def is_own(self) -> bool:
        """Whether to ask it runs code of the user."""
        ...

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
        scores: how right it was.
        window: its residuals.
        failed: those of calls that failed.
        of_tags: {(contender, tags): their residuals}, of all contenders.
    """

    __slots__ = ("bounds", "estimator", "failed", "learned", "level", "of_tags", "scores", "window")

    def __init__(self, estimator: Estimating, of_tags: Table[tuple[Contender, Tags], Window]) -> None:
        self.estimator = estimator
        self.of_tags = of_tags
        self.learned = 0
        self.scores = Scores()
        self.restore(COVERED, (), ())

    def restore(
        self, level: float, residuals: Iterable[tuple[float, int]], failed: Iterable[tuple[float, int]]
    ) -> None:
        """Have other residuals lead to bounds."""
        self.level = level
        self.window, self.failed = Window(residuals), Window(failed)
        self.bounds: Bounds = (self.window.known, level, self.failed.known)

    def predict(self, point: Point) -> float | None:
        """Return the log of what is expected; None: not known."""
        log = self.estimator.predict(point)
        return log if log is None or _LEAST < log < _MOST else _within(log)

    def bounds_for(self, tags: Tags) -> Bounds:
        """Return what leads to bounds of calls with some tags, of which residuals of all are used if these have few."""
        own = self.of_tags.get((self, tags)) if tags else None
        return self.bounds if own is None else self._bounds_by(own)

    def _bounds_by(self, own: Window) -> Bounds:
        bounds = self.bounds
        return (own.known, *bounds[1:]) if len(own.known[0]) >= KEPT else bounds

    def judge(self, tags: Tags, predicted: float, residual: float, weight: int, failed: bool) -> None:
        """Take in how right a prediction was."""
        own = self.of_tags.use((self, tags)) if tags else None
        residuals, level, failures = self.bounds if own is None else self._bounds_by(own)
        loss = residual / 2 if residual > 0 else residual / -2
        if residuals[0]:
            off = residual - quantile(residuals, level)
            covered = 1.0 if off < -SAME else 0.0 if off > SAME else COVERED
            self.scores.add(predicted, covered, weight, loss)
            weights = residuals[1]
            level = corrected(level, covered, 1.0 if weights is None else weight * len(weights) / sum(weights))
            self.level = level
        else:
            self.scores.add(None, 0.0, weight, loss)
        self.window.add(residual, weight)
        if failed:
            self.failed.add(residual, weight)
            failures = self.failed.known
        if own is not None:
            own.add(residual, weight)
        self.bounds = (self.window.known, level, failures)

    def forget(self) -> None:
        """Keep only the newest residuals: calls have changed."""
        self.restore(self.level, list(self.window.newest)[-AFTER_DRIFT:], list(self.failed.newest)[-AFTER_DRIFT:])
        for key in [key for key in self.of_tags if key[0] is self]:
            del self.of_tags[key]


class Standing(NamedTuple):
    """What may answer.

    Attributes:
        ranking: the contenders that may, the best first.
        why_not: why rules may not act by the first of them; empty: they may.
        least, most: the logs of predictions between which that was judged, a factor of 2 around those of late.
    """

    ranking: tuple[Contender, ...] = ()
    why_not: str = "0 records"
    least: float = inf
    most: float = -inf

    def licenses(self, contender: Contender, log: float) -> bool:
        """Tell whether rules may act by a prediction of a contender."""
        return not self.why_not and contender is self.ranking[0] and self.least <= log <= self.most


Said: TypeAlias = tuple[Spread, Answer, Contender, bool]
"""(how the value is spread, what the estimator says, the estimator, whether rules may act by it)."""


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
        standing = self.standing
        for contender in standing.ranking:
            if contender.estimator.is_own and not own:
                continue
            answer = contender.estimator.explained(point)
            residuals, level, failed = contender.bounds_for(point.tags)
            if answer is not None and residuals[0]:
                expected = exp(_within(answer.log))
                p95 = expected * exp(quantile(residuals, level))
                spread = Spread(expected, expected if expected < p95 else p95, p95, residuals, level, failed)
                return spread, answer, contender, standing.licenses(contender, answer.log)
        return None

    def beyond(self, point: Point, value: float) -> float | None:
        """Return the probability that a call takes more than a value; None: not known."""
        for contender in self.standing.ranking:
            expected = contender.predict(point)
            residuals = contender.bounds_for(point.tags)[0]
            if expected is not None and residuals[0]:
                return share_above(residuals, log_of(value) - expected)
        return None

    def learn(self, point: Point, value: float, weight: int, failed: bool, cuts: Collection[Entry]) -> bool:
        """Learn of a call, after judging what was expected of it; return whether calls have changed.

        Args:
            point: the call.
            value: seconds or bytes that it took.
            weight: the number of calls that it stands for.
            failed: whether it failed.
            cuts: (0, whether it was cut short, weight) of the latest attempts.
        """
        log, loss, changed = log_of(value), None, False
        found = {contender: contender.predict(point) for contender in self.contenders}
        for answering in self.standing.ranking:
            if (expected := found[answering]) is not None:
                changed = self.drift.add(log - expected)
                break
        if changed:
            self.drifts += 1
            self.since, self.drift = 0, Drift()
        for contender, expected in found.items():
            if expected is not None:
                contender.judge(point.tags, expected, log - expected, weight, failed)
                loss = abs(log - expected) / 2 if loss is None else loss
            elif loss is not None:  # that it said nothing makes it neither better nor worse than the first
                contender.scores.add(None, 0.0, weight, loss)
            if changed:
                contender.forget()
                contender.estimator.widen(self._operation)
            contender.learned += contender.estimator.learn(point, log, weight)
        self.since += 1
        self.n += 1
        if changed or self.since % RANKED_EACH == 0 or not self.standing.ranking:
            self.settle(cuts, judge=changed or self.since % JUDGED_EACH == 0)
        return changed

    def settle(self, cuts: Collection[Entry], *, judge: bool) -> None:
        """See which contender is the best, and whether rules may act by it.

        Args:
            cuts: (0, whether it was cut short, weight) of the latest attempts.
            judge: whether to see that anew even if it is the same contender.
        """
        able = [one for one in self.contenders if one.learned >= ENOUGH and one.scores.loss is not None]
        ranking, before = tuple(sorted(able, key=_loss)), self.standing
        _, why, least, most = before
        if ranking and (judge or ranking[:1] != before.ranking[:1]):
            entries = ranking[0].scores.entries()
            said = [one[0] for one in entries] or [inf]
            least, most = min(said) - _BEYOND, max(said) + _BEYOND
            if judge or before.ranking:
                why = why_not_covered(entries, self.since, means(listed(cuts))[1])
        self.standing = Standing(ranking, why, least, most)


def _loss(contender: Contender) -> float:
    return contender.scores.loss or 0.0


def _within(log: float) -> float:
    return log if _LEAST < log < _MOST else _MOST if log >= _MOST else _LEAST  # also for a NaN
