"""The stack of turns on each thread, and the calls that release the thread and the turns while a step waits."""

from __future__ import annotations

import asyncio
import sys
import threading
from collections.abc import Callable, Generator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Final, Protocol
from weakref import WeakKeyDictionary

from trio.lowlevel import in_trio_run

from actors._exceptions import DeadlockError, WouldBlock


class Lender(Protocol):
    """What lends its threads to steps: a dispatcher."""

    def step_waits(self, *, paused: bool = False) -> None:
        """Take note that the step on the calling thread waits; raise `DeadlockError` if no more threads may wait."""

    def step_resumes(self) -> None:
        """Take note that the step goes on."""


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


NO_CONTEXT: Final = nullcontext()
"""The context manager of waits that hold nothing up."""


class _Local(threading.local):
    def __init__(self) -> None:
        self.lender: Lender | None = None
        self.refusal = ""  # names this thread, if nothing may wait on it
        # (place, drainer that has its turn), the innermost last: the turn of a direct call is inside its caller's
        self.turns: list[tuple[TurnOwner, TurnHolder]] = []


_local = _Local()

_interrupts: Final[list[Callable[[], bool]]] = []  # tell whether the calling code has interrupted a change

# Seconds after which a wait takes long.
LONG_WAIT: Final = 0.05


def lend_this_thread(lender: Lender) -> None:
    """Have `lender` called whenever code on the current thread waits for another token."""
    _local.lender = lender


def refuse_waits(thread: str) -> None:
    """Refuse every wait on the current thread from now on: other threads depend on it."""
    _local.refusal = thread


def refuse_waits_if(interrupts: Callable[[], bool]) -> None:
    """Refuse long waits of code that has interrupted a change, as the function tells: others may need its end."""
    _interrupts.append(interrupts)


def check_interrupted(what: str) -> None:
    """Raise `WouldBlock` if the calling code has interrupted a change; to be called when a wait takes long.

    Args:
        what: that is waited for.
    """
    if any(interrupts() for interrupts in _interrupts):
        raise WouldBlock(
            f"waiting for {what} here might never end: this code, a finalizer or a signal handler, has interrupted a "
            "change of the runtime, which is complete only afterwards; send without waiting (tell, submit)"
        )


def refusal() -> str:
    """Return what the current thread is, if nothing may wait on it."""
    return _local.refusal


_hooks: Final = sys.get_asyncgen_hooks

# {loop of asyncio: hosts that run tokens there}; code that blocks such a loop blocks these tokens. An entry changes on
# the thread of its loop only.
hosted_loops: Final[WeakKeyDictionary[asyncio.AbstractEventLoop, int]] = WeakKeyDictionary()


def loop_here() -> str:
    """Return `trio` or `asyncio` if the calling thread runs such a loop that tokens may need, else an empty text."""
    # A run of trio has set the hook. So trio is only asked if it is set: to say no, it makes an error and drops it.
    if _hooks().firstiter is not None and in_trio_run():
        return "trio"
    loop = asyncio._get_running_loop()
    return "asyncio" if loop is not None and hosted_loops.get(loop) else ""


def any_loop_here() -> str:
    """Return `trio` or `asyncio` if the calling thread runs any such loop, else an empty text."""
    return loop_here() or ("asyncio" if asyncio._get_running_loop() is not None else "")


def begin_turn(place: TurnOwner, drainer: TurnHolder) -> int:
    """Begin a turn of `place` on the current thread; return its depth, which `end_turn` takes."""
    turns = _local.turns
    while turns and not turns[-1][1].at_work:
        turns.pop()  # its end was interrupted
    turns.append((place, drainer))
    return len(turns) - 1


def end_turn(depth: int) -> None:
    """End the turn at this depth, and all turns inside it."""
    del _local.turns[depth:]


def current_turn() -> TurnOwner | None:
    """Return the place of the innermost turn on the current thread, or None."""
    return _local.turns[-1][0] if _local.turns else None


def nesting(place: TurnOwner) -> tuple[int, int]:
    """Return how many nested turns the current thread is in, and how many of these are of `place`."""
    turns = _local.turns
    if not turns:
        return 0, 0
    return len(turns), sum(its is place and drainer.at_work for its, drainer in turns)


def blocking(*, paused: bool = False) -> AbstractContextManager[None]:
    """Mark a block of code in which the current thread waits for others; all turns on the thread wait with it.

    Args:
        paused: whether the step is paused by an operator; then it waits for no token.

    Raises:
        DeadlockError: so many steps wait already that no thread is left for the token that this step would wait for.
    """
    lender, turns = _local.lender, [turn for turn in _local.turns if turn[1].at_work]
    return _lending(lender, turns, paused) if lender is not None or turns else NO_CONTEXT


@contextmanager
def lending_thread() -> Generator[None]:
    """Mark a block of code in which the current thread waits for no token, and keeps its turns.

    Others get its thread, unless so many wait already that there is none.
    """
    lender = _local.lender
    try:
        if lender is not None:
            lender.step_waits()
    except DeadlockError:
        lender = None
    try:
        yield
    finally:
        if lender is not None:
            lender.step_resumes()


@contextmanager
def _lending(lender: Lender | None, turns: list[tuple[TurnOwner, TurnHolder]], paused: bool) -> Generator[None]:
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
