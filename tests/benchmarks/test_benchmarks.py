"""The benchmarks run, in a tiny size, and print what they say; nothing here depends on how fast."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

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
