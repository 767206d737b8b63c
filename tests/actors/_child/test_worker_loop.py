"""The loop of a child: what it does with the calls of its gate, and what the gate can rely on when it stops it."""

from __future__ import annotations

import contextvars
import logging
import os
import pickle
import sys
import threading
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

import attrs
import pytest
from child_processes import Child

import actors._child
import actors._child._worker_loop as loop_module
from actors._child import _shared_page, _wire
from actors._child._payload import INLINE
from actors._child._wire import Frame

request_id: contextvars.ContextVar[str] = contextvars.ContextVar("request_id", default="none")


def double(value: int) -> int:
    return 2 * value


def give(value: Any) -> Any:
    return value


def fail(error: BaseException) -> None:
    raise error


def failure(child: Child, frame: Frame) -> _wire.Failure:
    assert frame.kind == _wire.ERROR
    failed: _wire.Failure = child.load(frame)
    return failed


# What comes of calls


def test_a_call_returns_what_its_function_returns(child: Child) -> None:
    """A result has the number of its call."""
    key = child.function(double)
    numbers = [child.call(key, value) for value in (1, 2, 3)]

    assert child.run_results() == dict(zip(numbers, (2, 4, 6), strict=True))


@pytest.mark.parametrize(
    "value",
    [
        None,
        0,
        10**400_000,
        1.5,
        True,
        "text",
        "t" * 70_000,
        b"b" * 5_000,
        b"b" * 70_000,
        [1, "two"],
        {"a": (1, 2)},
        {3},
    ],
    ids=lambda value: type(value).__name__,
)
def test_whatever_can_be_pickled_comes_back(child: Child, value: Any) -> None:
    """Values of every size and kind take ways of their own, and none is lost on its way."""
    child.call(child.function(give), value)
    child.call(child.function(give), "next")

    assert child.run_results() == {1: value, 2: "next"}


def test_what_is_large_goes_through_a_file_both_ways(child: Child) -> None:
    """Only the table of the file is in the frame, and large buffers are not copied out of it."""
    size = 1 << 20
    child.call(child.function(give), bytearray(b"x" * size))
    (frame,) = child.run()
    value = child.load(frame)

    assert frame.flags & _wire.LARGE
    assert len(frame.payload) < 200
    assert value == b"x" * size


@pytest.mark.parametrize("size", [INLINE - 200, INLINE, INLINE + 1, INLINE + 200])
def test_what_just_fits_a_frame_fits_the_outbox(child: Child, size: int) -> None:
    """The largest frame, with its header, is no larger than the outbox."""
    child.call(child.function(give), [b"x" * size])

    assert child.run_results() == {1: [b"x" * size]}


def test_a_large_result_is_sent_after_those_before_it(child: Child) -> None:
    """It does not go through the outbox."""
    key = child.function(give)
    for value in ("one", b"2" * 100_000, "three"):
        child.call(key, value)

    assert [frame.number for frame in child.run()] == [1, 2, 3]


def test_large_results_keep_the_order_of_their_files(child: Child) -> None:
    """Descriptors come in the order of their frames."""
    key = child.function(give)
    values = [bytes([number]) * 100_000 for number in range(5)]
    for value in values:
        child.call(key, value)

    assert list(child.run_results().values()) == values


def test_each_call_has_a_context_of_its_own(child: Child) -> None:
    """What a call sets is not there for the next one; what the gate sends is."""

    def read_and_set(value: str) -> str:
        before = request_id.get()
        request_id.set(value)
        return before

    child.worker._functions[1] = loop_module.Function("read_and_set", read_and_set, False)
    child.call(1, "a")
    child.call(1, "b", values=((Named("request_id"), "sent"),))
    child.call(1, "c")

    assert child.run_results() == {1: "none", 2: "sent", 3: "none"}


@attrs.define
class Named:
    """A context variable of this module, as the gate pickles one."""

    name: str

    def __reduce__(self) -> Any:
        return actors._child.context_variable, (__name__, self.name, self.name)


def test_a_coroutine_function_is_a_type_error(child: Child) -> None:
    """A child process cannot await it, and leaves no coroutine that was never awaited."""

    async def later() -> None:
        """Never begun."""

    child.call(child.function(later))
    name, text = failure(child, *child.run())[1:3]

    assert name == "TypeError"
    assert "later is a coroutine function" in text


# Errors


def test_an_error_keeps_its_type_and_brings_its_traceback(child: Child) -> None:
    """The traceback begins in the user's code."""
    child.call(child.function(fail), ValueError("no"))
    pickled, name, text, traceback, expected = failure(child, *child.run())
    assert pickled is not None
    error = pickle.loads(pickled)

    assert type(error) is ValueError
    assert (str(error), name, text, expected) == ("no", "ValueError", "no", False)
    assert "in fail\n    raise error\nValueError: no" in traceback
    assert str(Path(loop_module.__file__).parent) not in traceback


@pytest.mark.parametrize(
    "error", [SystemExit(3), KeyboardInterrupt(), GeneratorExit()], ids=lambda one: type(one).__name__
)
def test_what_is_no_exception_is_the_error_of_the_call_as_well(child: Child, error: BaseException) -> None:
    """The child lives on."""
    child.call(child.function(fail), error)
    child.call(child.function(double), 4)
    first, second = child.run()

    assert failure(child, first)[1] == type(error).__name__
    assert child.load(second) == 8


def test_a_result_that_cannot_be_pickled_is_an_error_once(child: Child) -> None:
    """The error names what it is and why; the function is not run again."""
    calls: list[None] = []

    def lock() -> Any:
        calls.append(None)
        return threading.Lock()

    child.worker._functions[7] = loop_module.Function("lock", lock, False)
    child.call(7)
    child.call(child.function(double), 4)
    first, second = child.run()
    _, name, text, traceback, _ = failure(child, first)

    assert len(calls) == 1
    assert name == "NotPicklable"
    assert text.startswith("the result, a _thread.lock, cannot be sent to the gate: TypeError: cannot pickle")
    assert "cannot pickle '_thread.lock' object" in traceback
    assert child.load(second) == 8


def test_a_result_whose_pickling_raises_anything_is_only_that_calls_error(child: Child) -> None:
    """A broken pipe there is not taken for the gate's end."""
    child.call(child.function(lambda: Unwilling(BrokenPipeError("mine"))))
    child.call(child.function(lambda: Unwilling(SystemExit(1))))
    child.call(child.function(double), 4)
    first, second, third = child.run()

    assert "BrokenPipeError: mine" in failure(child, first)[2]
    assert "SystemExit: 1" in failure(child, second)[2]
    assert child.load(third) == 8


class Unwilling:
    def __init__(self, error: BaseException) -> None:
        self.error = error

    def __reduce__(self) -> Any:
        raise self.error


def test_arguments_that_cannot_be_unpickled_are_the_error_of_their_call(child: Child) -> None:
    """The calls before and after it are not concerned."""
    key = child.function(double)
    child.call(key, 1)
    child.sent += 1
    broken = pickle.dumps(Missing()).replace(b"Missing", b"Nowhere")
    child.stream.sendall(_wire.pack(_wire.CALL, 2, key, broken))
    child.call(key, 3)
    first, second, third = child.run()

    assert child.load(first) == 2
    assert failure(child, second)[1] == "AttributeError"
    assert child.load(third) == 6


class Missing:
    """Is not found by another name."""


def test_a_function_that_cannot_be_unpickled_is_the_error_of_each_call_of_it(child: Child) -> None:
    """It is sent without a call, so the first call that needs it tells."""
    broken = pickle.dumps(("broken", Missing, False, ())).replace(b"Missing", b"Nowhere")
    child.stream.sendall(_wire.pack(_wire.FUNCTION, 0, 3, broken))
    child.call(3)
    child.call(3)
    first, second = child.run()

    assert failure(child, first)[1] == failure(child, second)[1] == "AttributeError"
    pickled = failure(child, second)[0]
    assert pickled is not None
    assert pickle.loads(pickled).__notes__ == ["It was raised when function 3 was unpickled in the child process."]


def test_an_error_is_reported_even_if_it_cannot_be_described(child: Child, monkeypatch: pytest.MonkeyPatch) -> None:
    """There may be no memory left to write it down with."""

    def no_memory(*_args: Any, **_kwargs: Any) -> Any:
        raise MemoryError

    monkeypatch.setattr(loop_module, "failure_of", no_memory)
    child.call(child.function(fail), ValueError("no"))
    pickled, name, text, _, _ = failure(child, *child.run())

    assert (pickled, name, text) == (None, "ValueError", "<its text raised MemoryError>")


# What the gate can rely on


@attrs.define
class Seen:
    """What is on the page while a call runs."""

    page: _shared_page.Page

    def __call__(self) -> dict[str, int]:
        names = ("BEGUN", "STEPS", "OUTBOX")
        return {name: self.page.word[getattr(_shared_page, name)] for name in names}


def look_at(child: Child) -> Callable[[], dict[str, int]]:
    """Give the child a function that returns what is on the page, under the key 99."""
    seen: list[dict[str, int]] = []
    look = Seen(child.page)

    def call() -> None:
        seen.append(look())

    child.worker._functions[99] = loop_module.Function("look", call, False)
    return lambda: seen.pop(0)


def test_a_call_has_its_number_on_the_page_before_its_code_runs(child: Child) -> None:
    """A call whose number is not there has not begun; one plain call is one step."""
    seen = look_at(child)
    child.call(99)
    child.call(99)
    child.run()

    assert (first := seen())["BEGUN"] == 1
    assert first["STEPS"] == 1
    assert seen()["BEGUN"] == 2


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Send the outbox only when no call is left: on a busy machine a few calls may take longer than FLUSH_AFTER."""
    monkeypatch.setattr(loop_module, "FLUSH_AFTER", 10**12)


def test_a_result_is_in_the_outbox_before_the_next_call_begins(child: Child, patient: None) -> None:
    """So nothing that is over is lost with the process, and the outbox is empty once it was sent."""
    seen = look_at(child)
    child.call(child.function(double), 21)
    child.call(99)
    child.call(99)
    frames = child.run()
    size = _wire.HEADER.size + len(frames[0].payload)

    assert seen()["OUTBOX"] == size
    assert seen()["OUTBOX"] == size + _wire.HEADER.size + len(frames[1].payload)
    assert child.page.word[_shared_page.OUTBOX] == 0
    assert child.results(frames)[1] == 42


def test_the_outbox_has_whole_frames_that_can_be_read_beside_the_stream(child: Child, patient: None) -> None:
    """The gate reads them when the child is stopped, or dead."""
    found: list[dict[int, Any]] = []
    child.worker._functions[99] = loop_module.Function(
        "look", lambda: found.append(child.results(child.outbox())), False
    )
    key = child.function(give)
    child.call(key, "one")
    child.call(key, "two")
    child.call(99)
    child.run()

    assert found == [{1: "one", 2: "two"}]


def test_results_are_sent_when_no_more_calls_have_been_read(child: Child, patient: None) -> None:
    """Together, and not before the child would wait."""
    key = child.function(give)
    early: list[list[Frame]] = []
    child.worker._functions[99] = loop_module.Function("look", lambda: early.append(child.read_now()), False)
    child.call(key, "one")
    child.call(99)
    results = child.run_results()

    assert early == [[]]
    assert results == {1: "one", 2: None}


def test_a_result_does_not_wait_for_longer_than_two_milliseconds(child: Child, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is sent after the call during which that time is over."""
    now = [0]
    monkeypatch.setattr("actors._child._connection.perf_counter_ns", lambda: now[0])
    monkeypatch.setattr(loop_module, "perf_counter_ns", lambda: now[0])
    early: list[dict[int, Any]] = []

    def look() -> None:
        early.append(child.results(child.read_now()))
        now[0] += 1_500_000

    child.worker._functions[99] = loop_module.Function("look", look, False)
    for _ in range(4):
        child.call(99)
    child.run()

    assert early == [{}, {}, {1: None, 2: None}, {}]


def test_results_that_do_not_fit_the_outbox_together_are_sent_before(child: Child) -> None:
    """Nothing is overwritten in it."""
    key = child.function(lambda number: bytes([number]) * 25_000)
    for number in range(3):
        child.call(key, number)

    assert list(child.run_results().values()) == [bytes([number]) * 25_000 for number in range(3)]


def test_a_result_tells_how_long_its_call_took(child: Child, monkeypatch: pytest.MonkeyPatch) -> None:
    """In nanoseconds, from before its arguments were unpickled until it was pickled."""
    now = [10]
    monkeypatch.setattr(loop_module, "perf_counter_ns", lambda: now[0])

    def work() -> None:
        now[0] += 700

    child.worker._functions[5] = loop_module.Function("work", work, False)
    child.call(5)
    (frame,) = child.run()

    assert frame.extra == 700


def test_processor_time_before_a_call_is_on_the_page(child: Child, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is looked at again unless that was a moment ago."""
    now, used = [10**9], [5_000]
    monkeypatch.setattr(loop_module, "perf_counter_ns", lambda: now[0])
    monkeypatch.setattr(loop_module, "process_time_ns", lambda: used[0])
    seen: list[int] = []

    def look(time: int) -> None:
        seen.append(child.page.word[_shared_page.CPU_BEFORE])
        now[0] += time
        used[0] += time

    child.worker._functions[99] = loop_module.Function("look", look, False)
    for time in (loop_module._CPU_EVERY // 2, loop_module._CPU_EVERY * 3, 0):
        child.call(99, time)
    child.run()

    assert seen == [5_000, 5_000, 5_000 + loop_module._CPU_EVERY * 7 // 2]


def test_a_call_that_is_over_is_noted_on_the_page(child: Child) -> None:
    """Before its result is pickled, so the gate can tell that its end comes by itself; however it ends."""
    seen: list[int] = []

    class Watched:
        def __reduce__(self) -> Any:
            seen.append(child.page.word[_shared_page.ENDED])
            return int, ()

    def work() -> Watched:
        seen.append(child.page.word[_shared_page.ENDED])
        return Watched()

    child.worker._functions[99] = loop_module.Function("work", work, False)
    child.call(99)
    child.call(child.function(fail), ValueError("no"))
    child.run()

    assert seen == [0, 1]
    assert child.page.word[_shared_page.ENDED] == 2


def test_calls_may_come_as_their_positional_arguments_only(child: Child) -> None:
    """Most calls have no more than that."""
    child.call_plainly(child.function(divmod), (7, 2), (9, 2))

    assert child.run_results() == {1: (3, 1), 2: (4, 1)}


def test_plain_results_of_such_calls_come_as_one_frame(child: Child, patient: None) -> None:
    """Of each it has the number, the duration in nanoseconds, and the value as it was."""
    values = [None, True, 7, -(2**80), 0.1, "text", "\ud800", b"bytes", ""]
    child.call_plainly(child.function(give), *((value,) for value in values))
    (frame,) = child.run()
    run = child.load(frame)

    assert frame.kind == _wire.RESULTS
    assert run[::3] == tuple(range(1, 10))
    assert all(nanoseconds > 0 for nanoseconds in run[1::3])
    assert [(type(value), value) for value in run[2::3]] == [(type(value), value) for value in values]


def test_a_plain_result_is_in_the_outbox_before_the_next_call_begins(child: Child, patient: None) -> None:
    """The gate can read a run of results that has no end yet."""
    found: list[dict[int, Any]] = []
    child.worker._functions[99] = loop_module.Function(
        "look", lambda _: found.append(child.results(child.outbox())), False
    )
    child.call_plainly(child.function(give), ("one",), ("two",))
    child.call_plainly(99, (0,), (0,))
    child.run()

    assert found == [{1: "one", 2: "two"}, {1: "one", 2: "two", 3: None}]
    assert child.page.word[_shared_page.OUTBOX] == 0


@pytest.mark.parametrize(
    "other",
    [[1], "x" * 5_000, 2**600_000, b"x" * 70_000, ValueError("no")],
    ids=("a list", "a long string", "a huge number", "many bytes", "an error"),
)
def test_a_result_that_is_not_plain_or_small_has_a_frame_of_its_own(child: Child, patient: None, other: Any) -> None:
    """Runs before it and after it are not affected, nor is the order of the results."""
    child.worker._functions[98] = loop_module.Function("other", lambda _: other, False)
    child.worker._functions[99] = loop_module.Function("raise", lambda _: fail(other), False)
    key = child.function(give)
    child.call_plainly(key, (1,), (2,))
    child.call_plainly(99 if isinstance(other, Exception) else 98, (0,), (0,))
    child.call_plainly(key, (5,), (6,))
    results = child.run_results()
    last = "error" if isinstance(other, Exception) else other

    assert list(results.items()) == [(1, 1), (2, 2), (3, last), (4, last), (5, 5), (6, 6)]


def test_a_run_is_sent_in_parts_if_the_outbox_has_no_room(child: Child, patient: None) -> None:
    """Nothing is cut in two."""
    values = [str(number).ljust(4_000) for number in range(40)]
    child.call_plainly(child.function(give), *((value,) for value in values))
    frames = child.run()

    assert [frame.kind for frame in frames] == [_wire.RESULTS] * 3
    assert child.results(frames) == dict(enumerate(values, 1))


def test_such_calls_are_skipped_if_they_were_revoked(child: Child) -> None:
    """Also those that came in one frame with the one that runs."""

    def revoke(_number: int) -> None:  # as the gate does while the child is stopped
        if child.page.word[_shared_page.BEGUN] == 1:
            child.page.word[_shared_page.KEPT] = 1
            child.page.word[_shared_page.REVOKED] = 3

    child.worker._functions[99] = loop_module.Function("revoke", revoke, False)
    child.call_plainly(99, (1,), (2,), (3,), (4,))

    assert child.run_results() == {1: None, 4: None}


def test_calls_that_were_revoked_are_skipped_without_a_word(child: Child) -> None:
    """Those after them are run, as are those that had begun."""
    key = child.function(give)

    def revoke() -> None:  # as the gate does while the child is stopped
        child.page.word[_shared_page.KEPT] = child.page.word[_shared_page.BEGUN]
        child.page.word[_shared_page.REVOKED] = 3

    child.worker._functions[99] = loop_module.Function("revoke", revoke, False)
    child.call(99)
    for _ in range(3):
        child.call(key, "run")

    assert child.run_results() == {1: None, 4: "run"}


def test_the_call_that_the_gate_takes_for_running_runs(child: Child) -> None:
    """The child may be stopped when it has written the number and not looked at what is revoked."""
    key = child.function(give)
    child.call(key, "kept")
    child.call(key, "revoked")
    child.page.word[_shared_page.KEPT] = 1
    child.page.word[_shared_page.REVOKED] = 2

    assert child.run_results() == {1: "kept"}


# What belongs to it


def test_setting_up_gives_the_child_the_paths_of_its_gate(child: Child) -> None:
    """And its arguments, folder and level of logging; then the child is ready."""
    child.set_up(level=logging.ERROR)
    (frame,) = child.run()

    assert (frame.kind, frame.number) == (_wire.READY, 0)
    assert sys.path[0] == "somewhere"
    assert sys.argv == ["program", "-x"]
    assert logging.root.level == logging.ERROR


def test_a_folder_that_is_gone_is_no_reason_to_fail(child: Child) -> None:
    """The child stays where it is."""
    before = os.getcwd()
    child.send(_wire.SETUP, 0, 0, {"path": [], "argv": [], "cwd": "/no/such/folder", "gate": "g", "level": 30})
    (frame,) = child.run()

    assert frame.kind == _wire.READY
    assert os.getcwd() == before


def test_frames_that_come_in_pieces_are_put_together(child: Child) -> None:
    """A read may end anywhere."""
    key = child.function(double)
    child.connection.wait_pending()
    frame = _wire.pack(_wire.CALL, 1, key, pickle.dumps(((4,), {}, None, None)))
    results: list[Frame] = []
    thread = threading.Thread(target=child.worker.run)
    thread.start()
    for part in (frame[:5], frame[5:30], frame[30:]):
        child.stream.sendall(part)
    results += child.read()
    child.end()
    thread.join()

    assert child.results(results) == {1: 8}


def test_the_loop_ends_with_the_gate(child: Child) -> None:
    """It is no error when its results are not read any more."""
    child.call(child.function(double), 1)
    child.stream.close()

    child.worker.run()


def test_nothing_of_a_call_is_kept(child: Child) -> None:
    """Neither arguments nor results live on in a child that waits."""
    import gc
    import weakref

    alive: list[weakref.ref[Any]] = []

    class Thing:
        pass

    def work() -> Any:
        thing = Thing()
        alive.append(weakref.ref(thing))
        return lambda: [thing]

    def crash() -> Any:
        thing = Thing()
        alive.append(weakref.ref(thing))
        raise ValueError(thing)

    child.worker._functions[1] = loop_module.Function("work", work, False)
    child.worker._functions[2] = loop_module.Function("crash", crash, False)
    child.call(1)
    child.call(2)
    child.run()
    gc.collect()

    assert [ref() for ref in alive] == [None, None]


def test_a_generator_that_is_not_its_operations_steps_is_a_result(child: Child) -> None:
    """Which cannot be pickled."""

    def numbers() -> Generator[int]:
        yield 1

    child.call(child.function(numbers, steps=False))

    assert "generator" in failure(child, *child.run())[2]
