"""Rules: what they may say, and the errors of those that cannot work."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import tokengate.predict._rules_file  # noqa: F401  # its section
from tokengate._exceptions import BadConfig, BadPolicy
from tokengate.config._file import read_file
from tokengate.control.inspection._selector import parse
from tokengate.predict._rule import Budget, Rule
from tokengate.predict._rules_file import RULES


def rule(**changes: Any) -> Rule:
    values: dict[str, Any] = {"name": "long", "select": "operation=parse,run.p50>2s", "do": "renice -1"}
    return Rule(**(values | changes))


BAD: dict[str, dict[str, Any]] = {
    "name": {"name": "two words"},
    "select": {"select": "run.p50>soon"},
    "do": {"do": "explode"},
    "mode": {"mode": "try"},
    "for": {"for_": "soon"},
    "expires": {"expires": "25h"},
    "budget": {"budget": "many"},
    "unattended": {"unattended": True},
    "budget of 0": {"budget": "0/min, 10%"},
    "select of no actor": {"select": "actor=office//mailer"},
    "select of no operation": {"select": "operation=''"},
}


@pytest.mark.parametrize("wrong", BAD)
def test_a_bad_rule_is_an_error_that_names_the_field_and_the_remedy(wrong: str) -> None:
    """The rule is named, too, once its name can be read."""
    with pytest.raises(BadPolicy) as caught:
        rule(**BAD[wrong])

    field = wrong.partition(" ")[0]
    assert caught.value.field == field
    assert caught.value.remedy
    assert field == "name" or "'long'" in str(caught.value)


VERBS = (
    "renice -1", "retag speed=slow", "estimate run=10m memory=2GiB", "limit memory=2GiB", "throttle rate=5/s",
    "throttle concurrency=2", "reroute process", "reroute office/mailer", "pause", "suspend", "breaker open", "recycle",
    "preempt", "preempt to=process memory=2GiB", "terminate", "terminate mode=kill", "compensate",
)  # fmt: skip
BAD_VERBS = (
    "", "renice", "renice much", "renice 1 2", "retag", "retag speed", "estimate", "estimate run=soon",
    "estimate cpu=1", "limit", "limit memory=0x", "throttle", "throttle rate=0/s", "throttle rate=5/y",
    "throttle concurrency=0", "reroute", "reroute a b", "pause now", "breaker", "breaker close",
    "preempt memory=much", "terminate mode=hard", "kill", "'", "reroute office//mailer", "reroute ''", "reroute to=a/",
    "preempt to=", "preempt to=/", "throttle concurrency=x", "throttle rate=x", "throttle rate=inf",
)  # fmt: skip


@pytest.mark.parametrize("verb", VERBS)
def test_each_verb_of_the_table_can_be_read(verb: str) -> None:
    """With dashes before the names of arguments, too."""
    action = rule(do=verb, select="operation=parse,run.p50>2s").action

    assert action.verb == verb.split(maxsplit=1)[0]
    assert rule(do=verb.replace(" rate=", " --rate=")).action.args == action.args


@pytest.mark.parametrize("verb", BAD_VERBS)
def test_a_verb_that_cannot_work_is_an_error_of_do(verb: str) -> None:
    """It says what to write, in no words of Python."""
    with pytest.raises(BadPolicy) as caught:
        rule(do=verb)

    assert caught.value.field == "do"
    assert "literal" not in str(caught.value)
    assert "convert" not in str(caught.value)


def test_a_throttle_needs_a_term_that_says_where() -> None:
    """Its selector has the rule's terms about places, priorities and tags, and no others."""
    with pytest.raises(BadPolicy, match="throttle needs a term"):
        rule(select="run.p50>2s", do="throttle rate=5/s")

    found = rule(select="operation=a,tag.priority='x, y',overrun>2,priority<0", do="throttle rate=5/s")
    assert found.terms == parse("operation=a,tag.priority='x, y',priority<0").text


def test_a_rule_is_asked_at_submit_if_all_it_needs_is_known_then() -> None:
    """A `for`, a field that changes while a token runs, or another verb has it looked at each second."""
    assert rule().at_submit
    assert not rule(for_="2s").at_submit
    assert not rule(select="operation=parse,overrun>2").at_submit
    assert not rule(select="state=queued,run.p50>2s").at_submit
    assert not rule(do="reroute process").at_submit


def test_a_rule_that_is_asked_at_submit_cannot_propose() -> None:
    """No person can be waited for."""
    with pytest.raises(BadPolicy, match="cannot wait for a person"):
        rule(mode="propose")

    assert rule(mode="propose", for_=1).mode == "propose"


def test_a_rule_knows_which_predictions_it_uses() -> None:
    """Those that are measured need no calibration."""
    found = rule(select="late>80%,memory.share>0.9,overrun>2,leak=confirmed,retry_loop=yes,gate.saturation>0.5")

    assert found.uses == {"late", "memory", "run"}


def test_budgets_are_rounded_down_and_at_least_one_of_ten() -> None:
    """Below ten running tokens, a small share allows none."""
    budget = Budget.of("5/min, 10%", "Rule")

    assert [budget.most(running) for running in (0, 9, 10, 19, 20, 99)] == [0, 0, 1, 1, 2, 9]
    assert [Budget.of("1/h, 1%", "Rule").most(running) for running in (9, 10, 99, 200)] == [0, 1, 1, 2]
    assert [Budget.of("1/s, 50%", "Rule").most(running) for running in (1, 2, 5)] == [0, 1, 2]
    assert [Budget.of("5/min, 29%", "Rule").most(running) for running in (100, 200)] == [29, 58]
    assert Budget.of("2/s", "Rule") == Budget(120, 0.1)
    assert Budget.of("60/h, 5%", "Rule").targets == 1


def read(tmp_path: Path, text: str) -> tuple[Rule, ...]:
    file = tmp_path / "tokengate.toml"
    file.write_text(text)
    return read_file(file, parse).of(RULES)


def test_the_file_has_the_same_rules_as_the_code(tmp_path: Path) -> None:
    """`for` stands for `for_`."""
    found = read(
        tmp_path,
        """
        [[rule]]
        name = "big-renders"
        select = "operation=render,affinity!=process,memory.share>0.9"
        do = "reroute process"
        mode = "propose"
        for = "2s"
        expires = "10m"
        budget = "5/min, 10%"
        """,
    )

    assert found == (
        Rule(
            name="big-renders",
            select="operation=render,affinity!=process,memory.share>0.9",
            do="reroute process",
            mode="propose",
            for_="2s",
        ),
    )


def test_all_errors_of_rules_in_a_file_are_told_with_their_lines(tmp_path: Path) -> None:
    """Two rules of one name are one."""
    with pytest.raises(BadConfig) as caught:
        read(
            tmp_path,
            '[[rule]]\nname = "a"\nselect = "run.p50>2s"\ndo = "explode"\n'
            '[[rule]]\nname = "b"\nselect = "*"\ndo = "pause"\nwhen = "now"\n'
            '[[rule]]\nname = "c"\nselect = "*"\ndo = "pause"\n'
            '[[rule]]\nname = "c"\nselect = "*"\ndo = "pause"\n[[rule]]\nname = "d"\n',
        )

    found = [(problem.line, problem.field) for problem in caught.value.problems]
    assert found == [
        (4, "rule[0].do"), (9, "rule[1].when"), (15, "rule[3].name"), (18, "rule[4].select"), (18, "rule[4].do"),
    ]  # fmt: skip
