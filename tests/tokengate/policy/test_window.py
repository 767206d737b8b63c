"""The count of the events of the last seconds: when they stop counting, and how much it keeps."""

from __future__ import annotations

import math
from collections.abc import Callable
from random import Random

from tokengate.policy._window import Window


def test_an_event_counts_until_it_is_as_old_as_the_window() -> None:
    """The events of one bucket stop counting together."""
    window = Window(10, 1)
    added = [window.add(now) for now in (0, 0.5, 2)]
    counts = [window.count(now) for now in (9.9, 10, 12)]

    assert added == [1, 2, 3]
    assert counts == [3, 1, 0]


def test_a_cleared_window_counts_nothing_of_the_past() -> None:
    """What is added afterwards counts as usual."""
    window = Window(10, 1)
    window.add(1)
    window.clear()

    assert window.count(1) == 0
    assert window.add(1) == 1


def test_a_window_without_end_counts_everything() -> None:
    """A window of inf seconds is allowed, and keeps one bucket."""
    window = Window(math.inf, math.inf)
    added = [window.add(now) for now in (0.0, 1e9)]

    assert added == [1, 2]
    assert len(window._buckets) == 1


def test_a_count_is_late_by_a_bucket_at_most_and_keeps_ten(seed: int, rounds: Callable[[int], int]) -> None:
    """Each event counts if it is younger than the window less a bucket, and not if it is as old as the window.

    The times of threads may be out of order by a little; such an event counts as the last one before it.
    """
    random = Random(seed)
    for _ in range(rounds(50)):
        window, times, now = Window(10, 1), [0.0], 0.0
        window.add(now)
        for _ in range(200):
            now += random.choice([0, random.random() / 10, random.random(), random.random() * 15])
            read = now - random.choice([0, 0, 0.001])
            if random.random() < 0.8:
                window.add(read)
                times.append(max(read, times[-1]))
            count = window.count(now)

            assert sum(time > now - 9 for time in times) <= count <= sum(time > now - 10 for time in times)
            assert len(window._buckets) <= 10
