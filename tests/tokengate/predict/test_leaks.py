"""Leaks: which memories of processes alarm, and which do not."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest

from tokengate.predict._leaks import LeakWatch

KIB, MIB = 2**10, 2**20
TOKENS = 600


class Process:
    """Identifies a process."""


def verdicts(series: Callable[[int], float]) -> dict[str, int]:
    """Return {verdict: after how many tokens it was first told}."""
    watch, process = LeakWatch(), Process()
    found: dict[str, int] = {}
    for token in range(TOKENS):
        told = watch.add(process, series(token))
        if told is not None:
            found.setdefault(told, token)
    return found


def noisy(seed: int, series: Callable[[int], float], noise: float = 8 * KIB) -> Callable[[int], float]:
    """Return a series on 50 MiB, with what single tokens need for themselves on top, in whole pages."""
    chance = random.Random(seed)
    return lambda token: 50 * MIB + 4096 * round((series(token) + abs(chance.gauss(0.0, noise))) / 4096)


@pytest.mark.parametrize("each", [16 * KIB, 64 * KIB])
@pytest.mark.parametrize("seed", range(5))
def test_a_leak_is_suspected_near_109_tokens_and_confirmed_by_200(each: int, seed: int) -> None:
    """Case 25: 30 tokens are left out, and there are 8 or 16 minima of 10 tokens then."""
    found = verdicts(noisy(seed, lambda token: each * token))

    assert 109 <= found["suspected"] <= 129
    assert 189 <= found["confirmed"] <= 209


HEALTHY: dict[str, Callable[[int], float]] = {
    "flat": lambda _: 0.0,
    "warm-up": lambda token: 20 * MIB * (1 - 0.9**token),
    "warm-up of 60 tokens": lambda token: MIB * min(token, 60),
    "plateau": lambda token: 8 * MIB * (token > 200),
    "sawtooth of 50 tokens": lambda token: 200 * KIB * (token % 50),
    "sawtooth of 15 tokens": lambda token: MIB * (token % 15),
    "steps": lambda token: 4 * MIB * (token // 150),
    "steps of a cache": lambda token: MIB * (token // 25),
    "bursts": lambda token: 30 * MIB * (token % 40 < 3),
    "bursts at random": lambda token: 20 * MIB * (token * 7919 % 13 == 0),
    "falling": lambda token: 20 * MIB - 16 * KIB * token,
    "large tokens": lambda token: 100 * MIB * (token % 2),
}


@pytest.mark.parametrize("name", HEALTHY)
@pytest.mark.parametrize("seed", range(3))
def test_a_healthy_process_alarms_never(name: str, seed: int) -> None:
    """Case 25: warm-up, plateau, sawtooth, steps, bursts."""
    assert verdicts(noisy(seed, HEALTHY[name])) == {}


def test_what_fills_up_is_suspected_at_most() -> None:
    """A cache that grows ever slower: the later half of 16 minima grows less than 0.6 times what the earlier did."""
    found = verdicts(noisy(1, lambda token: 40 * MIB * (1 - 0.99**token), noise=0.0))

    assert list(found) == ["suspected"]


def test_large_bursts_that_last_are_suspected_at_most() -> None:
    """Tokens that get larger for 120 tokens, and small again."""
    found = verdicts(noisy(1, lambda token: MIB * (token % 120)))

    assert list(found) == ["suspected"]


def test_less_than_2_mib_in_all_is_not_confirmed() -> None:
    """Small growth may be anything."""
    assert list(verdicts(lambda token: 50 * MIB + 8 * KIB * token)) == ["suspected"]


def test_a_verdict_is_told_once_and_can_be_asked() -> None:
    """A confirmed leak stays one until the memory is given back; an ended process is forgotten."""
    watch, process = LeakWatch(), Process()
    told = [watch.add(process, MIB * token) for token in range(250)]

    assert [one for one in told if one] == ["suspected", "confirmed"]
    assert watch.verdict(process) == "confirmed"
    for _ in range(10):
        watch.add(process, 240 * MIB)  # it pauses
    assert watch.verdict(process) == "confirmed"
    for _ in range(20):
        watch.add(process, 0)
    assert watch.verdict(process) is None
    assert watch.verdict(Process()) is None


def test_the_slope_tells_when_a_limit_is_met() -> None:
    """1 MiB a token; 100 MiB are left."""
    watch, process = LeakWatch(), Process()
    for token in range(250):
        watch.add(process, MIB * token)

    assert watch.tokens_left(process, (240 + 100) * MIB) == pytest.approx(100, abs=1)
    assert watch.tokens_left(process, 10 * MIB) == 0
    assert watch.tokens_left(Process(), 10 * MIB) is None


def test_processes_that_are_gone_take_no_memory() -> None:
    """Nothing holds what identifies them."""
    watch = LeakWatch()
    for _ in range(1000):
        watch.add(Process(), 1.0)

    assert len(watch._series) == 0
