"""Doors in user code: the code waits at one until the test opens it."""

from __future__ import annotations

import mmap
import os
import tempfile
import threading
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Any

import attrs

from actors.lowlevel import thread_frames

LIMIT = 30.0  # seconds; reached only when a test fails


@attrs.define(eq=False, slots=False)
class Door:
    """A door in user code: it reports when it is reached, and spins until the test opens it.

    Attributes:
        reached: set when code waits at it.
        opened: set by the test.
        rounds: number of rounds of the waiting code.
    """

    reached: threading.Event = attrs.field(factory=threading.Event)
    opened: threading.Event = attrs.field(factory=threading.Event)
    is_open: bool = False
    rounds: int = 0
    _thread: int | None = None  # ident of the one that came to it last in `pass_through`
    _bolt: threading.Lock = attrs.field(factory=threading.Lock)  # held until the door is open

    def __attrs_post_init__(self) -> None:
        self._bolt.acquire()

    def pass_through(self) -> None:
        """Wait here, in one call of C code, which cannot be stopped."""
        self._thread = threading.get_ident()
        self.reached.set()
        assert self._bolt.acquire(timeout=LIMIT)
        self._bolt.release()

    def wait_reached(self) -> None:
        """Wait until code waits at it; that of `pass_through` is in C code then."""
        assert self.reached.wait(LIMIT)
        deadline = time.monotonic() + LIMIT
        while self._thread is not None and not self.is_open and not self._waits_in_c(self._thread):
            assert time.monotonic() < deadline, "the code that came to the door does not wait there"
            time.sleep(0.0005)

    def _waits_in_c(self, thread: int) -> bool:
        """Tell whether a thread that has set `reached` waits for the bolt: that is all that is left in its frame."""
        frame = thread_frames().get(thread)
        return frame is not None and frame.f_code is Door.pass_through.__code__

    def open(self) -> None:
        first, self.is_open = not self.is_open, True
        self.opened.set()
        if first:
            self._bolt.release()


class Flag:
    """An event in a byte of shared memory."""

    def __init__(self, memory: mmap.mmap, at: int) -> None:
        self._memory, self._at = memory, at

    def set(self) -> None:
        self._memory[self._at] = 1

    def is_set(self) -> bool:
        return bool(self._memory[self._at])

    def wait(self, seconds: float) -> bool:
        deadline = time.monotonic() + seconds
        while not self.is_set():
            if time.monotonic() > deadline:
                return False
            time.sleep(0.0005)
        return True


class SharedDoor(Door):
    """A door that is shared with child processes: pickled, it is the name of a file."""

    memory: mmap.mmap
    file: str

    @property
    def reached(self) -> Any:
        return Flag(self.memory, 0)

    @property
    def is_open(self) -> bool:
        return bool(self.memory[1])

    @is_open.setter
    def is_open(self, value: bool) -> None:
        self.memory[1] = value

    @property
    def opened(self) -> Any:
        return Flag(self.memory, 1)

    @property
    def rounds(self) -> int:
        return int.from_bytes(self.memory[8:16], "little")

    @rounds.setter
    def rounds(self, value: int) -> None:
        self.memory[8:16] = value.to_bytes(8, "little")

    def pass_through(self) -> None:
        """Wait here; in another process, there is no bolt."""
        self.reached.set()
        assert self.opened.wait(LIMIT)

    def wait_reached(self) -> None:
        assert self.reached.wait(LIMIT)

    def open(self) -> None:
        self.is_open = True

    def __reduce__(self) -> Any:
        return open_shared, (self.file,)


def open_shared(file: str) -> SharedDoor:
    """Return the door of a file."""
    door = SharedDoor.__new__(SharedDoor)
    with open(file, "r+b") as opened:
        door.memory = mmap.mmap(opened.fileno(), 16)
    door.file = file
    return door


def share(door: Door) -> SharedDoor:
    """Turn a door that has not been reached into one that processes share."""
    is_open = door.is_open
    descriptor, file = tempfile.mkstemp()
    os.truncate(descriptor, 16)
    os.close(descriptor)
    door.__class__ = SharedDoor
    assert isinstance(door, SharedDoor)
    other = open_shared(file)
    door.memory, door.file, door.is_open = other.memory, file, is_open
    return door


@contextmanager
def opened_at_the_end() -> Generator[Callable[[], Door]]:
    """Yield a function that makes doors; all of them are opened at the end of the block, even if it fails."""
    made: list[Door] = []

    def make() -> Door:
        made.append(Door())
        return made[-1]

    try:
        yield make
    finally:
        for one in made:
            one.open()
            if isinstance(one, SharedDoor):
                os.unlink(one.file)
                one.memory.close()
