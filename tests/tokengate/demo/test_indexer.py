"""The demo's run against the plain loop, with faults and without."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tokengate import Gate, TokenState
from tokengate.demo import Outcome, Serial, differences, find_sources, run_indexer, run_serially
from tokengate.demo._measure import Complexity


@pytest.fixture(autouse=True)
def _patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A run is given the time of a busy machine to close."""
    monkeypatch.setattr("tokengate.demo._indexer._CLOSE", 60.0)


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Good files of several sizes, and some that are broken on purpose."""
    root = tmp_path_factory.mktemp("sources")
    for number in range(60):
        folder = root / f"package_{number % 5}"
        folder.mkdir(exist_ok=True)
        body = "".join(f"def f{i}(x):\n    return x if x else {i}\n\n" for i in range(number * 3))
        (folder / f"module_{number}.py").write_text(body)
    (root / "syntax.py").write_bytes(b"def f(:\n")
    (root / "null.py").write_bytes(b"x = 1\0\n")
    (root / "encoding.py").write_bytes(b"# coding: nonsense\n")
    (root / "gone.py").symlink_to(root / "nowhere.py")
    (root / "folder.py").mkdir()
    os.mkfifo(root / "pipe.py")
    (root / "notes.txt").write_text("no source")
    return find_sources(root)


@pytest.fixture(scope="module")
def serial(sources: list[str]) -> Serial:
    """What the plain loop finds."""
    return run_serially(sources, lambda _: None)


def run(paths: list[str], crashes: int = 0, seed: int = 0) -> Outcome:
    return run_indexer(paths, crashes=crashes, seed=seed, look=lambda *_: None, opened=lambda _: None)


def test_a_run_agrees_with_the_plain_loop_file_by_file(sources: list[str], serial: Serial) -> None:
    """And each broken file is a failed token, listed with its reason."""
    outcome = run(sources)

    assert differences(outcome, serial) == []
    assert outcome.report.stages == {"indexed": 60, "failed": 4}
    assert outcome.statistics.tokens[TokenState.FAILED] == 4
    assert {Path(path).name for path in outcome.report.failures} == {"syntax.py", "null.py", "encoding.py", "gone.py"}
    assert outcome.shutdown.clean


@pytest.mark.parametrize("seed", [7, 8, 9])
def test_twenty_crashes_lose_nothing_and_count_nothing_twice(sources: list[str], serial: Serial, seed: int) -> None:
    """Each crash is a restart and a failed token; the totals are those of the plain loop."""
    outcome = run(sources, crashes=20, seed=seed)

    assert differences(outcome, serial) == []
    assert (outcome.crashes, outcome.statistics.restarts) == (20, 20)
    assert outcome.statistics.tokens[TokenState.FAILED] == 4 + 20


def test_more_crashes_than_files_all_happen(sources: list[str]) -> None:
    """A file whose token failed with a crash is sent again, as often as it takes."""
    outcome = run(sources[-1:], crashes=5, seed=1)

    assert (outcome.crashes, outcome.statistics.restarts) == (5, 5)
    assert outcome.finished


def test_a_run_that_is_stopped_reports_how_far_it_came(sources: list[str]) -> None:
    """Every file is in one stage, and every token in a terminal state."""
    outcome = run_indexer(sources, crashes=0, seed=0, look=lambda *_: None, opened=Gate.request_stop)

    assert sum(outcome.report.stages.values()) in (0, len(sources))
    live = (TokenState.CREATED, TokenState.QUEUED, TokenState.RUNNING, TokenState.PAUSED)
    assert sum(outcome.statistics.tokens[state] for state in live) == 0
    assert outcome.shutdown.abandoned == ()


def test_a_difference_is_found_and_named(sources: list[str], serial: Serial) -> None:
    """The check can fail."""
    outcome = run(sources)
    path = next(iter(serial.measures))
    wrong = {**serial.measures, path: type(serial.measures[path])(1, 1, 1, 1, 1, Complexity("f", 1, 1))}
    found = differences(outcome, type(serial)(wrong, {**serial.failures, "x.py": "odd"}, 1.0))

    assert [line.partition(":")[0] for line in found] == [path, "x.py", "totals"]
