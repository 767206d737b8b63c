"""`tokengate demo`, as it is typed."""

from __future__ import annotations

import json
import signal
import subprocess
from pathlib import Path

import programs
import pytest

pytestmark = pytest.mark.usefixtures("programs")

COMMAND = ["-m", "tokengate", "demo"]


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return programs.run(*COMMAND, *arguments)


@pytest.fixture
def sources(tmp_path: Path) -> Path:
    for number in range(8):
        (tmp_path / f"m{number}.py").write_text("def f(x):\n    return x and x\n" * (number + 1))
    (tmp_path / "broken.py").write_text("def f(:\n")
    return tmp_path


def test_the_demo_ends_with_its_table(sources: Path) -> None:
    """The most complex functions, the files that failed, totals, tokens by state, speed."""
    done = run(str(sources), "--verify")

    assert done.returncode == 0, done.stderr
    assert "Most complex functions" in done.stdout
    assert "  broken.py: " in done.stdout
    assert "8 files measured, 1 failed: 72 lines" in done.stdout
    assert "tokens per second" in done.stdout
    assert "verified: all 9 files and all totals are identical" in done.stdout


def test_json_is_one_object_and_nothing_else(sources: Path) -> None:
    """Scripts read stdout; progress goes elsewhere."""
    done = run(str(sources), "--json", "--verify", "--crash", "4", "--seed", "2")
    answer = json.loads(done.stdout)

    assert done.returncode == 0, done.stderr
    assert (answer["files"], answer["restarts"], answer["verified"]) == (9, 4, True)
    assert answer["tokens"]["failed"] == 5
    assert {"seconds", "tokens_per_second", "serial_seconds", "ratio_to_serial"} <= answer.keys()
    assert list(answer["failures"]) == [str(sources / "broken.py")]


@pytest.mark.parametrize("kind", ["missing", "file", "empty"])
def test_a_path_without_sources_is_an_error_in_one_line(tmp_path: Path, kind: str) -> None:
    """It names the path and what to give instead; exit code 2."""
    path = tmp_path / kind
    if kind == "file":
        path.write_text("")
    elif kind == "empty":
        path.mkdir()
    done = run(str(path))

    assert done.returncode == 2
    assert done.stdout == ""
    assert len(done.stderr.splitlines()) == 1
    assert str(path) in done.stderr


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_the_demo_with_a_truthful_partial_report(number: signal.Signals) -> None:
    """In order, soon, and with every file in one stage."""
    child = programs.Program(*COMMAND, "--json")
    assert child.stderr is not None
    child.stderr.readline()  # it is at work
    child.send_signal(number)
    stdout, _ = child.communicate()
    answer = json.loads(stdout)

    assert child.returncode == 130
    assert answer["finished"] is False
    assert sum(answer["stages"].values()) == answer["files"] > 1_000
    assert answer["abandoned"] == []
    live = sum(answer["tokens"][state] for state in ("created", "queued", "running", "paused"))
    assert live == 0
