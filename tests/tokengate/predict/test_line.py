"""The line: what features say of durations."""

from __future__ import annotations

import math
import random

import pytest

from tokengate.predict._line import FEW, Line
from tokengate.predict._point import Point, point_of
from tokengate.predict._sample import Sample

SEEDS = (1, 2, 3)


def point(**features: float) -> Point:
    return point_of(Sample("parse", features=features), ())


def expected(line: Line, **features: float) -> float:
    log = line.predict(point(**features))
    assert log is not None
    return math.exp(log)


def taught(seed: int, records: int, noise: float = 0.2) -> Line:
    """Return a line that has learned of calls which take 1 us a byte to the power of 1.2."""
    chance, line = random.Random(seed), Line()
    for _ in range(records):
        size = 2 ** chance.uniform(8, 18)
        line.learn(point(bytes=size), math.log(1e-6) + 1.2 * math.log1p(size) + chance.gauss(0.0, noise), 1)
    return line


@pytest.mark.parametrize("seed", SEEDS)
def test_a_power_law_is_found_and_goes_on_beyond_what_was_seen(seed: int) -> None:
    """A file eight times larger than any before is predicted."""
    line = taught(seed, 300)

    assert expected(line, bytes=2.0**21) == pytest.approx(1e-6 * 2.0 ** (21 * 1.2), rel=0.2)


def test_it_needs_ten_records_and_features() -> None:
    """Without features it neither learns nor says anything."""
    line = Line()
    for number in range(FEW):
        assert line.predict(point(bytes=1.0)) is None
        assert not line.learn(point(), 0.0, 1)
        assert line.learn(point(bytes=float(number)), 0.0, 1)

    assert line.predict(point(bytes=1.0)) is not None
    assert line.predict(point()) is None


@pytest.mark.parametrize("seed", SEEDS)
def test_factors_of_features_multiply_to_the_prediction(seed: int) -> None:
    """Case 24: they are relative to a call with mean features."""
    chance, line = random.Random(seed), Line()
    for _ in range(200):
        size, depth = 2 ** chance.uniform(8, 18), chance.randrange(9)
        line.learn(point(bytes=size, depth=depth), math.log1p(size) + 0.1 * depth + chance.gauss(0.0, 0.1), 1)
    answer = line.explained(point(bytes=1e6, depth=2))
    assert answer is not None
    usual = sum(weight * mean for weight, mean in zip(line.known.weights, line.known.usual, strict=True))

    factors = answer.factors()
    assert answer.basis == ("features", "operation")
    assert answer.log == line.predict(point(bytes=1e6, depth=2))
    assert usual + sum(factors.values()) == pytest.approx(answer.log)
    assert factors["bytes"] > 1 > math.exp(factors["depth"])


@pytest.mark.parametrize("seed", SEEDS)
def test_a_feature_that_never_changes_says_nothing(seed: int) -> None:
    """Its factor is 1, also after 10,000 records, in which its variance would have grown without end."""
    chance, line = random.Random(seed), Line()
    for _ in range(10_000):
        size = 2 ** chance.uniform(8, 18)
        line.learn(point(bytes=size, level=9.0), math.log1p(size) + chance.gauss(0.0, 0.2), 1)
    answer = line.explained(point(bytes=2.0**10, level=9.0))
    assert answer is not None

    assert answer.factors()["level"] == 0.0
    assert math.exp(answer.log) == pytest.approx(2.0**10, rel=0.1)
    assert sum(line.variances()) <= 30.0


@pytest.mark.parametrize("seed", SEEDS)
def test_rounding_does_not_lead_the_line_astray(seed: int) -> None:
    """Also over many drifts and with features that say the same."""
    chance, line = random.Random(seed), Line()
    for number in range(5_000):
        size = 2 ** chance.uniform(8, 18)
        line.learn(point(bytes=size, lines=size / 30, also=size), math.log1p(size) + chance.gauss(0.0, 1.0), 1)
        if number % 40 == 0:
            line.widen("parse")

    assert abs(math.log(expected(line, bytes=2.0**12, lines=2.0**12 / 30, also=2.0**12) / 2.0**12)) < 2.0


@pytest.mark.parametrize("seed", SEEDS)
def test_one_wild_outlier_moves_the_line_by_under_1_percent(seed: int) -> None:
    """Case 6: a residual counts for 3 deviations at most."""
    line = taught(seed, 500)
    before = expected(line, bytes=2.0**13)
    line.learn(point(bytes=2.0**13), math.log(1e12), 1)

    assert expected(line, bytes=2.0**13) == pytest.approx(before, rel=0.01)


@pytest.mark.parametrize("factor", [3.0, 1 / 3])
@pytest.mark.parametrize("seed", SEEDS)
def test_after_a_drift_it_soon_follows(seed: int, factor: float) -> None:
    """The covariance is widened: 25 records are enough."""
    chance, line = random.Random(seed), taught(seed, 1000)
    line.widen("parse")
    for _ in range(25):
        size = 2 ** chance.uniform(8, 18)
        line.learn(point(bytes=size), math.log(factor * 1e-6) + 1.2 * math.log1p(size) + chance.gauss(0, 0.2), 1)

    assert expected(line, bytes=2.0**13) == pytest.approx(factor * 1e-6 * 2.0 ** (13 * 1.2), rel=0.35)


@pytest.mark.parametrize("seed", SEEDS)
def test_a_weight_counts_as_so_many_records(seed: int) -> None:
    """A line through records of weight 20 is nearer to them than to as many of weight 1."""
    line = Line()
    for _ in range(200):
        line.learn(point(bytes=100.0), 0.0, 1)
        line.learn(point(bytes=100.0), 1.0, 20)

    assert line.predict(point(bytes=100.0)) == pytest.approx(20 / 21, abs=0.1)


@pytest.mark.parametrize("seed", SEEDS)
def test_features_may_come_and_go(seed: int) -> None:
    """A new one is taken in; one that a call does not have counts as the first that was seen."""
    chance, line = random.Random(seed), taught(seed, 30)
    for _ in range(500):
        size, depth = 2 ** chance.uniform(8, 18), chance.randrange(9)
        line.learn(point(depth=depth, bytes=size), math.log(1e-6) + 1.2 * math.log1p(size) + math.log1p(depth), 1)

    assert line.known.names == ("bytes", "depth")
    assert expected(line, bytes=2.0**13, depth=8) == pytest.approx(9e-6 * 2.0 ** (13 * 1.2), rel=0.3)
    assert expected(line, bytes=2.0**13) > 0
    assert expected(line, depth=8) > 0


def test_there_are_eight_features_at_most() -> None:
    """Others are left out."""
    line = Line()
    for number in range(20):
        line.learn(point(**{f"f{one}": float(number) for one in range(12)}), float(number), 1)

    assert len(line.known.names) == 8
    assert line.predict(point(**{f"f{one}": 3.0 for one in range(12)})) is not None


def test_a_covariance_that_is_none_is_replaced() -> None:
    """A file may say anything that is finite."""
    line = Line()
    for number in range(20):
        line.learn(point(bytes=float(number)), float(number % 3), 1)
    line.covariance = [-5.0, 3.0, -7.0]
    for number in range(40):
        line.learn(point(bytes=float(number % 20)), float(number % 3), 1)

    assert expected(line, bytes=10.0) == pytest.approx(math.e, rel=1.0)


def test_numbers_that_are_not_finite_are_left_out() -> None:
    """They would spoil the line for good."""
    assert point(bytes=math.nan, lines=math.inf, depth=-3.0).names == ("depth",)
