"""Faults on purpose come as often as was asked, whatever the moments."""

from __future__ import annotations

import pytest

from tokengate.demo._crash_plan import CrashPlan, InjectedCrash


def strikes(plan: CrashPlan, victim: str) -> int:
    struck = 0
    while True:
        try:
            plan.strike(victim)
        except InjectedCrash:
            struck += 1
        else:
            return struck


@pytest.mark.parametrize("seed", range(20))
def test_every_planned_crash_happens_by_the_time_all_files_are_settled(seed: int) -> None:
    """Each strikes once its moment has come, and none before the first."""
    plan = CrashPlan(10, seed, 100, ("parser", "index"))
    for settled in range(100):
        plan.settled(settled)
        strikes(plan, "parser")
        strikes(plan, "index")

    assert plan.struck == 10


def test_the_same_seed_gives_the_same_moments() -> None:
    """A run can be repeated."""

    def moments(seed: int) -> list[tuple[int, str]]:
        plan = CrashPlan(5, seed, 50, ("parser", "index"))
        found = []
        for settled in range(50):
            plan.settled(settled)
            found += [(settled, victim) for victim in ("parser", "index") for _ in range(strikes(plan, victim))]
        return found

    assert moments(3) == moments(3)
    assert moments(3) != moments(4)


def test_what_is_left_over_strikes_the_last_one_there_is() -> None:
    """When all files are settled, crashes of any victim are due."""
    plan = CrashPlan(3, 1, 10, ("parser", "index"))
    for _ in range(3):
        with pytest.raises(InjectedCrash):
            plan.strike_all("index")
    plan.strike_all("index")

    assert plan.struck == 3
