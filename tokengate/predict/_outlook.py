"""Outlooks: what is known of one call before it runs, from which follows what is expected while it runs."""

from __future__ import annotations

import math
from bisect import bisect_right
from typing import Final, NamedTuple

from actors import Prediction, Quantiles
from tokengate.predict._factors import Factors
from tokengate.predict._residuals import Residuals, quantile, share_above

_FEW: Final = 10  # failed runs from which on the time that has passed says something about failing


class Spread(NamedTuple):
    """How a duration or an amount is spread.

    Attributes:
        expected: what the estimator expects.
        p50: that, and at most p95.
        p95: 95 of 100 are below it.
        residuals: logs of value / expectation of past ones.
        level: which quantile of them leads to p95.
        failed: the same of runs that failed.
    """

    expected: float
    p50: float
    p95: float
    residuals: Residuals
    level: float
    failed: Residuals

    def after(self, elapsed: float) -> Quantiles | None:
        """Return the quantiles of those that are beyond a value; None: none of the past was."""
        values = self.residuals[0]
        first = bisect_right(values, self._log(elapsed))
        if not first:
            return Quantiles(self.p50, self.p95)
        if first == len(values):
            return None
        p50 = self.expected * math.exp(quantile(self.residuals, 0.5, first))
        p95 = self.expected * math.exp(quantile(self.residuals, self.level, first))
        return Quantiles(max(p50, self.p50), max(p95, self.p95))

    def beyond(self, left: float, elapsed: float | None) -> float | None:
        """Return the share of those beyond a value that go on for longer than this; None: none of the past was.

        Args:
            left: seconds that it may go on.
            elapsed: seconds that it has run.
        """
        elapsed = elapsed or 0.0
        longer = share_above(self.residuals, self._log(elapsed))
        return share_above(self.residuals, self._log(elapsed + left)) / longer if longer else None

    def failing(self, rate: float, elapsed: float) -> float | None:
        """Return the probability that what has run so long fails, by how long failed ones ran (Bayes' theorem).

        Args:
            rate: the probability before it ran.
            elapsed: seconds that it has run.

        Returns:
            None: none of the past ran so long.
        """
        log = self._log(elapsed)
        longer = share_above(self.residuals, log)
        if not longer or len(self.failed[0]) < _FEW:
            return rate if longer else None
        return min(1.0, rate * share_above(self.failed, log) / longer)

    def _log(self, value: float) -> float:
        return math.log(value / self.expected) if value > 0 else -math.inf


class Outlook(NamedTuple):
    """What is known of a call before it runs.

    Attributes:
        run: its seconds; None: not known.
        memory: its bytes at the peak; None: not known.
        failing: the probability that it fails; None: not known.
        basis: what this was made from: some of `features`, `tags` and `operation`.
        n: attempts that were learned from.
        coverage: the share of the latest 500 that stayed below their p95; None before the first.
        calibrated: what rules may act by: some of `run`, `memory`, `failing` and `late`.
        model: what answers, with its version: how often it began anew.
        factors: {what: by how much it makes this call longer than a usual one of the operation}.
    """

    run: Spread | None
    memory: Spread | None
    failing: float | None
    basis: tuple[str, ...]
    n: int
    coverage: float | None
    calibrated: frozenset[str]
    model: str
    factors: Factors

    def at(self, elapsed: float | None, left: float | None) -> Prediction:
        """Return what is expected, given what has passed.

        Args:
            elapsed: seconds that it has run; None: it has not begun.
            left: seconds to its deadline; None: it has none.
        """
        run, memory, failing, late = self.run, self.memory, self.failing, None
        expected = None if run is None else Quantiles(run.p50, run.p95)
        if run is not None:
            if elapsed is not None:
                expected = run.after(elapsed)
                failing = None if failing is None else run.failing(failing, elapsed)
            if left is not None:
                late = run.beyond(left, elapsed)
        return Prediction(
            expected,
            None if memory is None else Quantiles(memory.p50, memory.p95),
            failing,
            late,
            self.basis,
            self.n,
            self.coverage,
            ("memory" if run is None else "run") in self.calibrated,
            self.model,
            self.factors,
        )
