"""Sketches: how near they are to exact values, and that they can be added."""

from __future__ import annotations

import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from patience import patient

from tokengate.telemetry._sketch import Sketch, bucket_of, upper_bound, value_of

values = st.floats(min_value=1e-6, max_value=1e6)


def sketch_of(numbers: list[float]) -> Sketch:
    sketch = Sketch()
    for number in numbers:
        sketch.add(number)
    return sketch


@given(st.lists(values, min_size=1), st.floats(min_value=0.01, max_value=1.0))
@patient
def test_a_quantile_is_within_2_2_percent_of_the_exact_one(numbers: list[float], share: float) -> None:
    """Case 9, with the value of the rank in the sorted list as the exact one."""
    exact = sorted(numbers)[math.ceil(share * len(numbers)) - 1]

    found = sketch_of(numbers).quantile(share)

    assert found is not None
    assert abs(found - exact) <= 0.022 * exact


@given(st.lists(values), st.lists(values))
@patient
def test_merging_equals_adding(first: list[float], second: list[float]) -> None:
    """Case 9: two sketches that are merged have the buckets of one to which all values were added."""
    merged, added = sketch_of(first), sketch_of(first + second)
    other = sketch_of(second)
    merged.merge(other.buckets, other.total)

    assert merged.buckets == added.buckets
    assert merged.count == added.count == len(first) + len(second)
    assert merged.total == pytest.approx(added.total)


@given(st.lists(values), st.integers(min_value=-9, max_value=9))
@patient
def test_counts_up_to_a_power_of_4_are_exact(numbers: list[float], power: int) -> None:
    """The histograms of Prometheus have such bounds."""
    assert sketch_of(numbers).up_to([4.0**power]) == [sum(number <= 4.0**power for number in numbers)]


@pytest.mark.parametrize("value", [0.0, -1.0])
def test_zero_and_below_have_a_bucket_of_their_own(value: float) -> None:
    """They count as zero."""
    assert sketch_of([value, 1.0]).quantile(0.5) == 0.0


def test_what_is_beyond_the_ends_is_in_the_outermost_buckets() -> None:
    """A microsecond and a million seconds."""
    assert bucket_of(1e-9) == bucket_of(1e-6)
    assert bucket_of(1e9) == bucket_of(1e6)


def test_a_weight_counts_as_so_many_values() -> None:
    """A record that stands for ten attempts is ten values."""
    sketch = Sketch()
    sketch.add(0.5, 10)
    sketch.add(2.0)

    assert (sketch.count, sketch.total) == (11, 7.0)


def test_a_sketch_stays_small(seed: int) -> None:
    """However many values it has."""
    chance = random.Random(seed)
    sketch = sketch_of([10 ** chance.uniform(-8, 8) for _ in range(20_000)])

    assert len(sketch.buckets) <= 640
    assert all(value_of(bucket) <= upper_bound(bucket) for bucket in sketch.buckets)
