"""Frames of other threads are read with no collection in a read, and no finalizer."""

from __future__ import annotations

import ast
import gc
import sys
import threading
import time
import weakref
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
from gated_code import Door

from actors.concurrency._thread_frames import (
    _undisturbed,
    frame_of,
    frames_from,
    thread_exceptions,
    thread_frames,
    variables_of,
)

LIMIT = 30.0

ROOT = Path(__file__).parents[3]

# Attributes by which objects of frames, and the dict of their variables, are made.
READS = {"f_back", "f_locals", "gi_frame", "cr_frame", "ag_frame", "_current_frames", "_current_exceptions"}

# {file: why it may read frames by itself}
ALLOWED = {
    "actors/concurrency/_thread_frames.py": "it is what the others use",
    "actors/_child/_stack.py": "it reads the frames of its own thread, and of a generator that no other thread runs",
    "actors/mailboxes/_mailbox.py": "it reads the frames of its own thread",
    "actors/tokens/_log_context.py": "it reads the variables of a frame of `logging` on its own thread",
}


@pytest.fixture(params=[True, False], ids=["enabled", "disabled"])
def enabled(request: pytest.FixtureRequest) -> Iterator[bool]:
    """Whether the user has the collector enabled."""
    if not request.param:
        gc.disable()
    try:
        yield request.param
    finally:
        gc.enable()


def test_no_collection_begins_in_a_read(enabled: bool) -> None:
    """On CPython 3.11, where making the object of a frame may begin one; it is as the user has it afterwards."""
    assert _undisturbed(gc.isenabled) is (enabled and sys.version_info >= (3, 12))
    assert gc.isenabled() is enabled


def test_a_read_that_fails_leaves_the_collector_as_it_was(enabled: bool) -> None:
    """It may lack memory, or stack."""
    with pytest.raises(ValueError, match="invalid literal"):
        _undisturbed(partial(int, "no number"))

    assert gc.isenabled() is enabled


def test_no_other_thread_finds_the_collector_disabled() -> None:
    """However often the threads take turns; a program that changes it is not in between."""
    found: set[bool] = set()
    ended = threading.Event()

    def look() -> None:
        for _ in range(3_000):
            found.add(gc.isenabled())
            time.sleep(0)  # end the turn
        ended.set()

    thread = threading.Thread(target=look)
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        thread.start()
        while not ended.is_set():
            thread_frames()
    finally:
        thread.join(LIMIT)
        sys.setswitchinterval(interval)

    assert found == {True}


def test_a_stack_is_that_of_the_thread() -> None:
    """The innermost frame is the first; no frame is the stack of no frame."""
    door = Door()

    def outer() -> None:
        inner()

    def inner() -> None:
        door.pass_through()

    thread = threading.Thread(target=outer)
    thread.start()
    door.wait_reached()
    names = [frame.f_code.co_name for frame in frames_from(thread_frames()[thread.ident or 0])]
    door.open()
    thread.join(LIMIT)

    assert names[names.index("pass_through") :][:4] == ["pass_through", "inner", "outer", "run"]
    assert list(frames_from(None)) == []


def test_a_look_keeps_nothing_alive() -> None:
    """What a function has is released at its end, without a collection."""

    class Held:
        pass

    held: list[weakref.ref[Held]] = []
    door = Door()

    def hold() -> None:
        each = Held()
        held.append(weakref.ref(each))
        door.pass_through()

    thread = threading.Thread(target=hold)
    thread.start()
    door.wait_reached()
    gc.disable()
    try:
        assert thread_frames()[thread.ident or 0]
        door.open()
        thread.join(LIMIT)
        assert held[0]() is None
    finally:
        gc.enable()


def test_frames_of_suspended_code_and_what_threads_handle_can_be_read() -> None:
    """A generator has a frame until it ends."""
    generator = (number for number in (1,))
    before = frame_of(generator, "gi_frame")
    assert before is not None
    assert list(generator) == [1]
    assert frame_of(generator, "gi_frame") is None
    error = ValueError("handled")
    try:
        raise error
    except ValueError:
        handled = thread_exceptions()[threading.get_ident()]

    assert error in (handled, handled[1] if isinstance(handled, tuple) else None)


class Leaving:
    """What ends a frame when it is released, if a read is what releases it; it waits until the memory is in use again.

    Args:
        door: at which the frame stands.
        left: set when another function stands in its place.
    """

    def __init__(self, door: Door, left: threading.Event) -> None:
        self.door = door
        self.left = left
        self.reader = threading.get_ident()
        self.released: list[bool] = []

    def __del__(self) -> None:
        self.released.append(threading.get_ident() == self.reader)
        if self.released == [True]:
            self.door.open()
            self.left.wait(LIMIT)


def test_what_a_read_releases_is_released_after_it() -> None:
    """A variable's former value may have its last reference in what was read last, and its finalizer end the frame."""
    begun, gone, left, ended = (threading.Event() for _ in range(4))
    changed, last = Door(), Door()

    def stand(value: Leaving | None) -> None:
        first, second, third = ["first"], ["second"], ["third"]
        begun.set()
        changed.pass_through()
        value = None
        gone.set()
        last.pass_through()
        del first, second, third, value

    def stand_in_its_place() -> None:
        one = two = three = four = five = six = seven = "wrong"
        left.set()
        ended.wait(LIMIT)
        del one, two, three, four, five, six, seven

    def run(values: list[Leaving]) -> None:
        stand(values.pop())
        stand_in_its_place()

    leaving = [Leaving(last, left)]
    released = leaving[0].released
    thread = threading.Thread(target=run, args=(leaving,))
    thread.start()
    try:
        assert begun.wait(LIMIT)
        changed.wait_reached()
        frame = next(each for each in frames_from(thread_frames()[thread.ident or 0]) if each.f_code.co_name == "stand")
        assert variables_of(frame)["second"] == ["second"]
        changed.open()
        assert gone.wait(LIMIT)
        last.wait_reached()
        variables = variables_of(frame)
        found = [variables[name] for name in ("first", "second", "third")]
        del variables
    finally:
        changed.open()
        last.open()
        ended.set()
        thread.join(LIMIT)

    assert found == [["first"], ["second"], ["third"]]
    assert released == [sys.version_info < (3, 13)]


def test_frames_are_read_in_one_place() -> None:
    """Frames of other threads by `_thread_frames.py` only; a file that reads those of its own thread stands here."""

    def reads(code: str) -> bool:
        if not any(name in code for name in READS):
            return False
        return any(isinstance(node, ast.Attribute) and node.attr in READS for node in ast.walk(ast.parse(code)))

    reading = {
        str(path.relative_to(ROOT))
        for folder in ("actors", "supervisors", "tokengate")
        for path in (ROOT / folder).rglob("*.py")
        if reads(path.read_text())
    }

    assert reading == set(ALLOWED)
