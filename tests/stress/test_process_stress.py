"""The storms on processes run, for a moment, and find nothing; TOKENGATE_TORTURE=1 runs them in full."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from tiers import in_ci

pytestmark = in_ci

HERE = Path(__file__).parent

TORTURE = os.environ.get("TOKENGATE_TORTURE") == "1"


def run(storm: str, seed: int, usual: int, torture: int, seconds: float) -> dict[str, Any]:
    """Run a storm of so many rounds, or as many as fit into some seconds; return its report."""
    command = [sys.executable, str(HERE / "processes.py"), storm, "--seed", str(seed), "--json"]
    command += ["--rounds", str(torture)] if TORTURE else ["--rounds", str(usual), "--seconds", str(seconds)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=7200 if TORTURE else 300, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    report: dict[str, Any] = json.loads(done.stdout)
    assert (report["storm"], report["seed"], report["failures"]) == (storm, seed, [])
    return report


def test_workers_that_are_killed_under_load_cost_the_token_that_each_ran_and_nothing_else(seed: int) -> None:
    """By a ledger that the tokens keep themselves: none is lost, none runs twice, and each kill fails one at most."""
    report = run("kill", seed, 25, 10_000, 1.0)

    assert report["kills"] >= 1
    assert sum(report["states"].values()) == report["tokens"]
    assert report["states"].get("failed", 0) <= report["kills"]


def test_tokens_that_take_their_process_along_are_not_run_again_and_harm_no_other(seed: int) -> None:
    """Of `os._exit`, a segmentation fault and a result that cannot be pickled, each is an error, once."""
    report = run("exits", seed, 500, 20_000, 10)

    assert {"exit", "segfault", "unpicklable"} <= report["fates"].keys()
    assert sum(report["states"].values()) == report["tokens"]


def test_an_actor_whose_process_is_killed_loses_one_message_and_its_state_and_no_other_message(seed: int) -> None:
    """Its supervisor starts it again, and what was queued is handled by the next instance, once."""
    report = run("actors", seed, 15, 2_000, 1.0)

    assert sum(report["states"].values()) == report["messages"]
    assert report["states"].get("failed", 0) <= report["kills"]


def test_what_operators_do_at_random_beside_kills_loses_nothing_and_runs_nothing_twice(seed: int) -> None:
    """What is paused stands still, what is ended is gone, and all others have their results."""
    report = run("chaos", seed, 50, 10_000, 1.5)

    assert sum(report["states"].values()) == report["tokens"]


def test_no_worker_outlives_its_parent(seed: int) -> None:
    """Whatever it is in: a sleep, C code that holds the interpreter's lock, a loop, a stop by the gate."""
    report = run("parent", seed, 1, 100, 10)

    assert report["parents"] >= 1


def test_what_cannot_be_interrupted_is_ended_and_the_next_result_is_right(seed: int) -> None:
    """A sleep, a regular expression, a loop, and NumPy's code where it is installed."""
    report = run("terminate", seed, 2, 200, 10)

    assert {"sleep", "regex", "loop"} <= report.keys()
