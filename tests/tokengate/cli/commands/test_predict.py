"""Commands about predictions, rules and interventions: `calibration`, `rules`, `interventions`."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.shell_completion import ShellComplete
from click.testing import CliRunner, Result

from tokengate import Gate
from tokengate.cli import main
from tokengate.control.registry import Plugin
from tokengate.errors import BadRequest
from tokengate.predict._kinds import (
    CalibrationRow,
    Calibrations,
    InterventionDetails,
    InterventionRow,
    Interventions,
    RuleRow,
    Rules,
    SetModeOfRule,
    ShowIntervention,
    UndoIntervention,
)

RULE = RuleRow(
    "big-renders", "operation=render,memory.share>0.9", "reroute process", "act", "propose",
    "people have undone 3 of its interventions within an hour", 4, 3.0, 1, 2.0, 600.0, "5/min, 10%",
    at_submit=False, counts={"active": 2, "refused": 1}, acted="2 ended: not known yet",
)  # fmt: skip
MADE = InterventionRow(
    3, "big-renders", "reroute process", "token 17", "render", "7f3a91c2.17", "active", "", 1_790_000_000.0, 125.0
)
EXPLAINED = (
    "matches operation=render, memory.share>0.9 (0.95)",
    "expected: run 2.1 s, 95 of 100 below 8 s (n 812, of the latest 500 95.2 % stayed below; calibrated)",
    "against the operation's usual token: bytes x3.1, tenant=acme x1.2",
)


class Predict(Plugin):
    """Stands in for the plugin of this name: it has the same rows in each run."""

    def __init__(self) -> None:
        self.modes: list[tuple[str, str, str]] = []

    def answers(self, _gate: Any, /) -> Predict:
        return self

    async def calibrations(self, message: Calibrations) -> tuple[CalibrationRow, ...]:
        rows = (
            CalibrationRow("parse", "run", 812, 0.952, (0.96, 0.95, 0.946), (), calibrated=True, estimator="line"),
            CalibrationRow("parse", "failing", 812, 0.041, (0.01, 0.04, 0.073), (0.01, 0.05, 0.08), calibrated=True),
            CalibrationRow(
                "render", "run", 120, 0.9, (0.9, 0.9, 0.9), (), calibrated=False, why="120 of 200 records", drifts=1
            ),
        )
        return tuple(row for row in rows if message.select in ("", row.operation))

    async def rules(self, _message: Rules) -> tuple[RuleRow, ...]:
        return (RULE,)

    async def set_mode_of_rule(self, message: SetModeOfRule) -> RuleRow:
        if message.name != RULE.name:
            raise BadRequest(f"there is no rule '{message.name}'; the rules are: {RULE.name}")
        self.modes.append((message.name, message.mode, message.reason))
        return RULE

    async def interventions(self, message: Interventions) -> tuple[InterventionRow, ...]:
        return (MADE,) if message.select in ("", "active") else ()

    async def show_intervention(self, message: ShowIntervention) -> InterventionDetails:
        assert message.number == MADE.number
        before, after = {"affinity": "cpu", "begun": False}, {"affinity": "process", "begun": False}
        undone = "it goes back, unless it has begun"
        return InterventionDetails(MADE, EXPLAINED, before, after, undone, "", "n 2: not known yet", "", 3.0, 18.0)

    async def undo_intervention(self, message: UndoIntervention) -> InterventionRow:
        raise BadRequest(f"intervention {message.number} is not undone: it has begun")


@pytest.fixture
def predict() -> Iterator[Predict]:
    with Gate("ruled", plugins=[plugin := Predict()]):
        yield plugin


def run(*arguments: str) -> Result:
    return CliRunner().invoke(main, (*arguments, "-g", "ruled"), prog_name="tokengate")


def offered(arguments: list[str], incomplete: str) -> list[str]:
    found = ShellComplete(main, {}, "tokengate", "_TOKENGATE_COMPLETE").get_completions(arguments, incomplete)
    return [item.value for item in found]


@pytest.mark.usefixtures("predict")
def test_calibration_shows_coverage_in_percent_by_thirds_and_why_it_is_not_enough() -> None:
    """One operation of a name, or all; JSON has every field."""
    table = run("calibration").stdout.splitlines()
    parse = json.loads(run("calibration", "parse", "--json").stdout)
    missing = run("calibration", "other")

    assert table[0].split() == [
        "OPERATION", "TARGET", "N", "COVERAGE", "THIRDS", "PREDICTED", "CALIBRATED", "WHY", "ESTIMATOR", "DRIFTS",
    ]  # fmt: skip
    assert "96.0%, 95.0%, 94.6%" in table[1]
    assert "1.0%, 5.0%, 8.0%" in table[2]
    assert "no" in table[3].split()
    assert "120 of 200 records" in table[3]
    assert [(row["target"], row["coverage"]) for row in parse] == [("run", 0.952), ("failing", 0.041)]
    assert missing.exit_code == 1
    assert missing.stderr == (
        "Error: nothing was learned of an operation 'other'; 'tokengate calibration' lists the others\n"
    )


@pytest.mark.usefixtures("predict")
def test_rules_show_the_mode_in_the_file_and_the_one_in_force_and_why_they_differ() -> None:
    """The rest is in a wide table."""
    short, long = run("rules").stdout.splitlines(), run("rules", "-o", "wide").stdout.splitlines()

    assert short[0].split() == ["NAME", "SELECT", "DO", "MODE", "IN", "FORCE", "WHY", "MEANT", "LEFT", "ACTIVE"]
    assert short[1].split()[3:7] == ["process", "act", "propose", "people"]
    assert short[1].split()[-3:] == ["4", "3", "1"]
    assert {"WAITS", "EXPIRES", "BUDGET", "COUNTS", "ACTED"} < set(long[0].split())
    assert "active=2,refused=1" in long[1]


def test_a_rule_gets_another_mode_for_a_reason(predict: Predict) -> None:
    """Its answer is the rule's row; a wrong name or mode is an error that names what there is."""
    done = run("rules", "mode", "big-renders", "propose", "--reason", "it was right")
    unknown, wrong = run("rules", "mode", "big", "act"), run("rules", "mode", "big-renders", "dream")

    assert predict.modes == [("big-renders", "propose", "it was right")]
    assert done.stdout.splitlines()[1].startswith("big-renders")
    assert (unknown.exit_code, unknown.stderr) == (2, "Error: there is no rule 'big'; the rules are: big-renders\n")
    assert (wrong.exit_code, "'observe', 'propose', 'act'" in wrong.stderr) == (2, True)


@pytest.mark.usefixtures("predict")
def test_an_intervention_explains_itself() -> None:
    """Its list is a line for each; `show` has what was decided from, line by line, and what undoing it does."""
    table = run("interventions").stdout.splitlines()
    shown = dict(line.split(maxsplit=1) for line in run("interventions", "show", "3").stdout.splitlines())
    details = json.loads(run("interventions", "show", "3", "--json").stdout)

    assert table[0].split() == ["NUMBER", "RULE", "VERB", "TARGET", "STATE", "AT", "UNDONE", "IN"]
    assert table[1].split()[-1] == "2m05s"
    assert run("interventions", "refused").stdout == "none\n"
    assert details["explained"] == list(EXPLAINED)
    lines = run("interventions", "show", "3").stdout.splitlines()
    assert [line.split(maxsplit=1)[1] for line in lines if line.startswith("explained")] == list(EXPLAINED)
    assert shown["before"] == "affinity=cpu,begun=False"
    assert shown["undo"] == "it goes back, unless it has begun"


@pytest.mark.usefixtures("predict")
def test_what_cannot_be_undone_says_why() -> None:
    """With the exit code of a wrong request."""
    found = run("interventions", "undo", "3", "--reason", "needed")

    assert (found.exit_code, found.stderr) == (2, "Error: intervention 3 is not undone: it has begun\n")


@pytest.mark.usefixtures("predict")
def test_tab_offers_operations_rules_and_commands() -> None:
    """An operation once, though it has a row for each target."""
    assert offered(["calibration", "-g", "ruled"], "") == ["parse", "render"]
    assert offered(["rules", "mode", "-g", "ruled"], "") == ["big-renders"]
    assert offered(["rules"], "") == ["list", "mode"]
    assert offered(["interventions"], "") == ["list", "show", "undo"]


def test_a_gate_without_the_plugin_names_it() -> None:
    """As with all verbs of plugins."""
    with Gate("ruled"):
        found = [run(*words) for words in (("rules",), ("interventions", "show", "1"), ("calibration",))]

    assert {one.exit_code for one in found} == {1}
    assert all("open it with plugins=[Predict()]" in one.stderr for one in found)


def test_check_reads_rules(tmp_path: Path) -> None:
    """Each value has its line; a wrong one has its place and the remedy."""
    file = tmp_path / "tokengate.toml"
    file.write_text('[[rule]]\nname = "long"\nselect = "run.p50>2s"\ndo = "renice -1"\n')
    good = CliRunner().invoke(main, ("check", str(file)))
    file.write_text('[[rule]]\nname = "long"\nselect = "run.p50>soon"\ndo = "renice -1"\n')
    bad = CliRunner().invoke(main, ("check", str(file)))

    assert (good.exit_code, good.stdout.splitlines()[-1]) == (0, f"{file} has no errors")
    assert bad.exit_code == 2
    assert f"{file}:3: rule[0].select is 'run.p50>soon'; " in bad.stderr
