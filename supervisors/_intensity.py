"""When a supervisor has restarted too often: a sliding window, decided from the times alone."""

from __future__ import annotations

from collections.abc import Sequence

import attrs


@attrs.frozen
class RestartWindow:
    """The restarts of a supervisor within its latest `period`, and how many it allows there.

    Attributes:
        used: restarts that count now, with attempts that failed.
        allowed: its `intensity`; with one more it gives up.
        period: seconds.
        frees_in: seconds until the oldest one counts no more; None if none counts.
    """

    used: int
    allowed: int
    period: float
    frees_in: float | None


def restart_window(times: Sequence[float], now: float, intensity: int, period: float) -> RestartWindow:
    """Return what restarts at these times leave of the intensity."""
    counting = [time for time in times if time >= now - period]
    return RestartWindow(len(counting), intensity, period, min(counting) + period - now if counting else None)


def restart_times(times: Sequence[float], now: float, period: float) -> list[float]:
    """Return the times of the restarts that still count, with one more at `now`.

    Source: `add_restart` of OTP's `supervisor.erl`: those at or after `now - period` count.
    """
    return [*(time for time in times if time >= now - period), now]


def too_many(times: Sequence[float], intensity: int) -> bool:
    """Return whether restarts at these times are more than `intensity` allows; 0 allows none."""
    return len(times) > intensity
