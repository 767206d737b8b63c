"""Operations whose tokens run in child processes: exact, whatever dies, and like their twins on threads."""

from __future__ import annotations

import contextvars
import functools
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import trio
from gated_code import LIMIT, Door, opened_at_the_end, share

from actors import Token, TokenState
from tokengate import Gate, Limits, token
from tokengate._exceptions import BadOperation
from tokengate.errors import (
    LimitExceeded,
    NotPicklable,
    TokenFailed,
    TokenTerminated,
    WorkerDied,
    WorkerError,
    WouldBlock,
)
from tokengate.types import ProcessPool

Until = Callable[[Callable[[], bool]], None]
MIB = 2**20

request_id: contextvars.ContextVar[str] = contextvars.ContextVar("request_id", default="none")


@pytest.fixture
def gate() -> Iterator[Gate]:
    """An open gate whose pool has one process."""
    pool = ProcessPool(size=1, spares=0)
    with Gate("processes", threads=2, processes=pool, control_socket=False, shutdown=LIMIT) as opened:
        yield opened


@pytest.fixture
def door(gate: Gate) -> Iterator[Door]:
    with opened_at_the_end() as make:
        yield share(make())


@token(affinity="process")
def apply(function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    return function(*args, **kwargs)


@token(affinity="process")
def pid() -> int:
    return os.getpid()


@token(affinity="process")
def pass_through(door: Door) -> str:
    door.reached.set()
    while not door.is_open:
        pass
    return "through"


@token(affinity="process")
def note(file: str, line: str) -> str:
    descriptor = os.open(file, os.O_APPEND | os.O_WRONLY | os.O_CREAT)
    os.write(descriptor, f"{line}\n".encode())
    os.close(descriptor)
    return line


# --- Calls and results -----------------------------------------------------------------------------------------------


def test_an_operation_runs_in_another_process_and_its_call_looks_like_the_function(gate: Gate) -> None:
    """Positional and keyword arguments, lambdas, closures and partials cross, and so do results."""
    offset = 5

    assert pid() != os.getpid()
    assert apply(lambda a, *, b: a + b + offset, 1, b=2) == 8
    assert apply(functools.partial(pow, 2), 10) == 1024
    assert apply.submit(sorted, [3, 1, 2]).result(LIMIT) == [1, 2, 3]
    assert [one.result(LIMIT) for one in apply.with_options(priority=3).map([os.getpid] * 3)] != [os.getpid()] * 3


def test_without_a_gate_it_is_the_plain_function() -> None:
    """Nothing is started for a call outside of any gate."""
    assert pid() == os.getpid()


def test_an_error_keeps_its_type_and_tells_of_its_traceback_in_the_child(gate: Gate) -> None:
    """The traceback is a note, since frames do not cross."""

    def fail() -> None:
        raise LookupError("lost")

    with pytest.raises(LookupError, match="lost") as raised:
        apply(fail)

    [told] = raised.value.__notes__
    assert f"In process {pid()}" in told
    assert f'File "{__file__}"' in told
    assert "in fail" in told


def test_an_error_that_cannot_be_rebuilt_is_told_of(gate: Gate) -> None:
    """Its type, its text and its traceback cross all the same."""

    class Odd(Exception):
        def __init__(self, one: int, two: int) -> None:
            super().__init__(f"{one} and {two}")

    def fail() -> None:
        raise Odd(1, 2)

    failed = apply.submit(fail).exception(LIMIT)
    assert isinstance(failed, WorkerError)
    assert "Odd: 1 and 2" in str(failed)
    assert "in fail" in failed.__notes__[0]


def test_what_is_no_exception_ends_the_token_and_not_the_process(gate: Gate) -> None:
    """`sys.exit()` is the token's failure."""
    before = pid()

    with pytest.raises(TokenFailed, match="SystemExit"):
        apply.submit(sys.exit, 3).result(LIMIT)
    assert pid() == before


def test_a_result_that_cannot_be_pickled_is_an_error_once(gate: Gate, tmp_path: Path) -> None:
    """The function is not run again for it."""
    file = str(tmp_path / "runs")

    def run() -> Any:
        with open(file, "a") as opened:
            opened.write("ran\n")
        return threading.Lock()

    failed = apply.submit(run).exception(LIMIT)
    assert isinstance(failed, NotPicklable)
    assert "lock" in str(failed)
    assert (tmp_path / "runs").read_text() == "ran\n"


def test_an_argument_that_cannot_be_pickled_is_named(gate: Gate) -> None:
    """The token fails, and nothing is sent."""
    failed = apply.submit(print, key=threading.Lock()).exception(LIMIT)

    assert isinstance(failed, NotPicklable)
    assert "argument 'key' of apply, a lock" in str(failed)
    assert apply(abs, -1) == 1


def test_an_argument_that_only_crosses_by_exchange_is_not_blamed_for_another(gate: Gate) -> None:
    """A ref has a place with locks, and crosses as its path; the lock beside it does not."""
    failed = apply.submit(print, gate.find("spawned"), threading.Lock()).exception(LIMIT)

    assert isinstance(failed, NotPicklable)
    assert "argument 2 of apply, a lock" in str(failed)


def test_a_function_that_cannot_be_pickled_fails_each_of_its_tokens(gate: Gate) -> None:
    """The error says what it refers to."""
    lock = threading.Lock()

    @token(affinity="process")
    def locked() -> None:
        with lock:
            pass

    for _ in range(2):
        failed = locked.submit().exception(LIMIT)
        assert isinstance(failed, NotPicklable)
        assert "locked" in str(failed)


@pytest.mark.parametrize("size", [0, 1, 65_500, 65_536, 3 * MIB])
def test_large_arguments_and_results_cross_whole(gate: Gate, size: int) -> None:
    """Around the size from which they go through a file, and well above."""
    sent = os.urandom(size)

    assert apply(bytes.__add__, sent, b"") == sent
    assert apply(bytearray, sent) == bytearray(sent)


def test_small_calls_of_all_kinds_can_be_sent_together(gate: Gate) -> None:
    """Each gets its own arguments and outcome, whatever those before it were."""

    @token(affinity="process")
    def give(value: Any, *, loud: bool = False) -> Any:
        if value == 3:
            raise ValueError(value)
        return str(value).upper() if loud else value

    kinds: list[Any] = [1, "two", 3, [4], b"five", None, 2**5_000, "x" * 3_000, {"nine": 9}, 0.5]
    sent = [give.submit(value) for _ in range(100) for value in kinds]
    loud = [give.submit(number, loud=True) for number in range(4, 50)]

    assert [str(one.exception(LIMIT) or one.result()) for one in sent] == [str(value) for value in kinds] * 100
    assert [one.result(LIMIT) for one in loud] == [str(number) for number in range(4, 50)]


def test_a_result_of_a_class_of_main_is_of_that_class_here(gate: Gate) -> None:
    """Classes that are carried by value are the same ones when they come back."""

    class Point:
        def __init__(self, x: int) -> None:
            self.x = x

    made = apply(lambda: Point(3))
    assert type(made) is Point
    assert made.x == 3


def test_context_variables_that_are_named_cross_and_others_do_not(gate: Gate) -> None:
    """Each token has the values of its own submit."""
    other = contextvars.ContextVar("other", default="unset")

    @token(affinity="process", context=(request_id,))
    def read() -> tuple[str, str]:
        return request_id.get(), other.get()

    other.set("set here")
    seen = []
    for value in ("a", "b"):
        request_id.set(value)
        seen.append(read())
    assert seen == [("a", "unset"), ("b", "unset")]


def test_log_records_of_a_child_arrive_with_their_token(
    gate: Gate, caplog: pytest.LogCaptureFixture, until: Until
) -> None:
    """They are handled by the loggers of the gate's process."""

    def speak() -> None:
        logging.getLogger("child.code").warning("said %s", "something")

    with caplog.at_level(logging.WARNING):
        sent = apply.submit(speak)
        sent.result(LIMIT)
        until(lambda: any(record.name == "child.code" for record in caplog.records))
    [record] = [record for record in caplog.records if record.name == "child.code"]
    assert record.getMessage() == "said something"
    assert record.__dict__["token"] == sent.id


def test_a_generator_steps_in_the_child(gate: Gate) -> None:
    """Its return value is the result, and its steps are counted."""

    @token(affinity="process")
    def steps(n: int) -> Any:
        for _ in range(n):
            yield
        return n

    sent = steps.submit(5)
    assert sent.result(LIMIT) == 5
    assert sent.steps == 6


def test_a_token_of_trio_code_can_await_one(gate: Gate) -> None:
    """Blocking calls are refused on a loop's thread, as for cpu tokens."""

    @token
    async def both() -> list[int]:
        sent = [pid.submit(), await pid.asubmit()]
        with pytest.raises(WouldBlock):
            pid.submit().result()
        return [await one for one in sent]

    first, second = both.submit().result(LIMIT)
    assert os.getpid() not in (first, second)


class Hostile:
    """An object whose pickling calls something, or what it is rebuilt by does."""

    def __init__(self, function: Callable[..., Any], *args: Any, here: bool = False) -> None:
        self.function, self.args, self.here = function, args, here

    def __reduce__(self) -> Any:
        if self.here:
            self.function(*self.args)
        return self.function, self.args


class Mute(Exception):
    def __str__(self) -> str:
        raise ValueError("no text")


def raise_mute() -> None:
    raise Mute


@pytest.mark.parametrize("there", [sys.exit, raise_mute], ids=["exit", "mute"])
def test_a_result_whose_rebuilding_raises_anything_is_an_error_and_harms_nobody(
    gate: Gate, there: Callable[..., Any]
) -> None:
    """It is its token's, whatever class it is of, and even if it has no text; what comes next is right."""
    failed = apply.submit(Hostile, there).exception(LIMIT)

    assert isinstance(failed, NotPicklable)
    assert apply.submit(abs, -1).result(LIMIT) == 1


@pytest.mark.parametrize("there", [sys.exit, raise_mute], ids=["exit", "mute"])
def test_an_argument_whose_pickling_raises_anything_is_an_error_and_harms_nobody(
    gate: Gate, there: Callable[..., Any]
) -> None:
    """Nothing escapes into the sender, and no token is lost."""
    failed = apply.submit(str, Hostile(there, here=True)).exception(LIMIT)

    assert isinstance(failed, NotPicklable)
    assert apply.submit(abs, -1).result(LIMIT) == 1


def test_what_is_rebuilt_here_cannot_wait_for_what_comes_after_it(gate: Gate) -> None:
    """The thread that would have to bring that is its own."""

    class Waiting:
        def __reduce__(self) -> Any:
            return wait_for_another, ()

    failed = apply.submit(Waiting).exception(LIMIT)
    assert isinstance(failed, NotPicklable)
    assert "would block" in str(failed)


def wait_for_another() -> Any:
    return apply.submit(abs, -1).result(LIMIT)


# --- Death -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("end", "words", "code"),
    [
        (lambda: os._exit(3), "exited with code 3", 3),
        (lambda: os.kill(os.getpid(), signal.SIGKILL), r"killed by signal 9 \(SIGKILL\)", -9),
        (lambda: os.kill(os.getpid(), signal.SIGSEGV), r"killed by signal 11 \(SIGSEGV\)", -11),
    ],
    ids=["exit", "kill", "segfault"],
)
def test_a_process_that_dies_fails_its_token_and_is_replaced(
    gate: Gate, end: Callable[[], None], words: str, code: int
) -> None:
    """The error says how it died, and of what token; nobody else notices."""
    before = apply(os.getpid)  # not `pid`: a drainer of that, if it has not left yet, would take the next one first
    sent = apply.submit(end)
    after = pid.submit()

    with pytest.raises(WorkerDied, match=words) as raised:
        sent.result(LIMIT)
    assert (raised.value.pid, raised.value.exit_code) == (before, code)
    assert f"token {sent.id}" in str(raised.value)
    assert ("memory runs out; it allows" in "".join(getattr(raised.value, "__notes__", ()))) is (code == -9)
    assert after.result(LIMIT) not in (before, os.getpid())


def test_a_segfault_tells_where(gate: Gate) -> None:
    """The interpreter's last words are a note of the error."""

    def fall() -> None:
        os.kill(os.getpid(), signal.SIGSEGV)

    failed = apply.submit(fall).exception(LIMIT)
    assert failed is not None
    assert "Segmentation fault" in failed.__notes__[0]
    assert "in fall" in failed.__notes__[0]


def test_tokens_that_were_sent_with_one_that_dies_run_elsewhere_exactly_once(gate: Gate, tmp_path: Path) -> None:
    """Short tokens are sent several at a time; those that have not begun are not lost with the process."""
    file = str(tmp_path / "ran")

    @token(affinity="process")
    def run(number: int) -> int:
        descriptor = os.open(file, os.O_APPEND | os.O_WRONLY | os.O_CREAT)
        os.write(descriptor, f"{number}\n".encode())
        os.close(descriptor)
        if number % 100 == 50:
            os._exit(1)
        return number

    sent = [run.submit(number) for number in range(1000)]
    ended = [one.exception(LIMIT) for one in sent]

    assert [number for number, error in enumerate(ended) if error is not None] == list(range(50, 1000, 100))
    assert all(isinstance(error, WorkerDied) for error in ended if error is not None)
    assert sorted(map(int, Path(file).read_text().split())) == list(range(1000))


def test_a_long_token_does_not_hold_up_short_ones_that_were_sent_with_it(tmp_path: Path) -> None:
    """They are taken back, and another process runs them."""
    with (
        Gate("two", processes=ProcessPool(size=2), control_socket=False, shutdown=LIMIT) as gate,
        opened_at_the_end() as make,
    ):
        door = share(make())

        @token(affinity="process")
        def run(number: int) -> int:
            if number == 400:
                door.reached.set()
                while not door.is_open:
                    pass
            return number

        sent = [run.submit(number) for number in range(1000)]
        for number, one in enumerate(sent):
            if number != 400:
                assert one.result(LIMIT) == number
        door.wait_reached()
        assert sent[400].state is TokenState.RUNNING
        door.open()
        assert sent[400].result(LIMIT) == 400
        assert gate.statistics().tokens[TokenState.COMPLETED] == 1000


def test_queued_tokens_can_be_cancelled_while_another_one_runs(gate: Gate, door: Door) -> None:
    """What has not begun never begins."""
    first = pass_through.submit(door)
    queued = [note.submit("/nowhere/to/be/written", "x") for _ in range(5)]
    door.wait_reached()

    for one in queued:
        one.cancel()
    assert all(isinstance(one.exception(LIMIT), TokenTerminated) for one in queued)
    door.open()
    assert first.result(LIMIT) == "through"


# --- Limits ----------------------------------------------------------------------------------------------------------


def test_a_token_that_takes_too_long_is_ended(gate: Gate) -> None:
    """The error names the limit, its value, and the token."""

    @token(affinity="process", limits=Limits(wall_time=0.05))
    def sleep() -> None:
        time.sleep(60)

    sent = sleep.submit()
    with pytest.raises(LimitExceeded, match=r"wall_time is 0\.05 s") as raised:
        sent.result(LIMIT)
    assert (raised.value.limit, raised.value.value) == ("wall_time", 0.05)
    assert f"token {sent.id}" in str(raised.value)
    assert sent.state is TokenState.FAILED
    assert apply(abs, -1) == 1


def test_a_token_that_computes_too_long_is_ended_and_what_ran_before_it_does_not_count(gate: Gate) -> None:
    """Processor time is counted from the token's beginning."""

    @token(affinity="process", limits=Limits(cpu_time=0.19))
    def compute(seconds: float) -> None:
        until = time.process_time() + seconds
        while time.process_time() < until:
            pass

    compute(0.1)
    compute(0.1)
    with pytest.raises(LimitExceeded, match="cpu_time"):
        compute(60)


def test_a_token_that_takes_too_much_memory_is_ended(gate: Gate) -> None:
    """Resident memory is watched."""

    @token(affinity="process", limits=Limits(memory=150 * MIB))
    def take(size: int) -> int:
        taken = b"x" * size
        if size > MIB:
            time.sleep(60)
        return len(taken)

    assert take(MIB) == MIB
    with pytest.raises(LimitExceeded, match="memory is 157,286,400 bytes"):
        take(200 * MIB)


@pytest.mark.skipif(sys.platform != "linux", reason="needs prlimit")
def test_address_space_is_refused_and_only_to_the_token_that_is_limited(gate: Gate) -> None:
    """The limit goes with the token: the next one in that process has none."""

    @token(affinity="process", limits=Limits(address_space=512 * MIB))
    def take() -> int:
        return len(bytearray(600 * MIB))

    failed = take.submit().exception(LIMIT)
    assert isinstance(failed, LimitExceeded)
    assert "address_space, 536,870,912 bytes" in str(failed)
    assert apply(lambda: len(bytearray(600 * MIB))) == 600 * MIB


@pytest.mark.parametrize("bad", [0, -1, "much", True, 1.5])
def test_a_limit_that_cannot_be_is_refused(bad: Any) -> None:
    """The error names the limit and the value."""
    with pytest.raises(ValueError, match="memory"):
        Limits(memory=bad)


def test_options_that_need_a_process_are_refused_elsewhere() -> None:
    """A limit that nobody watches would be a lie."""
    with pytest.raises(BadOperation, match="limits"):
        token(limits=Limits(wall_time=1))(lambda: None)
    with pytest.raises(BadOperation, match="context"):
        token(affinity="cpu", context=(request_id,))(lambda: None)


# --- The pool --------------------------------------------------------------------------------------------------------


def test_no_process_is_made_before_one_is_needed() -> None:
    """A gate without process tokens costs none."""
    with Gate("idle", control_socket=False) as gate:
        assert gate._system.statistics().processes is None


def test_a_process_is_replaced_after_so_many_tokens() -> None:
    """`max_tokens` bounds what a process can gather."""
    pool = ProcessPool(size=1, max_tokens=3, spares=0)  # a spare that is made late is given the next token
    with Gate("worn", processes=pool, control_socket=False, shutdown=LIMIT):
        seen = [pid() for _ in range(9)]

    assert {seen.count(one) for one in seen} == {3}


def test_a_process_that_is_never_idle_is_replaced_after_so_many_tokens() -> None:
    """Tokens that are queued already are for the next one."""
    pool = ProcessPool(size=1, max_tokens=3, spares=0)
    with Gate("busy", processes=pool, control_socket=False, shutdown=LIMIT):
        tokens = [pid.submit() for _ in range(9)]
        seen = [one.result(LIMIT) for one in tokens]

    assert [seen.count(one) for one in seen] == [3] * 9


def test_a_process_that_has_grown_is_replaced() -> None:
    """`max_memory_growth` is looked at when it is idle."""
    pool = ProcessPool(size=1, spares=0, max_memory_growth=50 * MIB)
    with Gate("grown", processes=pool, control_socket=False, shutdown=LIMIT):
        seen = first = pid()
        apply(lambda: setattr(os, "kept", b"x" * 100 * MIB))
        deadline = time.monotonic() + LIMIT
        while seen == first and time.monotonic() < deadline:
            seen = pid()
        assert seen != first


def test_idle_processes_are_ended_down_to_the_spares(until: Until) -> None:
    """The pool shrinks when there is nothing to do."""
    pool = ProcessPool(size=3, spares=1, idle_after=0.0)
    with Gate("shrinking", processes=pool, control_socket=False, shutdown=LIMIT) as gate, opened_at_the_end() as make:
        doors = [share(make()) for _ in range(3)]
        sent = [pass_through.submit(door) for door in doors]
        for door in doors:
            door.wait_reached()
            door.open()
        for one in sent:
            one.result(LIMIT)

        def workers() -> int:
            statistics = gate._system.statistics().processes
            assert statistics is not None
            return statistics.workers

        until(lambda: workers() == 1)


def test_two_operations_share_the_pool_fairly(gate: Gate) -> None:
    """One with many tokens does not keep the only process from another one for long."""
    many = [pid.submit() for _ in range(2000)]
    left: list[int] = []
    one = apply.submit(abs, -1)
    one.add_done_callback(lambda _: left.append(sum(not sent.done() for sent in many)))

    assert one.result(LIMIT) == 1
    for sent in many:
        sent.result(LIMIT)
    assert left[0] > 0


def test_a_process_that_is_paused_does_not_use_up_the_pool(gate: Gate, door: Door) -> None:
    """Another one is made in its stead, and the paused token keeps its own."""
    held = pass_through.submit(door)
    door.wait_reached()
    [outcome] = gate.control.pause(held, wait=LIMIT)
    assert outcome.outcome == "paused"

    assert apply(abs, -1) == 1
    gate.control.resume(held)
    door.open()
    assert held.result(LIMIT) == "through"


@pytest.mark.parametrize("bad", [0, -2, 1.5, "two", True])
def test_a_pool_that_cannot_work_is_refused(bad: Any) -> None:
    """The error names the argument and the value."""
    with pytest.raises(ValueError, match="size"):
        ProcessPool(size=bad)


# --- The end ---------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("impatient")
def test_closing_a_gate_kills_what_does_not_end_and_leaves_nothing_behind(door: Door, gate: Gate) -> None:
    """A process in C code is really ended; the token says so."""

    @token(affinity="process")
    def sleep(door: Door) -> None:
        door.reached.set()
        time.sleep(10 * LIMIT)

    sent = sleep.submit(door)
    door.wait_reached()
    report = gate.close(0.1, drain=False)

    assert report.abandoned == ()
    assert isinstance(sent.exception(), TokenTerminated)


SCRIPT = """
import os, sys
from tokengate import Gate, ProcessActor, token

class Point:
    def __init__(self, x):
        self.x = x

SCALE = 10

@token(affinity="process")
def scale(point):
    return Point(point.x * SCALE), os.getpid()

class Counter(ProcessActor):
    def __init__(self):
        self.n = 0
    def add(self, by):
        self.n += by
        return self.n

with Gate("script", control_socket=False) as gate:
    point, pid = scale(Point(4))
    assert type(point) is Point and pid != os.getpid()
    counter = gate.spawn(Counter).proxy()
    counter.add(1)
    print(point.x, counter.add(2).get())
"""


@pytest.mark.parametrize("way", ["script", "-c", "stdin"])
def test_it_works_in_scripts_without_a_main_guard(way: str, tmp_path: Path) -> None:
    """The main module is not imported again, whatever it is."""
    file = tmp_path / "script.py"
    file.write_text(SCRIPT)
    command = {"script": [str(file)], "-c": ["-c", SCRIPT], "stdin": ["-"]}[way]
    done = subprocess.run(
        [sys.executable, *command], input=SCRIPT, capture_output=True, text=True, timeout=120, check=False
    )

    assert done.stdout == "40 3\n", done.stderr
    assert done.returncode == 0


def test_a_forked_process_leaves_the_children_to_its_parent(gate: Gate) -> None:
    """What it inherits is closed there, and nothing of the parent's is ended."""
    pid()
    before = gate._system.statistics().processes
    child = os.fork()
    if not child:
        os._exit(0)
    os.waitpid(child, 0)
    pid()
    after = gate._system.statistics().processes

    assert before is not None
    assert after is not None
    assert set(before.pids) <= set(after.pids)
    assert after.died == 0


def test_a_loop_that_waits_is_not_blocked(gate: Gate, door: Door) -> None:
    """Sending from a trio task pickles on another thread."""

    class Slow:
        def __reduce__(self) -> Any:
            seen.append(threading.current_thread().name)
            return (int, ())

    seen: list[str] = []

    @token
    async def send() -> int:
        sent: Token[int] = apply.submit(int, Slow())
        await trio.lowlevel.checkpoint()
        return await sent

    assert send.submit().result(LIMIT) == 0
    assert seen
    assert not any("io" in name or "system" in name for name in seen)
