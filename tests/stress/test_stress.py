"""The stress scripts run, for a moment, and find nothing."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from pathlib import Path

from tiers import in_ci

pytestmark = in_ci

HERE = Path(__file__).parent


def test_reading_stacks_works_for_a_moment() -> None:
    """Of threads that run on while a collection in a reading thread runs finalizers."""
    command = [sys.executable, str(HERE / "frames.py"), "--seconds", "3"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    report = json.loads(done.stdout)

    assert report["tokens"] >= 1
    assert report["reads"].keys() == {"variables", "tokens", "steps"}
    assert report["failures"] == []


def test_stopping_code_at_random_works_for_a_moment() -> None:
    """One line of JSON for each shape of code, with counts and times, and one of the failures: none."""
    seed = random.SystemRandom().randrange(2**32)
    command = [sys.executable, str(HERE / "interrupt.py"), "--minutes", "0.02", "--seed", str(seed)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    first, *shapes, last = map(json.loads, done.stdout.splitlines())

    assert first["seed"] == seed
    assert last == {"failures": []}
    assert len(shapes) == 9
    for line in shapes:
        assert line["rounds"] >= 1
        assert {"p50_ms", "p99_ms", "max_ms"} <= line.keys()
