"""Leaks: which memories of processes alarm, and which do not."""

from __future__ import annotations

import random
import subprocess
import sys
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest
from tiers import in_ci

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
    """A leak stays confirmed while it goes on, with pauses, and for 8 minima more."""
    watch, process = LeakWatch(), Process()

    def told(series: Iterable[float]) -> list[str]:
        return [verdict for size in series if (verdict := watch.add(process, size)) is not None]

    assert told(MIB * token for token in range(250)) == ["suspected", "confirmed"]
    assert told(MIB * (250 + token // 70 * 70) for token in range(210)) == []
    assert watch.verdict(process) == "confirmed"
    assert told([460 * MIB] * 70) == []
    assert watch.verdict(process) == "confirmed"
    assert told([460 * MIB] * 30) == []
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


LEAKING = """
import json, random, sys
chance, kept = random.Random(1), []
for _ in range(600):
    json.loads(json.dumps([{"number": one, "text": str(one)} for one in range(chance.randrange(200, 3000))]))
    kept.append(bytearray(int(sys.argv[1])))
    with open("/proc/self/statm") as file:
        print(int(file.read().split()[1]) * 4096)
"""


@in_ci
@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="reads the memory of a process as Linux has it")
@pytest.mark.parametrize(("each", "later"), [(0, 0), (16 * KIB, 80), (64 * KIB, 0)])
def test_leaks_of_real_processes_are_confirmed_by_200_tokens(each: int, later: int) -> None:
    """They parse JSON, and keep some bytes of each token, or none.

    Of 16 KiB, ten tokens leave about as much behind as the holes of the heap take or give, which depend on where all
    else lies: the row may begin anew once.
    """
    done = subprocess.run([sys.executable, "-c", LEAKING, str(each)], capture_output=True, text=True, check=True)
    sizes = [float(line) for line in done.stdout.split()]
    found = verdicts(lambda token: sizes[token])

    assert found.keys() == ({"suspected", "confirmed"} if each else set())
    assert found.get("suspected", 0) < 130 + later
    assert found.get("confirmed", 0) < 200 + later
