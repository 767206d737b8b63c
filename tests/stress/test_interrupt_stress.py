"""The storms of signals run, for a moment, and find nothing; TOKENGATE_TORTURE=1 runs them in full."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from tiers import in_ci

pytestmark = in_ci

HERE = Path(__file__).parent

TORTURE = os.environ.get("TOKENGATE_TORTURE") == "1"


def run(script: str, seed: int, *options: str) -> dict[str, Any]:
    """Run a script in a process of its own, whose main thread is struck; return its report."""
    command = [sys.executable, str(HERE / script), "--seed", str(seed), *options]
    done = subprocess.run(command, capture_output=True, text=True, timeout=7200 if TORTURE else 300, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    report: dict[str, Any] = json.loads(done.stdout)
    assert report["seed"] == seed
    return report


def test_a_program_that_is_interrupted_at_random_and_goes_on_loses_nothing(seed: int) -> None:
    """Over all affinities, by a ledger outside of the runtime: all tokens end, and the next call is served."""
    count, seconds = ("10000", "1800") if TORTURE else ("300", "3")
    report = run("signals.py", seed, "--interrupts", count, "--seconds", seconds)

    assert report["in_runtime"] >= 10
    assert report["failures"] == []


@pytest.mark.parametrize("way", ["close", "trio", "asyncio", "open", "exit"])
def test_several_signals_close_together_leave_no_gate_half_open(way: str, seed: int) -> None:
    """They strike while gates close and open: each gate is closed in time, nothing is left, and programs end."""
    count = (50, 1) if way == "exit" else (1_000, 10)
    gates = str(count[0 if TORTURE else 1])
    report = run("closes.py", seed, "--way", way, "--gates", gates)

    assert report["gates"] == count[0 if TORTURE else 1]
    assert report["failed"] == 0
