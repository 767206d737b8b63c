"""Metrics of prediction: what they say, and that they stay few."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from prometheus_client import CollectorRegistry, core, generate_latest

from tokengate.predict._kinds import CalibrationRow
from tokengate.predict._metrics import families


def row(operation: str, target: str = "run", n: int = 500, coverage: float | None = 0.95) -> CalibrationRow:
    return CalibrationRow(operation, target, n, coverage, (), (), calibrated=True)


def series(rows: Iterable[CalibrationRow], counts: Iterable[tuple[str, Mapping[tuple[str, str], int]]]) -> list[str]:
    class Found:
        def collect(self) -> list[Any]:
            return list(families(core, rows, counts))

    registry = CollectorRegistry()
    registry.register(Found())
    return [line for line in generate_latest(registry).decode().splitlines() if not line.startswith("#")]


def test_coverage_is_that_of_durations_as_far_as_it_is_known() -> None:
    """Memory and probabilities have no series: the label is the operation alone."""
    rows = [row("parse"), row("parse", "memory"), row("parse", "failing"), row("index", coverage=None)]

    assert series(rows, ()) == ['tokengate_prediction_coverage{operation="parse"} 0.95']


def test_at_most_200_operations_have_a_series_those_with_most_attempts() -> None:
    """As in all metrics."""
    found = series([row(f"operation-{number}", n=number) for number in range(300)], ())

    assert len(found) == 200
    assert found[0] == 'tokengate_prediction_coverage{operation="operation-299"} 0.95'


def test_what_rules_did_is_counted_by_rule_mode_and_outcome() -> None:
    """Of more than 50 rules the rest is `_other`, so that the sum stays exact."""
    counts = [(f"rule-{number}", Counter({("act", "active"): 2, ("act", "refused"): 1})) for number in range(60)]

    found = series((), counts)

    assert len(found) == 2 * 51
    assert 'tokengate_interventions_total{mode="act",outcome="active",rule="rule-0"} 2.0' in found
    assert 'tokengate_interventions_total{mode="act",outcome="active",rule="_other"} 20.0' in found
