"""Samples of a token over its life."""

from __future__ import annotations

from itertools import pairwise

import pytest

from tokengate.telemetry._samples import POINTS, Sample, Samples


@pytest.mark.parametrize("life", [1, 127, 128, 129, 1_000, 100_000])
def test_a_life_of_any_length_has_at_most_128_points(life: int) -> None:
    """Case 10: they are equally far apart, begin with the first sample, and reach to the last."""
    samples = Samples()
    for second in range(life):
        samples.add(Sample(float(second), None, None, second))

    ages = [one.age for one in samples.points]
    apart = {later - earlier for earlier, later in pairwise(ages)}
    assert len(ages) <= POINTS
    assert len(ages) == life or len(ages) > POINTS // 2
    assert ages[0] == 0.0
    assert len(apart) <= 1
    assert life - 1 - ages[-1] < max(apart, default=1)
