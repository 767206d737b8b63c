"""Observers are told of each pause and of each end of one, for tokens of every kind."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from gated_code import LIMIT, Door
from running_tokens import KINDS, Kind, cpu_operation

from tokengate import Gate, Token, token
from tokengate.types import Observer

Until = Callable[[Callable[[], bool]], None]
QUEUED = [kind for kind in KINDS if kind.queues]


class Pauses(Observer):
    """Records pauses and their ends, and what a token has begun."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, int, str]] = []

    def token_paused(self, token: Token[Any], /) -> None:
        self.seen.append(("paused", token.id, str(token.state)))

    def token_resumed(self, token: Token[Any], /) -> None:
        self.seen.append(("resumed", token.id, str(token.state)))

    def token_finished(self, token: Token[Any], /) -> None:
        self.seen.append(("finished", token.id, str(token.state)))

    def of(self, token: Token[Any]) -> list[str]:
        return [what for what, number, _ in self.seen if number == token.id]


@pytest.fixture
def pauses(gate: Gate) -> Pauses:
    pauses = Pauses()
    gate._system.add_observer(pauses)
    return pauses


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_each_pause_and_each_end_of_one_is_told_once(
    gate: Gate, pauses: Pauses, kind: Kind, door: Door, until: Until
) -> None:
    """Pausing what is paused tells nothing; after steps a token is paused anew."""
    sent = kind.begin(gate, door)
    door.wait_reached()
    for _ in range(2):
        gate.control.pause(sent.id, wait=LIMIT)
    until(lambda: pauses.of(sent) == ["paused"])
    gate.control.step(sent.id, 1, wait=LIMIT)
    until(lambda: pauses.of(sent) == ["paused", "resumed", "paused"])
    for _ in range(2):
        gate.control.resume(sent.id)
    until(lambda: pauses.of(sent) == ["paused", "resumed"] * 2)
    door.open()
    assert sent.result(LIMIT) == "through"
    until(lambda: pauses.of(sent) == [*["paused", "resumed"] * 2, "finished"])
    assert {state for what, _, state in pauses.seen if what == "paused"} == {"paused"}


@pytest.mark.parametrize("kind", QUEUED, ids=lambda kind: kind.name)
def test_a_token_that_is_paused_in_its_queue_is_told_of_once(
    gate: Gate, pauses: Pauses, kind: Kind, doors: Callable[[], Door], until: Until
) -> None:
    """And once when it is queued again, or takes its first steps."""
    running = kind.begin(gate, doors())
    gate.control.suspend(running.actor)
    door = doors()
    sent = kind.begin(gate, door)
    gate.control.pause(sent.id)
    gate.control.pause(sent.id)
    assert pauses.of(sent) == ["paused"]
    gate.control.resume(sent.id)
    assert pauses.of(sent) == ["paused", "resumed"]
    assert {state for _, number, state in pauses.seen if number == sent.id} == {"paused", "queued"}


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_one_that_ends_while_it_is_paused_is_not_resumed(
    gate: Gate, pauses: Pauses, kind: Kind, door: Door, until: Until
) -> None:
    """Its end is told instead."""
    sent = kind.begin(gate, door)
    door.wait_reached()
    gate.control.pause(sent.id, wait=LIMIT)
    until(lambda: pauses.of(sent) == ["paused"])
    sent.cancel()
    sent.exception(LIMIT)
    until(lambda: pauses.of(sent) == ["paused", "finished"])


def test_one_that_ends_in_its_queue_while_it_is_paused_is_not_resumed(
    gate: Gate, pauses: Pauses, door: Door, until: Until
) -> None:
    """The same without having begun."""

    @token(concurrency=1)
    def narrow(door: Door) -> None:
        cpu_operation.__wrapped__(door)

    narrow.submit(door)
    door.wait_reached()
    sent = narrow.submit(door)
    gate.control.pause(sent.id)
    assert sent.cancel()
    assert pauses.of(sent) == ["paused", "finished"]
