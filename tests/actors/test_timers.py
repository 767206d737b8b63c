"""What an actor sends to itself later: contract tests over both kinds of actors, on a clock that the test moves."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from queue import SimpleQueue
from typing import Any

import pytest

from actors import (
    SHUTDOWN,
    ActorPlace,
    ActorSystem,
    BaseActor,
    DeadLetter,
    ExitReason,
    ReceiveTimeout,
    Reply,
    Timer,
    TokenState,
    current_token,
)
from actors._timers import _STALE_LIMIT

LIMIT = 10.0

Start = Callable[..., Any]
colour: ContextVar[str] = ContextVar("colour", default="none")


class Clock:
    """Seconds that pass when the test says so, for the system loop, too."""

    def __init__(self) -> None:
        self.now = 100.0
        self.system: ActorSystem | None = None

    def __call__(self) -> float:
        return self.now

    def advance(self, seconds: float) -> None:
        """Let time pass, and return when all that is due has been sent."""
        self.now += seconds
        self.settle()

    def settle(self) -> None:
        """Return when nothing is due any more."""
        assert self.system is not None
        timers, host = self.system.timers, self.system.system_host

        async def look() -> None:
            timers.look()

        host.run(look).result(LIMIT)
        while timers._heap and timers._wake_at_seconds() <= 0:
            host.run(look).result(LIMIT)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def system(clock: Clock) -> Iterator[ActorSystem]:
    opened = ActorSystem("timed", threads=2, clock=clock)
    clock.system = opened
    opened.open()
    yield opened
    assert opened.close(LIMIT) == ()
