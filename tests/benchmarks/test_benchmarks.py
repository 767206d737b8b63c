"""The benchmarks run in a tiny size and print their tables; nothing here depends on speed."""

from __future__ import annotations

import json
import runpy
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import programs
import psutil
import pytest
from tiers import in_ci

pytestmark = [in_ci, pytest.mark.usefixtures("programs")]

HERE = Path(__file__).parent
ROWS = runpy.run_path(str(HERE / "_rows.py"))["ROWS"]
PEERS = runpy.run_path(str(HERE / "_peers.py"))


def run(script: str, *arguments: str) -> list[str]:
    command = [sys.executable, str(HERE / script), *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=True).stdout.splitlines()


def lines_of(*arguments: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in run("run.py", "--json", "--no-install", *arguments)]


@pytest.mark.parametrize(("label", "path"), sorted({side for row in ROWS for side in row.sides.items()}))
def test_each_side_of_each_row_gives_a_figure(label: str, path: str) -> None:
    """In a moment, in a process of its own; one that needs a package which is not installed is skipped."""
    command = [str(HERE / "_sample.py"), path, "4"]
    if label in PEERS["PACKAGES"]:
        try:
            command.insert(0, PEERS["python_for"](label, install=False))
        except PEERS["Missing"] as missing:
            pytest.skip(str(missing))
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    else:
        done = programs.run(*command)
    if "ModuleNotFoundError" in done.stderr:
        pytest.skip(done.stderr.splitlines()[-1])

    assert done.returncode == 0, done.stderr
    sample = json.loads(done.stdout.splitlines()[-1])
    assert sample["figure"] > 0 or path == "ours.off"  # a difference of two times
    assert sample.get("cpu", 0) >= 0


TWO_SIDES = f"""
import sys
sys.path.insert(0, {str(HERE)!r})
import _rows
sides = {{"TokenGate": "ours.direct_call", "ThreadPoolExecutor": "on_executors.threads.round_trips"}}
_rows.ROWS = (_rows.Row("two sides", 4, sides, _rows.times(3.5, "ThreadPoolExecutor")),)
import run
sys.argv = ["run.py", "--json", "--samples", "2"]
sys.exit(run.main())
"""


def test_a_row_is_a_line_of_json_for_each_mode() -> None:
    """The time of each side, with that of the processor, how many times as fast we are, and the goal."""
    done = programs.run("-c", TWO_SIDES)
    assert done.returncode == 0, done.stderr
    lines = [json.loads(line) for line in done.stdout.splitlines()]

    assert [line["mode"] for line in lines] == ["free", "busy"]
    for line in lines:
        ours, theirs = line["sides"].values()
        assert (line["python"], line["samples"]) == (sys.version.split()[0], 2)
        assert ours.keys() == {"version", "python", "figure", "cpu"}
        assert theirs.keys() == {"version", "python", "figure", "cpu", "times", "cpu_times"}
        for spread in (ours["figure"], ours["cpu"], theirs["times"]):
            assert spread["min"] <= spread["median"] <= spread["max"]
        assert (line["goal"] is None) is (line["met"] is None)
    assert lines[0]["goal"] == "3.5 times ThreadPoolExecutor"
    assert lines[0]["met"] is (lines[0]["sides"]["ThreadPoolExecutor"]["times"]["median"] >= 3.5)


def test_lines_of_several_runs_make_one_table(tmp_path: Path) -> None:
    """A row for each line, below the date, the Python and the versions; what was left out stands below."""
    file = tmp_path / "lines"
    file.write_text("\n".join(run("run.py", "--json", "--rows", "off:", "--scale", "0.001", "--samples", "1")))
    printed = run("run.py", "--from", str(file), str(file))

    assert sys.version.split()[0] in printed[0]
    assert "TokenGate" in printed[1]
    assert len([line for line in printed if line.startswith("| off: a decorated call, no gate open | ")]) == 4


def test_a_peer_that_is_not_installed_is_named_and_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The others are measured, and the run succeeds."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))

    (line,) = lines_of("--rows", "1,000 asks in flight, cpu", "--scale", "0.001", "--samples", "1", "--mode", "free")

    assert list(line["sides"]) == ["TokenGate", "pykka"]
    assert line["left_out"].keys() == {"async-pykka", "everything-is-an-actor", "casty"}
    assert all("--no-install" in reason for reason in line["left_out"].values())


BROKEN = f"""
import sys
sys.path.insert(0, {str(HERE)!r})
import _rows
_rows.ROWS = (_rows.Row("broken", 4, {{"TokenGate": "ours.nothing", "trio": "on_trio.ask"}}),)
import run
sys.argv = ["run.py", "--json", "--mode", "free", "--samples", "1"]
sys.exit(run.main())
"""


def test_a_side_that_fails_is_named_and_the_run_fails() -> None:
    """The other sides are measured."""
    done = programs.run("-c", BROKEN)

    assert done.returncode == 1
    assert "broken, free: TokenGate failed: AttributeError" in done.stderr
    line = json.loads(done.stdout)
    assert list(line["sides"]) == ["trio"]
    assert line["left_out"]["TokenGate"].startswith("AttributeError")


def test_rows_are_selected_by_a_part_of_their_names() -> None:
    """A text that no row has is an error."""
    assert run("run.py", "--list", "--rows", "ask from", "SLEEPERS") == [
        "ask from a thread, cpu actor",
        "10,000 sleepers",
        "10,000 sleepers on asyncio",
    ]
    with pytest.raises(subprocess.CalledProcessError) as caught:
        run("run.py", "--rows", "W99")

    assert "no row has one of the texts ['W99'] in its name" in caught.value.stderr


def test_ctrl_c_ends_all_children_and_prints_what_was_measured() -> None:
    """The process that takes the sample and the ones that keep the cores busy are gone before the driver is."""
    command = [sys.executable, str(HERE / "run.py"), "--rows", "10,000 sleepers", "--mode", "busy", "--samples", "1000"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as driver:
        assert driver.stderr
        while driver.stderr.read(1) != ".":
            pass
        children = psutil.Process(driver.pid).children(recursive=True)
        driver.send_signal(signal.SIGINT)
        _, errors = driver.communicate(timeout=120)

    assert driver.returncode == 130
    assert errors.splitlines()[-1] == "interrupted"
    assert children
    assert not psutil.wait_procs(children, timeout=0)[1]


def test_the_benchmark_of_control_prints_a_line_for_each_verb_and_way() -> None:
    """Beside an idle gate and under fire: the median, the 99th percentile and the longest call."""
    lines = [json.loads(line) for line in run("control.py", "--calls", "3")]

    assert [line["workload"] for line in lines] == [
        f"{verb} by {way}" for way in ("python", "socket") for verb in ("ps", "describe", "pause", "terminate")
    ]
    for line in lines:
        assert 0 < line["fire"]["p50_ms"] <= line["fire"]["p99_ms"] <= line["fire"]["max_ms"]
        assert line["idle"].keys() == line["fire"].keys()


def test_the_benchmark_of_the_admin_page_prints_a_line_for_each_verb() -> None:
    """With what it costs the loop of the gate."""
    lines = [json.loads(line) for line in run("admin.py", "--tokens", "3000", "--calls", "2")]

    assert {"info", "list, deep", "describe", "propose, all", "overview"} <= {line["workload"] for line in lines}
    for line in lines:
        assert 0 < line["p50_ms"] <= line["max_ms"]
        assert 0 < line["held_ms"] <= line["held_wall_ms"] + 1


def test_the_benchmark_of_open_pages_prints_a_line_for_each_workload() -> None:
    """By the socket and by HTTP: alone, beside pages that get their rows at each tick, and beside a flood."""
    printed = run("admin_pages.py", "--tokens", "500", "--rounds", "1", "--seconds", "1")
    lines = {line["workload"]: line for line in map(json.loads, printed)}

    for what in ("list", "info", "GET 50 of 200", "POST renice"):
        for way in ("", ", beside ten pages", ", beside a flood"):
            line = lines[what + way]
            assert 0 < line["p50_ms"] <= line["p99_ms"] <= line["max_ms"]
    assert lines["ten pages"]["200"] >= 10
    assert lines["a flood"]["200"] > 0
    assert 0 < lines["proposal of all"]["bytes"] <= 65_536
    assert 0 < lines["memory of the daemon"]["start_mib"] <= lines["memory of the daemon"]["end_mib"]


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


def test_the_benchmark_of_overload_prints_a_line_for_each_experiment() -> None:
    """In a fifth of its time: what was answered in time, and whether that is what is wanted."""
    command = ("overload.py", "--here", "--slower", "0.2", "--seconds", "0.5", "--after", "0.5")
    lines = {line["workload"]: line for line in map(json.loads, run(*command))}

    assert {f"load {times}, {way}" for times in (1, 2, 4, 8) for way in ("policy", "deadline only", "none")} < {*lines}
    for line in lines.values():
        assert line["python"] == sys.version.split()[0]
        assert ("met" in line) is ("target" in line)
    for name in ("load 2, policy", "load 2, none"):
        assert sum(lines[name]["ends"].values()) > 0
        assert len(lines[name]["by_half_second"]) >= 1
    assert lines["retries, policy"]["attempts"] >= 1
    assert lines["rate"]["most_beyond"] <= 1


def test_the_benchmark_of_the_audit_log_prints_a_line_for_each_figure() -> None:
    """What was measured, what is wanted, and whether that is met."""
    lines = [json.loads(line) for line in run("audit.py", "--number", "40")]

    assert [line["what"].split()[0].strip(",") for line in lines] == [
        "intent", "intent", "intent", "throughput", "record", "record", "verification", "naming",
    ]  # fmt: skip
    assert all(line["value"] > 0 for line in lines)


def test_the_benchmark_of_prediction_prints_a_line_for_each_part() -> None:
    """What a call costs with each, what a look and a prediction cost, and the memory of a token."""
    lines = [json.loads(line) for line in run("predict_cost.py", "--rounds", "1", "--number", "1000", "--live", "100")]

    parts = {line["part"]: line for line in lines}
    assert {"bare", "telemetry", "predict", "features", "rule, no match", "rule, match"} < parts.keys()
    assert all(line["us"] > 0 for line in lines if "us" in line)
    assert parts["look"]["ms"] > 0
    assert 0 < parts["memory"]["bytes"]["telemetry"] < parts["memory"]["bytes"]["features"]


def test_the_benchmark_of_shortest_first_prints_a_line_for_each_experiment() -> None:
    """Each with what was measured, beside what was simulated."""
    tiny = ("--data", "files", "--calls", "60", "--learned", "60", "--mean", "0.002", "--rounds", "1")
    lines = [json.loads(line) for line in run("shortest_first.py", *tiny)]

    assert [line["experiment"] for line in lines] == ["rule", "rule, undone"]
    for line in lines:
        assert line["measured"].keys() == line["simulated"].keys() == {"slowdown", "longest", "wait"}
