"""Decisions: modes, guards, budgets, trust, and the tokens that are left alone."""

from __future__ import annotations

from typing import Any

import pytest

from tokengate.predict._decision import Case, Group, Spent, Trust, Verdict, decide, is_held_back, mode_of
from tokengate.predict._rule import Budget, Mode, Rule

pytestmark = pytest.mark.usefixtures("leaves_some_alone")

ACTED = next(f"run.{number}" for number in range(100) if not is_held_back("r", f"run.{number}"))
LEFT = next(f"run.{number}" for number in range(1_000) if is_held_back("r", f"run.{number}"))


def verdict(
    do: str = "pause", mode: Mode = "act", *, unattended: bool = False, now: float = 0.0, **case: Any
) -> Verdict:
    rule = Rule(name="r", select="overrun>2", do=do, mode=mode, unattended=unattended)
    budgets = Spent(Budget(5, 0.5)), Spent(Budget(20, 0.5))
    return decide(rule, mode, Case(case.pop("uid", ACTED), **case), *budgets, 0.0)


def test_each_mode_goes_as_far_as_it_says() -> None:
    """A rule in `act` leaves some tokens alone."""
    assert [verdict(mode=mode).do for mode in ("observe", "propose", "act")] == ["observe", "propose", "act"]
    assert verdict(uid=LEFT).do == "hold back"
    assert verdict(uid=LEFT, mode="propose").do == "propose"


@pytest.mark.parametrize("mode", ["observe", "propose", "act"])
def test_what_no_verb_may_change_is_untouched(mode: Mode) -> None:
    """Its guard is `never`."""
    assert verdict(mode=mode, guard="never").do == "refuse"


@pytest.mark.parametrize("guard", ["force", "approval"])
def test_rules_never_force(guard: Any) -> None:
    """A person decides about tokens with these guards."""
    found = verdict(guard=guard)

    assert found.do == "propose"
    assert guard in found.why


def test_a_rule_that_acts_by_what_is_not_calibrated_proposes() -> None:
    """It says by what."""
    assert verdict(uncalibrated=("memory", "run")) == Verdict("propose", "what it uses is not calibrated: memory, run")


def test_preempt_by_itself_needs_an_idempotent_operation() -> None:
    """Else a person decides."""
    assert verdict("preempt").do == "propose"
    assert verdict("preempt", idempotent=True).do == "act"


@pytest.mark.parametrize("do", ["terminate", "compensate"])
@pytest.mark.parametrize(("unattended", "may_end"), [(False, False), (True, False), (False, True), (True, True)])
def test_ending_by_itself_needs_unattended_and_the_grant(do: str, unattended: bool, may_end: bool) -> None:
    """One of both is not enough."""
    found = verdict(do, unattended=unattended, may_end=may_end).do

    assert found == ("act" if unattended and may_end else "propose")


@pytest.mark.parametrize("do", ["pause", "renice 1"])
def test_at_most_half_of_an_operations_live_tokens_are_touched(do: str) -> None:
    """Also by verbs without a budget; a process is recycled once nothing runs there, which touches none."""
    assert verdict(do, live=5, touched=1).do == "act"
    assert verdict(do, live=5, touched=2).do == "refuse"
    assert verdict(do, live=1).do == "refuse"
    assert verdict("recycle", live=1).do == "act"


def test_a_budget_is_for_a_minute_and_for_the_rule_and_the_gate() -> None:
    """What is refused spends nothing, and verbs that hold nothing up have none."""
    rule = Rule(name="r", select="overrun>2", do="pause", mode="act")
    of_rule, of_gate = Spent(Budget(2, 1)), Spent(Budget(3, 1))

    def does(now: float, one: Spent = of_rule, do: Rule = rule) -> str:
        return decide(do, "act", Case(ACTED), one, of_gate, now).do

    assert [does(0), does(1), does(2)] == ["act", "act", "refuse"]
    other = Spent(Budget(9, 1))
    assert [does(3, other), does(4, other)] == ["act", "refuse"]
    assert does(60) == "act"
    assert does(60.5) == "refuse"
    free = Rule(name="r", select="overrun>2", do="renice -1", mode="act")
    assert {does(5, of_rule, free) for _ in range(50)} == {"act"}


def test_a_share_of_the_running_tokens_is_the_most() -> None:
    """A proposal takes nothing of it, nor does what is done to a token that has not begun."""
    assert verdict(running=10, held=4, held_by_rule=4).do == "act"
    assert verdict(running=10, held=5, held_by_rule=0).do == "refuse"
    assert verdict(running=10, held=5, mode="propose").do == "propose"
    assert verdict(running=0, held=5, begun=False).do == "act"


def test_five_of_a_hundred_are_left_alone_by_rule_and_uid() -> None:
    """The same ones each time; within one percent, of 20,000."""
    uids = [f"7f3a91c2.{number}" for number in range(20_000)]
    left = [uid for uid in uids if is_held_back("long", uid)]

    assert abs(len(left) / len(uids) - 0.05) < 0.01
    assert left == [uid for uid in uids if is_held_back("long", uid)]
    assert left != [uid for uid in uids if is_held_back("short", uid)]


def test_three_undos_by_people_within_an_hour_lose_trust() -> None:
    """Three in a longer time do not."""
    trust = Trust()
    for at in (0, 1_000, 3_700):
        trust.note_undo(at)
    assert trust.lost == ""

    trust.note_undo(3_800)
    assert "undone" in trust.lost
    assert mode_of("act", "act", trust) == "observe"
    trust.restore()
    assert mode_of("act", "act", trust) == "act"


def test_a_rule_whose_tokens_do_not_complete_loses_trust() -> None:
    """Under half of the latest twenty; exactly half are enough."""
    trust = Trust()
    for number in range(20):
        trust.note_end(number % 2 == 0)
    assert trust.lost == ""

    trust.note_end(False)
    assert "9 have completed" in trust.lost


def test_no_rule_goes_further_than_the_cap() -> None:
    """A rule that observes is not raised by it."""
    assert mode_of("act", "propose", Trust()) == "propose"
    assert mode_of("observe", "act", Trust()) == "observe"


def test_below_twenty_nothing_is_said_of_a_group() -> None:
    """Then shares and means."""
    group = Group()
    for _ in range(19):
        group.add(True, 2.0)
    assert "not known yet" in str(group)

    group.add(False, 2.0)
    assert str(group) == "20 ended, 95 % completed, 2 s from submit to end"
