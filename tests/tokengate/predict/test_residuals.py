"""Residuals: bounds, coverage, calibration, drift."""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Callable

import pytest

from tokengate.predict._outcomes import JUDGED, LICENSED, Scores, means, thirds, why_not_covered, why_not_probable
from tokengate.predict._residuals import COVERED, KEPT, Drift, Window, corrected, quantile, share_above

SEEDS = (1, 2, 3)

DRAWS: dict[str, Callable[[random.Random], float]] = {
    "log-normal": lambda chance: chance.gauss(0.0, 0.5),
    "heavy tail": lambda chance: math.log(chance.paretovariate(0.8)),
    "two modes": lambda chance: chance.choice([0.0, 4.0]) + chance.gauss(0.0, 0.1),
    "constant": lambda _: 0.25,
}


def entries(number: int, misses: Callable[[int], bool], weight: int = 1) -> list[tuple[float, float, int]]:
    """Return judged predictions of rising size, of which some were missed."""
    return [(float(one), 0.0 if misses(one) else 1.0, weight) for one in range(number)]


# Bounds


def test_the_quantile_is_conformal() -> None:
    """Of n residuals it is that of rank ceil(level * (n + 1)), at most the largest."""
    window = Window((float(one), 1) for one in range(1, 100))

    assert quantile(window.known, 0.95) == 95.0
    assert quantile(window.known, 0.5) == 50.0
    assert quantile(window.known, 1.1) == 99.0
    assert quantile(window.known, 0.95, first=79) == 99.0  # of the 20 from 80 on


def test_residuals_that_stand_for_many_count_so_often() -> None:
    """Slow calls are all on record, of quick ones one in ten: the bound is that of all calls."""
    window = Window(itertools.chain(((0.1 * one, 10) for one in range(90)), ((20.0 + one, 1) for one in range(100))))
    same = Window()
    for residual, weight in window.newest:
        for _ in range(weight):
            same.add(residual, 1)
    known = sorted([residual for residual, weight in window.newest for _ in range(weight)])

    assert quantile(window.known, 0.95) == pytest.approx(known[int(0.95 * 1000)], abs=5.0)
    assert quantile(window.known, 0.5) == pytest.approx(known[500], abs=0.2)
    assert share_above(window.known, 19.0) == pytest.approx(0.1)


@pytest.mark.parametrize("weights", [(1,), (1, 1, 7)])
@pytest.mark.parametrize("seed", SEEDS)
def test_only_the_newest_300_count(seed: int, weights: tuple[int, ...]) -> None:
    """They are sorted, each beside its weight, also where some are equal."""
    chance, window = random.Random(seed), Window()
    for _ in range(1_000):
        window.add(round(chance.gauss(0.0, 1.0), 1), chance.choice(weights))
    values, found = window.known

    assert len(window.newest) == KEPT
    assert sorted(window.newest) == sorted(zip(values, found or [1] * KEPT, strict=True))
    assert list(values) == sorted(values)


def test_weights_are_forgotten_with_the_last_that_had_one() -> None:
    """Then all count once again."""
    window = Window([(1.0, 5)])
    for _ in range(KEPT):
        window.add(2.0, 1)

    assert window.known[1] is None


def test_what_is_published_does_not_change() -> None:
    """Another thread may go on reading it."""
    window = Window((float(one), 1) for one in range(KEPT))
    known = window.known
    before = list(known[0])
    window.add(1.5, 1)

    assert list(known[0]) == before
    assert window.known is not known


@pytest.mark.parametrize("name", DRAWS)
def test_bounds_cover_95_percent(name: str) -> None:
    """Case 2: within 1.5 points over 5,000, and no 500 below 92 %, whatever the residuals are like."""
    chance, window, level, hits = random.Random(2), Window(), COVERED, []
    for _ in range(5_000):
        residual = DRAWS[name](chance)
        if len(window.newest) > 20:
            off = residual - quantile(window.known, level)
            hits.append(off <= 0)
            level = corrected(level, COVERED if off == 0 else float(off < 0), 1.0)
        window.add(residual, 1)

    assert sum(hits) / len(hits) == pytest.approx(1.0 if name == "constant" else 0.95, abs=0.015)
    assert min(sum(hits[at : at + 500]) for at in range(0, len(hits) - 500, 50)) >= 460


def test_misses_raise_the_level_and_hits_lower_it() -> None:
    """By the step of adaptive conformal inference; one that is just at its bound does neither."""
    assert corrected(0.95, 0.0, 1.0) == pytest.approx(0.95 + 0.01 * 0.95)
    assert corrected(0.95, 1.0, 1.0) == pytest.approx(0.95 - 0.01 * 0.05)
    assert corrected(0.95, 0.0, 0.1) == pytest.approx(0.95 + 0.001 * 0.95)
    assert corrected(0.95, COVERED, 1.0) == 0.95


def test_the_level_stays_where_it_can_come_back_from() -> None:
    """A thousand hits, or misses, are undone by a few dozen of the others."""
    low = high = 0.95
    for _ in range(10_000):
        low, high = corrected(low, 1.0, 1.0), corrected(high, 0.0, 1.0)

    assert low == 0.9
    assert high == 1.2


# Drift


@pytest.mark.parametrize("shift", [1.5, -1.5])
@pytest.mark.parametrize("seed", SEEDS)
def test_a_shift_is_told_soon(seed: int, shift: float) -> None:
    """Both ways, of one and a half deviations, within 40 values, on whatever scale."""
    chance, drift = random.Random(seed), Drift()
    told = [number for number in range(400) if drift.add(5 + 0.3 * chance.gauss(shift * (number >= 300), 1.0))]

    assert 300 < told[0] < 340


@pytest.mark.parametrize("name", DRAWS)
@pytest.mark.parametrize("seed", SEEDS)
def test_without_a_shift_no_drift_is_told(seed: int, name: str) -> None:
    """In 5,000 values, however they are spread."""
    chance, drift = random.Random(seed), Drift()

    assert not any(drift.add(DRAWS[name](chance)) for _ in range(5_000))


def test_one_outlier_is_no_drift() -> None:
    """It counts for four deviations at most."""
    drift = Drift()
    told = [drift.add(0.01 * (one % 7) if one % 100 else 1e6 * (-1) ** (one // 100)) for one in range(1, 1_000)]

    assert not any(told)


# Calibration


def test_the_latest_500_are_judged() -> None:
    """Means are those of what is kept, by weight; where nothing was said, only the loss counts."""
    scores = Scores()
    for number in range(1_200):
        said, weight = None if number % 5 == 0 else float(number), 3 if number % 2 else 1
        scores.add(said, float(number >= 1_000), weight, number / 1_000)

    entries = scores.entries()
    assert [entry[0] for entry in entries] == [float(one) for one in range(1_200 - JUDGED, 1_200) if one % 5]
    assert scores.coverage == pytest.approx(means(entries)[1]) == pytest.approx(0.4)
    assert scores.loss == pytest.approx(0.95, abs=0.001)


def test_thirds_are_those_of_what_was_predicted() -> None:
    """Not of the order in which it was."""
    parts = thirds([(float(one * 7 % 10), 0.0, 1) for one in range(10)])

    assert [[entry[0] for entry in part] for part in parts] == [[0, 1, 2], [3, 4, 5], [6, 7, 8, 9]]


def test_200_records_since_the_latest_drift_are_needed() -> None:
    """However many there were before."""
    fine = entries(JUDGED, lambda one: one % 20 == 0)

    assert why_not_covered(fine, LICENSED, 0.0) == ""
    assert why_not_covered(fine, LICENSED - 1, 0.0) == "199 of 200 records since the latest change"
    assert why_not_covered(fine[:199], LICENSED, 0.0) == "199 of 200 records since the latest change"


@pytest.mark.parametrize(
    ("name", "share", "fine"),
    [("in all", 0.0799, True), ("in all", 0.0833, False), ("in all", 0.0201, True), ("in all", 0.0, False)],
)
def test_coverage_is_within_3_points_in_all(name: str, share: float, fine: bool) -> None:
    """Too wide bounds are not calibrated either."""
    every = round(1 / share) if share else 10_000
    found = why_not_covered([(float(one), float(one % every != 0), 1) for one in range(1, 301)], 300, 0.0)

    assert (found == "") == fine, found


@pytest.mark.parametrize("part", range(3))
def test_one_third_that_is_out_by_more_than_8_points_is_enough(part: int) -> None:
    """Case 16: 300 are right in all, but the misses are in one third."""

    def judged(misses: int) -> str:
        return why_not_covered(entries(300, lambda one: part * 100 <= one < part * 100 + misses), 300, 0.0)

    assert judged(13) == ""
    assert ["lowest", "middle", "highest"][part] in judged(14)


def test_at_most_5_percent_were_cut_short() -> None:
    """What was cut short teaches nothing, and is the slow part of what there was."""
    fine = entries(JUDGED, lambda one: one % 20 == 0)

    assert why_not_covered(fine, JUDGED, 0.05) == ""
    assert why_not_covered(fine, JUDGED, 0.051) == "5% were cut short, 5% may be"


def test_constants_are_calibrated() -> None:
    """What is just at its bound is on either side of it; bounds that are far above are not calibrated."""
    assert why_not_covered([(1.0, COVERED, 1)] * JUDGED, JUDGED, 0.0) == ""
    assert why_not_covered([(1.0, 1.0, 1)] * JUDGED, JUDGED, 0.0) == "of all, 100.0% stayed below p95"


def test_weights_count_in_calibration() -> None:
    """One miss that stands for 40 of 440 calls is one of 11."""
    found = [(float(one), 1.0, 1) for one in range(400)]

    assert "stayed below" in why_not_covered([*found, (400.0, 0.0, 40)], 401, 0.0)


@pytest.mark.parametrize(("said", "fine"), [(0.26, True), (0.34, True), (0.24, False), (0.36, False)])
def test_probabilities_are_within_5_points_in_each_third(said: float, fine: bool) -> None:
    """The highest third is expected with the one or the other, and happens in 30 % of cases."""
    found = [(0.0, 0.0, 1)] * 200 + [(said, float(one % 10 < 3), 1) for one in range(100)]

    assert (why_not_probable(found) == "") == fine
    assert why_not_probable(found[:199]) == "199 of 200 records"
