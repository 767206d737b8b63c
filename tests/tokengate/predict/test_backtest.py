"""What rules would have done: the same that they do live, budgets in the time of the records, weights respected."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
import trio
from predictions import FixedModels, on_system_loop

from tokengate import Gate, token
from tokengate.control.messages import Event
from tokengate.history import History
from tokengate.predict import Predict, Rule
from tokengate.predict import _backtest as backtests
from tokengate.predict._backtest import Backtest, BacktestRow, Decision
from tokengate.predict._rule import Budget

FREELY = Budget.of("100000/min, 100%", "test")


@token
def long(event: threading.Event) -> None:
    event.wait(60)


@token
def short(event: threading.Event) -> None:
    event.wait(60)


@token
def noop(number: int) -> int:
    return number


def event(number: int, begin: float, end: float, operation: str = "work", **fields: Any) -> Event:
    """Return the record of an attempt that was made and has begun at once; times are seconds after some moment."""
    given: dict[str, Any] = {
        "seq": number, "kind": "token.finished", "at": 1e9 + end, "gate": "shop", "gate_run": "7f3a91c2", "text": "",
        "token": number, "uid": f"7f3a91c2.{number}", "operation": operation, "actor": f"operations/{operation}",
        "affinity": "cpu", "attempt": 1, "state": "completed", "priority": 0, "age": end - begin, "wait": 0.0,
        "run": end - begin, "held": 0.0, "weight": 1, "worker": "t", "steps": 0,
    }  # fmt: skip
    return Event(**{**given, **fields})


def backtest(
    rules: Iterable[Rule], events: Iterable[Event], mode: Any = None, budget: Budget = FREELY
) -> tuple[tuple[BacktestRow, ...], list[Decision], tuple[str, ...]]:
    decisions: list[Decision] = []
    made = Backtest(rules, mode, (), budget, decisions.append)
    trio.run(made.run, events)
    return made.rows(), decisions, tuple(made.lacks())


def outcomes(rows: Iterable[BacktestRow], rule: str = "") -> dict[str, int]:
    return {row.outcome: row.tokens for row in rows if rule in ("", row.rule)}


@pytest.fixture
def models(monkeypatch: pytest.MonkeyPatch) -> FixedModels:
    """What is expected of the tokens of the past."""
    fixed = FixedModels()
    monkeypatch.setattr(backtests, "Models", fixed)
    return fixed


@pytest.mark.usefixtures("models")
def test_an_operation_of_a_rule_that_has_no_record_is_told() -> None:
    """It may be a slip."""
    rules = [Rule(name=name, select=f"operation={name},age>1", do="renice -1") for name in ("work", "wrok")]

    assert backtest(rules, [event(1, 0, 5)])[2][0] == "there is no record of 'wrok', which rule 'wrok' is for"


@pytest.mark.usefixtures("models")
def test_a_budget_is_one_of_the_time_of_the_records() -> None:
    """Three a minute: three at once, none for the rest of the minute, and three more in the next one."""
    rule = Rule(name="slow", select="operation=work", do="pause", mode="act", budget="3/min, 100%")
    minutes = [event(10 * minute + n, 60.0 * minute, 60.0 * minute + 30) for minute in (0, 1) for n in range(10)]

    rows, decisions, _ = backtest([rule], minutes)

    assert outcomes(rows) == {"matched": 20, "acts": 6, "refused": 14}
    acted = Counter(int(one.uid.partition(".")[2]) // 10 for one in decisions if one.outcome == "acts")
    assert acted == {0: 3, 1: 3}
    assert [row.why for row in rows if row.outcome == "refused"] == [
        "the budget of the rule is spent: 3 targets a minute"
    ]


@pytest.mark.usefixtures("models", "leaves_some_alone")
def test_a_record_counts_for_as_many_tokens_as_it_stands_for() -> None:
    """Also for budgets, and for those that are left alone: about 5 of 100."""
    free = Rule(name="free", select="operation=free", do="renice -1", mode="act")
    tight = Rule(name="tight", select="operation=tight", do="pause", mode="act", budget="7/min, 100%")
    events = [
        *(event(number, 0.0, 5.0, "others") for number in range(300)),
        event(1_000, 0.5, 4.0, "free", weight=400),
        event(1_001, 0.5, 4.0, "tight", weight=50),
    ]

    rows, decisions, _ = backtest([free, tight], events)

    found = outcomes(rows, "free")
    assert found["matched"] == 400
    assert 5 <= found["left alone, to compare"] <= 25
    assert found["acts"] + found["left alone, to compare"] == 400
    assert {one.uid for one in decisions if one.rule == "free"} >= {"7f3a91c2.1000", "7f3a91c2.1000~399"}
    tight_ones = outcomes(rows, "tight")
    assert (tight_ones["matched"], tight_ones["acts"]) == (50, 7)


@pytest.mark.usefixtures("models")
def test_a_token_that_is_tried_again_is_one_token() -> None:
    """A rule decides about it once, and sees in which attempt it is."""
    rules = [
        Rule(name="once", select="operation=work", do="pause"),
        Rule(name="second", select="attempt>1", do="pause"),
        Rule(name="half", select="operation=work", do="retag speed=slow", mode="act"),
    ]
    tried = event(1, 0.0, 3.0, kind="token.retried", state="queued", error="OSError")
    again = event(1, 0.0, 9.0, attempt=2, run=5.0, wait=0.0)

    rows, decisions, _ = backtest(rules, [tried, again, event(2, 0.0, 9.0)])

    assert {(row.rule, row.outcome): row.tokens for row in rows} == {
        ("once", "matched"): 2, ("once", "observes"): 2, ("second", "matched"): 1, ("second", "observes"): 1,
        ("half", "matched"): 2, ("half", "refused"): 1, ("half", "acts"): 1,
    }  # fmt: skip
    assert [one.uid for one in decisions if one.rule == "second"] == ["7f3a91c2.1"]
    assert [one.uid for one in decisions if one.outcome == "acts"] == ["7f3a91c2.2"]  # of the first one it is all


@pytest.mark.usefixtures("models")
def test_a_token_that_has_matched_for_too_short_a_time_is_not_decided_about() -> None:
    """`for` is counted from the look at which it first matched."""
    rule = Rule(name="stuck", select="operation=work", do="pause", mode="act", for_="3s", budget="5/min, 100%")

    rows, decisions, _ = backtest([rule], [event(1, 0.0, 3.9), event(2, 0.0, 9.0), event(3, 0.0, 9.0)])

    assert outcomes(rows) == {"matched": 3, "acts": 1, "not decided": 1, "refused": 1}
    assert {one.uid: one.why for one in decisions}["7f3a91c2.1"] == "it matched for less than 3 s"


@pytest.mark.usefixtures("models")
def test_rules_look_once_a_second_at_the_tokens_that_live_then() -> None:
    """From a second after the first one is made."""
    rule = Rule(name="seen", select="operation=work", do="pause")

    _, decisions, _ = backtest([rule], [event(1, 0.0, 9.5), event(2, 1.5, 2.5), event(3, 4.2, 4.8), event(4, 5.5, 6.5)])

    assert [one.uid.partition(".")[2] for one in decisions] == ["2", "4", "1"]


@pytest.mark.usefixtures("models")
def test_a_token_has_matched_also_if_it_did_so_for_a_while_only() -> None:
    """It may be refused for as long as it matches."""
    rule = Rule(name="young", select="age<3s", do="pause", mode="act", budget="1/min, 100%")

    rows, _, _ = backtest([rule], [event(number, 0.0, 9.5) for number in range(4)])

    assert outcomes(rows) == {"matched": 4, "acts": 1, "refused": 3}


@pytest.mark.usefixtures("models")
def test_what_a_rule_has_changed_is_seen_by_the_others_until_it_is_undone() -> None:
    """Priority, tags and estimates; nothing else that rules would do has an effect."""
    rules = [
        Rule(name="later", select="operation=work", do="renice -1", mode="act", expires="3s"),
        Rule(name="tagged", select="operation=work", do="retag speed=slow", mode="act", for_="1s", expires="20s"),
        Rule(name="low", select="priority<0", do="pause"),
        Rule(name="low-for-long", select="priority<0,age>4s", do="pause"),
        Rule(name="slow", select="speed=slow", do="pause"),
    ]

    rows, _, _ = backtest(rules, [event(number, 0.0, 9.5) for number in range(4)])

    assert {rule: outcomes(rows, rule).get("observes", 0) for rule in ("low", "low-for-long", "slow")} == {
        "low": outcomes(rows, "later")["acts"], "low-for-long": 0, "slow": outcomes(rows, "tagged")["acts"],
    }  # fmt: skip
    assert outcomes(rows, "later")["acts"] > 0 < outcomes(rows, "tagged")["acts"]


def test_what_is_not_calibrated_is_told_apart(models: FixedModels) -> None:
    """Live it would be a proposal, or nothing at submit; the mode can be another one than that of the file."""
    models.run["work"], models.calibrated = 10.0, frozenset()
    rules = [
        Rule(name="look", select="run.p50>1s", do="pause", mode="act"),
        Rule(name="submit", select="run.p50>1s", do="renice -1", mode="observe"),
    ]
    events = [event(number, 0.0, 5.0) for number in range(4)]

    rows, _, _ = backtest(rules, events, mode="act")
    own, _, _ = backtest(rules, events)

    assert outcomes(rows, "look") == {"matched": 4, "not calibrated": 4}
    assert outcomes(rows, "submit") == {"matched": 4, "not calibrated": 4}
    assert outcomes(own, "submit") == {"matched": 4, "observes": 4}
    assert {row.why for row in rows if row.outcome == "not calibrated"} == {"what it uses is not calibrated: run"}


@pytest.mark.usefixtures("models")
def test_what_became_of_tokens_is_told_for_each_group() -> None:
    """The share that completed, and the mean from their submit to their end."""
    rule = Rule(name="slow", select="operation=work", do="pause", mode="act", budget="2/min, 100%")
    events = [event(n, 0.0, 10.0 + n, state="completed" if n % 2 else "failed", error="OSError") for n in range(4)]

    rows, _, _ = backtest([rule], events)

    told = {row.outcome: (row.tokens, row.succeeded, row.took) for row in rows}
    assert told == {"matched": (4, 0.5, 11.5), "acts": (2, 0.5, 10.5), "refused": (2, 0.5, 12.5)}


@pytest.mark.usefixtures("models")
def test_what_records_do_not_have_is_said() -> None:
    """A field that no record has never matches; gaps of history are told, too."""
    rules = [
        Rule(name="full", select="operation=work,gate.saturation>0.9", do="throttle rate=5/s"),
        Rule(name="leaky", select="leak=confirmed", do="recycle"),
    ]  # fmt: skip
    gap = Event(seq=0, kind="telemetry.lost", at=1e9, gate="shop", gate_run="7f3a91c2", text="12 records are missing")

    rows, _, lacks = backtest(rules, [event(1, 0.0, 5.0), gap])

    assert rows == ()
    assert "rule 'full' asks for gate.saturation, and records do not have how full resources were" in lacks
    assert "rule 'leaky' asks for leak, and records do not have the memory of processes" in lacks
    assert "12 records are missing" in lacks


@pytest.mark.usefixtures("models")
def test_what_a_verb_refuses_live_is_refused_here() -> None:
    """As far as records tell: limits of threads, and tokens that have begun and are to be moved."""
    free = {"mode": "act", "budget": "9/min, 100%"}
    limit: Any = Rule(name="limited", select="operation=work", do="limit memory=1GiB", **free)
    move: Any = Rule(name="moved", select="operation=work", do="reroute io", **free)
    queued = [event(n, 0.0, 9.0, wait=8.0, run=1.0, affinity="process") for n in range(4, 8)]
    past = [*(event(n, 0.0, 9.0) for n in range(4)), *queued]

    limited, moved = backtest([limit], past)[0], backtest([move], past)[0]

    assert outcomes(limited) == outcomes(moved) == {"matched": 8, "acts": 4, "refused": 4}
    why = "its affinity is cpu, and only tokens in child processes have limits"
    assert [row.why for row in (*limited, *moved) if row.outcome == "refused"] == [why, "it has begun"]


@pytest.mark.usefixtures("models")
def test_too_many_records_are_refused_with_a_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    """They are all in memory."""
    monkeypatch.setattr(backtests, "MOST", 3)

    with pytest.raises(ValueError, match="more than 3 records; choose fewer, by a shorter --since"):
        backtest([], [event(number, 0.0, 1.0) for number in range(4)])


# --- As live ----------------------------------------------------------------------------------------------------------


def past(directory: Path) -> list[Event]:
    from tokengate.history._reader import Reader

    return list(Reader(directory / "history").events())


def test_rules_of_a_submit_decide_about_records_as_they_did_live(
    open_gate: Any, opened: threading.Event, tmp_path: Path, models: FixedModels, leaves_some_alone: None
) -> None:
    """Case 13: which tokens are steered, left alone and refused; half of those of an operation at most."""
    rules = [
        Rule(name="long-later", select="operation=long,run.p50>2s", do="renice -1", mode="act"),
        Rule(name="short-tagged", select="run.p50<=2s,tenant!=acme", do="retag speed=fast", mode="act"),
    ]
    with open_gate(*rules, run={"long": 10.0, "short": 1.0}, plugins=(History(tmp_path),)) as seen:
        made = []
        for number in range(600):
            operation = long if number % 3 else short
            tags = {"tenant": "acme"} if number % 5 == 0 else {}
            made.append(operation.with_options(tags=tags).submit(opened))
        opened.set()
        for one in made:
            one.result(60)
        reniced = {one.uid for one in made if one.priority == -1}
        tagged = {one.uid for one in made if "speed" in one.tags}
        live = {one.rule.name: one.counts for one in seen.predict._open.states}
    models.run |= {"long": 10.0, "short": 1.0}

    rows, decisions, _ = backtest(rules, past(tmp_path), budget=Budget.of("1000/min, 100%", "test"))

    names = {"acts": "active", "left alone, to compare": "held back", "refused": "refused"}
    assert {
        rule: {names[kind]: n for kind, n in outcomes(rows, rule).items() if kind != "matched"} for rule in live
    } == live
    assert {one.uid for one in decisions if (one.rule, one.outcome) == ("long-later", "acts")} == reniced
    assert {one.uid for one in decisions if (one.rule, one.outcome) == ("short-tagged", "acts")} == tagged
    assert len(reniced) > 100
    assert len(tagged) > 50
    assert min(live["long-later"].values()) > 0  # some are refused, and some left alone


def test_rules_that_look_each_second_decide_about_records_as_they_did_live(
    open_gate: Any, opened: threading.Event, tmp_path: Path, models: FixedModels
) -> None:
    """Case 13: within the budgets, `for` after `for`, the more careful verb first."""
    rules = [
        Rule(name="held", select="operation=long,run.p50>2s", do="pause", mode="act", for_="1s", budget="3/min, 100%"),
        Rule(name="kept", select="operation=short,tenant!=acme", do="pause", mode="act", budget="5/min, 50%"),
        Rule(name="small", select="operation=long", do="limit memory=1GiB", mode="act", budget="5/min, 50%"),
        Rule(name="seen", select="age>500ms", do="limit wall_time=1h"),
    ]  # fmt: skip
    with open_gate(*rules, run={"long": 10.0, "short": 1.0}, plugins=(History(tmp_path),)) as seen:
        acme = {"tenant": "acme"}
        made = [
            (long if n % 2 else short).with_options(tags=acme if n % 3 == 0 else {}).submit(opened) for n in range(30)
        ]
        for _ in range(5):
            seen.look(1.0)
        live = {(one.rule, one.uid): one.state for one in seen.all if one.state != "refused"}
        on_system_loop(seen.gate, lambda: seen.predict._undoing.undo_all("the test goes on"))
        opened.set()
        for one in made:
            one.result(60)
    models.run |= {"long": 10.0, "short": 1.0}

    rows, decisions, _ = backtest(rules, past(tmp_path), budget=Budget.of("1000/min, 100%", "test"))

    states = {"acts": "active", "observes": "observed"}
    assert {(one.rule, one.uid): states[one.outcome] for one in decisions if one.outcome in states} == live
    assert {"held": 3, "kept": 5}.items() < Counter(rule for rule, _ in live).items()
    assert outcomes(rows, "small") == {"matched": 15, "refused": 15}
    assert {one.why for one in decisions if one.rule == "small"} == {
        "its affinity is cpu, and only tokens in child processes have limits",
        "the budget of the rule is spent: 5 targets a minute",
    }


def test_weights_add_up_to_what_was_submitted(tmp_path: Path) -> None:
    """Case 13: history keeps some of the ordinary records only, and a backtest counts all tokens, within 3 %."""
    rule = Rule(name="all", select="operation=noop", do="renice -1")
    predict, history = Predict(rules=[rule]), History(tmp_path, rows_per_second=50)
    with Gate("weighted", plugins=[predict, history], control_socket=False):
        for one in [noop.submit(number) for number in range(5_000)]:
            one.result(60)
        (live,) = [one.counts for one in predict._open.states]
    rows, decisions, _ = backtest([rule], past(tmp_path), mode=None)

    assert live == {"observed": 5_000}
    assert outcomes(rows)["observes"] == pytest.approx(5_000, rel=0.03)
    records = [one for one in past(tmp_path) if one.kind == "token.finished"]
    assert len(records) < 2_500
    assert len(decisions) == outcomes(rows)["matched"]
