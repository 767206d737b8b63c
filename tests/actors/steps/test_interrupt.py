"""Stopping and ending running code: where it is stopped, where it never is, and what is left behind."""

from __future__ import annotations

import contextlib
import ctypes
import dis
import io
import json
import logging
import os
import queue
import random
import subprocess
import sys
import threading
import types
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import attrs
import pytest
import trio

from actors import ActorSystem, Token, TokenInterrupt, TokenState, TokenTerminated, WaitTimeout, checkpoint
from actors.lowlevel import Hold, OperationPlace, interrupt, monitor, thread_frames
from actors.steps._frames import find_step, in_cleanup, may_stop
from actors.steps._interrupt import _sending, send_interrupt, withdraw_interrupt

LIMIT = 30.0
AGAIN = 0.002  # seconds between two looks

Until = Callable[[Callable[[], bool]], None]

monitored = pytest.mark.skipif(monitor is None, reason="this Python has no sys.monitoring")


@pytest.fixture
def place(system: ActorSystem) -> OperationPlace:
    return system.operation_place("op", "cpu", generator=False, concurrency=2)


@pytest.fixture(autouse=True)
def _leaves_nothing_armed() -> Iterator[None]:
    yield
    assert monitor is None or not monitor.armed
    assert all(sys.monitoring.get_tool(tool) != "tokengate" for tool in range(6) if monitor is not None)


def make(place: OperationPlace, function: Any, *args: Any) -> Token[Any]:
    return place.token("op", function, args, {})


def submit(place: OperationPlace, function: Any, *args: Any) -> Token[Any]:
    return place.send(make(place, function, *args))


def wait(reply: Any, seconds: float = AGAIN) -> bool:
    with contextlib.suppress(WaitTimeout):
        reply.exception(seconds)
    return bool(reply.done())


def pause(token: Token[Any]) -> Hold:
    """Pause code that runs."""
    assert monitor is not None
    hold = Hold.of(token)
    reached = hold.pause()
    for _ in range(int(LIMIT / AGAIN)):
        monitor.arm(hold)
        if wait(reached):
            break
    assert reached.done()
    return hold


def step(token: Token[Any], n: int) -> None:
    Hold.of(token).step(n).result(LIMIT)


def resume(token: Token[Any]) -> None:
    assert monitor is not None
    hold = Hold.of(token)
    hold.resume()
    monitor.disarm(hold)


def end(token: Token[Any]) -> None:
    """Interrupt running code, again and again, until it has ended."""
    token._own_extras().cancel_requested = "enough"
    hold = Hold.of(token)
    for _ in range(int(LIMIT / AGAIN)):
        interrupt(hold)
        if wait(token):
            break
    assert token.done()


def instrumented(*codes: types.CodeType) -> list[str]:
    return [
        instruction.opname
        for code in codes
        for instruction in dis.get_instructions(code, adaptive=True)
        if instruction.opname.startswith("INSTRUMENTED")
    ]


# Shapes of code; each runs until `go` is empty, and has one `finally`


class Shape:
    """Code that runs until it is told to stop, and counts how often it was left."""

    def __init__(self) -> None:
        self.go = [True]
        self.rounds = 0
        self.left = 0
        self.lock = threading.Lock()

    def loop(self) -> str:
        try:
            while self.go[0]:
                self.rounds += 1
        finally:
            self.left += 1
        return "done"

    def one_line(self) -> str:
        self.rounds = 1
        try:
            while self.go[0]: pass  # fmt: skip  # noqa: E701
        finally:
            self.left += 1
        return "done"

    def recursion(self) -> str:
        def fibonacci(n: int) -> int:
            return n if n < 2 else fibonacci(n - 1) + fibonacci(n - 2)

        try:
            while self.go[0]:
                self.rounds += 1
                assert fibonacci(10) == 55
        finally:
            self.left += 1
        return "done"

    def sort_key(self) -> str:
        def key(value: int) -> int:
            self.rounds += 1
            return -value

        try:
            while self.go[0]:
                assert sorted(range(100), key=key)[0] == 99
        finally:
            self.left += 1
        return "done"

    def json(self) -> str:
        try:
            while self.go[0]:
                self.rounds += 1
                assert json.loads(json.dumps({"a": [self.rounds] * 10}))["a"][0] == self.rounds
        finally:
            self.left += 1
        return "done"

    def deep(self, depth: int = 50) -> str:
        if depth:
            return self.deep(depth - 1)
        return self.loop()

    def locked(self) -> str:
        try:
            while self.go[0]:
                with self.lock:
                    self.rounds += 1
        finally:
            self.left += 1
        return "done"

    def acquired(self) -> str:
        try:
            while self.go[0]:
                self.lock.acquire()
                try:
                    self.rounds += 1
                finally:
                    self.lock.release()
        finally:
            self.left += 1
        return "done"


SHAPES = ["loop", "one_line", "recursion", "sort_key", "json", "deep", "locked", "acquired"]


@monitored
@pytest.mark.parametrize("name", SHAPES)
def test_running_code_is_paused_stepped_and_resumed(
    place: OperationPlace, until: Until, seed: int, rounds: Callable[[int], int], name: str
) -> None:
    """It takes exactly the steps that it may, comes to the right result, and is as it was: nothing is armed."""
    chance = random.Random(seed)
    shape = Shape()
    codes = (getattr(Shape, name).__code__, Shape.loop.__code__)
    token = submit(place, getattr(shape, name))
    until(lambda: shape.rounds > 0)
    for _ in range(rounds(4)):
        pause(token)
        assert token.state is TokenState.PAUSED
        assert monitor is not None
        assert not monitor.armed
        assert instrumented(*codes) == []
        n, before = chance.randint(1, 30), token.steps
        step(token, n)
        assert token.steps - before == n
        assert not monitor.armed
        resume(token)
    shape.go[0] = False

    assert token.result(LIMIT) == "done"
    assert shape.left == 1
    assert instrumented(*codes) == []


@pytest.mark.parametrize("name", SHAPES)
def test_running_code_is_ended(place: OperationPlace, until: Until, rounds: Callable[[int], int], name: str) -> None:
    """Its `finally` runs, once, and its lock is free."""
    for _ in range(rounds(4)):
        shape = Shape()
        token = submit(place, getattr(shape, name))
        until(lambda shape=shape: shape.rounds > 0)  # type: ignore[misc]
        end(token)
        assert isinstance(token.exception(), TokenTerminated)
        assert shape.left == 1
        assert not shape.lock.locked()
        assert instrumented(getattr(Shape, name).__code__) == [] or monitor is None


NOTHING = {
    "in one line": "while True: pass",
    "in two lines": "while True:\n        pass",
    "an ellipsis": "while True: ...",
    "a continue": "while True:\n        continue",
    "with a condition": "while code: pass",
    "in a try": "try:\n        while True: pass\n    finally:\n        left.append(1)",
    "in a with": "with leaving(left):\n        while True: pass",
    "with a condition, in a with": "with leaving(left):\n        while code: pass",
    "with a condition inside, in a with": "with leaving(left):\n        for _ in iter(int, 1):\n            if _: pass",
    "all of it in a function in one line": "all(map(lambda _: True, iter(int, 1)))",
}


@pytest.mark.parametrize("loop", NOTHING.values(), ids=NOTHING)
def test_a_loop_that_does_nothing_is_ended(place: OperationPlace, until: Until, loop: str) -> None:
    """It has no line, or no instruction, but its jump; what is around it cleans up."""
    if monitor is None and "try" in loop:
        pytest.skip("on Python 3.11 an exception from outside passes this one's handler by, as Ctrl-C does")
    left: list[int] = []
    names: dict[str, Any] = {
        "left": left,
        "leaving": lambda it: contextlib.closing(types.SimpleNamespace(close=lambda: it.append(1))),
    }
    exec(f"def code(begun):\n    begun.set()\n    {loop}\n", names)
    begun = threading.Event()
    token = submit(place, names["code"], begun)
    assert begun.wait(LIMIT)
    if monitor is not None:
        pause(token)
        resume(token)
    end(token)

    assert isinstance(token.exception(), TokenTerminated)
    assert len(left) == ("left" in loop)


@monitored
@pytest.mark.parametrize("name", SHAPES)
def test_paused_code_is_ended(place: OperationPlace, until: Until, rounds: Callable[[int], int], name: str) -> None:
    """It goes on only as far as is needed for an exception to be harmless."""
    for _ in range(rounds(3)):
        shape = Shape()
        token = submit(place, getattr(shape, name))
        until(lambda shape=shape: shape.rounds > 0)  # type: ignore[misc]
        hold = pause(token)
        token._own_extras().cancel_requested = "enough"
        hold.end()
        assert isinstance(token.exception(LIMIT), TokenTerminated)
        assert shape.left == 1
        assert not shape.lock.locked()


@monitored
@pytest.mark.parametrize("name", SHAPES)
def test_of_two_threads_in_the_same_code_one_is_stopped(place: OperationPlace, until: Until, name: str) -> None:
    """The other runs on, and comes to its result."""
    target, other = Shape(), Shape()
    tokens = [submit(place, getattr(shape, name)) for shape in (target, other)]
    until(lambda: target.rounds > 0 and other.rounds > 0)
    pause(tokens[0])
    assert tokens[1].state is TokenState.RUNNING
    if name != "one_line":
        before = other.rounds
        until(lambda: other.rounds > before)
    end(tokens[0])
    other.go[0] = False

    assert tokens[1].result(LIMIT) == "done"
    assert tokens[1]._extras.hold is None


# Every line


class Resource:
    """A context manager in Python, with methods of several lines."""

    def __init__(self) -> None:
        self.entered = self.exited = 0

    def __enter__(self) -> None:
        self.entered += 1

    def __exit__(self, *_error: object) -> None:
        for _ in range(3):
            pass
        self.exited += 1


def with_lock(lock: Any, resource: Resource, held: Callable[[], Any]) -> None:
    for _ in range(2):
        with lock:
            resource.entered += 1
            resource.exited += 1
    with lock, resource:
        pass
    with held(): pass  # fmt: skip  # noqa: E701


def try_finally(lock: Any, resource: Resource, held: Callable[[], Any]) -> None:
    for number in range(2):
        lock.acquire()
        try:
            if number:
                continue
        finally:
            for _ in range(2):
                pass
            lock.release()
    with held():
        for _ in range(2): pass  # fmt: skip  # noqa: E701


def nested(lock: Any, resource: Resource, held: Callable[[], Any]) -> int:
    def inner() -> int:
        with resource:
            return 1

    try:
        with lock:
            return inner()
    finally:
        with held():
            raised = None
            try:
                int("x")
            except ValueError as error:
                raised = error
            assert raised is not None


@monitored
@pytest.mark.parametrize("function", [with_lock, try_finally, nested])
def test_wherever_code_is_ended_what_it_took_is_given_back(system: ActorSystem, function: Any) -> None:
    """Stopped at its first line and ended after each number of steps: locks, `with` blocks and `finally` blocks."""
    place = system.operation_place("op", "cpu", generator=False, concurrency=1)
    ended = 0
    for n in range(200):
        lock, resource = threading.Lock(), Resource()
        balance = [0]

        @contextlib.contextmanager
        def held(balance: list[int] = balance) -> Generator[None]:
            balance[0] += 1
            try:
                yield
            finally:
                balance[0] -= 1

        token = make(place, function, lock, resource, held)
        hold = Hold.of(token)
        hold.pause()
        place.send(token)
        for _ in range(int(LIMIT / AGAIN)):
            if token.done() or hold.parked:
                break
            wait(token)
        assert token.state is TokenState.PAUSED
        if n:
            step(token, n)
        was_done = token.done()
        token._own_extras().cancel_requested = "enough"
        hold.end()
        token.exception(LIMIT)
        ended += token.state is TokenState.TERMINATED

        assert not lock.locked(), n
        assert resource.entered - resource.exited in (0, 1 if function is with_lock else 0), n
        assert balance == [0], n
        if was_done:
            break
    else:
        pytest.fail("it never came to its end")

    assert ended > 2


# Code that opens a file, runs until `go` is empty, and gives the file back

Give = Callable[[int], None]


@attrs.define
class Opened:
    path: str
    give: Give
    file: int = -1

    def __enter__(self) -> Opened:
        self.file = os.open(self.path, os.O_RDONLY)
        return self

    def __exit__(self, *_: object) -> None:
        self.give(self.file)


@attrs.define
class Given:
    file: int
    give: Give

    def __enter__(self) -> None: ...

    def __exit__(self, *_: object) -> None:
        self.give(self.file)


def take(path: str) -> int:
    return os.open(path, os.O_RDONLY)


def take_in_lines(path: str) -> int:
    file = os.open(path, os.O_RDONLY)
    return file  # noqa: RET504


def takes_itself(path: str, go: list[bool], give: Give) -> None:
    file = os.open(path, os.O_RDONLY)
    try:
        while go:
            pass
    finally:
        give(file)


def takes_in_a_condition(path: str, go: list[bool], give: Give) -> None:
    file = os.open(path, os.O_RDONLY) if path else -1
    try:
        while go:
            pass
    finally:
        give(file)


def takes_for_a_condition(path: str, go: list[bool], give: Give) -> None:
    if (file := os.open(path, os.O_RDONLY)) > 0:
        try:
            while go:
                pass
        finally:
            give(file)


def takes_for_an_attribute(path: str, go: list[bool], give: Give) -> None:
    opened = Opened(path, give)
    opened.file = os.open(path, os.O_RDONLY)
    try:
        while go:
            pass
    finally:
        give(opened.file)


def takes_by_a_function(path: str, go: list[bool], give: Give) -> None:
    file = take(path)
    try:
        while go:
            pass
    finally:
        give(file)


def takes_by_a_function_of_two_lines(path: str, go: list[bool], give: Give) -> None:
    file = take_in_lines(path)
    try:
        while go:
            pass
    finally:
        give(file)


def takes_by_with(path: str, go: list[bool], give: Give) -> None:
    with Opened(path, give):
        while go:
            pass


def takes_before_with(path: str, go: list[bool], give: Give) -> None:
    file = os.open(path, os.O_RDONLY)
    with Given(file, give):
        while go:
            pass


def takes_by_a_stack(path: str, go: list[bool], give: Give) -> None:
    with contextlib.ExitStack() as stack:
        stack.enter_context(Opened(path, give))
        while go:
            pass


TAKES = [
    takes_itself, takes_in_a_condition, takes_for_a_condition, takes_for_an_attribute, takes_by_a_function,
    takes_by_a_function_of_two_lines, takes_by_with, takes_by_a_stack,
    takes_before_with,
]  # fmt: skip


@pytest.mark.parametrize("calls", [0, 100], ids=["in new code", "in adapted code"])
@pytest.mark.parametrize("work", TAKES)
def test_no_interrupt_comes_between_a_call_and_the_block_that_gives_back_what_it_took(
    place: OperationPlace, until: Until, tmp_path: Path, calls: int, work: Any
) -> None:
    """Code that has run often is adapted by the interpreter, which then calls from other instructions."""
    pipe, given = str(tmp_path / "pipe"), list[int]()
    os.mkfifo(pipe)

    def give(file: int) -> None:
        os.close(file)
        given.append(file)

    for _ in range(calls):
        work(os.devnull, [], give)
    given.clear()
    token = submit(place, work, pipe, [True], give)

    def opens() -> bool:
        found = find_step(token)
        frame = found[1][-1] if found and found[1] else None
        return frame is not None and dis.opname[frame.f_code.co_code[frame.f_lasti]] in ("PRECALL", "CALL")

    until(opens)
    token._own_extras().cancel_requested = "enough"
    for _ in range(10):
        interrupt(Hold.of(token))
        assert not wait(token)
    writer = os.open(pipe, os.O_RDWR)
    end(token)
    os.close(writer)

    assert isinstance(token.exception(LIMIT), TokenTerminated)
    assert len(given) == 1


def test_an_interrupt_does_not_cut_cleanup_short(place: OperationPlace, until: Until) -> None:
    """Neither a `finally` that was entered normally, nor one that an interrupt has led to, however often it is sent."""
    for raises in (False, True):
        notes: list[str] = []
        go = [True]

        def work(raises: bool = raises, notes: list[str] = notes, go: list[bool] = go) -> None:
            try:
                notes.append("began")
                while raises:
                    pass
            finally:
                notes.append("cleaning")
                while go[0]:
                    pass
                notes.append("cleaned")

        token = submit(place, work)
        until(lambda notes=notes, raises=raises: "began" in notes and (raises or "cleaning" in notes))  # type: ignore[misc]
        token._own_extras().cancel_requested = "enough"
        hold = Hold.of(token)
        for _ in range(int(LIMIT / AGAIN)):
            interrupt(hold)
            wait(token)
            if "cleaning" in notes:
                break
        for _ in range(10):
            interrupt(hold)
            assert not wait(token)
        go[0] = False
        token.exception(LIMIT)

        assert notes == ["began", "cleaning", "cleaned"]


def test_an_interrupt_does_not_hit_what_handles_one(place: OperationPlace, until: Until) -> None:
    """An `except` block is cleanup while it handles an interrupt, and so is what it handles in turn."""
    notes: list[str] = []
    go = [True]

    def work() -> None:
        try:
            notes.append("began")
            while True:
                pass
        except BaseException:
            try:
                int("x")
            except ValueError:
                notes.append("handling")
                while go[0]:
                    pass
            notes.append("handled")
            raise

    token = submit(place, work)
    until(lambda: bool(notes))
    token._own_extras().cancel_requested = "enough"
    hold = Hold.of(token)
    for _ in range(int(LIMIT / AGAIN)):
        interrupt(hold)
        wait(token)
        if "handling" in notes:
            break
    for _ in range(10):
        interrupt(hold)
        assert not wait(token)
    go[0] = False

    assert isinstance(token.exception(LIMIT), TokenTerminated)
    assert notes == ["began", "handling", "handled"]


def test_an_interrupt_that_was_sent_at_the_last_moment_is_withdrawn(desk: Any, until: Until) -> None:
    """Who leaves a step waits for a sender that has just seen it there, and then has nothing to come."""
    hold = Hold(desk.token())
    outcome: list[str] = []

    def leave() -> None:
        try:
            withdraw_interrupt(hold)
            for _ in range(10_000):
                pass
            outcome.append("unharmed")
        except TokenInterrupt:
            outcome.append("hit")

    thread = threading.Thread(target=leave)
    with _sending:
        thread.start()
        ident = thread.ident
        assert ident is not None

        def waits() -> bool:
            frame = thread_frames().get(ident)
            return frame is not None and frame.f_code.co_name == "_withdraw"

        until(waits)
        hold.interrupt_sent = True
        ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(ident), ctypes.py_object(TokenInterrupt))
    thread.join(LIMIT)

    assert outcome == ["unharmed"]


def test_an_interrupt_that_is_swallowed_comes_again(place: OperationPlace, until: Until) -> None:
    """Asked for until the token has ended; a handler is not interrupted."""
    caught = [0]

    def work() -> None:
        while True:
            try:
                while True:
                    pass
            except BaseException:
                caught[0] += 1
                if caught[0] == 3:
                    raise

    token = submit(place, work)
    until(lambda: token.state is TokenState.RUNNING)
    end(token)

    assert token.state is TokenState.TERMINATED
    assert caught[0] == 3


# Where nothing is stopped


class Spy(logging.Handler):
    """Runs in `logging`, under its lock."""

    def __init__(self, spin: Callable[[], None]) -> None:
        super().__init__()
        self.spin = spin

    def emit(self, record: logging.LogRecord) -> None:
        self.spin()


def _in_logging(spin: Callable[[], None]) -> None:
    logger = logging.getLogger("spied on")
    logger.handlers = [Spy(spin)]
    logger.propagate = False
    logger.error("x")


def _in_text_of_a_log_record(spin: Callable[[], None]) -> None:
    class Said:
        def __str__(self) -> str:
            spin()
            return "said"

    logger = logging.getLogger("spied on")
    logger.handlers = [logging.StreamHandler(io.StringIO())]
    logger.propagate = False
    logger.error("%s", Said())


def _in_a_condition(spin: Callable[[], None]) -> None:
    condition = threading.Condition()
    with condition:
        condition.wait_for(lambda: spin() or True)


def _in_a_queue(spin: Callable[[], None]) -> None:
    class Item:
        def __lt__(self, other: object) -> bool:
            spin()
            return False

    items: queue.PriorityQueue[Item] = queue.PriorityQueue()
    items.put(Item())
    items.put(Item())


def _in_an_import(spin: Callable[[], None]) -> None:
    class Loader:
        def create_module(self, spec: Any) -> None:
            return None

        def exec_module(self, module: Any) -> None:
            spin()

    class Finder:
        def find_spec(self, name: str, path: object = None, target: object = None) -> Any:
            from importlib.machinery import ModuleSpec

            return ModuleSpec(name, Loader()) if name == "spied_on" else None  # type: ignore[arg-type]

    sys.meta_path.insert(0, Finder())
    try:
        import spied_on  # type: ignore[import-not-found]  # noqa: F401
    finally:
        del sys.meta_path[0]
        sys.modules.pop("spied_on", None)


def _in_a_mock(spin: Callable[[], None]) -> None:
    class Wrapped:
        def __getattr__(self, name: str) -> Any:
            if name == "child":
                spin()
            return len

    getattr(Mock(wraps=Wrapped()), "child")  # noqa: B009  # what makes a child of a mock


@pytest.mark.parametrize(
    "where",
    [_in_logging, _in_text_of_a_log_record, _in_a_condition, _in_a_queue, _in_an_import, _in_a_mock],
    ids=lambda f: f.__name__,
)
def test_code_is_not_stopped_where_it_may_hold_a_lock(place: OperationPlace, until: Until, where: Any) -> None:
    """Whatever is called by the modules of the standard library that lock; it is stopped when they have returned."""
    inside, spins, go, outside = [False], [0], [True], [False]

    def spin() -> None:
        inside[0] = True
        while go[0]:
            spins[0] += 1
        inside[0] = False

    def work() -> None:
        where(spin)
        outside[0] = True
        while True:
            spins[0] += 1

    token = submit(place, work)
    until(lambda: inside[0])
    found = find_step(token)
    assert found is not None
    hold = Hold.of(token)
    if monitor is not None:
        reached = hold.pause()
        for _ in range(10):
            monitor.arm(hold)
            assert not wait(reached)
        hold.resume()
        monitor.disarm(hold)
    token._own_extras().cancel_requested = "enough"
    for _ in range(10):
        interrupt(hold)
        assert not wait(token)
    before = spins[0]
    until(lambda: spins[0] > before)
    assert inside[0]
    go[0] = False
    end(token)

    assert token.state is TokenState.TERMINATED


@pytest.mark.skipif(monitor is None, reason="this Python has no sys.monitoring, so running code is not paused")
def test_a_token_that_is_paused_amid_calls_of_a_mock_leaves_the_mock_to_others(
    place: OperationPlace, until: Until
) -> None:
    """Mocks share one lock, which is needed to look for a child of any mock."""
    shared, calls = Mock(), [0]
    shared.another(0)

    def work() -> None:
        while True:
            getattr(shared, f"child_{calls[0]}")(calls[0])
            calls[0] += 1

    def call_child() -> None:
        shared.another(1)

    token = submit(place, work)
    until(lambda: calls[0] > 0)
    for _ in range(20):
        before = calls[0]
        until(lambda before=before: calls[0] > before)  # type: ignore[misc]
        hold = pause(token)
        other = threading.Thread(target=call_child, daemon=True)
        other.start()
        other.join(LIMIT)
        stuck = other.is_alive()
        hold.resume()
        assert not stuck
    end(token)


def test_a_trio_loop_is_not_stopped(system: ActorSystem, until: Until) -> None:
    """Code that keeps the loop is interrupted where Python can do that in the thread itself; never from outside."""
    place = system.operation_place("op", "io", generator=False, concurrency=2)
    go, spins, left = [True], [0], [0]

    async def work() -> None:
        try:
            async with trio.open_nursery():
                while go[0]:
                    spins[0] += 1
        finally:
            left[0] += 1

    token = submit(place, work)
    until(lambda: spins[0] > 0)
    hold = Hold.of(token)
    if monitor is not None:
        hold.pause()
        assert not monitor.arm(hold)
    hold.resume()
    assert not send_interrupt(hold)
    if monitor is None:
        go[0] = False
        assert token.exception(LIMIT) is None
    else:
        end(token)
        assert isinstance(token.exception(), TokenTerminated)

    assert left == [1]
    assert submit(place, int, "7").result(LIMIT) == 7


def test_only_code_of_a_user_is_a_place_to_stop(place: OperationPlace, until: Until) -> None:
    """Not the runtime's: neither in a direct call's own frames, nor with no code above the step."""
    other = place.system.operation_place("inner", "cpu", generator=False, concurrency=1)
    seen: list[Any] = []

    def inner() -> None:
        found = find_step(outer[0])
        assert found is not None
        frames = found[1]
        while frames[-1].f_code is not inner.__code__:  # those of the look itself
            frames.pop()
        seen.extend([may_stop(frames), may_stop(frames[:-1]), may_stop([]), in_cleanup(frames)])

    def work() -> None:
        until(lambda: bool(outer))
        turn = other.turn_here(make(other, inner))
        assert turn is not None
        turn.run()

    outer: list[Token[Any]] = []
    outer.append(submit(place, work))
    assert outer[0].exception(LIMIT) is None

    assert seen == [True, False, False, False]


# Others who watch code


@pytest.fixture
def take_tools() -> Iterator[Callable[..., None]]:
    taken: list[int] = []

    def take(*tools: int) -> None:
        for tool in tools:
            if sys.monitoring.get_tool(tool) is None:
                sys.monitoring.use_tool_id(tool, "somebody else")
                taken.append(tool)

    yield take
    for tool in taken:
        sys.monitoring.free_tool_id(tool)


@monitored
def test_any_tool_id_that_is_left_will_do(place: OperationPlace, until: Until, take_tools: Any) -> None:
    """A debugger, coverage and whoever else have theirs; one is enough, and it is free again afterwards."""
    take_tools(0, 1, 3, 4, 5)
    shape = Shape()
    token = submit(place, shape.loop)
    until(lambda: shape.rounds > 0)
    pause(token)
    assert sys.monitoring.get_tool(2) is None
    resume(token)
    shape.go[0] = False

    assert token.result(LIMIT) == "done"


@monitored
def test_with_no_tool_id_left_code_stops_at_checkpoints_only(
    place: OperationPlace, until: Until, take_tools: Any
) -> None:
    """And that is said. A step goes from checkpoint to checkpoint then."""
    take_tools(*range(6))
    rounds, go = [0], [True]

    def work() -> None:
        while go[0]:
            rounds[0] += 1
            checkpoint()

    token = submit(place, work)
    until(lambda: rounds[0] > 0)
    assert monitor is not None
    hold = Hold.of(token)
    reached = hold.pause()
    found = find_step(token)
    assert found is not None
    assert not monitor.arm(hold) or hold.parked
    reached.result(LIMIT)
    before = rounds[0]
    step(token, 3)
    assert rounds[0] == before + 3
    go[0] = False
    resume(token)

    assert token.exception(LIMIT) is None


@monitored
def test_with_no_tool_id_left_no_interrupt_passes_a_handler_by(
    place: OperationPlace, until: Until, take_tools: Any
) -> None:
    """CPython 3.13 looks for exceptions from outside at a jump back, which may lie outside of the `with` around it.

    So code that does nothing else may run on there, until it calls something.
    """
    take_tools(*range(6))
    lock, begun, go = threading.Lock(), threading.Event(), [True]

    def work() -> None:
        with lock:
            begun.set()
            while go[0]:
                pass

    token = submit(place, work)
    assert begun.wait(LIMIT)
    token._own_extras().cancel_requested = "enough"
    for _ in range(50):
        interrupt(Hold.of(token))
    go[0] = False
    token.exception(LIMIT)

    assert not lock.locked()


@monitored
def test_equal_code_is_told_apart(place: OperationPlace, until: Until) -> None:
    """Two functions of the same source are equal, and each is armed for itself."""
    source = "def spin(go, rounds):\n    while go[0]:\n        rounds[0] += 1\n"
    spins = []
    for _ in range(2):
        names: dict[str, Any] = {"__name__": "somewhere"}
        exec(compile(source, "somewhere", "exec"), names)
        spins.append(names["spin"])
    assert spins[0].__code__ == spins[1].__code__
    go, rounds = [True], [[0], [0]]
    tokens = [submit(place, spin, go, count) for spin, count in zip(spins, rounds, strict=True)]
    until(lambda: rounds[0][0] > 0 and rounds[1][0] > 0)
    holds = [Hold.of(token) for token in tokens]
    reached = [hold.pause() for hold in holds]
    assert monitor is not None
    for _ in range(int(LIMIT / AGAIN)):
        for hold in holds:
            monitor.arm(hold)
        if all(wait(reply) for reply in reached):
            break
    assert all(hold.parked for hold in holds)
    go[0] = False
    for token in tokens:
        resume(token)
        assert token.exception(LIMIT) is None


@pytest.mark.parametrize("core", ["sysmon", "ctrace"])
def test_it_works_beside_coverage(core: str, tmp_path: Path) -> None:
    """Whichever way that follows the code."""
    pytest.importorskip("coverage")
    script = Path(__file__).parents[2] / "stress" / "interrupt.py"
    command = [sys.executable, "-m", "coverage", "run", str(script), "--minutes", "0.001"]
    env = {
        **os.environ,
        "COVERAGE_CORE": core if monitor is not None else "ctrace",
        "COVERAGE_FILE": str(tmp_path / "c"),
    }
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False, env=env)

    assert done.returncode == 0, done.stdout + done.stderr


# Races


def test_an_interrupt_never_hits_the_next_token(
    system: ActorSystem, seed: int, rounds: Callable[[int], int], caplog: pytest.LogCaptureFixture
) -> None:
    """Sent while its token may just be ending, it ends that one or nothing: those after it on the thread are whole."""
    chance = random.Random(seed)
    place = system.operation_place("op", "cpu", generator=False, concurrency=1)

    def work(size: int) -> int:
        total = 0
        for number in range(size):
            total += number
        return total

    for number in range(rounds(250)):
        sizes = [chance.randrange(3_000) for _ in range(3)]
        target, *others = [submit(place, work, size) for size in sizes]
        for _ in range(chance.randrange(30)):
            if target.done() or target.started_at is not None:
                break
            wait(target, 0.0001)
        target._own_extras().cancel_requested = "enough"
        hold = Hold.of(target)
        while not target.done():
            interrupt(hold)
            if number % 2:
                wait(target, 0.0001)
        interrupt(hold)

        for token, size in zip(others, sizes[1:], strict=True):
            assert token.result(LIMIT) == size * (size - 1) // 2
        if target.state is TokenState.COMPLETED:
            assert target.result() == sizes[0] * (sizes[0] - 1) // 2
        else:
            assert isinstance(target.exception(), TokenTerminated)
        assert monitor is None or not monitor.armed
    assert place.mailbox.active in (0, 1)

    assert [record.getMessage() for record in caplog.records if record.levelno >= logging.ERROR] == []


def test_an_interrupt_is_not_meant_for_the_caller_of_a_direct_call(
    place: OperationPlace, seed: int, rounds: Callable[[int], int]
) -> None:
    """On the caller's thread it comes in the token's code or not at all; the caller is told that it was ended."""
    chance = random.Random(seed)

    def work(size: int) -> int:
        for _ in range(size):
            pass
        return size

    for _ in range(rounds(100)):
        token = make(place, work, size := chance.randrange(20_000))

        def operate(token: Token[Any] = token) -> None:
            token._own_extras().cancel_requested = "enough"
            hold = Hold.of(token)
            while not token.done():
                interrupt(hold)
                wait(token, 0.0001)

        helper = threading.Thread(target=operate)
        helper.start()
        try:
            turn = place.turn_here(token)
            assert turn is not None
            try:
                assert turn.run() == size
            except TokenTerminated:
                assert token.state is TokenState.TERMINATED
            for _ in range(100):
                pass
        except TokenInterrupt:
            pytest.fail("it hit the caller")
        finally:
            helper.join(LIMIT)

        assert place.mailbox.active == 0


# What cleanup is


def _cleanups(lock: Any) -> None:  # pragma: no cover
    lock.acquire()
    try:
        lock.use()
    except (KeyError, lock.errors(1)) as error:
        lock.use(error)
    else:
        lock.use()
    finally:
        for _ in range(3):  # cleanup
            lock.use()  # cleanup
        try:
            lock.release()  # cleanup
        except ValueError:  # cleanup
            lock.use()  # cleanup
        with lock:  # cleanup
            lock.use()  # cleanup
    with lock:
        lock.use()
    while True:
        try:
            lock.use()
        finally:
            if lock:  # cleanup
                continue  # noqa: B012  # cleanup
            lock.use()  # cleanup


def test_the_lines_of_finally_blocks_are_read_off_the_compiled_code() -> None:
    """All of them, however nested, and no others."""
    from actors.steps._bytecode import cleanup

    source = Path(__file__).read_text().splitlines()
    code = _cleanups.__code__
    lines = range(code.co_firstlineno + 1, max(line for _, _, line in code.co_lines() if line is not None) + 1)
    marked = {number for number in lines if source[number - 1].endswith("# cleanup")}

    found, withs = cleanup(code)
    # `try:` alone is an instruction that does nothing, which may or may not be there.
    assert {line for line in found if source[line - 1].strip() != "try:"} == marked
    assert {source[line - 1].split("#")[0].strip() for line in withs} == {"with lock:"}
