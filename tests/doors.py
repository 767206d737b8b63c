"""Spots in user code that tests open: what runs, and for how long, is theirs to say."""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager

import attrs

LIMIT = 10.0  # seconds; reached only when a test fails


@attrs.define(eq=False)
class Door:
    """A spot in user code that tells when it is reached, and goes around in circles until the test opens it.

    Attributes:
        reached: set when some code is there.
        opened: set by the test.
        rounds: how often the code has gone around.
    """

    reached: threading.Event = attrs.field(factory=threading.Event)
    opened: threading.Event = attrs.field(factory=threading.Event)
    is_open: bool = False
    rounds: int = 0

    def pass_through(self) -> None:
        """Wait here, in code that nothing can stop."""
        self.reached.set()
        assert self.opened.wait(LIMIT)

    def wait_reached(self) -> None:
        assert self.reached.wait(LIMIT)

    def open(self) -> None:
        self.is_open = True
        self.opened.set()


@contextmanager
def opened_at_the_end() -> Generator[Callable[[], Door]]:
    """Give what makes doors, which are open after the block, whatever failed."""
    made: list[Door] = []

    def make() -> Door:
        made.append(Door())
        return made[-1]

    try:
        yield make
    finally:
        for one in made:
            one.open()
