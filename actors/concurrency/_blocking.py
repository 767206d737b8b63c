"""The turns that run on each thread, and what is told when one of them waits, so that no other is held up."""

from __future__ import annotations

import threading
from collections.abc import Generator
from contextlib import contextmanager
from typing import Protocol


class Lender(Protocol):
    """What lends its threads to steps: a dispatcher."""

    def step_waits(self, *, paused: bool = False) -> None:
        """Take note that the step on the calling thread waits; raise `DeadlockError` if no more threads may wait."""

    def step_resumes(self) -> None:
        """Take note that it goes on."""


class TurnHolder(Protocol):
    """What has a turn: a drainer."""

    @property
    def at_work(self) -> bool: ...


class TurnOwner(Protocol):
    """What gives turns to its drainers: a place."""

    @property
    def path(self) -> str: ...

    def step_waits(self, why: object, /) -> None: ...

    def step_resumes(self, why: object, /) -> None: ...


class _Local(threading.local):
    def __init__(self) -> None:
        self.lender: Lender | None = None
        self.refusal = ""  # why nothing is to be waited for on this thread
        # (place, drainer that has its turn), the innermost last: a direct call is a turn within its caller's
        self.turns: list[tuple[TurnOwner, TurnHolder]] = []


_local = _Local()


def lend_this_thread(lender: Lender) -> None:
    """Have `lender` told whenever code on the current thread waits for another token."""
    _local.lender = lender


def refuse_waits(thread: str) -> None:
    """Refuse every wait on the current thread from now on: others wait for it."""
    _local.refusal = thread


def refusal() -> str:
    """Return what the current thread is, if nothing may wait on it."""
    return _local.refusal


def begin_turn(place: TurnOwner, drainer: TurnHolder) -> int:
    """Say that what runs on the current thread from now on is a turn of `place`; return what ends it."""
    turns = _local.turns
    while turns and not turns[-1][1].at_work:
        turns.pop()  # one whose end was interrupted
    turns.append((place, drainer))
    return len(turns) - 1


def end_turn(depth: int) -> None:
    """Undo a `begin_turn`, and all that came after it."""
    del _local.turns[depth:]


def current_turn() -> TurnOwner | None:
    """Return the place whose code the current thread runs: that of the innermost turn, or None."""
    return _local.turns[-1][0] if _local.turns else None


def nesting(place: TurnOwner) -> tuple[int, int]:
    """Return how many turns the current thread is in, one within the other, and how many of these are of `place`."""
    turns = _local.turns
    if not turns:
        return 0, 0
    return len(turns), sum(its is place and drainer.at_work for its, drainer in turns)


@contextmanager
def blocking(*, paused: bool = False) -> Generator[None]:
    """Mark a stretch of code in which the current thread waits for others; all turns on it wait then.

    Args:
        paused: whether an operator holds the step, which then waits for no token.

    Raises:
        DeadlockError: so many steps wait already that no thread is left for what this one would wait for.
    """
    lender, turns = _local.lender, [turn for turn in _local.turns if turn[1].at_work]
    try:
        if lender is not None:
            lender.step_waits(paused=paused)
        for place, drainer in turns:
            place.step_waits(drainer)
        yield
    finally:
        for place, drainer in turns:
            place.step_resumes(drainer)
        if lender is not None:
            lender.step_resumes()
