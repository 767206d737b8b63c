"""The verb `propose`: the dry run of another verb, with an answer that is short for any number of tokens."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from callers import Wire
from gated_code import LIMIT, Door
from people import ANN, BEN, People, grant
from running_tokens import Turner, io_operation

from tokengate import Gate, token
from tokengate.authority._proposals import KEPT_OUTCOMES, MAX_IDS
from tokengate.control import messages as m
from tokengate.control._exceptions import BadRequest, Refused, UnknownVerb
from tokengate.errors import UnknownActor

Open = Callable[..., Gate]

forced_operation = token(guard="force")(io_operation.__wrapped__)
closed_operation = token(guard="never")(io_operation.__wrapped__)

_over = threading.Event()


@token(concurrency=1, capacity=100_000)
def hold() -> None:
    _over.wait()


Submit = Callable[..., Any]


@pytest.fixture
def begun(gate: Gate, doors: Callable[[], Door]) -> Submit:
    """Submit an operation that has begun when this returns."""

    def submit(operation: Any = io_operation) -> Any:
        door = doors()
        sent = operation.submit(door)
        door.wait_reached()
        return sent

    return submit


def test_it_makes_the_proposal_that_a_dry_run_makes(people: People, begun: Submit) -> None:
    """With arguments, ids, digest; and what it would do is counted, by outcome and by guard."""
    first, forced, closed = begun(), begun(forced_operation), begun(closed_operation)
    given = {"select": "operation=turn_and_await", "mode": "cancel"}
    found = people[ANN].propose("terminate", given, reason="it hangs")

    dry = people[ANN].terminate("operation=turn_and_await", "cancel", dry_run=True, reason="it hangs").proposal
    assert dry is not None
    shown = people[ANN].show_proposal(found.row.number)
    assert (found.row, found.arguments, found.tokens) == (shown.row, shown.arguments, shown.tokens)
    assert (found.row.digest, found.row.needs, found.row.reason) == (dry.digest, "force", "it hangs")
    assert (found.counts, found.guards) == ({"would": 2, "refused": 1}, {"none": 1, "force": 1})
    assert [(one.token, one.outcome) for one in found.outcomes] == [
        (closed.id, "refused"), (first.id, "would"), (forced.id, "would"),
    ]  # fmt: skip
    assert "its guard is 'never'" in found.outcomes[0].note
    assert (found.left_out, first.done()) == (0, False)

    applied = people[ANN].apply(found.row.number, force=True, reason="agreed", wait=LIMIT)
    assert {one.token for one in applied.outcomes} == {first.id, forced.id}


def test_it_makes_proposals_of_verbs_on_actors_and_on_the_gate(gate: Gate, people: People) -> None:
    """Whether the answer of the verb has a place for a proposal or not; nothing is done."""
    gate.spawn(Turner, name="turner")
    ann = people[ANN]
    of_actor = ann.propose("suspend", {"name": "turner"})
    of_gate = ann.propose("freeze", reason="a test")

    assert (of_actor.actor, of_actor.row.targets, of_actor.row.verb) == ("spawned/turner", 1, "suspend")
    assert (of_gate.row.number, of_gate.row.reason) == (2, "a test")
    assert not ann.actor("turner").row.suspended
    assert not ann.whoami().frozen
    assert [one.outcome for one in ann.apply(of_actor.row.number).actors] == ["done"]
    with pytest.raises(UnknownActor):
        ann.propose("suspend", {"name": "nothing"})


def test_without_anything_to_do_there_is_no_proposal(people: People, begun: Submit) -> None:
    """The answer says why, and has the number 0."""
    closed = begun(closed_operation)
    for select, counts in (("operation=none", {}), (str(closed.id), {"refused": 1})):
        found = people[ANN].propose("pause", {"select": select})
        assert (found.row.number, found.row.state, found.row.verb, found.counts) == (0, "none", "pause", counts)
    assert people[ANN].proposals() == ()


def test_it_needs_what_its_verb_needs(people: People, begun: Submit) -> None:
    """The rights of the verb, where its grants have them; the same words, and the same record, as for a dry run."""
    begun()
    people.grants(grant(ANN, rights=frozenset({"view", "operate"})), grant(BEN, rights=frozenset({"operate"})))
    with pytest.raises(Refused) as proposed:
        people[ANN].propose("terminate", {"select": "*"})
    with pytest.raises(Refused) as tried:
        people[ANN].terminate("*", dry_run=True)
    assert str(proposed.value) == str(tried.value)
    with pytest.raises(Refused, match="'pause' is refused: 'uid:1001' has not the right 'override'"):
        people[ANN].propose("pause", {"select": "*"}, force=True)
    with pytest.raises(Refused, match="'propose' is refused"):
        people[BEN].propose("pause", {"select": "*"})
    people.grants(grant(ANN, select="tenant=acme"))
    assert people[ANN].propose("pause", {"select": "*"}).counts == {}


@pytest.mark.parametrize(
    ("verb", "args", "error", "text"),
    [
        ("mend", {}, UnknownVerb, "there is no verb 'mend'"),
        ("tokens", {}, BadRequest, "'tokens' has no dry run"),
        ("apply", {"number": 1}, BadRequest, "'apply' has no dry run"),
        ("propose", {"verb": "pause"}, BadRequest, "'propose' has no dry run"),
        ("visit", {"name": "turner", "function": print}, BadRequest, "'visit' has no dry run"),
        ("statistics", {"name": "turner"}, BadRequest, "with these arguments changes nothing"),
        ("pause", {}, BadRequest, "'pause' needs a value for its field 'select'"),
        ("pause", {"select": "*", "dry_run": False}, BadRequest, "'dry_run' stands beside the arguments"),
        ("pause", {"select": "*", "caller": "uid:0"}, BadRequest, "'pause' has no field 'caller'"),
        ("reset_schedule", {}, UnknownVerb, "there is no verb"),
    ],
)
def test_what_cannot_be_proposed_is_an_error(
    people: People, verb: str, args: dict[str, Any], error: type[Exception], text: str
) -> None:
    """It names the verb and what is wrong."""
    with pytest.raises(error, match=text):
        people[ANN].propose(verb, args)


def test_long_arguments_are_shown_by_their_types(gate: Gate, people: People) -> None:
    """So the answer stays short; the proposal has them all."""
    gate.spawn(Turner, name="turner")
    found = people[ANN].propose("set_state", {"name": "turner", "values": {"a": [1e5] * 12_000}})

    assert found.arguments == {"name": "str", "values": "dict", "wait": "float"}
    assert people.authority.proposals.get(1).arguments["values"]["a"][-1] == 1e5


def test_the_answer_about_many_tokens_is_short(open_gate: Open) -> None:
    """At most 64 KiB: the ranges of ids, the outcomes that are not part of it, and as many of the others as fit."""
    gate = open_gate()
    _over.clear()
    try:
        made = [hold.submit() for _ in range(3_000)]
        every_other = made[1::2]
        gone = made[-1].id + 1_000
        with Wire(gate) as wire:
            args = {"select": [*(one.id for one in every_other), gone]}
            line = wire.send({"id": 1, "verb": "propose", "args": {"verb": "renice", "args": {**args, "priority": 2}}})
        found = line["result"]
        assert len(msgspec.json.encode(line)) <= 64 * 1024
        assert found["counts"] == {"would": 1_500, "unknown": 1}
        assert found["row"]["targets"] == 1_500
        assert found["outcomes"][0]["token"] == gone
        assert 500 < len(found["outcomes"]) <= KEPT_OUTCOMES
        assert found["left_out"] == 1_501 - len(found["outcomes"])
        assert found["tokens"].endswith(" and 500 more")
    finally:
        _over.set()


def test_dry_runs_of_an_owner_make_room_for_its_next_one(people: People) -> None:
    """Also if their ids are too many; those of others, and what waits for an approval, stay."""
    proposals, many = people.authority.proposals, tuple(range(MAX_IDS // 4))
    dry = [proposals.make(m.Pause(many, dry_run=True), ANN, many) for _ in range(2)]
    waits = proposals.make(m.Pause(many), ANN, many)
    other = proposals.make(m.Pause(many, dry_run=True), BEN, many)
    last = proposals.make(m.Pause(many, dry_run=True), ANN, many)

    assert (list(proposals), dry[0].state) == ([dry[1], waits, other, last], "expired")
