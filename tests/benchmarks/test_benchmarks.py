"""The benchmarks run, in a tiny size, and print what they say; nothing here depends on how fast."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from tiers import in_ci

pytestmark = in_ci

HERE = Path(__file__).parent


def run(script: str, *arguments: str) -> list[str]:
    command = [sys.executable, str(HERE / script), *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=50, check=True).stdout.splitlines()


@pytest.mark.parametrize("script", ["run.py", "off.py"])
def test_each_workload_prints_a_line_of_json(script: str) -> None:
    """Its name, the Python, the pairs, the ratio with its spread, the target, whether it is met, and the figures."""
    names = run(script, "--list")
    lines = [json.loads(line) for line in run(script, "--scale", "0.001", "--pairs", "2")]

    assert [line["workload"] for line in lines] == names
    for line in lines:
        assert line["python"] == sys.version.split()[0]
        assert line["pairs"] in (1, 2)
        assert line["ratio"]["min"] <= line["ratio"]["median"] <= line["ratio"]["max"]
        ((sense, target),) = line["target"].items()
        assert sense in ("at_least", "at_most")
        if line["ratio"]["median"] != target:  # it is rounded
            assert line["met"] is ((line["ratio"]["median"] > target) == (sense == "at_least"))
        assert line["ours"].keys() == line["theirs"].keys()


def test_workloads_are_selected_by_the_beginning_of_their_names() -> None:
    """`W1 W3` are all workloads of these two; a name that none begins with is an error that lists them."""
    assert {name.split()[0] for name in run("run.py", "--list", "W1", "W3")} == {"W1", "W3"}
    with pytest.raises(subprocess.CalledProcessError) as caught:
        run("run.py", "W99")

    assert "no workload begins with ['W99']" in caught.value.stderr


def test_the_benchmark_of_control_prints_a_line_for_each_verb_and_way() -> None:
    """Beside an idle gate and under fire: the median, the 99th percentile and the longest call."""
    lines = [json.loads(line) for line in run("control.py", "--calls", "3")]

    assert [line["workload"] for line in lines] == [
        f"W9 {verb} by {way}" for way in ("python", "socket") for verb in ("ps", "describe", "pause", "terminate")
    ]
    for line in lines:
        assert 0 < line["fire"]["p50_ms"] <= line["fire"]["p99_ms"] <= line["fire"]["max_ms"]
        assert line["idle"].keys() == line["fire"].keys()


def test_the_benchmark_of_processes_prints_a_line_for_each_workload() -> None:
    """Against the peer, which is named with its start method, or against a limit."""
    names = run("processes.py", "--list")
    chosen = ("W11", "W12", "W14", "W15 ending a sleep")
    lines = [json.loads(line) for line in run("processes.py", "--scale", "0.001", "--pairs", "1", *chosen)]

    assert {name.split()[0] for name in names} == {"W10", "W11", "W12", "W13", "W14", "W15"}
    assert [line["workload"] for line in lines] == [name for name in names if name.startswith(chosen)]
    for line in lines:
        assert "start method" in line["peer"] or line["peer"] == "the limit"


def test_the_benchmark_of_affinities_prints_a_line_for_each_size_and_the_crossover() -> None:
    """How many of each size are done in a second by each kind, the ratios of these, and where they cross."""
    lines = [json.loads(line) for line in run("affinity.py", "--sizes", "1", "10", "--rounds", "1", "--quick")]

    assert [(line["at_once"] == 1_000, line.get("work_us")) for line in lines if line["workload"] == "affinity"] == [
        (False, 1),
        (False, 10),
        (True, 1),
        (True, 10),
    ]
    for line in lines:
        if line["workload"] == "affinity":
            assert line["per_second"].keys() == {"plain", "io", "cpu", "process"}
        else:
            assert line["work_us"].keys() == {"plain", "io", "cpu"}
