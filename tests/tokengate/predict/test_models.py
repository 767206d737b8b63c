"""The models of all operations: what they learn from, and what they say of calls that have run for a while."""

from __future__ import annotations

import math
import random
import sys
import threading
from typing import Any

import psutil
import pytest
from tiers import in_ci

from actors import Prediction, Quantiles
from tokengate.predict._cells import MOST
from tokengate.predict._models import Models
from tokengate.predict._outcomes import CalibrationRow
from tokengate.predict._outlook import Outlook
from tokengate.predict._sample import Attempt, Sample
from tokengate.predict._target import WINDOWS


def models_of(*tags: str) -> Models:
    return Models(tags, notice=lambda *_: None)


def taught(number: int = 400, seed: int = 1, **attempt: Any) -> Models:
    """Return models that have learned of calls which take a second, give or take a half."""
    models, chance = models_of(), random.Random(seed)
    for _ in range(number):
        models.learn(Attempt(Sample("work"), run=chance.lognormvariate(0.0, 0.5), **attempt))
    return models


def outlook_of(models: Models, sample: Sample | None = None) -> Outlook:
    outlook = models.outlook(sample or Sample("work"))
    assert outlook is not None
    return outlook


def rows_of(models: Models) -> dict[str, CalibrationRow]:
    return {row.target: row for row in models.calibration("work")}


# What is learned


def test_a_prediction_has_all_that_is_known() -> None:
    """Run, memory, failure; what is not known is None."""
    models, chance = models_of(), random.Random(1)
    for number in range(300):
        error = "" if number % 4 else "ValueError"
        models.learn(Attempt(Sample("work"), run=chance.lognormvariate(0, 0.5), memory=1e6 + number, error=error))
    found = outlook_of(models).at(None, None)

    assert isinstance(found, Prediction)
    assert found.run is not None
    assert found.memory is not None
    assert found.run.p50 == pytest.approx(1.0, rel=0.15)
    assert found.memory.p50 == pytest.approx(1e6, rel=0.03)
    assert found.failure_probability == pytest.approx(0.25, abs=0.05)
    assert found.timeout_probability is None
    assert (found.n, found.model, found.basis) == (300, "cells 1", ("operation",))
    assert outlook_of(taught()).memory is None
    assert models.outlook(Sample("other")) is None


def test_a_prediction_far_beyond_those_that_were_judged_is_not_calibrated() -> None:
    """Rules may act by others of the operation: up to twice the largest of the latest, and down to half the least."""
    models, chance = models_of(), random.Random(1)
    for _ in range(400):
        size = chance.randrange(100, 1_000)
        models.learn(Attempt(Sample("work", features={"size": size}), run=size * chance.lognormvariate(0.0, 0.1)))

    def calibrated(size: float) -> bool:
        return "run" in outlook_of(models, Sample("work", features={"size": size})).calibrated

    assert rows_of(models)["run"].calibrated
    assert [calibrated(size) for size in (100, 500, 1_000, 1_800)] == [True] * 4
    assert [calibrated(size) for size in (20, 4_000, 1_000_000)] == [False] * 3


@pytest.mark.parametrize("memory", [False, True])
def test_runs_cut_short_are_not_learned(memory: bool) -> None:
    """Case 32: they teach too small values; of memory, too."""
    models = taught(memory=2e6 if memory else None)
    before = outlook_of(models)
    for _ in range(100):
        models.learn(Attempt(Sample("work"), run=0.001, memory=1.0 if memory else None, cut_short=True))
    after = outlook_of(models)

    assert (after.run, after.memory, after.n, after.failing) == (before.run, before.memory, before.n, before.failing)


def test_over_5_percent_cut_short_are_not_calibrated() -> None:
    """Of the latest 500."""
    models, chance = taught(500), random.Random(2)
    assert "run" in outlook_of(models).calibrated
    for number in range(200):
        models.learn(Attempt(Sample("work"), run=chance.lognormvariate(0.0, 0.5), cut_short=number % 5 == 0))

    assert "run" not in outlook_of(models).calibrated
    assert rows_of(models)["run"].cut_short == pytest.approx(0.08, abs=0.001)
    assert "cut short" in rows_of(models)["run"].why


@pytest.mark.parametrize("run", [None, math.nan, math.inf, -1.0])
def test_what_did_not_run_says_nothing(run: float | None) -> None:
    """Nor does what cannot be a duration."""
    models = taught()
    before = rows_of(models)
    models.learn(Attempt(Sample("work"), run=run, error="ValueError", cut_short=True))

    assert rows_of(models) == before


def test_weights_count_as_so_many_records() -> None:
    """Of quick calls one in ten is on record: without weights, the median would be that of the slow ones."""
    models, chance = models_of(), random.Random(3)
    for _ in range(2_000):
        slow = chance.random() < 0.5
        run, weight = (10.0, 1) if slow else (1.0, 10)
        models.learn(Attempt(Sample("work"), run=run * chance.lognormvariate(0.0, 0.1), weight=weight))
    run_ = outlook_of(models).run
    assert run_ is not None

    assert run_.p50 == pytest.approx(1.0, rel=0.15)
    assert run_.p95 > 5.0  # 1 in 11 is slow
    assert outlook_of(models).coverage == pytest.approx(0.95, abs=0.03)


def test_a_million_tag_values_take_no_more_memory_than_ten_thousand() -> None:
    """Case 7: cells, windows of residuals and operations have their ends; what is used goes on."""
    models, sizes = models_of("tenant"), []
    for number in range(11_000):
        models.learn(Attempt(Sample("work", tags={"tenant": str(number)}), run=1.0))
        if number % 100 == 0:
            models.learn(Attempt(Sample("work", tags={"tenant": "acme"}), run=5.0))
            sizes.append(len(models.windows))
    for number in range(1_100):
        models.learn(Attempt(Sample(f"op{number}"), run=1.0))

    assert len(models.cells) == MOST
    assert max(sizes) == WINDOWS
    assert len(models.operations) == 1_000
    assert models.cells[("run", "work", (("tenant", "acme"),), ())].records == 110


@in_ci
def test_60_000_tag_values_keep_memory_flat() -> None:
    """Case 7: what the process has grows no more once the tables are full."""
    models, sizes = models_of("tenant"), []
    for number in range(60_000):
        sample = Sample("work", tags={"tenant": str(number)}, features={"bytes": float(number)})
        models.learn(Attempt(sample, run=1.0))
        if number % 15_000 == 14_999:
            sizes.append(psutil.Process().memory_info().rss)

    assert sizes[-1] - sizes[0] < 5e6


# Failures and deadlines


def test_failing_and_late_are_calibrated_where_they_are_right() -> None:
    """Mean prediction and observed share are within 5 points in each third."""
    models, chance = models_of(), random.Random(4)
    for _ in range(1_000):
        error = "E" if chance.random() < 0.2 else ""
        left = chance.lognormvariate(0.0, 1.0)
        models.learn(Attempt(Sample("work"), run=chance.lognormvariate(0.0, 0.5), error=error, left=left))
    rows = rows_of(models)

    assert outlook_of(models).calibrated >= {"run", "late"}
    assert rows["late"].calibrated
    assert rows["late"].thirds == pytest.approx(rows["late"].predicted, abs=0.05)
    assert rows["failing"].coverage == pytest.approx(0.2, abs=0.05)
    assert rows["failing"].shares == {"E": pytest.approx(0.2, abs=0.06)}


def test_a_failure_rate_that_jumps_is_not_calibrated_for_a_while() -> None:
    """What was expected of the calls since is too little."""
    models = taught(500)
    assert "failing" in outlook_of(models).calibrated
    for _ in range(100):
        models.learn(Attempt(Sample("work"), run=1.0, error="E"))

    assert "failing" not in outlook_of(models).calibrated
    assert "expected" in rows_of(models)["failing"].why


def test_a_deadline_that_cut_a_run_short_counts_as_missed() -> None:
    """One that an operator has ended before its deadline says nothing on it."""
    sample = Sample("work")

    assert Attempt(sample, run=2.0, left=2.0, cut_short=True).late is True
    assert Attempt(sample, run=1.0, left=2.0, cut_short=True).late is None
    assert Attempt(sample, run=1.0, left=2.0).late is False
    assert Attempt(sample, run=3.0, left=2.0).late is True
    assert Attempt(sample, run=3.0).late is None
    assert Attempt(sample, run=None, left=2.0).late is None


def test_the_probability_to_be_late_is_the_share_of_residuals_beyond_the_time_left() -> None:
    """At the median it is a half, far before and after it 1 and 0."""
    outlook = outlook_of(taught(2_000))
    found = [outlook.at(None, left).timeout_probability for left in (1e-6, 0.5, 1.0, 2.0, 1e6)]

    assert found == [
        1.0,
        pytest.approx(0.92, abs=0.05),
        pytest.approx(0.5, abs=0.08),
        pytest.approx(0.08, abs=0.05),
        0.0,
    ]


# While a call runs


def test_numbers_are_those_given_that_it_has_run_so_long() -> None:
    """Of 1,000 calls that run for 1 to 10 s, evenly: of those beyond 5 s, half are beyond 7.5 s."""
    models, chance = models_of(), random.Random(5)
    for _ in range(1_000):
        models.learn(Attempt(Sample("work"), run=chance.uniform(1.0, 10.0)))
    outlook = outlook_of(models)

    def run_after(elapsed: float | None) -> Quantiles:
        run = outlook.at(elapsed, None).run
        assert run is not None
        return run

    assert run_after(0.0) == run_after(None) == run_after(0.9)
    assert run_after(5.0).p50 == pytest.approx(7.5, rel=0.07)
    assert run_after(5.0).p95 == pytest.approx(9.75, rel=0.03)
    assert outlook.at(5.0, 2.5).timeout_probability == pytest.approx(0.5, abs=0.1)
    assert outlook.at(None, 7.5).timeout_probability == pytest.approx(0.28, abs=0.06)
    assert outlook.at(5.0, None).timeout_probability is None


def test_quantiles_never_fall_while_it_runs() -> None:
    """And are beyond what has passed."""
    outlook, last = outlook_of(taught(1_000)), Quantiles(0.0, 0.0)
    for step in range(60):
        run = outlook.at(step / 20, None).run
        if run is None:
            break
        assert run.p95 >= run.p50 >= last.p50
        assert run.p95 >= last.p95
        assert run.p50 > step / 20
        last = run

    assert last.p50 > 1.5


def test_when_nothing_of_the_past_ran_so_long_nothing_is_expected() -> None:
    """To have no prediction is a valid answer. What does not depend on the time stays."""
    found = outlook_of(taught(memory=1e6)).at(1e6, 1.0)

    assert (found.run, found.timeout_probability, found.failure_probability) == (None, None, None)
    assert found.memory is not None


def test_a_call_that_has_outlived_those_that_fail_does_not_fail() -> None:
    """Failures come in the first second here, success after ten."""
    models, chance = models_of(), random.Random(6)
    for _ in range(600):
        fails = chance.random() < 0.3
        run = chance.uniform(0.1, 1.0) if fails else chance.uniform(9.0, 11.0)
        models.learn(Attempt(Sample("work"), run=run, error="E" if fails else ""))
    outlook = outlook_of(models)
    found = [outlook.at(elapsed, None).failure_probability for elapsed in (None, 0.05, 2.0)]

    assert found == [pytest.approx(0.3, abs=0.07), pytest.approx(0.3, abs=0.07), 0.0]


# Any thread


def test_any_thread_may_ask_while_one_learns() -> None:
    """Each answer is whole: p50 below p95, and what is given to a reader does not change."""
    models, over, wrong = taught(100), threading.Event(), []
    outlook = outlook_of(models)
    assert outlook.run is not None
    kept = list(outlook.run.residuals[0])

    def ask() -> None:
        while not over.is_set():
            found = models.outlook(Sample("work", features={"bytes": 100.0}))
            rows = models.calibration()
            if found is None or found.run is None or not 0 < found.run.p50 <= found.run.p95 or not rows:
                wrong.append((found, rows))

    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    readers = [threading.Thread(target=ask) for _ in range(2)]
    try:
        for reader in readers:
            reader.start()
        chance = random.Random(7)
        for number in range(2_000):
            sample = Sample("work" if number % 3 else f"op{number}", features={"bytes": chance.uniform(1, 1e6)})
            models.learn(Attempt(sample, run=chance.lognormvariate(0.0, 0.5), left=1.0))
    finally:
        over.set()
        for reader in readers:
            reader.join()
        sys.setswitchinterval(before)

    assert wrong == []
    assert list(outlook.run.residuals[0]) == kept
