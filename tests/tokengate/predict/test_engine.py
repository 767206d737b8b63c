"""Rules that are looked at each second: what they do in each mode, and how it is undone."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import attrs
import pytest
import trio
from gated_code import LIMIT
from people import ANN, BEN, CARA, grant
from predictions import Foreseeing
from tiers import in_ci

from actors import Limits, Token, TokenState
from tokengate import Breaker, CpuActor, Policy, token
from tokengate.control import BadRequest, Refused
from tokengate.control.messages import ShowProposal
from tokengate.predict import Rule

Open = Callable[..., AbstractContextManager[Foreseeing]]


@token(idempotent=True)
async def render(opened: threading.Event) -> str:
    while not opened.is_set():
        await trio.sleep(0.002)
    return "done"


@token(affinity="process", limits=Limits(memory=2**40))
def in_process() -> None: ...


def rule(do: str = "pause", mode: Any = "act", select: str = "operation=render,overrun>2", **options: Any) -> Rule:
    return Rule(
        name=options.pop("name", "long"), select=select, do=do, mode=mode, **{"budget": "100/min, 100%", **options}
    )


def running(number: int, opened: threading.Event, **options: Any) -> list[Token[str]]:
    tokens = [render.with_options(**options).submit(opened) for _ in range(number)]
    for one in tokens:
        while one.started_at is None:
            assert not one.done()
    return tokens


def test_a_rule_that_observes_changes_nothing_and_says_what_became_of_the_token(
    open_gate: Open, opened: threading.Event
) -> None:
    """It writes down once for each token what it would have done."""
    with open_gate(rule(mode="observe"), run={"render": 1.0}) as seen:
        one, _ = running(2, opened)
        seen.look()
        assert seen.all == []

        seen.look(5)
        seen.look(1)
        assert seen.states() == ["observed", "observed"]
        assert one.state is TokenState.RUNNING
        assert one._extras.steered_by == ""
        opened.set()
        one.result(LIMIT)
        seen.look(1)
        assert "the token is completed" in seen.all[0].ended


def test_a_rule_acts_only_on_what_matches_for_as_long_as_it_says(open_gate: Open, opened: threading.Event) -> None:
    """What matched for a moment only is left alone."""
    wanted = rule("pause", select="operation=render,tenant=acme,overrun>2", for_="3s")
    with open_gate(wanted, run={"render": 1.0}) as seen:
        one, _, other, _ = running(4, opened, tags={"tenant": "acme"})
        seen.look(5)
        seen.look(2)
        seen.gate.control.retag(other.id, {"tenant": "blue"})
        seen.look(0.5)
        assert seen.all == []
        seen.gate.control.retag(other.id, {"tenant": "acme"})

        seen.look(0.6)
        assert seen.states(one) == ["active"]
        assert seen.states(other) == []


def test_a_rule_acts_on_each_token_once(open_gate: Open, opened: threading.Event) -> None:
    """What was undone is not done again."""
    with open_gate(rule(expires=10), run={"render": 1.0}) as seen:
        one, _ = running(2, opened)
        seen.look(5)
        assert seen.states(one) == ["active"]
        assert one.state is TokenState.PAUSED

        seen.look(11)
        seen.look(1)
        seen.look(1)
        assert seen.states(one) == ["expired"]
        assert one.state is TokenState.RUNNING


VERBS = {
    "renice": ("renice -3", lambda one: one.priority),
    "retag": ("retag speed=slow tenant=blue", lambda one: dict(one.tags)),
    "estimate": ("estimate run=10m", lambda one: one.predicted.run.p95 > 100),
    "pause": ("pause", lambda one: one.state),
    "throttle": ("throttle rate=5/s", lambda one: len(one._place.system.policies.selected.all())),
    "suspend": ("suspend", lambda one: one._place.suspended),
}


@pytest.mark.parametrize("verb", VERBS)
def test_each_verb_is_undone_to_the_state_before(verb: str, open_gate: Open, opened: threading.Event) -> None:
    """By a person; a second time there is nothing to undo."""
    do, read = VERBS[verb]
    with open_gate(rule(do, for_=1), run={"render": 1.0}) as seen:
        one, _ = running(2, opened, priority=4, tags={"tenant": "acme"})
        seen.gate.control.estimate(one.id, run=50)
        seen.gate.control.throttle("operation=other", rate=1)
        before = read(one)
        seen.look(200)
        seen.look(1)
        assert seen.states(one)[:1] == ["active"] or verb in ("throttle", "suspend")
        assert read(one) != before
        made = next(each for each in seen.all if each.state == "active")

        row = seen.predict.gate.control.ask(undo_of(made.number))
        assert row.state == "undone"
        assert read(one) == before
        with pytest.raises(BadRequest, match="nothing to undo"):
            seen.predict.gate.control.ask(undo_of(made.number))


def undo_of(number: int) -> Any:
    from tokengate.predict._kinds import UndoIntervention

    return UndoIntervention(number)


def test_limits_of_a_process_token_are_undone(open_gate: Open) -> None:
    """To those before, which were none for some."""
    wanted = rule("limit memory=2GiB cpu_time=9", select="operation=in_process,state=queued", for_=0)
    with open_gate(wanted) as seen:
        seen.gate.register(in_process)
        seen.gate.control.suspend("in_process")
        one, _ = in_process.submit(), in_process.submit()
        before = dict(seen.gate.control.describe(one.id).limits)
        seen.look(1)
        assert seen.gate.control.describe(one.id).limits == {"memory": 2.0 * 2**30, "cpu_time": 9.0}

        seen.gate.control.ask(undo_of(1))
        assert seen.gate.control.describe(one.id).limits == before
        seen.gate.control.unsuspend("in_process")
        one.result(LIMIT)


@token
def moved() -> str:
    return "done"


def test_a_token_that_was_rerouted_goes_back_unless_it_has_begun(open_gate: Open) -> None:
    """The one that has begun stays, and the intervention says why it is not undone."""
    wanted = rule("reroute process", select="operation=moved,affinity=cpu,state=queued", expires=10)
    with open_gate(wanted) as seen:
        seen.gate.register(moved)
        seen.gate.control.suspend("moved")
        first, second, *_ = [moved.submit() for _ in range(4)]
        on_process = seen.gate._operations.with_affinity(first._place, "process")  # type: ignore[arg-type]
        seen.gate.control.suspend(on_process.path)
        seen.look(1)
        assert [one.affinity for one in (first, second)] == ["process", "process"]

        seen.gate.control.terminate(second.id)
        seen.look(11)
        assert first.affinity == "cpu"
        assert [seen.states(one) for one in (first, second)] == [["expired"], ["ended"]]
        seen.gate.control.unsuspend("moved")
        seen.gate.control.unsuspend(on_process.path)
        assert first.result(LIMIT) == "done"


@token(idempotent=True, policy=Policy(breaker=Breaker(minimum=20)))
async def guarded(opened: threading.Event) -> None:
    while not opened.is_set():
        await trio.sleep(0.002)


@pytest.mark.parametrize("before", ["auto", "open"])
def test_a_breaker_decides_by_itself_again_unless_an_operator_held_it(
    before: str, open_gate: Open, opened: threading.Event
) -> None:
    """One that an operator has opened is left alone."""
    with open_gate(
        rule("breaker open", select="operation=guarded,overrun>2", expires=10), run={"guarded": 1.0}
    ) as seen:
        tokens = [guarded.submit(opened) for _ in range(2)]
        while any(one.started_at is None for one in tokens):
            pass
        if before == "open":
            seen.gate.control.open_breaker("guarded")
        seen.look(5)
        assert [row.held for row in seen.gate.control.breakers()] == [True]

        seen.look(11)
        assert [row.held for row in seen.gate.control.breakers()] == [before == "open"]
        assert ("an operator has set it there" in seen.all[0].why) is (before == "open")


def test_what_was_changed_since_is_not_undone(open_gate: Open, opened: threading.Event) -> None:
    """The intervention is over, and says by whom."""
    with open_gate(rule("renice -3", for_=1, expires=10), run={"render": 1.0}) as seen:
        one, _ = running(2, opened)
        seen.look(5)
        seen.look(2)
        assert one.priority == -3
        seen.people[ANN].renice(one.id, 7)

        seen.look(20)
        assert one.priority == 7
        made = next(each for each in seen.all if each.target.id == one.id)
        assert (made.state, made.why) == ("refused", "changed since by uid:1001")


def test_what_was_done_to_a_token_that_has_ended_is_over(open_gate: Open, opened: threading.Event) -> None:
    """There is nothing to undo."""
    with open_gate(rule("renice -3", for_=1), run={"render": 1.0}) as seen:
        one, _ = running(2, opened)
        seen.look(5)
        seen.look(2)
        opened.set()
        one.result(LIMIT)
        seen.look(1)

        assert seen.states(one) == ["ended"]
        with pytest.raises(BadRequest, match="it is ended"):
            seen.gate.control.ask(undo_of(1))


def test_what_was_done_is_undone_when_the_rule_does_not_match_any_more(
    open_gate: Open, opened: threading.Event
) -> None:
    """After twice its `for`, and two seconds at least."""
    with open_gate(rule("pause", select="tenant=acme,overrun>2", for_=2), run={"render": 1.0}) as seen:
        one, _ = running(2, opened, tags={"tenant": "acme"})
        seen.look(5)
        seen.look(2.1)
        assert one.state is TokenState.PAUSED
        seen.gate.control.retag(one.id, {"tenant": "blue"})

        seen.look(1)
        seen.look(3.9)
        assert one.state is TokenState.PAUSED
        seen.look(0.2)
        assert seen.states(one) == ["expired"]
        assert one.state is TokenState.RUNNING


def test_what_was_done_is_undone_when_the_gate_closes(open_gate: Open, opened: threading.Event) -> None:
    """Before the drain: a token that a rule has paused goes on, and ends by itself."""
    with open_gate(rule(), run={"render": 1.0}) as seen:
        one, _ = running(2, opened)
        seen.look(5)
        assert one.state is TokenState.PAUSED
        opened.set()

    assert one.result(LIMIT) == "done"
    assert seen.all[0].why == "the gate closes"


def test_a_rule_that_is_gone_has_what_it_did_undone(open_gate: Open, opened: threading.Event, tmp_path: Path) -> None:
    """`reload` replaces all rules; one that has not changed goes on."""
    file = tmp_path / "tokengate.toml"
    text = '[[rule]]\nname = "{}"\nselect = "overrun>2"\ndo = "pause"\nmode = "act"\nbudget = "9/s, 100%"\n'
    file.write_text(text.format("old"))
    with open_gate(run={"render": 1.0}, config=file) as seen:
        one, _ = running(2, opened)
        seen.look(5)
        assert seen.states(one) == ["active"]
        seen.gate.control.reload()
        seen.look(1)
        assert seen.states(one) == ["active"]

        file.write_text(text.format("new"))
        assert any("new" in line for line in seen.gate.control.reload().changed)
        seen.look(1)
        assert seen.states(one)[:1] == ["expired"]


def test_the_mode_of_an_operator_stays_until_the_file_says_another_one(open_gate: Open, tmp_path: Path) -> None:
    """Also when the rest of the rule changes."""
    file = tmp_path / "tokengate.toml"
    text = '[[rule]]\nname = "a"\nselect = "overrun>{}"\ndo = "pause"\nmode = "{}"\n'
    file.write_text(text.format(2, "act"))
    with open_gate(config=file) as seen:
        from tokengate.predict._kinds import SetModeOfRule

        seen.gate.control.ask(SetModeOfRule("a", "observe"))
        found = []
        for number, mode in ((3, "act"), (3, "propose"), (4, "propose")):
            file.write_text(text.format(number, mode))
            seen.gate.control.reload()
            found.append(seen.predict.rules()[0].in_force)

    assert found == ["observe", "propose", "propose"]


def test_a_file_with_a_bad_rule_replaces_none(open_gate: Open, tmp_path: Path) -> None:
    """All or none."""
    file = tmp_path / "tokengate.toml"
    file.write_text('[[rule]]\nname = "a"\nselect = "overrun>2"\ndo = "pause"\n')
    with open_gate(config=file) as seen:
        file.write_text('[[rule]]\nname = "b"\nselect = "overrun>2"\ndo = "explode"\n')
        with pytest.raises(Exception, match="explode"):
            seen.gate.control.reload()

        assert [one.rule.name for one in seen.predict._open.states] == ["a"]


# Proposals


def proposed(seen: Foreseeing, opened: threading.Event) -> tuple[Token[str], int]:
    one, _ = running(2, opened)
    seen.look(5)
    assert seen.states(one) == ["proposed"]
    assert one.state is TokenState.RUNNING
    return one, seen.all[0].proposal


def test_a_proposal_of_a_rule_is_applied_by_a_person(open_gate: Open, opened: threading.Event) -> None:
    """And by no code of the process."""
    with open_gate(rule(mode="propose"), run={"render": 1.0}) as seen:
        one, number = proposed(seen, opened)
        with pytest.raises(Refused):
            seen.gate.control.apply(number)

        seen.people[CARA].apply(number)
        seen.look(1)
        assert one.state is TokenState.PAUSED
        assert seen.states(one) == ["applied"]
        seen.gate.control.resume(one.id)


def test_a_proposal_of_a_rule_is_denied_or_expires(
    open_gate: Open, opened: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is done then."""
    with open_gate(rule(mode="propose"), run={"render": 1.0}) as seen:
        one, number = proposed(seen, opened)
        seen.people[CARA].deny(number, reason="not now")
        authority = seen.people.authority
        monkeypatch.setattr(authority.proposals, "_clock", lambda: 1e12)
        seen.look(1)

        assert seen.states() == ["denied", "expired"]
        assert one.state is TokenState.RUNNING


def test_a_proposal_about_a_token_that_has_ended_waits_no_longer(open_gate: Open, opened: threading.Event) -> None:
    """Or ten of them would keep the rule from proposing anything that can still be applied."""
    with open_gate(rule(mode="propose"), run={"render": 1.0}) as seen:
        one, number = proposed(seen, opened)
        seen.gate.control.terminate(one.id)
        seen.look(1)

        made = seen.all[0]
        assert (made.state, made.why) == ("expired", "its token has ended")
        assert "the token is terminated" in made.ended
        assert seen.people[CARA].ask(ShowProposal(number)).row.state == "expired"


def test_a_rule_says_why_it_does_less_than_its_mode(open_gate: Open) -> None:
    """While rules are frozen, and where it may not end tokens by itself."""
    with open_gate(rule("terminate"), rule(name="held", mode="observe", select="overrun>2")) as seen:
        found = {row.name: row.why for row in seen.gate.control.ask(rules())}
        assert found == {"long": "it proposes: terminate by itself needs 'unattended = true'", "held": ""}
        seen.gate.control.freeze(reason="a drill")
        found = {row.name: row.why for row in seen.gate.control.ask(rules())}

        assert found == {"long": "interventions of rules are frozen; 'tokengate unfreeze' ends that", "held": ""}


def test_a_rule_says_what_it_names_that_the_gate_does_not_have(open_gate: Open, opened: threading.Event) -> None:
    """An operation of which no call is live or was learned, or an actor; each may be a slip."""
    named = rule(name="named"), rule(name="other", select="operation=rendr"), rule(name="any", select="operation=r*")
    moves = rule("reroute mailer", name="moves", select="*"), rule("reroute cpu", name="affinity", select="*")
    with open_gate(*named, *moves, run={"render": 1.0}) as seen:
        before = {row.name: row.why for row in seen.predict.rules()}
        running(1, opened)
        live = {row.name: row.why for row in seen.predict.rules()}
    with open_gate(*named, *moves) as seen:
        seen.models.operations["render"] = None
        learned = {row.name: row.why for row in seen.predict.rules()}

    assert before == {
        "named": "no call of 'render' was seen yet", "other": "no call of 'rendr' was seen yet", "any": "",
        "moves": "no actor or operation is called 'mailer' in 'seer'", "affinity": "",
    }  # fmt: skip
    assert live == learned == before | {"named": "", "other": "no call of 'rendr' was seen yet, and some of 'render'"}


def test_a_proposal_is_about_what_still_matches(open_gate: Open, opened: threading.Event) -> None:
    """A token that has changed since is left alone."""
    wanted = rule(mode="propose", select="tenant=acme,overrun>2")
    with open_gate(wanted, run={"render": 1.0}) as seen:
        one, _ = running(2, opened, tags={"tenant": "acme"})
        seen.look(5)
        seen.gate.control.retag(one.id, {"tenant": "blue"})
        done = seen.people[CARA].apply(seen.all[0].proposal)

        assert [each.outcome for each in done.outcomes] == ["changed"]
        assert one.state is TokenState.RUNNING


@pytest.mark.parametrize("target", ["run", "memory"])
def test_a_rule_that_acts_by_what_is_not_calibrated_proposes_and_says_so(
    target: str, open_gate: Open, opened: threading.Event
) -> None:
    """Of both that it uses, one is enough."""
    select = "operation=render,overrun>2,memory.p95>1MiB"
    with open_gate(rule(select=select), run={"render": 1.0}) as seen:
        seen.models.memory["render"] = 2.0**30
        seen.models.calibrated = frozenset({"run", "memory"} - {target})
        running(2, opened)
        seen.look(5)

        assert seen.states() == ["proposed", "proposed"]
        assert seen.all[0].why == f"what it uses is not calibrated: {target}"


def test_an_intervention_is_explained_in_words_and_numbers(open_gate: Open, opened: threading.Event) -> None:
    """The selector with its numbers, what was expected, and against what."""
    with open_gate(rule("renice -3", for_=1), run={"render": 1.0}) as seen:
        one, _ = running(2, opened)
        seen.look(5)
        seen.look(2)
        made = next(each for each in seen.all if each.target.id == one.id)

        lines = "\n".join(made.explained)
        assert "overrun>2 (3.5" in lines
        assert "run 1 s, 95 of 100 below 2 s" in lines
        assert "n 500; 95.0 %" in lines.replace(", of the latest 500", ";") or "n 500" in lines
        assert "bytes x2" in lines
        assert (made.before, made.set) == ({"priority": 0}, {"priority": -3})


# What holds up nothing, and is bounded


def test_many_interventions_are_counted_and_not_searched(
    open_gate: Open, opened: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So many in a look at most; what is in force is found by its target, and counted as it comes and goes."""
    monkeypatch.setattr("tokengate.predict._engine._ACTS", 100)
    with open_gate(rule("renice -5", for_=1, expires=60), run={"render": 1.0}) as seen:
        tokens = running(240, opened)
        active = seen.predict._open.active
        seen.look(5)
        seen.look(2)
        assert sum(one.priority == -5 for one in tokens) == len(active) == active.touched("render") == 100
        seen.look(2)
        assert sum(one.priority == -5 for one in tokens) == active.touched("render") == 120
        assert active.held() == 0

        for _ in range(4):
            seen.look(61)
        assert (active.touched("render"), active.held(), len(active)) == (0, 0, 0)
        assert {one.priority for one in tokens} == {0}


def test_half_holds_for_verbs_that_cannot_be_undone(open_gate: Open, opened: threading.Event) -> None:
    """In one look, no more than half of the live tokens lose their attempt."""
    with open_gate(rule("preempt"), run={"render": 1.0}) as seen:
        tokens = running(10, opened)
        seen.look(5)

        assert sum(one.state is TokenState.RUNNING and one.attempt == 1 for one in tokens) >= 5
        assert seen.states().count("done") <= 5


def test_rules_at_submit_and_in_looks_keep_half_together(open_gate: Open, opened: threading.Event) -> None:
    """Neither counts only its own."""
    rules = (
        Rule(name="submit", select="operation=render,run.p50>2s", do="retag speed=slow", mode="act"),
        rule("renice -1", select="operation=render,running>1s", for_=1),
    )
    with open_gate(*rules, run={"render": 10.0}) as seen:
        tokens = running(10, opened)
        assert sum("speed" in one.tags for one in tokens) == 5
        seen.look(3)
        seen.look(3)

        assert sum(one.priority == -1 or "speed" in one.tags for one in tokens) == 5


def test_nothing_is_done_any_more_once_the_gate_closes(open_gate: Open, opened: threading.Event) -> None:
    """A look that comes then leaves all as it is."""
    with open_gate(rule("renice -5", for_=1), run={"render": 1.0}) as seen:
        tokens = running(4, opened)
        seen.look(5)
        seen.predict.closing(seen.gate)
        seen.look(2)

        assert [one.priority for one in tokens] == [0, 0, 0, 0]


def test_an_intervention_that_fails_is_refused_and_the_look_goes_on(
    open_gate: Open, opened: threading.Event, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It is not in force, and counts for nothing."""
    with open_gate(rule(), run={"render": 1.0}) as seen:
        running(4, opened)

        async def fail(*_args: object) -> None:
            raise OSError(5, "broken")

        monkeypatch.setattr("tokengate.predict._gate_host.ask_as", fail)
        seen.look(5)

        assert seen.states() == ["refused"] * 4
        assert seen.all[0].why == "it failed: OSError"
        assert len(seen.predict._open.active) == 0


@pytest.mark.parametrize("do", ["reroute process", "renice -3", "retag kind=slow"])
def test_what_a_verb_changes_itself_does_not_undo_it(do: str, open_gate: Open) -> None:
    """The terms about that are left out when a rule is asked whether it matches still."""
    select = "operation=moved,state=queued,affinity!=process,priority=0,kind!=slow"
    with open_gate(rule(do, select=select, for_=1)) as seen:
        seen.gate.register(moved)
        seen.gate.control.suspend("moved")
        tokens = [moved.submit() for _ in range(4)]
        on_process = seen.gate._operations.with_affinity(tokens[0]._place, "process")  # type: ignore[arg-type]
        seen.gate.control.suspend(on_process.path)
        for _ in range(6):
            seen.look(2)
        changed = [one for one in tokens if one.affinity == "process" or one.priority == -3 or "kind" in one.tags]

        assert len(changed) == 2
        for path in ("moved", on_process.path):
            seen.gate.control.unsuspend(path)


def test_a_rule_that_is_edited_goes_on_with_what_it_has_decided_and_spent(
    open_gate: Open, opened: threading.Event, tmp_path: Path
) -> None:
    """Once for each token, and within its budget, whatever is reloaded; a lost trust stays lost."""
    file = tmp_path / "tokengate.toml"
    text = '[[rule]]\nname = "a"\nselect = "overrun>2"\ndo = "pause"\nmode = "act"\nbudget = "2/min, {}%"\n'
    file.write_text(text.format(90))
    with open_gate(run={"render": 1.0}, config=file, models=tmp_path / "models") as seen:
        running(12, opened)
        seen.look(5)
        assert seen.states().count("active") == 2
        for share in (91, 92, 93):
            file.write_text(text.format(share))
            seen.gate.control.reload()
            seen.look(1)
        assert seen.states().count("active") == 2

        [one] = seen.predict._open.states
        one.trust.lost = "people have undone it"
        seen.look(1)
        for content in ("", text.format(90)):
            file.write_text(content)
            seen.gate.control.reload()
            seen.look(1)
        [row] = seen.gate.control.ask(rules())
        assert row.in_force == "observe"


# Several rules


def test_of_two_rules_on_one_token_the_more_careful_verb_wins(open_gate: Open, opened: threading.Event) -> None:
    """The other one may act in a later look, on another value."""
    rules = (rule("pause", name="a"), rule("renice -3", name="b", select="operation=render,overrun>2,state=running"))
    with open_gate(*rules, run={"render": 1.0}) as seen:
        one, _ = running(2, opened)
        seen.look(5)
        assert [each.rule for each in seen.all if each.target.id == one.id] == ["b"]

        seen.look(1)
        assert [each.rule for each in seen.all if each.target.id == one.id] == ["b", "a"]


def test_two_rules_that_fight_for_ten_minutes_end_where_they_began(open_gate: Open, opened: threading.Event) -> None:
    """They set one value in turn, each once, and each restores what it has found."""
    select = "operation=render,overrun>2,state!=paused"
    rules = (
        rule("renice -3", name="down", select=select, expires="20s"),
        rule("renice 9", name="up", select=select, expires="30s"),
    )
    with open_gate(*rules, run={"render": 1.0}) as seen:
        tokens = running(4, opened, priority=2)
        ledger = []
        for _ in range(600):
            seen.look(1)
            ledger.append([one.priority for one in tokens])

        assert ledger[-1] == [2, 2, 2, 2]
        assert max(len([one for one in row if one != 2]) for row in ledger) == 2
        assert {priority for row in ledger for priority in row} == {2, -3, 9}
        assert len(seen.predict._open.active) == 0


def test_a_rule_that_matches_each_other_second_acts_once(open_gate: Open, opened: threading.Event) -> None:
    """It stays within its budget, and what it did is undone once."""
    wanted = rule(select="tenant=acme,overrun>2", for_=0)
    with open_gate(wanted, run={"render": 1.0}) as seen:
        one, _ = running(2, opened, tags={"tenant": "acme"})
        for second in range(20):
            seen.look(1)
            seen.gate.control.retag(one.id, {"tenant": "acme" if second % 2 else "blue"})

        assert seen.states(one).count("active") + seen.states(one).count("expired") <= 1


# Budgets, guards, freeze, trust


def test_the_budget_of_the_gate_holds_for_all_rules_together(open_gate: Open, opened: threading.Event) -> None:
    """What is refused is told once, with how many."""
    rules = [rule(name=f"r{number}") for number in range(3)]
    with open_gate(*rules, run={"render": 1.0}, budget="2/min, 100%") as seen:
        tokens = running(10, opened)
        for _ in range(5):
            seen.look(5)

        paused = [one for one in tokens if one.state is TokenState.PAUSED]
        assert len(paused) == 2
        refused = [each for each in seen.all if each.state == "refused"]
        assert refused
        assert all("the budget of the gate is spent: 2 targets a minute" in each.why for each in refused)


def test_eight_threads_that_submit_and_end_tokens_keep_rules_within_their_budget(
    open_gate: Open, opened: threading.Event
) -> None:
    """By the test's own count of tokens that are paused."""
    with open_gate(rule(budget="7/min, 100%"), run={"render": 0.001}) as seen:
        threads = [threading.Thread(target=lambda: running(5, opened)) for _ in range(8)]
        for thread in threads:
            thread.start()
        for _ in range(5):
            seen.look(1)
        for thread in threads:
            thread.join(LIMIT)
        seen.look(1)

        paused = [one for one in seen.gate._system.live.values() if one.state is TokenState.PAUSED]
        assert len(paused) == 7


@pytest.mark.parametrize("guard", ["force", "approval", "never"])
def test_guarded_tokens_are_proposed_or_untouched(guard: Any, open_gate: Open, opened: threading.Event) -> None:
    """Rules never force."""
    guarded = token(guard=guard)(render._function)
    with open_gate(rule(), run={"render": 1.0}) as seen:
        tokens = [guarded.submit(opened), guarded.submit(opened)]
        while any(one.started_at is None for one in tokens):
            pass
        seen.look(5)

        assert [one.state for one in tokens] == [TokenState.RUNNING] * 2
        assert set(seen.states()) == (set() if guard == "never" else {"proposed"})


def test_nothing_begins_once_a_freeze_has_answered_and_undoing_goes_on(
    open_gate: Open, opened: threading.Event
) -> None:
    """The freeze is told in the place of what would have been done."""
    with open_gate(rule(expires=10), run={"render": 1.0}) as seen:
        one, _, *_ = running(4, opened)
        seen.look(5)
        before = [each.number for each in seen.all if each.state == "active"]
        assert len(before) == 2
        seen.gate.control.freeze(reason="a test")
        more = running(6, opened)

        seen.look(6)
        assert [each.state for each in more] == [TokenState.RUNNING] * 6
        assert "frozen" in seen.all[-1].why
        seen.look(6)
        assert [each.state for each in seen.all if each.number in before] == ["expired", "expired"]
        assert one.state is TokenState.RUNNING
        seen.gate.control.unfreeze()
        seen.look(1)
        assert sum(each.state is TokenState.PAUSED for each in more) > 0


@in_ci
def test_nothing_begins_once_a_freeze_from_another_process_has_answered(
    open_gate: Open, opened: threading.Event
) -> None:
    """While 500 actions wait to be done, and what learns hangs in C code."""

    class Own:
        target = "run"

        def learn(self, sample: object) -> None: ...
        def predict(self, sample: object) -> None: ...

    bolt, over = threading.Lock(), threading.Event()
    bolt.acquire()
    with open_gate(rule("pause", budget="1000/s, 100%"), run={"render": 1.0}, estimators=[Own()]) as seen:
        tokens = running(1_000, opened)
        seen.models.hang = bolt.acquire
        render.submit(opened).cancel()
        try:
            look = threading.Thread(target=lambda: (seen.look(5), over.set()))
            look.start()
            while not seen.states():
                assert not over.is_set()
            command = [sys.executable, "-m", "tokengate", "freeze", "-g", "seer", "--reason", "a drill"]
            subprocess.run(command, check=True, timeout=LIMIT, capture_output=True)
            answered = [one.id for one in tokens if one.state is TokenState.PAUSED]
            look.join(LIMIT)
            seen.look(1)

            assert [one.id for one in tokens if one.state is TokenState.PAUSED] == answered
            assert any("frozen" in each.why for each in seen.all) or len(answered) == 500
        finally:
            seen.models.hang = lambda: None
            bolt.release()


def test_a_freeze_that_reverts_undoes_what_is_in_force(open_gate: Open, opened: threading.Event) -> None:
    """At the next look, which is a second away."""
    with open_gate(rule(), run={"render": 1.0}) as seen:
        one, _ = running(2, opened)
        seen.look(5)
        assert one.state is TokenState.PAUSED
        seen.gate.control.freeze(reason="a test", revert=True)
        seen.look(1)

        assert one.state is TokenState.RUNNING
        assert seen.all[0].why == "rules are frozen"


def test_a_rule_whose_work_people_undo_observes_until_a_person_raises_it(
    open_gate: Open, opened: threading.Event, tmp_path: Path
) -> None:
    """Also after a restart, where models are kept."""
    models = tmp_path / "models"
    with open_gate(rule(), run={"render": 1.0}, models=models) as seen:
        running(8, opened)
        seen.look(5)
        for made in [each for each in seen.all if each.state == "active"][:3]:
            seen.people[ANN].ask(undo_of(made.number))
        seen.look(1)
        [row] = seen.gate.control.ask(rules())
        assert (row.mode, row.in_force) == ("act", "observe")
        assert "people have undone 3" in row.why
        opened.set()

    with open_gate(rule(), run={"render": 1.0}, models=models) as seen:
        [row] = seen.gate.control.ask(rules())
        assert row.in_force == "observe"
        [row] = [seen.gate.control.ask(raised())]
        assert row.in_force == "act"
    with open_gate(rule(), models=models) as seen:
        assert seen.gate.control.ask(rules())[0].in_force == "act"


def rules() -> Any:
    from tokengate.predict._kinds import Rules

    return Rules()


def raised() -> Any:
    from tokengate.predict._kinds import SetModeOfRule

    return SetModeOfRule("long", "act")


@pytest.mark.usefixtures("leaves_some_alone")
def test_tokens_that_are_left_alone_are_compared(open_gate: Open, opened: threading.Event) -> None:
    """Both groups are counted, by how their tokens end."""
    with open_gate(rule("renice -3", for_=1), run={"render": 1.0}) as seen:
        tokens = running(400, opened)
        for _ in range(3):
            seen.look(5)
        opened.set()
        for one in tokens:
            one.result(LIMIT)
        seen.look(1)

        one = seen.predict._open.states[0]
        left, acted = one.groups["hold back"].n, one.groups["act"].n
        assert acted + left <= 400
        assert 0 < left < 40
        assert one.groups["act"].completed == acted


class Office(CpuActor):
    def work(self, door: threading.Event) -> None:
        assert door.wait(LIMIT)

    def rest(self, door: threading.Event) -> None:
        assert door.wait(LIMIT)


@pytest.mark.parametrize("seconds", [0, 1])
def test_half_is_that_of_the_operation_where_an_actor_has_several(
    seconds: float, open_gate: Open, opened: threading.Event
) -> None:
    """Tokens of the actor's other methods do not count, at submit and in a look."""
    with open_gate(rule("retag speed=slow", select="operation='Office.work'", for_=seconds)) as seen:
        proxy = seen.gate.spawn(Office, name="office").proxy()
        others = [proxy.rest(opened) for _ in range(9)]
        tokens = [proxy.work(opened) for _ in range(4)]
        seen.look(2)
        seen.look(2)

        assert sum("speed" in one.tags for one in tokens) == 2
        opened.set()
        for one in (*others, *tokens):
            one.result(LIMIT)


@pytest.mark.parametrize("verb", ["pause", "suspend"])
def test_what_an_operator_asks_for_after_a_rule_stays(verb: str, open_gate: Open, opened: threading.Event) -> None:
    """The state is the same, and the operator has asked for it last: the undo of the rule leaves it."""
    with open_gate(rule(verb, select="actor=office,running>2", expires=10)) as seen:
        control, proxy = seen.gate.control, seen.gate.spawn(Office, name="office").proxy()
        sent = [proxy.work(opened) for _ in range(4)]
        while sent[0].started_at is None:
            pass
        seen.look(3)
        assert seen.all[0].state == "active"
        if verb == "pause":
            control.pause(sent[0].id)
        else:
            control.suspend("office")

        seen.look(11)
        assert seen.all[0].state == "refused"
        assert seen.all[0].why.startswith("changed since by")
        assert sent[0]._extras.hold.word if verb == "pause" else sent[0]._place.suspended
        control.resume(sent[0].id)
        control.unsuspend("office")
        opened.set()
        for token in sent:
            token.result(LIMIT)


def test_what_an_operator_has_asked_for_before_is_left_alone(open_gate: Open, opened: threading.Event) -> None:
    """A rule does not become its owner, so no undo ends it."""
    with open_gate(rule("suspend", select="actor=office,running>2", expires=10)) as seen:
        proxy = seen.gate.spawn(Office, name="office").proxy()
        sent = [proxy.work(opened) for _ in range(4)]
        while sent[0].started_at is None:
            pass
        seen.gate.control.suspend("office")
        seen.look(3)
        seen.look(11)

        assert seen.states() == ["refused"]
        assert seen.all[0].why.startswith("an operator has set it there: rules leave that alone")
        assert sent[0]._place.suspended
        seen.gate.control.unsuspend("office")
        opened.set()
        for token in sent:
            token.result(LIMIT)


def test_an_actor_is_suspended_once_for_all_its_messages(open_gate: Open, opened: threading.Event) -> None:
    """The target of the verb is the actor, whose suspension is undone."""
    wanted = rule("suspend", select="actor=office,running>2", expires=10)
    with open_gate(wanted) as seen:
        proxy = seen.gate.spawn(Office, name="office").proxy()
        tokens = [proxy.work(opened) for _ in range(4)]
        while tokens[0].started_at is None:
            pass
        seen.look(3)
        assert seen.all[0].target.name.endswith("office")
        assert tokens[0]._place.suspended

        seen.look(11)
        assert "expired" in seen.states()
        assert not tokens[0]._place.suspended
        opened.set()
        for one in tokens:
            one.result(LIMIT)


# What operators have set


def test_a_throttle_of_an_operator_is_neither_replaced_nor_lifted(open_gate: Open, opened: threading.Event) -> None:
    """A rule on the same terms is refused."""
    with open_gate(rule("throttle rate=50/s"), run={"render": 1.0}) as seen:
        running(2, opened)
        seen.gate.control.throttle("operation=render", rate="1/m")
        seen.look(5)
        seen.look(700)

        assert [row.rate for row in seen.gate.control.throttles()] == [pytest.approx(1 / 60)]
        assert "an operator has set it there" in seen.all[0].why


def test_tags_that_others_have_set_are_left_alone_by_an_undo(open_gate: Open, opened: threading.Event) -> None:
    """Only those that the rule has set are compared, and restored."""
    with open_gate(rule("retag speed=slow", for_=1, expires=10), run={"render": 1.0}) as seen:
        one, _ = running(2, opened)
        seen.look(5)
        seen.look(2)
        seen.gate.control.retag(one.id, {"owner": "ann"})
        seen.look(15)

        assert dict(one.tags) == {"owner": "ann"}


def test_a_priority_that_was_set_at_submit_is_not_set_again_before_it_is_undone(
    open_gate: Open, opened: threading.Event
) -> None:
    """Or its undo would find another value, and the end would not be the beginning."""
    select = "operation=render,run.p50>2s"
    rules = (
        Rule(name="submit", select=select, do="renice -1", mode="act", expires="60s"),
        Rule(name="look", select=f"{select},age>1s", do="renice -5", mode="act", expires="300s", for_=1),
    )
    with open_gate(*rules, run={"render": 10.0}) as seen:
        seen.gate.register(render)
        seen.gate.control.suspend("render")
        tokens = [render.submit(opened) for _ in range(6)]
        ledger = []
        for _ in range(100):
            seen.look(10)
            ledger.append([one.priority for one in tokens])
        assert {priority for row in ledger for priority in row} == {0, -1, -5}
        assert ledger[-1] == [0] * 6
        seen.gate.control.unsuspend("render")


def test_an_estimate_of_nothing_is_an_overrun(open_gate: Open, opened: threading.Event) -> None:
    """And no error."""
    with open_gate(rule(mode="observe"), run={"render": 1.0}) as seen:
        one, _ = running(2, opened)
        seen.gate.control.estimate(one.id, run=1e-300)
        seen.look(1)

        assert seen.states(one) == ["observed"]


def test_a_tag_with_the_name_of_a_field_is_no_operation(open_gate: Open, opened: threading.Event) -> None:
    """`tag.operation` is a tag."""
    with open_gate(rule(mode="observe", select="tag.operation=blue,overrun>2"), run={"render": 1.0}) as seen:
        running(2, opened, tags={"operation": "blue"})
        seen.look(5)

        assert seen.states() == ["observed", "observed"]


@pytest.mark.parametrize("do", ["suspend", "throttle rate=5/s"])
def test_what_is_about_a_whole_actor_is_undone_by_those_who_may_do_that(
    do: str, open_gate: Open, opened: threading.Event
) -> None:
    """A grant for some of its tokens is not enough."""
    with open_gate(rule(do, select="actor=office,running>2", expires=600)) as seen:
        proxy = seen.gate.spawn(Office, name="office").proxy()
        tokens = [proxy.work(opened) for _ in range(4)]
        while tokens[0].started_at is None:
            pass
        seen.gate.control.retag(tokens[0].id, {"tenant": "acme"})
        seen.look(3)
        seen.people.grants(grant(ANN), grant(BEN, select="tenant=acme"))
        [made] = [each.number for each in seen.all if each.state == "active"]
        with pytest.raises(Refused):
            seen.people[BEN].ask(undo_of(made))
        assert seen.people[ANN].ask(undo_of(made)).state == "undone"
        opened.set()
        for one in tokens:
            one.result(LIMIT)


# What ends tokens


def test_preempt_begins_a_token_anew_once_and_cannot_be_undone(open_gate: Open, opened: threading.Event) -> None:
    """The next attempt is not preempted, whatever it takes."""
    with open_gate(rule("preempt"), run={"render": 1.0}) as seen:
        one, _ = running(2, opened)
        seen.look(5)
        while one.attempt == 1 or one.started_at is None:
            assert not one.done()
        seen.look(5)

        assert seen.states(one) == ["done"]
        assert one.attempt == 2
        with pytest.raises(BadRequest, match="nothing to undo"):
            seen.gate.control.ask(undo_of(1))
        opened.set()
        assert one.result(LIMIT) == "done"


@pytest.mark.parametrize("may_end", [True, False])
def test_terminate_by_itself_needs_a_grant(may_end: bool, open_gate: Open, opened: threading.Event) -> None:
    """Without it, a person decides."""
    with open_gate(rule("terminate", unattended=True), run={"render": 1.0}) as seen:
        if may_end:
            rights = frozenset({"view", "operate", "terminate"})
            rules = attrs.evolve(grant(rights=rights), principals=frozenset({"process:interventions"}))
            seen.people.grants(grant(CARA), rules)
        one, _ = running(2, opened)
        seen.look(5)

        assert seen.states(one) == ["done" if may_end else "proposed"]
        if may_end:
            assert one.state is TokenState.TERMINATED
            assert "rule long" in str(one.exception())
        else:
            seen.people[CARA].apply(seen.all[0].proposal, reason="it hangs")
            assert isinstance(one.exception(LIMIT), Exception)


_kept: list[bytes] = []


@token(affinity="process")
def leaks(size: int, seconds: float = 0.0) -> int:
    _kept.append(bytes(range(256)) * (size // 256))
    time.sleep(seconds)
    return os.getpid()


@in_ci
def test_a_process_whose_memory_grows_is_recycled_and_told(open_gate: Open) -> None:
    """By a rule on `leak=confirmed`, while a token runs there; the next tokens run in another process."""
    wanted = rule("recycle", select="operation=leaks,leak=confirmed")
    with open_gate(wanted, processes=1) as seen, seen.gate.control.watch(kinds=("model.leak",)) as feed:
        pids = [leaks.submit(65_536).result(LIMIT) for _ in range(230)]
        assert next(iter(feed)).kind == "model.leak"
        last = leaks.submit(65_536, 0.5)
        while not seen.states():
            assert not last.done()
            seen.look(1)

        assert seen.states() == ["done"]
        assert last.result(LIMIT) == pids[-1]
        assert leaks.submit(65_536).result(LIMIT) != pids[-1]
