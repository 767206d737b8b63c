"""Whose code runs on this thread, and who has to know when it waits, so that others are not held up."""

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
    def __init__(self) -> None:
        self.lender: Concerned | None = None
        self.refusal = ""  # why nothing is to be waited for on this thread
        self.turns: list[Concerned] = []  # the innermost last: a direct call is a turn within its caller's


_local = _Local()


def lend_this_thread(lender: Concerned) -> None:
    """Have `lender` told whenever code on the current thread waits for another token."""
    _local.lender = lender


def refuse_waits(thread: str) -> None:
    """Have whoever would wait on the current thread told that nothing may: others wait for it."""
    _local.refusal = thread


def refusal() -> str:
    """Return what the current thread is, if nothing may wait on it."""
    return _local.refusal


def begin_turn(turn: Concerned) -> None:
    """Say that what runs on the current thread from now on is the turn of `turn`."""
    _local.turns.append(turn)


def end_turn() -> None:
    """Undo the latest `begin_turn`."""
    _local.turns.pop()


def current_turn() -> Concerned | None:
    """Return whose code the current thread runs: the innermost turn, or None."""
    return _local.turns[-1] if _local.turns else None


def in_turn_of(turn: Concerned) -> bool:
    """Tell whether the current thread runs code of `turn`, directly or further out."""
    return turn in _local.turns


@contextmanager
def blocking() -> Generator[None]:
    """Mark a stretch of code in which the current thread waits for others; all turns on it wait then."""
    concerned = [*_local.turns] if _local.lender is None else [_local.lender, *_local.turns]
    for one in concerned:
        one.step_waits()
    try:
        yield
    finally:
        for one in concerned:
            one.step_resumes()
