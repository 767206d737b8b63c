"""An exception that a signal's handler raises in the main thread leaves nothing lost and nothing deaf.

Each case of `interrupt_cases` is interrupted at points that chance chooses; TOKENGATE_TORTURE=1 tries all of them, and
all lines and bytecodes, and pairs of interrupts. `tests/stress/lines.py` does the same as a script.
"""

from __future__ import annotations

import os
import random
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from interrupt_cases import CASES
from interrupts import Grain
from tiers import in_ci

sys.path.insert(0, str(Path(__file__).parents[2] / "stress"))

from lines import Run  # from the directory above

TORTURE = os.environ.get("TOKENGATE_TORTURE") == "1"
STRIKES = 100  # of all cases together, when time is short
LIMIT = 60.0  # seconds within which tokens end and calls are served; reached only when something is broken


@pytest.fixture
def run() -> Iterator[Run]:
    """A gate for all cases, which is replaced when something is found."""
    run = Run(LIMIT)
    yield run
    assert run.drop_bench() == ""


def found(run: Run) -> str:
    faults, run.faults = run.faults, []
    return "\n".join(map(str, faults))


@in_ci
def test_an_interrupt_where_cpython_looks_for_signals_loses_nothing(run: Run, seed: int) -> None:
    """A few points of some cases: all tokens end, none runs twice, and calls of all kinds are served."""
    chance = random.Random(seed)
    run.grain = "signal"
    cases = chance.sample(CASES, len(CASES))
    while run.strikes < STRIKES:
        case = cases.pop()
        points = run.points(case)
        for at in sorted(chance.sample(range(1, points + 1), min(points, 6))):
            run.once(case, at)
        cases.insert(0, case)

    assert found(run) == ""


@pytest.mark.skipif(not TORTURE, reason="the long tier: TOKENGATE_TORTURE=1")
@pytest.mark.parametrize("grain", ["signal", "line", "opcode"])
def test_an_interrupt_at_any_point_loses_nothing(run: Run, grain: Grain) -> None:
    """Every point of every case."""
    run.grain = grain
    for case in CASES:
        run.case(case)

    assert found(run) == ""


@pytest.mark.skipif(not TORTURE, reason="the long tier: TOKENGATE_TORTURE=1")
@pytest.mark.parametrize("again", [1, 2, 3, 5, 8, 13, 21])
def test_two_interrupts_lose_nothing(run: Run, again: int) -> None:
    """The second strikes what the first has set going: handlers, `finally` blocks, the ends of `with` blocks."""
    run.grain = "line"
    for case in CASES:
        run.case(case, again)

    assert found(run) == ""
