"""How right predictions are on two data sets: each call is predicted, and then learned."""

from __future__ import annotations

import random
import statistics
from collections import defaultdict

import pytest
from predicted_calls import SETS, TAGS, Call, Judged, Run, baseline, coverage, off_late, parts, run, worst
from tiers import in_ci

JUMP = 3_000  # calls after which durations jump


@pytest.fixture(scope="module")
def files() -> Run:
    return run(SETS["files"]())


@pytest.fixture(scope="module")
def jobs() -> Run:
    """The first 6,000 jobs; CI has all of them."""
    return run(SETS["jobs"]()[:6_000], TAGS["jobs"])


def loss_of(judged: list[Judged]) -> float:
    return statistics.fmean(one.loss for one in judged)


def plain_loss(name: str, number: int) -> float:
    """Return the loss of quantiles, for each operation or user, over the same calls."""
    calls = SETS[name]()[:number]
    return loss_of([Judged(call, p50, p95, 0.0, False) for p50, p95, call in baseline(calls)])


def check_coverage(judged: list[Judged]) -> None:
    """Check that 95 +- 1.5 % are covered, no 500 less than 92 %, no third less than 90 %; late within 4 points."""
    assert coverage(judged) == pytest.approx(0.95, abs=0.015)
    assert worst(judged) >= 0.92
    assert min(coverage(part) for part in parts(judged, 3, lambda one: one.p50)) >= 0.9
    assert off_late(judged) <= 0.04


def test_bounds_of_calls_on_files(files: Run) -> None:
    """5,993 calls of six operations; their sizes are what predicts them."""
    check_coverage(files.judged)
    assert len(files.judged) > 5_800


def test_medians_of_calls_on_files_are_off_by_half_of_what_quantiles_are(files: Run) -> None:
    """Of the pinball loss of a quantile for each operation, at most 0.5; and the line is what answers."""
    assert loss_of(files.judged) <= 0.5 * plain_loss("files", 5_993)
    assert {row.estimator for row in files.models.calibration() if row.target == "run"} == {"line", "cells"}


def test_no_drift_is_told_where_there_is_none(files: Run) -> None:
    """None of six operations, in 1,000 calls each."""
    assert files.drifts == []


def test_all_operations_on_files_are_calibrated(files: Run) -> None:
    """In the end, what is said of each may be acted on."""
    assert [row.why for row in files.models.calibration() if row.target == "run"] == [""] * 6


def test_bounds_of_jobs(jobs: Run) -> None:
    """A log of a supercomputer; user, program and processors are what predicts them."""
    check_coverage(jobs.judged)


@in_ci
def test_all_jobs() -> None:
    """The same of all 18,239; and of the pinball loss of a quantile for each user, their medians have at most 0.75."""
    found = run(SETS["jobs"](), TAGS["jobs"])

    check_coverage(found.judged)
    assert loss_of(found.judged) <= 0.75 * plain_loss("jobs", 18_239)


@pytest.mark.parametrize("factor", [3.0, 1 / 3])
def test_after_all_durations_jump_bounds_hold(factor: float) -> None:
    """Case 3: coverage of 90 % over the first 300, above 92 % within 100; drift is told of each operation."""
    calls = [
        Call(call.sample, call.seconds * (factor if number >= JUMP else 1.0), call.group)
        for number, call in enumerate(SETS["files"]())
    ]
    found = run(calls)
    before: dict[str, int] = defaultdict(int)
    for call in calls[:JUMP]:
        before[call.sample.operation] += 1
    after = found.judged[JUMP - len(calls) :]
    first_100_of_each = [number - before[operation] < 100 for operation, number in found.drifts]

    assert coverage(after[:300]) >= 0.9
    assert coverage(after[100:400]) > 0.92
    assert sorted(operation for operation, _ in found.drifts) == sorted(before)
    assert all(first_100_of_each)


def test_sizes_that_drift_keep_coverage_in_thirds() -> None:
    """The same calls, the small files first and all large ones last."""
    chance = random.Random(1)
    calls = sorted(SETS["files"](), key=lambda call: call.sample.features["bytes"] * 2 ** chance.gauss(0.0, 0.5))
    found = run(calls)

    assert coverage(found.judged) == pytest.approx(0.95, abs=0.015)
    assert min(coverage(part) for part in parts(found.judged, 3, lambda one: one.p50)) >= 0.9
