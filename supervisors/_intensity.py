"""When a supervisor has restarted too often: a sliding window, decided from the times alone."""

from __future__ import annotations

from collections.abc import Sequence


def restart_times(times: Sequence[float], now: float, period: float) -> list[float]:
    """Return the times of the restarts that still count, with one more at `now`.

    Source: `add_restart` of OTP's `supervisor.erl`: those at or after `now - period` count.
    """
    return [*(time for time in times if time >= now - period), now]


def too_many(times: Sequence[float], intensity: int) -> bool:
    """Return whether restarts at these times are more than `intensity` allows; 0 allows none."""
    return len(times) > intensity
