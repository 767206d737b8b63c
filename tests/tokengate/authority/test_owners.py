"""An owner is one person, by whatever principal; and why something is done is said where it counts."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from callers import ANN, BOB, OWN, Wire, grants
from gated_code import Door

from tokengate import Gate, token
from tokengate.control import BadRequest
from tokengate.control import messages as m
from tokengate.control._exceptions import Refused

Open = Callable[..., Gate]
Principal = tuple[str, int]

BOTH = grants((f"uid:{ANN} uid:{BOB} uid:0 uid:{OWN}", "admin"))
HERS: list[Principal] = [(f"uid:{ANN}", ANN), ("api:ci", ANN), ("api:other", ANN)]


@token(guard="approval")
def charge(door: Door) -> None:
    """An operation that only two people can end together."""
    door.pass_through()


@token
def work(door: Door) -> None:
    """An operation."""
    door.pass_through()


@pytest.fixture
def gate(open_gate: Open, door: Door) -> Gate:
    """A gate with a guarded token that has begun."""
    gate = open_gate(BOTH)
    charge.submit(door)
    door.wait_reached()
    return gate


@pytest.fixture
def wire(gate: Gate) -> Iterator[Wire]:
    with Wire(gate) as connected:
        yield connected


def proposed(wire: Wire, by: Principal) -> m.Approve:
    """Have a principal propose to end the token, and return what agrees to that."""
    [outcome] = wire.ask(m.Terminate("*", reason="too long"), *by)
    assert outcome["outcome"] == "awaiting"
    return m.Approve(outcome["proposal"]["number"], digest=outcome["proposal"]["digest"])


# --- Case 8: one owner ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("proposer", HERS)
@pytest.mark.parametrize("approver", HERS)
def test_no_owner_agrees_to_a_proposal_of_its_own(wire: Wire, proposer: Principal, approver: Principal) -> None:
    """Case 8. A user, its sessions and its API tokens are one; another one agrees, and does not apply it then."""
    agrees = proposed(wire, proposer)

    with pytest.raises(Refused, match="belongs to the same user; another person must agree"):
        wire.ask(agrees, *approver)
    with pytest.raises(Refused, match="needs the approval of another person first"):
        wire.ask(m.Apply(agrees.number, wait=0), *approver)

    assert wire.ask(agrees, f"uid:{BOB}", BOB)["state"] == "approved"
    for other in ((f"uid:{BOB}", BOB), ("api:bob", BOB)):
        with pytest.raises(Refused, match="has approved it, and belongs to the same user"):
            wire.ask(m.Apply(agrees.number, wait=0), *other)
    applied = wire.ask(m.Apply(agrees.number, wait=0), *approver)
    assert applied["proposal"]["state"] == "applied"
    assert [one["outcome"] for one in applied["outcomes"]] != ["refused"]


@pytest.mark.parametrize("root", [("uid:0", 0), ("api:root", 0)])
def test_root_agrees_to_nothing(wire: Wire, root: Principal) -> None:
    """Case 8. Anyone may be root by sudo; the proposal stays open."""
    agrees = proposed(wire, HERS[0])

    with pytest.raises(Refused, match=f"'{root[0]}' is not one person"):
        wire.ask(agrees, *root)
    assert wire.ask(m.ShowProposal(agrees.number), *root)["row"]["state"] == "open"


def test_the_process_agrees_to_nothing(gate: Gate, wire: Wire) -> None:
    """Case 8. Its code may be anybody's."""
    agrees = proposed(wire, HERS[0])

    with pytest.raises(Refused, match="'process' is not one person"):
        gate.control.ask(agrees)
    assert gate.control.ask(m.ShowProposal(agrees.number)).row.state == "open"


# --- Reasons ----------------------------------------------------------------------------------------------------------

ANY = (f"uid:{ANN}", ANN)


@pytest.fixture
def plain(open_gate: Open, door: Door) -> Callable[[str], Wire]:
    """Open a gate with a file and a token without guard, and connect to it."""

    def open_(text: str) -> Wire:
        gate = open_gate(text)
        work.submit(door)
        door.wait_reached()
        return Wire(gate)

    return open_


@pytest.mark.parametrize("message", [m.Terminate("*"), m.SetState("mailer", {"a": 1}), m.Terminate("*", reason="  ")])
def test_a_grant_makes_a_reason_compulsory(plain: Callable[[str], Wire], message: m.Change[Any]) -> None:
    """For what ends tokens and changes state; spaces are none, and a dry run needs none."""
    with plain(BOTH) as wire:
        with pytest.raises(BadRequest, match="needs a reason, since it is allowed by a grant; say why"):
            wire.ask(message, *ANY)
        assert wire.ask(m.Pause("*"), *ANY)
        assert wire.ask(m.Terminate("*", dry_run=True), *ANY)[0]["outcome"] == "would"
        assert wire.ask(m.Terminate("*", reason="why"), *ANY)[0]["outcome"] != "refused"


def test_without_a_grant_only_force_needs_a_reason(plain: Callable[[str], Wire]) -> None:
    """Of the process, too, unless a grant names it; and of every verb."""
    own = (f"uid:{OWN}", OWN)
    with plain("") as wire:
        for verb in (m.Terminate, m.Pause, m.Resume):
            with pytest.raises(BadRequest, match="with force needs a reason; say why"):
                wire.ask(verb("*", force=True), *own)
        assert wire.ask(m.Terminate("*"), *own)[0]["outcome"] != "refused"


def test_the_process_needs_a_reason_if_a_grant_names_it(gate: Gate, file: Any) -> None:
    """Else its code works with grants in the file as without."""
    gate.control.terminate("operation=none")
    file.write_text(BOTH + grants(("process", "admin")))
    gate.control.reload()

    with pytest.raises(BadRequest, match="needs a reason, since it is allowed by a grant"):
        gate.control.terminate("operation=none")
    gate.control.terminate("operation=none", reason="why")


@pytest.mark.parametrize("field", ["reason", "break_glass"])
def test_a_reason_has_500_characters_at_most(gate: Gate, field: str) -> None:
    """Of any language; one more is refused, and nothing is done."""
    gate.control.ask(m.Pause("operation=none", **{field: "é" * 500}))
    with pytest.raises(BadRequest, match=f"{field} of 'pause' has 501 characters; 500 are allowed"):
        gate.control.ask(m.Pause("operation=none", **{field: "é" * 501}))


def test_force_needs_its_right(gate: Gate, file: Any) -> None:
    """The right of the verb alone is not enough; neither is it for break glass."""
    file.write_text(grants((f"uid:{ANN}", "operator")))
    gate.control.reload()
    with Wire(gate) as wire:
        with pytest.raises(Refused, match="has not the right 'override'"):
            wire.ask(m.Terminate("*", force=True, reason="why"), *ANY)
        with pytest.raises(Refused, match="has not the right 'break_glass'"):
            wire.ask(m.Terminate("*", break_glass="the disk is full", reason="why"), *ANY)
