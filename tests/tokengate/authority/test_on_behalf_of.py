"""Requests on behalf of others: a caller has no more rights than its request leaves it, and is on record by its id."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any, Final

import pytest
import trio
from callers import ANN, BOB, OWN, Wire, control_actor, grants, sample
from gated_code import LIMIT, Door

from tokengate import CpuActor, Gate, token
from tokengate.audit import read
from tokengate.authority._authority import Authority
from tokengate.control import messages as m
from tokengate.control._admission import Caller
from tokengate.control._exceptions import Refused
from tokengate.control.messages import RIGHTS, Change, Message
from tokengate.types import command

Open = Callable[..., Gate]
Ask = Callable[..., Any]

ALL: Final = grants((f"uid:{ANN} uid:{BOB} uid:{OWN} uid:0", "admin"))
ME: Final = Caller(f"uid:{OWN}", OWN, via="socket", peer=os.getpid())


class Stock(CpuActor):
    """An actor."""

    show = "*"

    def __init__(self) -> None:
        super().__init__()
        self.tea = 5

    @command
    def restock(self, count: int) -> int:
        self.tea += count
        return self.tea


@token(guard="approval", show="*")
def charge(door: Door, amount: int) -> None:
    """An operation that only two people can end together."""
    door.pass_through()


@token(guard="force")
def guarded(door: Door) -> None:
    """An operation that ends by force only."""
    door.pass_through()


@token(consent="approval", show="*")
def pay(amount: int) -> int:
    """An operation that two people agree to."""
    return amount


@pytest.fixture
def gate(open_gate: Open) -> Gate:
    return open_gate(ALL)


@pytest.fixture
def ask(gate: Gate) -> Iterator[Ask]:
    """Ask on behalf of one of two people with all rights, of which the request leaves some."""
    with Wire(gate) as wire:

        def ask(message: Message[Any], *rights: str, of: int = ANN) -> Any:
            return wire.ask(message, f"uid:{of}", of, rights=rights)

        yield ask


# --- Every verb -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("file", ["", ALL], ids=["without grants", "with grants"])
def test_each_right_that_is_left_lets_in_its_verbs_and_no_others(open_gate: Open, file: str) -> None:
    """The whole table, for a user that may do everything itself: it may not even reload without the right."""
    gate = open_gate(file)
    actor = control_actor(gate)
    gate.spawn(Stock, name="mailer")

    messages = [sample(verb, **({"reason": "why"} if issubclass(verb, Change) else {})) for verb in actor._answers]

    async def let_in(right: str) -> list[Message[Any]]:
        caller, found = Caller(f"uid:{OWN}", OWN, via="http", sender=ME, rights=frozenset({right})), []
        for message in messages:
            with suppress(Refused):
                await actor._authorizer.admit(message, caller)
                found.append(message)
        return found

    for right in RIGHTS:
        assert trio.run(let_in, right) == [one for one in messages if one.needed == right]


def test_no_right_that_is_left_lets_in_nothing(open_gate: Open) -> None:
    """An empty list is no missing one; nor does it matter what an API token's owner may do."""
    actor = control_actor(open_gate())
    for principal in (f"uid:{OWN}", "api:ci"):
        caller = Caller(principal, OWN, via="http", sender=ME, rights=frozenset())
        for verb in actor._answers:
            with pytest.raises(Refused, match="has not the right"):
                trio.run(actor._authorizer.admit, sample(verb), caller)


@pytest.mark.parametrize("rights", [["mend"], ["view", "mend"], ["View"], [""], ["operator"], ["view "]])
def test_a_right_that_does_not_exist_is_an_error(gate: Gate, rights: list[str]) -> None:
    """A role is none; nothing is done by those that do exist."""
    with Wire(gate) as wire:
        me = {"principal": f"uid:{ANN}", "owner": ANN, "rights": rights}
        error = wire.send({"id": 1, "verb": "freeze", "reason": "why", "on_behalf_of": me})["error"]
        assert error["type"] == "BadRequest"
        assert error["message"].startswith(f"on_behalf_of has the right {rights[-1]!r}; there are: view, arguments, ")
        assert wire.ask(m.Whoami())["frozen"] is False


# --- What is asked for while a verb is answered -----------------------------------------------------------------------


def test_values_of_arguments_and_attributes_are_shown_by_their_right_only(gate: Gate, ask: Ask, door: Door) -> None:
    """In descriptions of tokens and actors, and in their state."""
    gate.spawn(Stock, name="stock")
    charging = charge.submit(door, 4_711)
    door.wait_reached()

    for rights, shown in ((("view",), False), (("view", "arguments"), True)):
        described = str(ask(m.Describe(charging.id), *rights))
        assert ("4711" in described) is shown, described
        state = ask(m.GetState("stock"), *rights)
        assert ("5" in str(state["attributes"])) is shown, state


def test_force_and_break_glass_need_rights_of_their_own(ask: Ask, doors: Callable[[], Door]) -> None:
    """Both at the door, whatever the tokens are."""
    forced, glassed = doors(), doors()
    ended = [guarded.submit(forced), charge.submit(glassed, 1)]
    forced.wait_reached()
    glassed.wait_reached()
    by_force = m.Terminate("operation=guarded", force=True, reason="why", wait=0.0)
    by_glass = m.Terminate("operation=charge", break_glass="all is on fire", wait=0.0)

    for message, right in ((by_force, "override"), (by_glass, "break_glass")):
        with pytest.raises(Refused, match=f"has not the right '{right}'"):
            ask(message, *(one for one in RIGHTS if one != right))
        [outcome] = ask(message, "view", "terminate", right)
        assert outcome["outcome"] not in ("refused", "awaiting")
    for one in (forced, glassed):
        one.open()
    assert all(isinstance(one.exception(LIMIT), BaseException) for one in ended)


def test_a_tag_of_a_grant_needs_the_right_to_administer(open_gate: Open, door: Door) -> None:
    """It would move tokens into a grant."""
    gate = open_gate(ALL + grants((f"uid:{ANN}", "viewer", "tenant=acme")))
    charge.submit(door, 1)
    door.wait_reached()
    with Wire(gate) as wire:
        retag = m.Retag("*", {"tenant": "acme"})
        with pytest.raises(Refused, match="has not the right 'administer'"):
            wire.ask(retag, f"uid:{ANN}", ANN, rights=["view", "operate"])
        [outcome] = wire.ask(retag, f"uid:{ANN}", ANN, rights=["administer"])
        assert outcome["outcome"] == "retagged"


def test_a_command_needs_the_right_to_call(gate: Gate, ask: Ask) -> None:
    gate.spawn(Stock, name="stock")
    call = m.Call("stock", "restock", (2,), wait=LIMIT)

    with pytest.raises(Refused, match="has not the right 'call'"):
        ask(call, *(one for one in RIGHTS if one != "call"))
    assert ask(call, "call")["value"] == 7


def test_a_file_is_read_again_only_with_the_right(open_gate: Open) -> None:
    """Also by this user, who may always do so itself: a ceiling holds for it, too."""
    gate = open_gate(ALL)
    with Wire(gate) as wire:
        for rights in (["view"], [one for one in RIGHTS if one != "administer"]):
            with pytest.raises(Refused, match="has not the right 'administer'"):
                wire.ask(m.Reload(), f"uid:{OWN}", OWN, rights=rights)
        wire.ask(m.Reload(), f"uid:{OWN}", OWN, rights=["administer"])
        wire.ask(m.Reload(), f"uid:{OWN}", OWN)


# --- Proposals --------------------------------------------------------------------------------------------------------


@pytest.fixture
def proposed(ask: Ask, door: Door) -> Any:
    """A proposal of one person to end a token."""
    charge.submit(door, 1)
    door.wait_reached()
    [outcome] = ask(m.Terminate("*", reason="too long"), *RIGHTS)
    return outcome["proposal"]


def test_a_proposal_is_decided_with_the_rights_that_are_left(ask: Ask, proposed: Any) -> None:
    """Its approval needs the right of its verb, too; its application that one only; looking and waiting none more."""
    number = proposed["number"]
    agrees = m.Approve(number, digest=proposed["digest"])

    for rights in (("view", "terminate"), ("view", "approve"), ("view", "approve", "operate")):
        with pytest.raises(Refused, match="has not the right"):
            ask(agrees, *rights, of=BOB)
    for message in (m.Proposals(), m.ShowProposal(number), m.WaitApproval(number, wait=0)):
        assert ask(message, "view")
        with pytest.raises(Refused, match="has not the right 'view'"):
            ask(message, *(one for one in RIGHTS if one != "view"))
    assert ask(agrees, "view", "approve", "terminate", of=BOB)["state"] == "approved"
    with pytest.raises(Refused, match="has not the right 'terminate'"):
        ask(m.Apply(number, wait=0), *(one for one in RIGHTS if one != "terminate"))
    assert ask(m.ShowProposal(number), "view")["row"]["state"] == "approved"
    applied = ask(m.Apply(number, wait=0), "view", "terminate")
    assert applied["proposal"]["state"] == "applied"
    assert "refused" not in [one["outcome"] for one in applied["outcomes"]]


def test_who_only_looks_cannot_deny_what_its_owner_has_proposed(ask: Ask, proposed: Any) -> None:
    """An owner takes back its own with the right of the verb; another one needs the right to approve."""
    deny = m.Deny(proposed["number"], reason="why")

    for rights, of in ((("view",), ANN), (("view", "operate"), ANN), (("view", "terminate"), BOB)):
        with pytest.raises(Refused, match="has not the right 'approve'"):
            ask(deny, *rights, of=of)
    assert ask(deny, "view", "terminate")["state"] == "denied"


def test_glass_is_not_broken_by_applying_without_the_right(ask: Ask, proposed: Any) -> None:
    glass = m.Apply(proposed["number"], break_glass="all is on fire", wait=0)

    with pytest.raises(Refused, match="has not the right 'break_glass'"):
        ask(glass, "view", "terminate", "override")
    assert ask(glass, "view", "terminate", "break_glass")["proposal"]["state"] == "applied"


def test_a_call_is_agreed_to_with_the_right_to_see_its_arguments(ask: Ask) -> None:
    """And its values are hidden without; a caller that does not see them takes them from no other."""
    paid = pay.submit(4_711)
    details = ask(m.ShowProposal(1), "view", "approve", of=BOB)
    agrees = m.Approve(1, digest=details["row"]["digest"])

    assert "4711" not in str(details)
    with pytest.raises(Refused, match="has not the right 'arguments'"):
        ask(agrees, "view", "approve", of=BOB)
    assert "4711" in str(ask(m.ShowProposal(1), "view", "arguments", of=BOB))
    assert ask(agrees, "view", "approve", "arguments", of=BOB)["state"] == "applied"
    assert paid.result(LIMIT) == 4_711


def test_looking_at_a_proposal_changes_nothing_of_it(gate: Gate, ask: Ask) -> None:
    """Whoever does not see its values, and looks first, leaves them to the others."""
    gate.spawn(Stock, name="stock")
    made = ask(m.SetState("stock", {"tea": 9}, reason="counted", dry_run=True), *RIGHTS)
    assert ask(m.ShowProposal(1), "view", of=BOB)["arguments"]["values"] == {"tea": "int"}
    assert ask(m.ShowProposal(1), "view", "arguments", of=BOB)["arguments"]["values"] == {"tea": 9}
    applied = ask(m.Apply(made["proposal"]["number"], wait=LIMIT), "view", "state")
    assert [one["outcome"] for one in applied["actors"]] == ["done"]


# --- Streams ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("verb", "right"), [("watch", "view"), ("follow_audit", "audit")])
def test_a_stream_opens_with_its_right(gate: Gate, verb: str, right: str) -> None:
    with Wire(gate) as wire:
        me = {"principal": f"uid:{ANN}", "owner": ANN}
        others = [one for one in RIGHTS if one != right]
        refused = wire.send({"id": 1, "verb": verb, "on_behalf_of": {**me, "rights": others}})
        assert (refused["id"], refused["error"]["type"]) == (1, "Refused")
        assert wire.send({"id": 2, "verb": verb, "on_behalf_of": {**me, "rights": [right]}}) == {
            "id": 2,
            "result": True,
        }


# --- The record -------------------------------------------------------------------------------------------------------


def records_of(gate: Gate) -> list[dict[str, Any]]:
    """Close a gate, and return its records."""
    authority = control_actor(gate)._authorizer
    assert isinstance(authority, Authority)
    log = authority.recorder.log
    assert log is not None
    gate.close(drain=False)
    return list(read(log.place))


def test_what_is_asked_for_is_on_record_under_the_id_of_its_request(gate: Gate, door: Door) -> None:
    """Intents and refusals; without an id, the gate counts."""
    charge.submit(door, 1)
    door.wait_reached()
    with Wire(gate) as wire:
        renice = m.Renice("*", 3)
        wire.ask(renice, f"uid:{ANN}", ANN, request="5b0f")
        with pytest.raises(Refused):
            wire.ask(renice, "api:ci", ANN, rights=["view"], request="5b10")
        wire.ask(renice, f"uid:{BOB}", BOB)
        line = {"id": 9, "verb": "info", "on_behalf_of": {"principal": "uid:1", "owner": 1, "request": "x" * 65}}
        assert "Expected `str` of length <= 64" in wire.send(line)["error"]["message"]
    door.open()

    known = {
        (one["kind"], one["principal"], one["via"], one.get("request"))
        for one in records_of(gate)
        if one["kind"] in ("intent", "refused")
    }
    assert known == {
        ("intent", f"uid:{ANN}", "http", "5b0f"),
        ("refused", "api:ci", "http", "5b10"),
        ("intent", f"uid:{BOB}", "http", "1"),
    }


@pytest.mark.parametrize("text", ["", ALL], ids=["without grants", "with grants"])
def test_another_user_that_asks_on_behalf_of_somebody_is_on_record(open_gate: Open, text: str) -> None:
    """Case 17. Whoever it asks for, itself included; the record has its own name, and nothing is done."""
    gate = open_gate(text)
    authority = control_actor(gate)._authorizer
    ann = Caller(f"uid:{ANN}", ANN, via="socket", peer=1)
    for number, (principal, owner) in enumerate(((f"uid:{OWN}", OWN), (f"uid:{ANN}", ANN), ("api:ci", ANN))):
        caller = Caller(principal, owner, via="http", peer=1, sender=ann, request=f"r{number}")
        with pytest.raises(Refused, match="only the gate's own user and root may ask on behalf of others"):
            trio.run(authority.admit, m.Freeze(reason="why"), caller)

    refused = [one for one in records_of(gate) if one["kind"] == "refused"]
    assert {(one["principal"], one["via"]) for one in refused} == {(f"uid:{ANN}", "socket")}
    assert "may ask on behalf of others" in refused[0]["reason"]  # those that follow are folded
