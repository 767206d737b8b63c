"""Metrics of prediction: how right it was, and what rules have done."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from heapq import nlargest
from typing import TYPE_CHECKING, Any, Final

from tokengate.control._safe_text import plain
from tokengate.control.stream._collector import OPERATIONS, OTHER
from tokengate.predict._outcomes import CalibrationRow
from tokengate.predict._rule import Mode

if TYPE_CHECKING:
    from prometheus_client.core import Metric

_RULES: Final = 50  # that have series of their own


def families(
    core: Any, rows: Iterable[CalibrationRow], counts: Iterable[tuple[str, Mapping[tuple[Mode, str], int]]]
) -> Iterator[Metric]:
    """Yield the metrics.

    Args:
        core: the module `prometheus_client.core`.
        rows: how right predictions were; of the operations with most attempts there are series.
        counts: (rule, {(its mode, what it did): how often}); of the first 50 there are series, the rest are `_other`.
    """
    coverage = core.GaugeMetricFamily(
        "tokengate_prediction_coverage",
        "Share of the latest 500 attempts that ran no longer than predicted for 95 of 100.",
        labels=("operation",),
    )
    known = (row for row in rows if row.target == "run" and row.coverage is not None)
    for row in nlargest(OPERATIONS, known, key=lambda row: row.n):
        coverage.add_metric((plain(row.operation),), row.coverage)
    yield coverage
    acts = core.CounterMetricFamily(
        "tokengate_interventions", "What rules did, or would have done.", labels=("rule", "mode", "outcome")
    )
    summed: Counter[tuple[str, str, str]] = Counter()
    for number, (rule, done) in enumerate(counts):
        for (mode, outcome), count in done.items():
            summed[rule if number < _RULES else OTHER, mode, outcome] += count
    for labels, count in summed.items():
        acts.add_metric(labels, count)
    yield acts
