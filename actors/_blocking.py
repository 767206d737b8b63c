"""Tell those concerned that the code on this thread is about to wait, so that others are not held up."""

from __future__ import annotations

import threading
from collections.abc import Generator
from contextlib import contextmanager
from typing import Protocol


class Concerned(Protocol):
    """Who has to know when a step waits: the dispatcher that lends the thread, the place that gave the turn."""

    def step_waits(self) -> None: ...

    def step_resumes(self) -> None: ...


class _Local(threading.local):
    lender: Concerned | None = None
    turn: Concerned | None = None


_local = _Local()


def lend_this_thread(lender: Concerned) -> None:
    """Have `lender` told whenever code on the current thread waits for another token."""
    _local.lender = lender


def swap_turn(turn: Concerned | None) -> Concerned | None:
    """Say whose turn runs on the current thread from now on, and return whose it was."""
    before, _local.turn = _local.turn, turn
    return before


@contextmanager
def blocking() -> Generator[None]:
    """Mark a stretch of code in which the current thread waits for others."""
    concerned = [one for one in (_local.lender, _local.turn) if one is not None]
    for one in concerned:
        one.step_waits()
    try:
        yield
    finally:
        for one in concerned:
            one.step_resumes()
