"""Leaving the code of one token behind races with its end: the next token of the same place is never hit.

Each race is run 30 times with each grain, 10,000 times with TOKENGATE_TORTURE=1; TOKENGATE_SEED brings one back.
"""

from __future__ import annotations

import os
from collections import deque
from typing import Any

import attrs
import pytest
from interleave import Stage, run_all

from actors import ActorSystem, CpuActor, ExitReason, Token, TokenState
from actors.lowlevel import ActorPlace

ROUNDS = range(10_000 if os.environ.get("TOKENGATE_TORTURE") == "1" else 30)


@attrs.define
class Hands:
    """The threads of a dispatcher, played by the test."""

    system: ActorSystem
    runnable: deque[Any] = attrs.field(factory=deque)

    def __attrs_post_init__(self) -> None:
        self.system.dispatcher.submit = self.runnable.append  # type: ignore[method-assign]

    def work(self) -> None:
        run_all(self.runnable)


class Worker(CpuActor):
    def __init__(self, system: ActorSystem, ran: list[int]) -> None:
        self.system, self.ran = system, ran

    def work(self, number: int) -> int:
        return work(self.system, self.ran, number)

    def steps(self, number: int) -> Any:
        yield
        self.system.places()
        yield
        self.ran.append(number)
        return number


def work(system: ActorSystem, ran: list[int], number: int) -> int:
    system.places()  # here others may go on
    ran.append(number)
    system.places()
    return number


def check(system: ActorSystem, place: Any, tokens: list[Token[Any]], ran: list[int]) -> None:
    first, *others = tokens
    assert first.state in {TokenState.COMPLETED, TokenState.TERMINATED}
    for number, token in enumerate(others, 1):
        assert token.state is TokenState.COMPLETED, (token, place.mailbox.statistics())
        assert token.result() == number
        assert ran.count(number) == 1
    statistics = place.mailbox.statistics()
    assert (statistics.depth, statistics.active) == (0, 0)
    assert system.live == {}


def test_leaving_a_call_behind_racing_its_end_hits_no_other(stage: Stage) -> None:
    """The second and the third call of an operation run once each, whatever became of the first."""
    for _ in ROUNDS:
        system = ActorSystem("raced", threads=1)
        hands = Hands(system)
        place = system.operation_place("raced", "cpu", generator=False, concurrency=1)
        ran: list[int] = []
        tokens = [place.send(place.token("work", work, (system, ran, number), {})) for number in range(3)]

        stage.run(hands.work, hands.work, lambda p=place, t=tokens[0]: p.abandon(t, "the test wants it"))
        hands.work()

        check(system, place, tokens, ran)


@pytest.mark.parametrize("method", ["work", "steps"])
def test_leaving_an_actors_step_behind_racing_its_end_hits_no_other(stage: Stage, method: str) -> None:
    """What is queued is handled by the same instance, or by its successor; there is one at a time."""
    for _ in ROUNDS:
        system = ActorSystem("raced", threads=1)
        hands = Hands(system)
        ran: list[int] = []

        def restart(place: ActorPlace, _reason: ExitReason, _administrative: bool) -> None:
            place.start()

        place = system.place("raced", Worker, (system, ran), owner=restart)
        place.start()
        hands.work()
        proxy = place.ref.proxy()
        tokens = [getattr(proxy, method)(number) for number in range(3)]

        stage.run(hands.work, hands.work, lambda p=place, t=tokens[0]: p.abandon(t, "the test wants it"))
        hands.work()

        check(system, place, tokens, ran)
        assert place.starts in {1, 2}
        assert place.runs(None)
