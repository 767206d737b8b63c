"""Commands of actors that need consent: a call of one waits at the door of the actor until another person agrees."""

from __future__ import annotations

from typing import Any

import pytest
from gated_code import LIMIT
from people import ANN, BEN, People, grant

from actors import Token
from tokengate import AsyncioActor, CpuActor, Gate, IoActor, Policy, ProcessActor, Secret
from tokengate.control._exceptions import NotSteerable, Refused
from tokengate.types import command


class _Stock:
    """What the actors of the tests have in common."""

    def __init__(self) -> None:
        super().__init__()
        self.tea = 0

    def restock(self, count: int = 1) -> int:
        self.tea += count
        return self.tea

    def count(self) -> int:
        return self.tea


class CpuStock(_Stock, CpuActor):
    restock = command(consent="approval")(_Stock.restock)


class IoStock(_Stock, IoActor):
    @command(consent="approval")
    async def restock(self, count: int = 1) -> int:  # type: ignore[override]
        return super().restock(count)


class AsyncioStock(_Stock, AsyncioActor):
    @command(consent="approval")
    async def restock(self, count: int = 1) -> int:  # type: ignore[override]
        return super().restock(count)


class ProcessStock(_Stock, ProcessActor):
    @command(consent="approval")
    def restock(self, count: int = 1) -> int:
        return super().restock(count)


class Vault(CpuActor):
    policy = Policy(deadline=LIMIT)

    @command(consent="approval")
    def open(self, key: Secret[str]) -> str:
        return key.reveal()

    @command(consent="approval")
    def close(self) -> str:
        return "closed"

    @command
    def look(self) -> str:
        return "shut"


@pytest.fixture(params=[CpuStock, IoStock, AsyncioStock, ProcessStock])
def stock(request: pytest.FixtureRequest, gate: Gate) -> Any:
    return gate.spawn(request.param, name="stock")


def sent(gate: Gate, id: int) -> Token[Any]:
    found: Token[Any] = gate._system.live[id]
    return found


def test_a_command_runs_once_another_person_has_agreed(gate: Gate, people: People, stock: Any) -> None:
    """Its caller is the proposer, and is answered at once; messages of code are not concerned."""
    called = people[ANN].actor("stock").call.restock(5)
    token = sent(gate, called.token)
    row = people[ANN].describe(token).row

    assert (called.state, called.proposal) == ("queued", 1)
    assert (row.state, row.held, row.held_by) == ("queued", "consent", "proposal 1")
    assert stock.proxy().count().result(LIMIT) == 0
    details = people[BEN].show_proposal(1)
    assert (details.row.verb, details.row.proposer) == ("call", "uid:1001")
    assert (details.arguments["method"], details.arguments["args"]) == ("restock", [5])
    with pytest.raises(Refused, match="belongs to the same user"):
        people[ANN].approve(1, details.row.digest)
    assert people[BEN].approve(1, details.row.digest).state == "applied"
    assert token.result(LIMIT) == 5
    assert stock.proxy().count().result(LIMIT) == 5


def test_nothing_of_a_command_runs_that_is_denied_or_ended(gate: Gate, people: People, stock: Any) -> None:
    denied, ended = (people[ANN].actor("stock").call.restock(5) for _ in range(2))
    tokens = [sent(gate, one.token) for one in (denied, ended)]
    people[BEN].deny(denied.proposal)
    people[BEN].terminate(tokens[1], reason="not wanted")

    assert "has denied its proposal" in str(tokens[0].exception(LIMIT))
    assert [one.state for one in tokens] == ["rejected", "terminated"]
    assert stock.proxy().count().result(LIMIT) == 0


def test_the_approver_needs_the_rights_to_call_and_to_see_arguments(gate: Gate, people: People) -> None:
    gate.spawn(CpuStock, name="stock")
    people.grants(grant(ANN), grant(BEN, rights=frozenset({"view", "approve", "call"})))
    called = people[ANN].actor("stock").call.restock(count=5)
    details = people[BEN].show_proposal(called.proposal)

    assert (details.arguments["args"], details.arguments["kwargs"]) == ([], {"count": "int"})
    with pytest.raises(Refused, match="has not the right 'arguments'"):
        people[BEN].approve(called.proposal, details.row.digest)
    people.grants(grant(ANN), grant(BEN, rights=frozenset({"view", "approve", "arguments"})))
    with pytest.raises(Refused, match="has not the right 'call'"):
        people[BEN].approve(called.proposal, details.row.digest)


def test_a_command_without_consent_runs_at_once_beside_one_with(gate: Gate, people: People) -> None:
    """Flags take away neither; a Secret cannot be agreed to unseen."""
    gate.spawn(Vault, name="vault")
    gate.control.set_flag("*", "off")
    vault = people[ANN].actor("vault").call

    waits = vault.close()
    assert (waits.state, waits.proposal) == ("queued", 1)
    assert vault.look().value == "shut"
    token = sent(gate, waits.token)
    people[BEN].approve(1, people[BEN].show_proposal(1).row.digest)
    assert token.result(LIMIT) == "closed"
    with pytest.raises(NotSteerable, match="takes a Secret, which nobody can agree to unseen"):
        vault.open("hunter2")
