"""Cells: medians of operations, their tags, and octaves of their features."""

from __future__ import annotations

import math
import random
import statistics

import pytest

from tokengate.predict._cells import MOST, Cell, Cells, Key
from tokengate.predict._point import Point, octave_of, point_of
from tokengate.predict._sample import Sample
from tokengate.predict._table import Table

SEEDS = (1, 2, 3)

STEP = 2 ** (1 / 16)  # from a bucket to the next


def cells_of(most: int = MOST) -> tuple[Cells, Table[Key, Cell]]:
    table: Table[Key, Cell] = Table(most, lambda _key: Cell())
    return Cells(table, "run"), table


def point(tags: dict[str, str] | None = None, features: dict[str, float] | None = None) -> Point:
    return point_of(Sample("parse", tags=tags or {}, features=features or {}), ("tenant",))


def median_of(cells: Cells, at: Point) -> float:
    log = cells.predict(at)
    assert log is not None
    return math.exp(log)


@pytest.mark.parametrize("seed", range(8))
def test_the_median_of_a_cell_is_within_a_bucket_of_the_exact_one(seed: int) -> None:
    """However the values are spread: it is kept up from record to record, also over the gap between two modes."""
    chance, cell, values = random.Random(seed), Cell(), []
    for _ in range(60):
        value = chance.lognormvariate(0.0, 0.5) * chance.choice([1.0, 1.0, 1e5 if seed % 2 else 1.0])
        values.append(value)
        cell.add(math.log(value), 1, 4_096)
        ordered = sorted(values)
        below, above = ordered[(len(values) - 1) // 2], ordered[len(values) // 2]

        assert below / STEP <= math.exp(cell.median) <= above * STEP


def test_a_weight_counts_as_so_many_records() -> None:
    """A record of weight 5 moves the median as five records do."""
    heavy, single = Cell(), Cell()
    for value, weight in ((1.0, 1), (2.0, 5), (4.0, 2), (8.0, 1)):
        heavy.add(math.log(value), weight, 4_096)
        for _ in range(weight):
            single.add(math.log(value), 1, 4_096)

    assert heavy.median == single.median
    assert (heavy.records, single.records) == (4, 9)


def test_the_most_specific_cell_with_ten_records_answers() -> None:
    """Operation, then its tags, then octaves of its features: each from its tenth record on."""
    cells, _ = cells_of()
    for _ in range(10):
        cells.learn(point(), 0.0, 1)
    at = point({"tenant": "acme"}, {"bytes": 1000.0})
    for _ in range(9):
        cells.learn(at, math.log(100.0), 1)

    assert cells.explained(at) is not None
    assert median_of(cells, at) == pytest.approx(1.0, rel=0.05)
    cells.learn(at, math.log(100.0), 1)
    assert median_of(cells, at) == pytest.approx(100.0, rel=0.05)
    assert median_of(cells, point({"tenant": "acme"}, {"bytes": 1.0})) == pytest.approx(100.0, rel=0.05)
    assert median_of(cells, point({"tenant": "other"}, {"bytes": 1000.0})) == pytest.approx(1.0, rel=0.05)


def test_below_ten_records_a_cell_says_nothing() -> None:
    """Weights do not help: nine records of weight 100 are nine."""
    cells, _ = cells_of()
    for _ in range(9):
        cells.learn(point(), 0.0, 100)

    assert cells.predict(point()) is None
    assert cells.explained(point()) is None


def test_what_a_cell_used_is_said() -> None:
    """`basis` and factors name the cells that answered, and nothing else."""
    cells, _ = cells_of()
    large = point({"tenant": "acme"}, {"bytes": 5000.0})
    for _ in range(20):
        cells.learn(point(), 0.0, 1)
        cells.learn(point({"tenant": "acme"}), math.log(4.0), 1)
    for _ in range(12):
        cells.learn(large, math.log(16.0), 1)

    known = {}
    for name, at in (
        ("operation", point({"tenant": "new"}, {"bytes": 1.0})),
        ("tags", point({"tenant": "acme"}, {"bytes": 1.0})),
        ("features", large),
    ):
        answer = cells.explained(at)
        assert answer is not None
        assert answer.log == cells.predict(at)
        known[name] = answer.basis, {what: math.exp(log) for what, log in answer.factors().items() if log}

    assert known["operation"] == (("operation",), {})
    assert known["tags"][0] == ("tags", "operation")
    assert list(known["tags"][1]) == ["tenant=acme"]
    assert known["features"][0] == ("features", "tags", "operation")
    assert list(known["features"][1]) == ["tenant=acme", "bytes"]


def test_old_counts_fade() -> None:
    """Counts of cells are halved each 64 records: 100 new ones outweigh 1,000 old ones. That of all has 4,096."""
    cells, _ = cells_of()
    at = point({"tenant": "acme"})
    for value, number in ((1.0, 1000), (10.0, 100)):
        for _ in range(number):
            cells.learn(at, math.log(value), 1)

    assert median_of(cells, at) == pytest.approx(10.0, rel=0.05)
    assert median_of(cells, point({"tenant": "other"})) == pytest.approx(1.0, rel=0.05)


def test_the_cell_of_an_operation_soon_follows_after_a_drift() -> None:
    """It has little left of what was before."""
    cells, _ = cells_of()
    for _ in range(1000):
        cells.learn(point(), 0.0, 1)
    cells.widen("parse")
    for _ in range(26):
        cells.learn(point(), math.log(3.0), 1)

    assert median_of(cells, point()) == pytest.approx(3.0, rel=0.05)


def test_the_cell_that_was_unused_for_longest_goes() -> None:
    """There are never more than so many."""
    cells, table = cells_of(most=3)
    for tenant in ("a", "b", "a", "c"):
        for _ in range(10):
            cells.learn(point({"tenant": tenant}), 0.0, 1)

    tenants = [tags[0][1] for _, _, tags, _ in table if tags]
    assert len(table) == 3
    assert tenants == ["a", "c"]


@pytest.mark.parametrize("seed", SEEDS)
def test_one_wild_outlier_moves_the_median_by_under_1_percent(seed: int) -> None:
    """Case 6."""
    chance, cell = random.Random(seed), Cell()
    for _ in range(500):
        cell.add(chance.gauss(0.0, 0.3), 1, 4_096)
    before = cell.median
    cell.add(math.log(1e9), 1, 4_096)

    assert abs(math.exp(cell.median - before) - 1) < 0.01


@pytest.mark.parametrize("value", [0.0, 1.0, 1.99, 1024.0, 1e300, 1e-300, -1.0, -1024.0])
def test_octaves_tell_sizes_and_signs_apart(value: float) -> None:
    """A double is in another octave, as is the negative, and 0 has its own."""
    assert octave_of(value * 2) == octave_of(value) + (value > 0) - (value < 0)
    assert (octave_of(-value) == octave_of(value)) == (value == 0)


@pytest.mark.parametrize("seed", SEEDS)
def test_counts_that_have_faded_are_forgotten(seed: int) -> None:
    """A cell stays small, however long values wander."""
    chance, cell, log = random.Random(seed), Cell(), 0.0
    for _ in range(20_000):
        log += chance.gauss(0.0, 0.05)
        cell.add(log, 1, 64)

    assert len(cell.buckets) < 128
    assert statistics.fmean(cell.buckets.values()) >= 0.25
