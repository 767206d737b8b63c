"""When a supervisor gives up: the sliding window, decided from times alone."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from supervisors._intensity import RestartWindow, restart_times, restart_window, too_many


def gives_up_at(crashes: list[float], intensity: int, period: float) -> int | None:
    """Return the number of the crash at which a supervisor gives up, or None."""
    times: list[float] = []
    for number, now in enumerate(crashes, start=1):
        times = restart_times(times, now, period)
        if too_many(times, intensity):
            return number
    return None


def test_intensity_two_gives_up_at_the_third_crash_in_the_window() -> None:
    """Intensity 2 allows two restarts in the window, and the third crash gives up."""
    crash = gives_up_at([10.0, 11.0, 12.0], intensity=2, period=5.0)

    assert crash == 3


@pytest.mark.parametrize("now", [0.0, 1e9])
def test_intensity_zero_gives_up_at_once(now: float) -> None:
    """Intensity 0 gives up at once."""
    crash = gives_up_at([now], intensity=0, period=5.0)

    assert crash == 1


def test_crashes_further_apart_than_the_period_never_add_up() -> None:
    """Restarts before now - period do not count."""
    crash = gives_up_at([6.0 * number for number in range(1000)], intensity=1, period=5.0)

    assert crash is None


def test_a_restart_exactly_one_period_ago_still_counts() -> None:
    """Those at now - period or later count."""
    times = restart_times([5.0, 4.999], 10.0, 5.0)

    assert times == [5.0, 10.0]


def test_the_window_slides() -> None:
    """It is a sliding window: no fixed interval forgives three crashes that straddle its edge."""
    crash = gives_up_at([4.0, 4.9, 5.1], intensity=2, period=5.0)

    assert crash == 3


def test_several_restarts_at_one_moment_count_each() -> None:
    """Each restart counts, whatever the resolution of the clock."""
    crash = gives_up_at([1.0, 1.0, 1.0, 1.0], intensity=3, period=5.0)

    assert crash == 4


@settings(deadline=None, suppress_health_check=list(HealthCheck))  # they judge how fast the machine is
@given(
    gaps=st.lists(st.integers(0, 20), max_size=40),
    intensity=st.integers(0, 5),
    period=st.integers(1, 20),
)
def test_it_gives_up_at_the_first_window_that_holds_too_many(gaps: list[int], intensity: int, period: int) -> None:
    """More than `intensity` restarts within `period`, ends included: that crash is the one that gives up."""
    crashes: list[float] = [float(sum(gaps[:number])) for number in range(1, len(gaps) + 1)]
    expected = next(
        (
            number
            for number, now in enumerate(crashes, start=1)
            if sum(time >= now - period for time in crashes[:number]) > intensity
        ),
        None,
    )

    assert expected == gives_up_at(crashes, intensity, period)


def test_a_window_says_what_is_left_and_when_the_oldest_restart_is_over() -> None:
    """By the same rule that gives up: those at now - period or later count."""
    assert restart_window([4.0, 5.0, 9.0], 10.0, 3, 5.0) == RestartWindow(2, 3, 5.0, 0.0)
    assert restart_window([9.0, 9.5], 10.0, 3, 5.0) == RestartWindow(2, 3, 5.0, 4.0)
    assert restart_window([4.0], 10.0, 3, 5.0) == RestartWindow(0, 3, 5.0, None)
