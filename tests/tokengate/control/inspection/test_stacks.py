"""Stacks of tokens: code on threads, code that waits, code between two steps."""

from __future__ import annotations

import contextvars
import inspect
import os
import threading
import types
from collections.abc import AsyncGenerator, Callable, Coroutine, Generator, Iterator
from pathlib import Path
from typing import Any

import pytest
import trio

from actors import AsyncioActor, BaseActor, CpuActor, IoActor, Reply, Token, current_token
from actors.steps._step import in_context
from actors.tokens._hold import Hold
from tokengate import Gate, token
from tokengate.control.inspection import _stacks
from tokengate.control.inspection._stacks import frames_of, spot_of, stack_of, with_source
from tokengate.control.messages import Frame, TokenStack

WAIT = 60.0  # seconds; only reached when something is broken


@pytest.fixture
def gate() -> Iterator[Gate]:
    with Gate("test", shutdown=5.0) as gate:
        yield gate


def stack(one: Token[Any]) -> TokenStack:
    return trio.run(stack_of, one)


def functions(frames: tuple[Frame, ...]) -> list[str]:
    """The last parts of the functions' names."""
    return [frame.function.rpartition(".")[2] for frame in frames]


def until(condition: Callable[[], bool]) -> None:
    """Wait for a condition that nobody announces."""
    pause = threading.Event()
    for _ in range(int(WAIT / 0.001)):
        if condition():
            return
        pause.wait(0.001)
    pytest.fail("the condition never came true")


# --- Threads ---------------------------------------------------------------------------------------------------------


def test_code_on_a_thread_is_shown_from_the_tokens_own_function_on(gate: Gate) -> None:
    """The runtime's frames are left out; each frame has its line."""
    started, go = threading.Event(), threading.Event()

    def inner() -> None:
        started.set()
        go.wait(WAIT)  # here

    @token
    def outer() -> None:
        inner()

    one = outer.submit()
    assert started.wait(WAIT)
    until(lambda: "go.wait(WAIT)  # here" in [frame.source for frame in stack(one).frames])
    found = stack(one)
    go.set()
    one.result(WAIT)

    assert (found.token, found.operation, found.where) == (one.id, "outer", "thread")
    assert found.thread is not None
    assert found.thread.startswith("test-cpu")
    assert functions(found.frames)[:2] == ["outer", "inner"]
    assert found.frames[0].file == __file__
    assert found.frames[0].source == "inner()"
    assert "go.wait(WAIT)  # here" in [frame.source for frame in found.frames]


def test_a_direct_call_is_on_its_callers_thread(gate: Gate) -> None:
    """And what called it is no part of its stack."""
    seen: list[TokenStack] = []

    def look() -> None:
        (one,) = gate._system.live.values()
        seen.append(stack(one))

    @token
    def direct() -> None:
        thread = threading.Thread(target=look)
        thread.start()
        thread.join(WAIT)

    direct()

    assert (seen[0].where, seen[0].thread) == ("thread", threading.current_thread().name)
    assert functions(seen[0].frames)[0] == "direct"


def test_a_thread_of_a_users_class_is_named_without_its_code(gate: Gate) -> None:
    """Properties of the class are not asked."""

    class Odd(threading.Thread):
        loud = False

        @property
        def name(self) -> str:
            raise AssertionError("user code ran")

        @name.setter
        def name(self, value: str) -> None: ...

    started, go = threading.Event(), threading.Event()

    @token
    def direct() -> None:
        started.set()
        go.wait(WAIT)

    thread = Odd(target=direct, name="odd one")
    thread.start()
    assert started.wait(WAIT)
    (one,) = gate._system.live.values()
    found = stack(one)
    go.set()
    thread.join(WAIT)

    assert found.thread == "odd one"


def test_a_token_that_has_not_begun_is_nowhere(gate: Gate) -> None:
    """It has no stack yet, and none any more when it has ended."""
    started, go = threading.Event(), threading.Event()

    @token(concurrency=1)
    def work() -> None:
        started.set()
        go.wait(WAIT)

    first, second = work.submit(), work.submit()
    assert started.wait(WAIT)
    queued = stack(second)
    go.set()
    first.result(WAIT)
    second.result(WAIT)

    assert queued == TokenStack(second.id, "work", "nowhere", None, ())
    assert stack(first).where == "nowhere"


# --- Code that is suspended ------------------------------------------------------------------------------------------


@types.coroutine
def suspend() -> Generator[None]:
    yield


class Custom:
    """An awaitable that is written by hand."""

    def __init__(self, inner: Coroutine[Any, Any, None]) -> None:
        self.inner = inner

    def __await__(self) -> Generator[Any, Any, None]:
        return self.inner.__await__()


async def leaf() -> None:
    await suspend()


async def numbers() -> AsyncGenerator[int]:
    await leaf()
    yield 1


async def over_plain() -> None:
    await leaf()


async def over_wrapper() -> None:
    await Custom(leaf())


async def over_context() -> None:
    await in_context(contextvars.copy_context(), leaf())


async def over_async_generator() -> None:
    async for _ in numbers():
        pass


async def over_anext() -> None:
    await anext(numbers(), None)


async def over_foreign() -> None:
    class Foreign:
        gi_frame = cr_frame = ag_frame = property(lambda _self: pytest.fail("user code ran"))

        def __iter__(self) -> Foreign:
            return self

        def __next__(self) -> None:
            return None

        __await__ = __iter__

    await Foreign()  # type: ignore[misc]


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (over_plain, ["over_plain", "leaf", "suspend"]),
        (over_wrapper, ["over_wrapper", "leaf", "suspend"]),
        (over_context, ["over_context", "leaf", "suspend"]),
        (over_async_generator, ["over_async_generator", "numbers", "leaf", "suspend"]),
        (over_anext, ["over_anext", "numbers", "leaf", "suspend"]),
        (over_foreign, ["over_foreign"]),
    ],
)
def test_code_that_waits_is_shown_down_to_what_it_waits_for(
    make: Callable[[], Coroutine[Any, Any, None]], expected: list[str]
) -> None:
    """As far as built-in classes tell; objects of other classes are not asked."""
    code = make()
    code.send(None)
    found = functions(frames_of(code))
    code.close()

    assert found == expected


def test_a_generator_is_shown_with_those_that_it_delegates_to() -> None:
    """Each with the line of its `yield`."""

    def inner() -> Generator[None]:
        yield

    def outer() -> Generator[None]:
        yield from inner()

    steps = outer()
    next(steps)
    frames = frames_of(steps)
    steps.close()

    assert functions(frames) == ["outer", "inner"]
    assert frames[1].line == inspect.getsourcelines(inner)[1] + 1


def test_code_that_has_ended_has_no_frames() -> None:
    """Nor has what is no code at all."""
    code = over_plain()
    code.close()

    assert frames_of(code) == frames_of(None) == frames_of(5) == ()


def test_a_very_deep_stack_is_shown_from_inside() -> None:
    """The innermost frames say where it is."""

    async def down(depth: int) -> None:
        await (down(depth - 1) if depth else leaf())

    code = down(300)
    code.send(None)
    found = functions(frames_of(code))
    code.close()

    assert len(found) == 200
    assert found[-3:] == ["down", "leaf", "suspend"]


@pytest.mark.parametrize("base", [CpuActor, IoActor, AsyncioActor])
def test_a_generator_between_two_steps_is_where_it_has_yielded(gate: Gate, base: type[BaseActor]) -> None:
    """On threads and in tasks alike, though nothing of it runs."""

    class Till(base):  # type: ignore[misc, valid-type]
        def count(self) -> Generator[None]:
            yield pause()  # between

    def pause() -> None:
        """Let its own code pause it, right before the step is over."""
        one = current_token()
        assert one is not None
        paused.append(Hold.of(one).pause())

    paused: list[Reply[None]] = []
    proxy: Any = gate.spawn(Till).proxy()
    one: Token[None] = proxy.count()
    until(lambda: bool(paused))
    paused[0].result(WAIT)
    found = stack(one)
    gate.control.resume(one.id)
    one.result(WAIT)

    assert (found.where, found.thread) == ("generator", None)
    assert functions(found.frames) == ["count"]
    assert [frame.source for frame in found.frames] == ["yield pause()  # between"]
    assert stack(one).where == "nowhere"


def test_a_coroutine_in_a_task_is_where_it_waits(gate: Gate) -> None:
    """Down to trio, whose own frames say what for."""
    ready: list[trio.Event] = []

    async def inner() -> None:
        await ready[0].wait()

    @token
    async def outer() -> None:
        ready.append(trio.Event())
        await inner()

    one = outer.submit()
    until(lambda: bool(ready) and spot_of(one).where == "task")
    found = stack(one)
    gate._system.io_host.call_soon(ready[0].set)
    one.result(WAIT)

    assert (found.where, found.thread) == ("task", None)
    assert functions(found.frames)[:3] == ["outer", "inner", "wait"]
    assert [frame.source for frame in found.frames[:2]] == ["await inner()", "await ready[0].wait()"]


def test_code_that_blocks_the_loop_is_on_its_thread(gate: Gate) -> None:
    """A coroutine that runs just now, and does not wait."""
    started, go = threading.Event(), threading.Event()

    @token
    async def blocks() -> None:
        await trio.lowlevel.checkpoint()
        started.set()
        go.wait(WAIT)

    one = blocks.submit()
    assert started.wait(WAIT)
    found = stack(one)
    go.set()
    one.result(WAIT)

    assert (found.where, found.thread) == ("thread", "test-io")
    assert functions(found.frames)[0] == "blocks"


# --- Lines of source -------------------------------------------------------------------------------------------------


def lines(*frames: Frame) -> list[str]:
    return [frame.source for frame in trio.run(with_source, frames)]


def test_a_line_that_cannot_be_read_is_empty(tmp_path: Path) -> None:
    """No such file, no file but a pipe, a directory, no such line, or not Python's text."""
    (tmp_path / "bytes.py").write_bytes(b"\xff\xff\n")
    (tmp_path / "short.py").write_text("one = 1\n")
    os.mkfifo(tmp_path / "pipe.py")
    names = ["none.py", "bytes.py", "pipe.py", ".", "short.py", "nul\0.py"]

    assert lines(*(Frame(str(tmp_path / name), 2, "f") for name in names)) == [""] * 6
    assert lines(Frame(str(tmp_path / "short.py"), 1, "f")) == ["one = 1"]


def test_a_huge_file_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is no source a human wrote."""
    (tmp_path / "long.py").write_text("one = 1\n")
    monkeypatch.setattr(_stacks, "_MAX_SOURCE", 5)

    assert lines(Frame(str(tmp_path / "long.py"), 1, "f")) == [""]


def test_reading_that_takes_too_long_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """The frames come without their lines, and the reader is left behind."""
    monkeypatch.setattr(_stacks, "_READ_SECONDS", 0.01)
    found, go = Frame(__file__, 1, "f"), threading.Event()

    def read(_file: str, _line: int) -> str:
        go.wait(WAIT)
        return "late"

    monkeypatch.setattr(_stacks, "_line", read)
    try:
        assert lines(found, found) == ["", ""]
    finally:
        go.set()
