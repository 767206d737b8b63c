"""Commands about predictions, rules and interventions: `calibration`, `rules`, `interventions`, `predict`."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import attrs
import pytest
from click.shell_completion import ShellComplete
from click.testing import CliRunner, Result
from predictions import Foreseeing, foreseeing
from ruled import EXPLAINED, MADE, RULE, Predict

from tokengate import Gate, token
from tokengate.cli import main
from tokengate.control.rendering._tables import as_text
from tokengate.history import History
from tokengate.predict._outcomes import CalibrationRow

Until = Callable[[Callable[[], bool]], None]


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
        "OPERATION", "TARGET", "N", "COVERAGE", "THIRDS", "PREDICTED", "CALIBRATED", "WHY", "ESTIMATOR",
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
    assert {"WAITS", "LASTS", "BUDGET", "COUNTS", "ACTED"} < set(long[0].split())
    assert "active=2,refused=1" in long[1]


def test_80_columns_have_room_for_each_word_and_the_beginning_of_why() -> None:
    """What can be spared is not there: the selector of a rule, the time of an intervention, an estimator."""
    made = attrs.evolve(
        MADE,
        number=10**7,
        state="held back",
        target="billing/renderers/second",
        why="5 of 100 are left alone",
        proposal=12,
    )
    shares, why = (0.9, 0.9, 0.9), "in the highest third, 8.8% were expected and 2.5% seen"
    row = CalibrationRow("index.documents", "failing", 1120, 0.9, shares, shares, calibrated=False, why=why)
    rule = attrs.evolve(RULE, name="renders-of-big-scenes-24", mode="observe")
    tables = [as_text((one,), 80).splitlines() for one in (rule, made, row)]

    assert [re.split("  +", title.strip()) for title, _ in tables] == [
        ["NAME", "DO", "MODE", "IN FORCE", "WHY", "MEANT", "LEFT", "ACTIVE"],
        ["NUMBER", "RULE", "VERB", "TARGET", "STATE", "WHY", "UNDONE IN", "PROPOSAL"],
        ["OPERATION", "TARGET", "N", "COVERAGE", "THIRDS", "CALIBRATED", "WHY"],
    ]
    assert all(len(line) <= 80 for table in tables for line in table)
    for (_, line), words in zip(tables, ("observe  propose   ", "held back  5 ", "no          in"), strict=True):
        assert words in line


def test_a_rule_gets_another_mode_for_a_reason(predict: Predict) -> None:
    """Its answer is the rule's row; a wrong name or mode is an error that names what there is."""
    done = run("rules", "mode", "big-renders", "propose", "--reason", "it was right")
    unknown, wrong = run("rules", "mode", "big", "act"), run("rules", "mode", "big-renders", "dream")

    before = run("rules", "-g", "ruled", "mode", "big-renders", "observe", "--reason", "a quiet night")

    assert predict.modes == [("big-renders", "propose", "it was right"), ("big-renders", "observe", "a quiet night")]
    assert before.stdout.splitlines()[1].startswith("big-renders")
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


def test_what_cannot_be_undone_says_why(predict: Predict) -> None:
    """With the exit code of a wrong request."""
    done = run("interventions", "undo", "3", "--reason", "needed")
    found = run("interventions", "undo", "3", "--reason", "needed")

    assert (done.exit_code, predict.undone) == (0, [3])
    assert (found.exit_code, found.stderr) == (2, "Error: intervention 3 is not undone: it has begun\n")


@pytest.mark.usefixtures("predict")
def test_tab_offers_operations_rules_and_commands() -> None:
    """An operation once, though it has a row for each target."""
    assert offered(["calibration", "-g", "ruled"], "") == ["parse", "render"]
    assert offered(["rules", "mode", "-g", "ruled"], "") == ["big-renders"]
    assert offered(["rules"], "") == ["list", "mode"]
    assert offered(["interventions"], "") == ["list", "show", "undo"]


@pytest.mark.usefixtures("predict")
def test_the_console_has_the_verbs() -> None:
    """As functions, whose answers are shown as the commands show them."""
    script = "rules()\nshow_intervention(3)\ncalibrations('parse')\ninterventions('active')[0].rule"
    shown = run("shell", "-c", script).stdout.splitlines()

    assert shown[0].split()[:3] == ["NAME", "SELECT", "DO"]
    assert [line.split(maxsplit=1)[1] for line in shown if line.startswith("explained")] == list(EXPLAINED)
    assert shown[-1] == "'big-renders'"


def test_a_gate_without_the_plugin_names_it() -> None:
    """As with all verbs of plugins, by the name of the command."""
    with Gate("ruled"):
        found = {words[0]: run(*words) for words in (("rules",), ("interventions", "show", "1"), ("calibration",))}

    for name, one in found.items():
        assert (one.exit_code, one.stderr) == (
            1, f"Error: this gate runs without Predict, which '{name}' needs; open it with plugins=[Predict()]\n",
        )  # fmt: skip


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


def test_check_warns_of_what_may_be_a_slip_in_a_rule(tmp_path: Path) -> None:
    """It is no error: tags and actors may have any name. `tag.` before a tag says that it is meant."""
    file = tmp_path / "tokengate.toml"
    file.write_text('[[rule]]\nname = "long"\nselect = "operaton=a,tag.stat=b"\ndo = "preempt to=proces"\n')
    found = CliRunner().invoke(main, ("check", str(file)))
    told = json.loads(CliRunner().invoke(main, ("check", str(file), "--json")).stdout)

    assert (found.exit_code, found.stdout.splitlines()[-1]) == (0, f"{file} has no errors")
    assert found.stderr.splitlines() == [
        f"{file}:3: warning: rule[0].select is 'operaton=a,tag.stat=b'; 'operaton' is taken for a tag; write operation "
        "if that field is meant, or tag.operaton",
        f"{file}:4: warning: rule[0].do is 'preempt to=proces'; 'proces' is taken for an actor; write process if that "
        "affinity is meant",
    ]
    assert [(one["line"], one["field"]) for one in told["warnings"]] == [(3, "rule[0].select"), (4, "rule[0].do")]


# --- On history -------------------------------------------------------------------------------------------------------


@token
def parse(size: int) -> int:
    return size


@pytest.fixture
def past(tmp_path: Path) -> Path:
    """The directory of a gate that has closed, with 80 attempts."""
    with Gate("shop", plugins=[History(tmp_path)], control_socket=False):
        for one in [parse.with_options(tags={"tenant": "acme"}).submit(n) for n in range(80)]:
            one.result(60)
    return tmp_path


@pytest.fixture
def rules(tmp_path: Path) -> Path:
    file = tmp_path / "rules.toml"
    file.write_text('[[rule]]\nname = "later"\nselect = "operation=parse,tenant=acme"\ndo = "renice -1"\n')
    return file


def on(directory: Path, *arguments: str) -> Result:
    return CliRunner().invoke(main, ("predict", *arguments, "--dir", str(directory)), prog_name="tokengate")


def test_predictions_are_evaluated_on_the_files_of_a_gate(past: Path) -> None:
    """As a table, and as one JSON object."""
    table = on(past, "evaluate").stdout.splitlines()
    found = json.loads(on(past, "evaluate", "--tag", "tenant", "--json").stdout)

    assert table[0].split() == [
        "OPERATION", "TARGET", "N", "COVERAGE", "WORST", "THIRDS", "OVER", "LOSS", "PLAIN", "DRIFTS", "ESTIMATOR",
    ]  # fmt: skip
    assert [row.split()[0] for row in table[1:3]] == ["*", "parse"]
    assert "probabilities of failure and of lateness" in "\n".join(table)
    assert [(row["operation"], row["n"] >= 50) for row in found["evaluation"]] == [("*", True), ("parse", True)]
    assert [row["target"] for row in found["probabilities"]] == ["failing"]


def test_an_estimator_of_ones_own_is_evaluated(past: Path, tmp_path: Path) -> None:
    """Its class, or one of it; that it loses is said, and what is none is refused."""
    file = tmp_path / "mine.py"
    file.write_text(
        "class Mine:\n    target = 'run'\n    def learn(self, sample): pass\n    def predict(self, sample): return 9\n"
    )
    found = on(past, "evaluate", "--estimator", f"{file}:Mine")
    none = on(past, "evaluate", "--estimator", "json:dumps")

    assert found.exit_code == 0, found.output
    assert "\nMine is worse than cells for run of parse: a loss of " in found.stdout
    assert "worse than" not in on(past, "evaluate").stdout
    assert (none.exit_code, none.stderr) == (
        2, "Error: 'json:dumps' is no estimator; it needs target ('run' or 'memory'), learn and predict\n",
    )  # fmt: skip


def test_rules_of_a_file_are_tried_on_the_files_of_a_gate(past: Path, rules: Path) -> None:
    """A row for each outcome; what history does not have is said; each token is a line with --tokens."""
    shown = on(past, "backtest", str(rules))
    observed = json.loads(on(past, "backtest", str(rules), "--mode", "file", "--json").stdout)
    tokens = [json.loads(line) for line in on(past, "backtest", str(rules), "--tokens").stdout.splitlines()]

    assert shown.stdout.splitlines()[0].split() == ["RULE", "OUTCOME", "TOKENS", "SUCCEEDED", "TOOK", "WHY"]
    assert ["later", "matched", "80", "100.0%"] in [line.split()[:4] for line in shown.stdout.splitlines()]
    assert "missing: guards, idempotence and grants" in shown.stderr
    assert [(row["outcome"], row["tokens"]) for row in observed["rules"]] == [("observes", 80), ("matched", 80)]
    assert len(tokens) == 80
    assert {one["rule"] for one in tokens} == {"later"}


def test_a_gate_that_runs_is_asked_for_its_history(tmp_path: Path, rules: Path, until: Until) -> None:
    """The same commands without --dir."""
    with Gate("ruled", plugins=[history := History(tmp_path)]):
        for one in [parse.with_options(tags={"tenant": "acme"}).submit(n) for n in range(40)]:
            one.result(60)
        until(lambda: len(history.records("operation=parse")) == 40)
        evaluated = json.loads(run("predict", "evaluate", "--json").stdout)
        tried = json.loads(run("predict", "backtest", str(rules), "--mode", "observe", "--json").stdout)
        written = run("predict", "export", "-o", str(tmp_path / "out.jsonl"))

    assert [row["operation"] for row in evaluated["evaluation"]] == ["*", "parse"]
    assert {row["outcome"]: row["tokens"] for row in tried["rules"]} == {"matched": 40, "observes": 40}
    assert written.stdout.splitlines()[:3] == [
        f"{tmp_path / 'out.jsonl'}: 40 attempts", "40 without features", "40 without memory",
    ]  # fmt: skip


def test_records_are_exported_as_lines(past: Path, tmp_path: Path) -> None:
    """To a file, or to stdout with the rest on stderr."""
    told = json.loads(on(past, "export", "-o", str(tmp_path / "out.jsonl"), "--json").stdout)
    piped = on(past, "export", "-o", "-")

    lines = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert told["attempts"] == len(lines) == 80
    assert lines[0]["tags"] == {"tenant": "acme"}
    assert len(piped.stdout.splitlines()) == 80
    assert "-: 80 attempts" in piped.stderr


def test_errors_about_history_and_files_say_what_to_do(past: Path, rules: Path, tmp_path: Path) -> None:
    """Times, directories, several gates, rules that are wrong, and none."""
    with Gate("other", plugins=[History(tmp_path)], control_socket=False):
        parse.submit(1).result(60)
    bare = tmp_path / "bare.toml"
    bare.write_text("")
    wrong = tmp_path / "wrong.toml"
    wrong.write_text('[[rule]]\nname = "later"\nselect = "run.p50>soon"\ndo = "renice -1"\n')
    (tmp_path / "empty").mkdir()
    found = [
        on(past, "evaluate"), on(past, "evaluate", "--since", "soon", "-g", "shop"),
        on(tmp_path / "empty", "evaluate"), on(past, "backtest", str(bare)), on(past, "backtest", str(wrong)),
        on(past, "backtest", str(rules), "--budget", "lots"), on(past, "backtest", str(rules), "--mode", "propose"),
        on(past, "evaluate", "-g", "other"),
    ]  # fmt: skip

    for one, text in zip(
        found,
        (
            "this history is of the gates 'shop' and 'other'; choose one with --gate",
            "'soon' is no time; write how long ago",
            "has no history; name the directory that History(DIRECTORY) was given",
            "has no rules; write them as [[rule]]",
            f"{wrong}:3: rule[0].select is 'run.p50>soon'",
            "--budget is 'lots'; write targets and a share, such as '5/min, 10%'",
            "rule 'later' is asked at submit, which cannot wait for a person; use another --mode",
            "an operation needs 30 records; try a longer --since",
        ),
        strict=True,
    ):
        assert text in one.stderr
    assert [one.exit_code for one in found] == [2, 2, 1, 2, 2, 2, 2, 1]
    assert on(past, "evaluate", "-g", "shop").exit_code == 0


# --- A gate with rules ------------------------------------------------------------------------------------------------


@token
def render(event: threading.Event) -> None:
    event.wait(60)


@pytest.fixture
def seer(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, until: Until) -> Iterator[tuple[Foreseeing, Path]]:
    """A gate with a rule of its file that pauses what renders, and the directory of its file and its history."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setattr("tokengate.predict._decision.is_held_back", lambda _rule, _uid: False)
    file, event = tmp_path / "tokengate.toml", threading.Event()
    file.write_text(
        '[[rule]]\nname = "stuck"\nselect = "operation=render,run.p50>1s"\ndo = "pause"\nmode = "act"\n'
        'budget = "100/min, 100%"\n'
    )
    with foreseeing(monkeypatch, run={"render": 2.0}, plugins=(History(tmp_path),), config=file) as seen:
        tokens = [render.submit(event) for _ in range(12)]
        try:
            until(lambda: sum(one.started_at is not None for one in tokens) == 2)
            yield seen, tmp_path
        finally:
            event.set()  # what is paused goes on as the gate closes


def ask(*arguments: str) -> Any:
    return json.loads(CliRunner().invoke(main, (*arguments, "-g", "seer", "--json"), prog_name="tokengate").stdout)


def test_what_rules_did_is_listed_explained_and_undone(seer: tuple[Foreseeing, Path]) -> None:
    """One by `undo`, and all by `freeze --revert`; the rule shows what is left, and how often it was refused."""
    seen, _ = seer
    seen.look()
    active = ask("interventions", "active")
    details = ask("interventions", "show", str(active[0]["number"]))
    undone = ask("interventions", "undo", str(active[0]["number"]), "--reason", "needed")
    (rule,) = ask("rules")
    frozen = CliRunner().invoke(main, ("freeze", "--revert", "--reason", "enough", "-g", "seer"))
    seen.look()

    assert [one["rule"] for one in active] == ["stuck"] * 6  # half of the twelve
    assert details["explained"][0].startswith("matches operation=render")
    assert details["before"] == {"paused": False}
    assert undone["state"] == "undone"
    assert (rule["active"], rule["meant"], rule["counts"]["active"]) == (5, 12, 6)
    assert frozen.stdout == "what rules ask for is refused, and what they have done is being undone\n"
    assert {one["state"] for one in ask("interventions") if one["verb"] == "pause"} == {"undone", "refused"}


def test_a_rule_that_does_not_exist_is_an_error(seer: tuple[Foreseeing, Path]) -> None:
    """Exit code 2, as of `rules mode`; nothing is printed but the rules that there are."""
    for words in (("rules", "stick"), ("interventions", "stick")):
        found = CliRunner().invoke(main, (*words, "-g", "seer"))

        assert (found.exit_code, found.stdout) == (2, "")
        assert found.stderr.startswith("Error: there is no rule 'stick'; the rules are: stuck")


def test_what_rules_did_is_in_history_and_in_traces(seer: tuple[Foreseeing, Path], until: Until) -> None:
    """Each as an event with a line that says it; in a trace, an instant."""
    seen, directory = seer
    seen.look()
    history = seen.gate.plugin(History)
    until(lambda: len(history.records("kind=intervention.active")) == 6)
    table = CliRunner().invoke(main, ("history", "kind=intervention.active", "-g", "seer")).stdout
    out = directory / "trace.json"
    done = CliRunner().invoke(main, ("trace-export", "--since", "1h", "-o", str(out), "-g", "seer"))

    assert "rule 'stuck', 'pause' for token " in table
    assert done.exit_code == 0
    items = json.loads(out.read_text())["traceEvents"]
    acts = [one for one in items if one["ph"] == "i" and one["name"] == "intervention.active"]
    assert len(acts) == 6
    assert {one["args"]["rule"] for one in acts} == {"stuck"}


def test_a_rule_has_another_mode_until_its_file_says_another_one(seer: tuple[Foreseeing, Path]) -> None:
    """The row has both, and why; `reload` names the rules that have changed."""
    seen, directory = seer
    lowered = ask("rules", "mode", "stuck", "observe", "--reason", "a quiet night")
    seen.look()
    states = {one["state"] for one in ask("interventions")}
    file = directory / "tokengate.toml"
    file.write_text(file.read_text().replace('"act"', '"propose"'))
    reloaded = ask("reload")
    (raised,) = ask("rules")

    assert (lowered["mode"], lowered["in_force"], lowered["why"]) == ("act", "observe", "an operator has set it")
    assert states == {"observed"}
    assert reloaded["changed"] == ["rule stuck"]
    assert (raised["mode"], raised["in_force"], raised["why"]) == ("propose", "propose", "")
