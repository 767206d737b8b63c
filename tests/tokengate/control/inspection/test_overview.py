"""The overview of a gate: what is longest, largest, held up, fullest, and was restarted last."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from callers import Wire
from gated_code import LIMIT, Door, opened_at_the_end
from people import ANN, People, grant

from supervisors import ChildSpec, Supervisor
from tokengate import CpuActor, Gate, Token, checkpoint, token
from tokengate.control import messages as m

Until = Callable[[Callable[[], bool]], None]


@token(concurrency=3, capacity=10)
def stay(door: Door) -> None:
    door.pass_through()


@token(capacity=4)
def wait_for(other: Token[Any]) -> None:
    other.result(LIMIT)


@token(affinity="process")
def stay_away(n: int) -> None:
    while n:
        checkpoint()


class Mailer(CpuActor):
    def send(self) -> None:
        raise LookupError


@pytest.fixture
def gate() -> Iterator[Gate]:
    specs = [Supervisor.child_spec("office", [ChildSpec("mailer", Mailer)], intensity=20, period=1_000.0)]
    with Gate("glance", threads=4, children=specs, shutdown=LIMIT) as opened:
        yield opened
        opened.close(drain=False)


@pytest.fixture
def doors() -> Iterator[Callable[[], Door]]:
    with opened_at_the_end() as make:
        yield make


def test_an_idle_gate_has_nothing_that_needs_a_look(gate: Gate) -> None:
    """Its figures are those of `info`."""
    found = gate.control.overview()

    assert (found.longest, found.largest, found.waits, found.fullest, found.restarts) == ((), (), (), (), ())
    assert (found.info.name, found.info.actors) == ("glance", gate.control.info().actors)


def test_tokens_that_run_wait_and_are_held_are_found(gate: Gate, doors: Callable[[], Door], until: Until) -> None:
    """The oldest first, behind those that wait for nothing; what stands in a queue behind others waits for its turn."""
    door = doors()
    first = stay.submit(door)
    second = wait_for.submit(first)
    until(lambda: bool(gate.control.describe(second.id).waits_for))
    gate.control.throttle("tenant=acme", concurrency=1)
    acme = stay.with_options(tags={"tenant": "acme"})
    third, held, fourth = acme.submit(door), acme.submit(door), stay.submit(door)
    until(lambda: third.started_at is not None and fourth.started_at is not None)
    paused, queued = stay.submit(door), stay.submit(door)
    gate.control.pause(paused.id, wait=LIMIT)

    found = gate.control.overview()
    assert [row.id for row in found.longest] == [first.id, third.id, fourth.id, second.id]
    assert [one.row.id for one in found.waits] == [second.id, held.id, paused.id]
    assert found.waits[0].waits_for == (f"token {first.id} (stay of 'operations/stay')",)
    assert (found.waits[1].row.held, found.waits[2].row.held) == ("throttled", "paused")
    assert "throttle tenant=acme: concurrency 1" in found.waits[1].row.held_by
    assert queued.started_at is None
    [full] = found.fullest
    assert (full.path, full.depth) == ("operations/stay", 3)
    with Wire(gate) as wire:
        assert wire.ask(m.Overview())["waits"][0]["row"]["id"] == second.id


def test_the_largest_are_tokens_of_processes(gate: Gate, until: Until) -> None:
    """With what their process takes."""
    away = stay_away.submit(1)
    until(lambda: bool(gate.control.overview().largest))
    [found] = gate.control.overview().largest
    away.cancel()

    assert found.row.id == away.id
    assert found.memory > 2**20


def test_the_latest_restarts_come_first(gate: Gate, until: Until) -> None:
    """Eight of them."""
    for number in range(1, 10):
        gate.find("office/mailer").proxy().send().exception(LIMIT)
        until(lambda number=number: gate.control.actor("mailer").row.starts == number + 1)  # type: ignore[misc]
        until(lambda: gate.control.describe_actor("mailer").ends[-1].restarted)
    found = gate.control.overview().restarts

    assert {one.actor for one in found} == {"office/mailer"}
    assert [one.end for one in found] == list(reversed(gate.control.describe_actor("mailer").ends))
    assert len(found) == 8


def test_outside_of_a_grant_nothing_is_shown(gate: Gate, doors: Callable[[], Door], until: Until) -> None:
    """Neither tokens nor what they wait for, nor actors and their restarts."""
    door = doors()
    acme, other = (stay.with_options(tags={"tenant": name}) for name in ("acme", "globex"))
    seen, hidden, third = acme.submit(door), other.submit(door), stay.submit(door)  # all that run at once
    until(lambda: None not in (seen.started_at, hidden.started_at, third.started_at))
    waits = [wait_for.with_options(tags={"tenant": name}).submit(hidden) for name in ("acme", "globex")]
    until(lambda: all(gate.control.describe(one.id).waits_for for one in waits[:1]))
    gate.control.pause([stay.submit(door).id], wait=LIMIT)
    gate.find("office/mailer").proxy().send().exception(LIMIT)
    people = People(gate)
    people.grants(grant(ANN, select="tenant=acme"))
    found = people[ANN].overview()

    assert [row.id for row in found.longest] == [seen.id, waits[0].id]
    assert (found.waits, found.fullest, found.restarts) == ((), (), ())
    assert found.info.sight == "tenant=acme"
