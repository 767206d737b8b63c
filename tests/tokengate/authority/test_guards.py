"""What guards let operators and rules do with tokens of every kind: the table of docs/security.md."""

from __future__ import annotations

from typing import Any

import pytest
from gated_code import LIMIT, Door
from people import ANN, BEN, RULE, People
from running_tokens import KINDS, Kind, Turner, cpu_operation

from tokengate import Gate, token
from tokengate.authority._decide import ROLES
from tokengate.authority._grants import Grant
from tokengate.control._exceptions import BadRequest, NotSteerable, Refused
from tokengate.control.stream._kinds import said_by
from tokengate.events import BreakGlassUsed

WHY = {"reason": "it hangs"}
GLASS = {"break_glass": "the shop is down"}

ENDS = ("terminated", "killed", "cancel_requested")


def words(answer: Any) -> list[str]:
    return [one.outcome for one in answer]


def test_what_needs_approval_once_begun_waits_until_another_person_agrees(
    gate: Gate, people: People, door: Door, kind: Kind
) -> None:
    """For ending, pausing and stepping it; all else goes without. The agreement is for exactly this token."""
    sent = kind.begin(gate, door, guard="approval")
    door.wait_reached()
    ann, ben = people[ANN], people[BEN]

    assert words(ann.renice(sent, 3)) == ["noted"]
    assert words(ann.retag(sent, {"a": "b"})) == ["retagged"]
    for verb in (ann.pause, ann.step, ann.terminate):
        for force in (False, True):
            answer = verb(sent, force=force, **WHY)
            assert words(answer) == ["awaiting"]
            assert answer.proposal is not None
            assert ann.show_proposal(answer.proposal.number).row.needs == "approval"
            ann.deny(answer.proposal.number)
    assert ann.describe(sent).row.held == ""
    waits = ann.terminate(sent, wait=LIMIT if kind.interruptible else 0, **WHY).proposal
    assert waits is not None
    with pytest.raises(Refused, match="needs the approval of another person first"):
        ann.apply(waits.number)
    assert ben.approve(waits.number, waits.digest).state == "approved"
    applied = ann.apply(waits.number, wait=LIMIT if kind.interruptible else 0)

    assert (applied.proposal.state, applied.proposal.approver) == ("applied", "uid:1002")
    assert applied.outcomes[0].outcome in ENDS


def test_what_needs_approval_needs_force_while_it_is_queued(gate: Gate, people: People, doors: Any) -> None:
    """Once it has begun, neither force nor the proposal of then is enough."""

    class Guarded(Turner):
        guard = "approval"

    ref = gate.spawn(Guarded, name="guarded")
    first, second = doors(), doors()
    ref.proxy().turn(first)
    sent = ref.proxy().turn(second)
    first.wait_reached()
    ann = people[ANN]

    [refused] = ann.terminate(sent, **WHY)
    assert (refused.outcome, "its guard is 'approval'; use force" in refused.note) == ("refused", True)
    dry = ann.terminate(sent, dry_run=True)
    assert (words(dry), dry.proposal and ann.show_proposal(dry.proposal.number).row.needs) == (["would"], "force")
    assert words(ann.pause(sent, force=True, **WHY)) == ["paused"]
    assert words(ann.resume(sent)) == ["resumed"]
    first.open()
    second.wait_reached()
    assert dry.proposal is not None
    [late] = ann.apply(dry.proposal.number, force=True, **WHY).outcomes

    assert (late.outcome, "it has begun since" in late.note) == ("refused", True)


def test_breaking_the_glass_ends_at_once_what_needs_approval(
    gate: Gate, people: People, door: Door, kind: Kind, caplog: pytest.LogCaptureFixture
) -> None:
    """It is in the log, and subscribers are told."""
    sent = kind.begin(gate, door, guard="approval")
    door.wait_reached()
    told: list[Any] = []
    gate.subscribe(told.append)
    [done] = people[ANN].terminate(sent, wait=LIMIT if kind.interruptible else 0, **GLASS)

    assert done.outcome in ENDS
    text = "uid:1001 breaks the glass for 'terminate' of 1 token: the shop is down"
    [event] = [one for one in told if isinstance(one, BreakGlassUsed)]
    assert (event.principal, event.verb, event.targets, event.text) == ("uid:1001", "terminate", 1, text)
    assert (said_by(event).kind, said_by(event).text) == ("control.glass_broken", text)
    assert [one.message for one in caplog.records if one.name == "tokengate.authority"] == [text]


def test_the_glass_stands_for_the_approval_and_not_for_force(gate: Gate, people: People, door: Door) -> None:
    """Each is a right of its own."""
    sent = token(guard="force")(cpu_operation.__wrapped__).submit(door)
    door.wait_reached()

    assert words(people[ANN].terminate(sent, **GLASS)) == ["refused"]
    assert words(people[ANN].terminate(sent, force=True, wait=LIMIT, **GLASS)) == ["terminated"]


@pytest.mark.parametrize("text", ["fire", "    fire   !   "])
def test_what_is_on_fire_has_ten_characters(gate: Gate, people: People, text: str) -> None:
    """Or nothing is done."""
    with pytest.raises(BadRequest, match="say in 10 characters or more"):
        people[ANN].terminate("*", break_glass=text)


def test_no_way_leads_past_never(gate: Gate, people: People, door: Door, kind: Kind) -> None:
    """Neither force, nor breaking the glass, nor a proposal, nor a rule; for a token, nor by its actor."""
    sent = kind.begin(gate, door, guard="never")
    door.wait_reached()
    ann = people[ANN]

    for given in ({"dry_run": True}, {"force": True, **WHY}, GLASS, {"force": True, **GLASS}):
        for answer in (
            ann.pause(sent, **given), ann.resume(sent, **given), ann.step(sent, **given),
            ann.terminate(sent, "kill", grace=0, **given), ann.renice(sent, 5, **given),
            ann.retag(sent, {"a": "b"}, **given), ann.reroute(sent, affinity="io", **given),
            ann.limit(sent, memory="1GiB", **given), ann.preempt(sent, **given),
        ):  # fmt: skip
            assert words(answer) == ["refused"]
            assert answer.proposal is None
        if kind.actor:
            for verb in (ann.restart, ann.stop, ann.suspend, ann.drain, ann.recycle):
                with pytest.raises(NotSteerable, match=r"guard of '.*' is 'never'"):
                    verb(sent.actor, **{"reason": "now", **given})
    for answer in (people[RULE].pause(sent), people[RULE].renice(sent, 5), people[RULE].pause(sent, dry_run=True)):
        assert words(answer) == ["refused"]
    assert not list(people.authority.proposals)
    door.open()
    assert sent.result(LIMIT) == "through"


@pytest.mark.parametrize(("guard", "needs"), [("force", "force"), ("approval", "approval")])
def test_a_rule_on_a_guarded_token_waits_for_people(
    gate: Gate, people: People, door: Door, kind: Kind, guard: str, needs: str
) -> None:
    """What is guarded waits, with the proposal of the rule; the process cannot apply it."""
    sent = kind.begin(gate, door, guard=guard)
    door.wait_reached()
    rule, ann = people[RULE], people[ANN]

    assert words(rule.renice(sent, 3)) == ["noted"]
    answer = rule.pause(sent)
    assert words(answer) == ["awaiting"]
    assert answer.proposal is not None
    number = answer.proposal.number
    row = ann.show_proposal(number).row
    assert (row.proposer, row.needs) == ("process:interventions", needs)
    if needs == "approval":
        assert people[BEN].approve(number, answer.proposal.digest).state == "approved"
        with pytest.raises(Refused, match="belongs to the same user; another one must apply it"):
            people[BEN].apply(number)
    for control in (people.process, rule):
        with pytest.raises(Refused, match="a rule has proposed it, so a person must apply it"):
            control.apply(number)
    assert ann.describe(sent).row.held == ""
    [outcome] = ann.apply(number, force=needs == "force", wait=LIMIT, **WHY).outcomes

    assert outcome.outcome in ("paused", "pause_requested")
    people.process.resume(sent)


def test_a_rule_acts_on_what_is_not_guarded_and_proposes_it_in_its_dry_run(
    gate: Gate, people: People, door: Door
) -> None:
    """Its proposal is not forgotten as a dry run is, and lives as long as others."""
    sent = cpu_operation.submit(door)
    door.wait_reached()
    answer = people[RULE].pause(sent, dry_run=True)
    assert (words(answer), people.process.describe(sent).row.held) == (["would"], "")
    assert answer.proposal is not None
    row = people[ANN].show_proposal(answer.proposal.number).row
    assert (row.needs, round(row.expires - row.made)) == ("nothing", 900)

    assert words(people[ANN].apply(row.number, wait=LIMIT).outcomes) == ["paused"]
    people.process.resume(sent)
    assert words(people[RULE].pause(sent, wait=LIMIT)) == ["paused"]
    people.process.resume(sent)


@pytest.mark.parametrize("given", [{"force": True, **WHY}, GLASS, {"force": True, "dry_run": True}])
def test_rules_never_force(gate: Gate, people: People, given: dict[str, Any]) -> None:
    """Whatever grants say."""
    people.grants(Grant(1, frozenset(), frozenset(), frozenset({RULE.principal}), ROLES["admin"]))
    with pytest.raises(Refused, match="rules never force"):
        people[RULE].pause("*", **given)


def test_only_lower_limits_of_what_needs_approval_wait(gate: Gate, people: People, door: Door) -> None:
    """Higher ones cannot end it."""
    [kind] = [one for one in KINDS if one.name == "process operation"]
    sent = kind.begin(gate, door, guard="approval")
    door.wait_reached()
    ann = people[ANN]

    assert words(ann.limit(sent, cpu_time="1h")) == ["awaiting"]
    assert words(ann.limit(sent, cpu_time="1h", **GLASS)) == ["limited"]
    assert words(ann.limit(sent, cpu_time="2h")) == ["limited"]
