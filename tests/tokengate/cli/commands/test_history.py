"""Commands about the past: `history`, `history show`, `operations`."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
from click.testing import CliRunner, Result

from tokengate import Gate, token
from tokengate.cli import main
from tokengate.control.messages import Event
from tokengate.history import History
from tokengate.telemetry import Telemetry

Until = Callable[[Callable[[], bool]], None]


@token
def work(x: int) -> float:
    return 1 / x


def run(*arguments: str) -> Result:
    return CliRunner().invoke(main, arguments, prog_name="tokengate")


@pytest.fixture
def made(tmp_path: Path) -> list[int]:
    """The ids of two tokens of a gate that has closed: one completed, one failed."""
    with Gate("shop", plugins=[History(tmp_path)]):
        tokens = []
        for x in (1, 0):  # one after the other, so that the newest one is known
            tokens.append(work.submit(x))
            tokens[-1].exception(30)
    return [one.id for one in tokens]


def test_the_past_of_a_gate_that_runs_is_asked_of_it(tmp_path: Path, until: Until) -> None:
    """As a table, and as one JSON object a line, which have the form of `Event`."""
    with Gate("past", plugins=[history := History(tmp_path)]):
        work.with_options(tags={"tenant": "acme"}).submit(1).result(30)
        until(lambda: sum(one.completed for one in history.operations()) == 1)
        table = run("history", "operation=work", "--since", "1h", "-g", "past").stdout.splitlines()
        lines = run("history", "tenant=acme", "-g", "past", "--json").stdout.splitlines()
        (event,) = [msgspec.json.decode(line, type=Event) for line in lines]
        shown = run("history", "show", str(event.uid), "-g", "past", "--json").stdout.splitlines()
        live = json.loads(run("operations", "work", "-g", "past", "--json").stdout)
        past = json.loads(run("operations", "work", "--since", "1h", "-g", "past", "--json").stdout)

    assert table[0].split() == ["AT", "TOKEN", "OPERATION", "STATE", "WAIT", "RUN", "FOR", "TEXT"]
    assert table[1].split()[2:5] == [event.uid, "work", "completed"]
    assert None not in json.loads(lines[0]).values()
    assert event.tags == {"tenant": "acme"}
    assert shown == lines
    assert [(row["name"], row["completed"]) for row in (*live, *past)] == [("work", 1), ("work", 1)]


def test_the_files_of_a_gate_that_does_not_run_are_read(tmp_path: Path, made: list[int]) -> None:
    """`--dir` takes the directory that History was given, or the one with the files."""
    for directory in (tmp_path, tmp_path / "history"):
        lines = run("history", "state=failed", "--dir", str(directory), "--json").stdout.splitlines()
        shown = run("history", "show", str(made[0]), "--dir", str(directory)).stdout
        figures = json.loads(run("operations", "--since", "1d", "--dir", str(directory), "--json").stdout)

        assert [json.loads(line)["token"] for line in lines] == [made[1]]
        assert "completed" in shown
        assert [(row["name"], row["completed"], row["failed"]) for row in figures] == [("work", 1, 1)]


def test_errors_say_what_to_do(tmp_path: Path, made: list[int]) -> None:
    """Times, selectors, ids, directories, and gates without the plugin."""
    there = ("--dir", str(tmp_path))
    (tmp_path / "empty").mkdir()
    with Gate("plain", plugins=[Telemetry()]):
        missing = run("history", "-g", "plain").stderr
        no_past = run("operations", "--since", "1h", "-g", "plain").stderr

    assert "'soon' is no time; write how long ago" in run("history", "--since", "soon", *there).stderr
    assert "'running' is of live tokens" in run("history", "running>1", *there).stderr
    assert "history knows no token 999" in run("history", "show", "999", *there).stderr
    assert "has no history; name the directory" in run("history", "--dir", str(tmp_path / "empty")).stderr
    assert run("history", "state=expired", *there).exit_code == 1
    assert "'reson' is taken for a tag; write reason if that field is meant" in run("history", "reson=x", *there).stderr
    unknown = run("operations", "nosuch", *there)
    assert (unknown.exit_code, "no operation matches 'nosuch'" in unknown.stderr) == (1, True)
    assert "open it with plugins=[History(directory)]" in missing
    assert "keeps no history" in no_past


def test_a_limit_takes_the_newest_and_says_so(tmp_path: Path, made: list[int]) -> None:
    """The order is that of time."""
    result = run("history", "operation=work", "-n", "1", "--dir", str(tmp_path), "--json")

    assert [json.loads(line)["token"] for line in result.stdout.splitlines()] == [max(made)]
    assert "These are the newest 1" in result.stderr
