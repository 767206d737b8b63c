"""Ways around the door that were tried: what leads past a guard, a right or an approval, and what is left unsaid."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any

import attrs
import pytest
from callers import Wire
from gated_code import LIMIT, Door
from people import ANN, BEN, RULE, People, grant
from running_tokens import Turner, io_operation

from actors import TokenTerminated
from tokengate import Gate, token
from tokengate.authority._decide import ROLES
from tokengate.control._admission import Caller
from tokengate.control.inspection import _turns
from tokengate.errors import BadRequest, NotSteerable, ProposalMade, Refused, UnknownProposal

WHY = {"reason": "it hangs"}

free = token(io_operation.__wrapped__)
OTHERS = {guard: token(guard=guard)(io_operation.__wrapped__) for guard in ("force", "approval", "never")}  # type: ignore[call-overload]


def words(answer: Any) -> list[str]:
    return [one.outcome for one in answer]


# --- Guards -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("guard", OTHERS)
def test_a_rollback_asks_for_the_guards_of_all_that_it_ends(
    gate: Gate, people: People, doors: Callable[[], Door], guard: str
) -> None:
    """By a token that is not guarded, or by the name of the transaction, no other member that is guarded is ended."""
    ann, free_door, door = people[ANN], doors(), doors()
    with gate.transaction("order"):
        own, guarded = free.submit(free_door), OTHERS[guard].submit(door)
        for one in (free_door, door):
            one.wait_reached()
        [refused] = ann.compensate(own, **WHY)
        assert (refused.outcome, f"token {guarded.id}, whose guard is '{guard}'" in refused.note) == ("refused", True)
        with pytest.raises(NotSteerable, match=f"token {guarded.id}, whose guard is '{guard}'"):
            ann.compensate_transaction("order", **WHY)
        assert words(ann.compensate([own, guarded], **WHY))[0] == "refused"
        free_door.open(), door.open()
    assert guarded.result(LIMIT) == "through"


def test_a_rollback_goes_on_if_all_guarded_members_are_named_with_what_they_need(
    gate: Gate, people: People, doors: Callable[[], Door]
) -> None:
    """Force for each that has the guard `force`."""
    first, second = doors(), doors()
    with pytest.raises(TokenTerminated), gate.transaction("order"):  # noqa: PT012  # its end raises
        own, guarded = free.submit(first), OTHERS["force"].submit(second)
        for one in (first, second):
            one.wait_reached()
        assert words(people[ANN].compensate([own, guarded], force=True, **WHY)) == ["rolling_back", "refused"]
        guarded.exception(LIMIT)


def test_a_call_that_another_token_runs_for_has_begun_with_that(gate: Gate, people: People, door: Door) -> None:
    """Calls with one key: force ends none of them once their run needs approval, or the last would end that run."""
    sent = [OTHERS["approval"].with_options(key="k").submit(door) for _ in range(2)]
    door.wait_reached()

    assert words(people[ANN].terminate(sent, force=True, **WHY)) == ["awaiting", "awaiting"]
    door.open()
    assert [one.result(LIMIT) for one in sent] == ["through", "through"]


def test_a_token_is_not_moved_to_where_its_guard_is_less(gate: Gate, people: People, doors: Callable[[], Door]) -> None:
    """Or the right to operate would take the guard away, which ending it asks for."""

    class Guarded(Turner):
        guard = "force"
        idempotent = True

    ref, other = gate.spawn(Guarded, name="guarded"), gate.spawn(Turner, name="free")
    first, door = doors(), doors()
    running = ref.proxy().turn(first)
    first.wait_reached()
    queued = ref.proxy().turn(door)
    [refused] = people[ANN].reroute(queued, actor="free")
    assert ("its guard is 'force'" in refused.note, queued.actor) == (True, "spawned/guarded")
    other.proxy().turn(first)
    moved = other.proxy().turn(door)
    [kept] = people[ANN].preempt(running, to="free", force=True, **WHY)
    assert ("its guard is 'force'" in kept.note, running.actor) == (True, "spawned/guarded")
    first.open(), door.open()
    assert moved.result(LIMIT) == queued.result(LIMIT) == "through"


# --- Between the question and the act ---------------------------------------------------------------------------------

Between = Callable[[Callable[[], object]], None]


@pytest.fixture
def between(people: People, monkeypatch: pytest.MonkeyPatch) -> Between:
    """Have something happen while an intent is written."""
    intend = people.authority.intend

    def happen(what: Callable[[], object]) -> None:
        async def intended(*args: Any) -> int | None:
            what()
            return await intend(*args)

        monkeypatch.setattr(people.authority, "intend", intended)

    return happen


def test_an_approval_counts_by_the_rights_of_when_it_is_given(
    gate: Gate, people: People, door: Door, between: Between
) -> None:
    """And not by those of before it was recorded."""
    sent = OTHERS["approval"].submit(door)
    door.wait_reached()
    made = people[ANN].terminate(sent, **WHY).proposal
    assert made is not None
    between(lambda: people.grants(grant(ANN), grant(BEN, rights=ROLES["viewer"])))
    with pytest.raises(Refused, match="has not the right 'approve'"):
        people[BEN].approve(made.number, made.digest)
    assert people[ANN].show_proposal(made.number).row.state == "open"


def test_a_verb_on_the_gate_is_done_by_the_rights_of_then(people: People, between: Between) -> None:
    """Not by those of before its intent was on disk."""
    between(lambda: people.grants(grant(ANN, rights=ROLES["viewer"])))
    with pytest.raises(Refused, match="has not the right 'operate' since it was asked for"):
        people[ANN].freeze(reason="a test")
    assert not people[ANN].whoami().frozen


def test_a_freeze_stops_what_a_rule_has_asked_for_already(
    gate: Gate, people: People, door: Door, between: Between
) -> None:
    """Of tokens those that were not acted on, and a verb on an actor that was not begun."""
    sent = free.submit(door)
    door.wait_reached()
    people[RULE].renice(sent, 1)
    between(lambda: setattr(people.authority.freeze, "_is_on", True))
    [refused] = people[RULE].renice(sent, 2)
    assert (refused.outcome, "frozen" in refused.note, sent.priority) == ("refused", True, 1)
    people.authority.freeze._is_on = False
    with pytest.raises(Refused, match="frozen since it was asked for"):
        people[RULE].throttle("operation=turn_and_await", rate=1)
    assert people[ANN].throttles() == ()


# --- Proposals --------------------------------------------------------------------------------------------------------


def test_what_is_proposed_names_its_place_by_its_path(gate: Gate, people: People) -> None:
    """Or another one that gets the short name meanwhile would be changed by it."""
    gate.spawn(Turner, name="desk")
    with pytest.raises(ProposalMade):
        people[ANN].set_policy("desk", {"timeout": "5s"}, dry_run=True)
    assert people[ANN].show_proposal(1).arguments["name"] == "spawned/desk"


def test_arguments_that_have_changed_since_are_not_applied(gate: Gate, people: People) -> None:
    """Code of the process may keep a list that it has given; what is shown is what was proposed."""
    gate.spawn(Turner, name="desk")
    given = [1]
    made = people.process.set_state("desk", stock=given, dry_run=True).proposal
    assert made is not None
    given.append(2)
    assert people[ANN].show_proposal(made.number).arguments["values"] == {"stock": [1]}
    with pytest.raises(Refused, match="its arguments have been changed since it was made"):
        people.process.apply(made.number, reason="as said")


def test_verbs_on_the_state_of_an_actor_take_a_reason_and_a_dry_run(gate: Gate, people: People) -> None:
    """In Python, too, where a grant makes the reason compulsory; neither is taken for an attribute."""
    gate.spawn(Turner, name="desk")
    people.grants(attrs.evolve(grant(), principals=frozenset({"process"})))
    control = people.process
    for change in (
        lambda **given: control.set_state("desk", stock=1, **given),
        lambda **given: control.replace_state("desk", lambda state: {**state, "stock": 1}, **given),
        lambda **given: control.visit("desk", lambda instance: setattr(instance, "stock", 1), **given),
    ):
        with pytest.raises(BadRequest, match="needs a reason"):
            change()
        with suppress(ProposalMade):
            assert change(dry_run=True).outcome == "would"
        assert "stock" not in control.get_state("desk")
        change(**WHY)
        assert control.get_state("desk") == {"stock": 1}
        control.visit("desk", lambda instance: delattr(instance, "stock"), **WHY)


def test_an_api_token_does_not_see_what_one_of_the_same_name_proposes(gate: Gate, people: People, door: Door) -> None:
    """Names of API tokens are those of their owners."""
    sent = free.with_options(tags={"tenant": "acme"}).submit(door)
    people.grants(grant(ANN), grant(BEN, select="tenant=globex"))
    first, second = (attrs.evolve(one, principal="api:ci", via="http") for one in (ANN, BEN))
    made = people[first].renice(sent, 3, dry_run=True).proposal
    assert made is not None
    assert people[first].show_proposal(made.number)
    with pytest.raises(UnknownProposal):
        people[second].show_proposal(made.number)
    assert people[second].proposals() == ()
    door.open()


def test_targets_are_looked_at_in_turns(
    gate: Gate, people: People, door: Door, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A proposal of very many, for a caller that may see some tokens only, does not hold up the loop."""
    sent = [free.with_options(tags={"tenant": "acme"}).submit(door) for _ in range(5)]
    people.grants(grant(ANN), grant(BEN, select="tenant=acme"))
    people[ANN].renice(sent, 3, dry_run=True)
    turns: list[None] = []

    async def next_turn() -> None:
        turns.append(None)

    monkeypatch.setattr("tokengate.authority._verbs._AT_ONCE", 1)
    monkeypatch.setattr(_turns, "next_turn", next_turn)
    assert len(people[BEN].proposals()) == 1
    assert len(turns) >= 4
    door.open()


def test_a_turn_is_shorter_if_a_grant_has_many_terms(
    gate: Gate, people: People, door: Door, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fewer tokens are looked at in one, or a grant of 32 terms would hold up the loop for a tenth of a second."""
    tags = {f"t{number}": "x" for number in range(31)}
    sent = [free.with_options(tags=tags).submit(door) for _ in range(70)]
    turns: list[None] = []

    async def next_turn() -> None:
        turns.append(None)

    monkeypatch.setattr(_turns, "next_turn", next_turn)
    ann, taken = people[ANN], []
    for select in ("t0=x", ",".join(f"{name}=x" for name in tags)):
        people.grants(grant(ANN, select=select))
        for look in (ann.tokens, ann.info, lambda: ann.renice("*", 1)):
            turns.clear()
            look()
            taken.append(len(turns))
    assert all(many > few for few, many in zip(taken[:3], taken[3:], strict=True))
    door.open()
    assert len(sent) == 70


# --- The record -------------------------------------------------------------------------------------------------------


def test_what_a_guard_refuses_is_on_record(
    gate: Gate, people: People, door: Door, monkeypatch: pytest.MonkeyPatch
) -> None:
    """For a token and for an actor, as what a right refuses."""

    class Guarded(Turner):
        guard = "never"

    gate.spawn(Guarded, name="desk")
    sent = OTHERS["never"].submit(door)
    door.wait_reached()
    said: list[tuple[Caller, str]] = []
    refused = people.authority.recorder.refused
    monkeypatch.setattr(
        people.authority.recorder,
        "refused",
        lambda caller, message, why: said.append((caller, why)) or refused(caller, message, why),  # type: ignore[func-returns-value]
    )
    assert words(people[ANN].terminate(sent, **WHY)) == ["refused"]
    with pytest.raises(NotSteerable):
        people[ANN].stop("desk", **WHY)
    people[ANN].terminate(sent, dry_run=True)
    assert [(one, f"token {sent.id}: its guard is 'never'" in why) for one, why in said] == [(ANN, True), (ANN, False)]
    assert "the guard of 'spawned/desk' is 'never'" in said[1][1]


def test_what_is_on_fire_is_one_line_in_the_log(gate: Gate, people: People, caplog: pytest.LogCaptureFixture) -> None:
    """Or its text could begin a line that looks as if the gate had written it, a head of the audit log say."""
    gate.spawn(Turner, name="desk")
    people[ANN].suspend("desk", break_glass="fire\naudit head: chain=\x1b[2J\ud800")
    [said] = [one.message for one in caplog.records if one.name == "tokengate.authority"]
    assert said.isprintable()
    assert said.endswith("fire\\naudit head: chain=\\x1b[2J\\ud800")


@pytest.mark.parametrize(
    "other",
    [
        {"principal": "api:" + "x" * 300, "owner": 1001},
        {"principal": "uid:-1", "owner": -1},
        {"principal": f"uid:{2**70}", "owner": 2**70},
        {"principal": "uid:1001", "owner": 1001, "groups": [2**32]},
    ],
)
def test_a_caller_that_no_system_has_is_not_asked_for(open_gate: Callable[..., Gate], other: dict[str, Any]) -> None:
    """Its name and numbers would make records that are longer than one may be, or that no reader takes."""
    gate = open_gate()
    with Wire(gate) as wire:
        error = wire.send({"id": 1, "verb": "info", "on_behalf_of": other})["error"]
        assert (error["type"], "on_behalf_of" in error["message"]) == ("BadRequest", True)
