"""Properties of process actors: their process, what is sent to it, and how it can die."""

from __future__ import annotations

import contextvars
import logging
import os
import pickle
import signal
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from typing import Any

import psutil
import pytest
import trio.testing
from gated_code import LIMIT, Door, opened_at_the_end, share
from shared_lists import SharedList

from actors import (
    KILLED,
    NORMAL,
    ActorDead,
    ActorSystem,
    ExitReason,
    LimitExceeded,
    Limits,
    NotPicklable,
    ProcessActor,
    ProcessPool,
    StartFailed,
    TokenState,
    WorkerDied,
    WorkerError,
)
from actors.lowlevel import ActorPlace, Status

shade: ContextVar[str] = ContextVar("shade")


@pytest.fixture
def system() -> Iterator[ActorSystem]:
    """An open system with one CPU thread and no spare processes."""
    opened = ActorSystem("test", threads=1, processes=ProcessPool(size=1, spares=0))
    opened.open()
    yield opened
    late = opened.close(LIMIT)

    assert late == ()


@pytest.fixture
def door(system: ActorSystem) -> Iterator[Door]:
    with opened_at_the_end() as make:
        yield share(make())


class Ends:
    """The owner of a place: records how its instances end, and starts it again after unexpected ends."""

    def __init__(self) -> None:
        self.reasons: list[ExitReason] = []
        self.again = True
        self.ended = threading.Event()

    def __call__(self, place: ActorPlace, reason: ExitReason, administrative: bool) -> None:
        self.reasons.append(reason)
        if self.again and not administrative:
            place.start()
        self.ended.set()


class Worker(ProcessActor):
    """Does what its messages say, and records it."""

    expected = (LookupError,)

    def __init__(self, diary: Any = None) -> None:
        super().__init__()
        self.diary = diary
        self.note("init")

    def note(self, what: Any) -> Any:
        if self.diary is not None:
            self.diary.append(what)
        return what

    def on_start(self) -> None:
        self.note("on_start")

    def on_stop(self) -> None:
        self.note("on_stop")

    def on_failure(self, kind: Any, error: Any, frames: Any) -> None:
        self.note(("on_failure", kind.__name__, str(error), frames is not None))

    def on_receive(self, message: Any) -> Any:
        return message() if callable(message) else message

    def pid(self) -> int:
        import os

        return os.getpid()

    def call(self, function: Any, *args: Any) -> Any:
        return function(*args)


def placed(system: ActorSystem, cls: type[ProcessActor], *args: Any, owner: Any = None) -> Any:
    place = system.place("worker", cls, args, owner=owner)
    place.start().result(LIMIT)
    return place.ref


# The process


def test_each_instance_has_a_process_of_its_own_which_ends_with_it(system: ActorSystem, start: Any, until: Any) -> None:
    """It is no process that others had before, or get after it."""
    one, other = start(Worker), start(Worker)
    pids = [ref.proxy().pid().result(LIMIT) for ref in (one, other, one)]
    one.stop(timeout=LIMIT)
    until(lambda: not psutil.pid_exists(pids[0]))
    third = start(Worker).proxy().pid().result(LIMIT)

    assert pids[0] == pids[2]
    assert len({os.getpid(), *pids, third}) == 4


def test_niceness_and_cores_are_the_processs(start: Any) -> None:
    """`nice` and `cpu_affinity` of the class hold for its process, and for no other."""
    core = min(os.sched_getaffinity(0))

    class Polite(Worker):
        nice = 7
        cpu_affinity = (core,)

    own = psutil.Process(start(Polite).proxy().pid().result(LIMIT))
    plain = psutil.Process(start(Worker).proxy().pid().result(LIMIT))

    assert (own.nice(), own.cpu_affinity()) == (7, [core])
    assert (plain.nice(), plain.cpu_affinity()) == (psutil.Process().nice(), psutil.Process().cpu_affinity())


def test_the_state_is_the_instances_and_ends_with_it(system: ActorSystem) -> None:
    """A new instance is made from the arguments, as they are then; nothing of the old one's is there."""

    class Counter(ProcessActor):
        def __init__(self, start: list[int]) -> None:
            self.numbers = start

        def add(self, number: int) -> list[int]:
            self.numbers.append(number)
            return self.numbers

    given = [1]
    ref = placed(system, Counter, given, owner=Ends())
    first = ref.proxy().add(2).result(LIMIT)
    assert ref.ask(lambda: None, block=False).exception(LIMIT) is None
    os.kill(ref.proxy().numbers.result(LIMIT) and _pid(ref), signal.SIGKILL)
    second = ref.proxy().add(3).result(LIMIT)

    assert (first, second, given) == ([1, 2], [1, 3], [1])


def _pid(ref: Any) -> int:
    """Return the process of an actor's present instance."""
    pid: int = ref._place.drain.worker.pid
    return pid


# What crosses


def test_exactly_the_context_variables_that_the_class_names_cross(system: ActorSystem, start: Any) -> None:
    """They have the sender's values in the step, and what the child sets stays in that step."""
    named: ContextVar[str] = ContextVar("named")
    other: ContextVar[str] = ContextVar("other")

    class Seer(ProcessActor):
        context = (named,)

        def look(self) -> tuple[str, str]:
            seen = named.get("unset"), other.get("unset")
            named.set("changed")
            return seen

    proxy = start(Seer).proxy()
    named.set("red")
    other.set("red")

    assert [proxy.look().result(LIMIT) for _ in range(2)] == [("red", "unset")] * 2


def test_a_context_variable_keeps_its_default(start: Any) -> None:
    """One that no module has is made anew in the child, with the default that it has here."""
    shade: ContextVar[str] = ContextVar("shade", default="none")

    class Seer(ProcessActor):
        def look(self) -> str:
            return shade.get()

    assert start(Seer).proxy().look().result(LIMIT) == "none"


def test_a_message_that_cannot_be_pickled_fails_and_the_actor_lives_on(start: Any) -> None:
    """NotPicklable names the argument; nothing has run, nothing crashed, and the instance is the same."""
    diary = SharedList()
    ref = start(Worker, diary)
    pid = _pid(ref)
    with pytest.raises(NotPicklable, match=r"argument 0 of Worker\.on_receive, a lock"):
        ref.ask(threading.Lock(), timeout=LIMIT)
    with pytest.raises(NotPicklable, match=r"argument 'what' of Worker\.note"):
        ref.proxy().note(what=threading.Lock()).result(LIMIT)
    with pytest.raises(NotPicklable):
        ref.proxy().diary = threading.Lock()
    token = ref.proxy().note("alive")

    assert (token.result(LIMIT), _pid(ref)) == ("alive", pid)
    assert diary == ["init", "on_start", "alive"]


def test_a_tell_that_cannot_be_pickled_is_not_silent(start: Any, caplog: pytest.LogCaptureFixture) -> None:
    """Nobody waits for its answer, so the log has it."""
    ref = start(Worker)
    with caplog.at_level(logging.INFO):
        ref.tell(threading.Lock())
        ref.ask("x", timeout=LIMIT)

    assert "cannot be sent to a child process" in caplog.text


def test_an_answer_that_cannot_be_pickled_is_an_error_once(start: Any) -> None:
    """The method has run, is not run again, and the instance lives on: its state is what the method made of it."""
    diary = SharedList()

    class Giver(Worker):
        def give(self) -> Any:
            import threading

            self.note("given")
            return threading.Lock()

    ref = start(Giver, diary)
    pid = _pid(ref)
    with pytest.raises(NotPicklable, match=r"the result, a _thread\.lock, cannot be sent to the gate"):
        ref.proxy().give().result(LIMIT)

    assert (ref.proxy().pid().result(LIMIT), diary.entries()) == (pid, ["init", "on_start", "given"])


def test_arguments_of_the_constructor_that_cannot_be_pickled_are_a_failed_start(
    system: ActorSystem, start: Any
) -> None:
    """Nothing is left behind."""
    with pytest.raises(StartFailed, match="NotPicklable") as caught:
        start(Worker, threading.Lock())

    assert isinstance(caught.value.__cause__, NotPicklable)
    assert system.places() == []


def test_an_answer_that_cannot_be_rebuilt_here_is_an_error_once(start: Any) -> None:
    """What raises when it is unpickled in the gate harms nobody else."""

    class Bad:
        def __reduce__(self) -> Any:
            return int, ("no number",)

    class Giver(Worker):
        def give(self) -> Any:
            return Bad()

    ref = start(Giver)
    with pytest.raises(NotPicklable, match="cannot be rebuilt here"):
        ref.proxy().give().result(LIMIT)

    assert ref.ask("alive", timeout=LIMIT) == "alive"


def test_a_large_message_and_a_large_answer_cross(start: Any) -> None:
    """However large, both ways."""
    data = os.urandom(3_000_000)

    assert start(Worker).ask(data, timeout=LIMIT) == data


def test_an_error_keeps_its_type_and_tells_where_it_was_raised(start: Any) -> None:
    """The child's traceback is a note, with the user's lines and none of the runtime's."""

    class Failing(Worker):
        def fail(self) -> None:
            raise KeyError("the key")

    error = start(Failing).proxy().fail().exception(LIMIT)

    assert (type(error), error.args) == (KeyError, ("the key",))
    (note,) = error.__notes__
    assert 'raise KeyError("the key")' in note
    assert "_loop.py" not in note
    assert "_stage.py" not in note


@pytest.mark.parametrize("is_expected", [True, False])
def test_an_error_that_cannot_be_rebuilt_is_expected_or_not_as_itself_would_be(
    system: ActorSystem, is_expected: bool
) -> None:
    """What comes is a WorkerError with the name; whether it is a crash was decided where the error is."""

    class Odd(LookupError):
        def __init__(self, one: int, two: int) -> None:
            super().__init__("odd one")

    class Failing(Worker):
        expected = (LookupError,) if is_expected else ()

        def fail(self) -> None:
            raise Odd(1, 2)

    ends = Ends()
    ref = placed(system, Failing, owner=ends)
    pid = _pid(ref)
    with pytest.raises(WorkerError, match="Odd: odd one"):
        ref.proxy().fail().result(LIMIT)

    assert (ref.proxy().pid().result(LIMIT) == pid, len(ends.reasons)) == (is_expected, not is_expected)


def test_on_failure_gets_the_error_itself_with_its_traceback(start: Any, until: Any) -> None:
    """Not a copy that came back from the gate: it is the same object, with its frames, even if it can't travel."""
    diary = SharedList()

    class Failing(ProcessActor):
        def fail(self) -> None:
            class Odd(Exception):
                def __init__(self, one: int, two: int) -> None:
                    self.unpicklable = lambda: one

            self.error = Odd(1, 2)
            raise self.error

        def on_failure(self, kind: Any, error: Any, frames: Any) -> None:
            last = frames
            while last.tb_next is not None:
                last = last.tb_next
            diary.append((kind is type(error), error is self.error, last.tb_frame.f_code.co_name))

    ref = start(Failing)
    ref.proxy().fail().exception(LIMIT)
    until(lambda: not ref.is_alive())
    ref.stop(timeout=LIMIT)

    assert diary == [(True, True, "fail")]


def test_refs_and_proxies_travel_and_work(start: Any) -> None:
    """An actor in a process sends messages to others, as if they were there."""

    class Asker(ProcessActor):
        def ask_it(self, ref: Any, message: Any) -> Any:
            ref.tell("first")
            return ref.ask(message, timeout=30)

        def call_it(self, proxy: Any) -> Any:
            return proxy.note("noted").result(30), proxy.pid().get(timeout=30)

        def itself(self) -> Any:
            return self.actor_ref

    diary = SharedList()
    worker, asker = start(Worker, diary), start(Asker)
    answers = (
        asker.proxy().ask_it(worker, "hello").result(LIMIT),
        asker.proxy().call_it(worker.proxy()).result(LIMIT),
        asker.proxy().itself().result(LIMIT),
    )

    assert answers == ("hello", ("noted", _pid(worker)), asker)
    assert diary == ["init", "on_start", "noted"]


def test_an_actor_that_returns_itself_is_told_what_to_send(start: Any) -> None:
    """The instance stays in its process."""

    class Selfish(ProcessActor):
        def me(self) -> Any:
            return self

    with pytest.raises(NotPicklable, match="send its actor_ref"):
        start(Selfish).proxy().me().result(LIMIT)


# Where classes come from


def run_python(*arguments: str, cwd: Any = None) -> str:
    """Run a program as a user does, and return what it prints."""
    done = subprocess.run(
        [sys.executable, *arguments], capture_output=True, text=True, timeout=60, cwd=cwd, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


SCRIPT = textwrap.dedent(
    """
    from actors import ActorSystem, ProcessActor

    FACTOR = 3

    class Helper:
        def times(self, n):
            return n * FACTOR

    class Base(ProcessActor):
        def times(self, n):
            return Helper().times(n)

    class Mine(Base):
        def times(self, n):
            return super().times(n) + 1

    system = ActorSystem("script", threads=1)
    system.open()
    print(system.start_actor(Mine, (), {}).proxy().times(2).result(30))
    system.close(20)
    """
)


def test_a_class_of_a_script_needs_no_main_guard(tmp_path: Any) -> None:
    """The child never runs the script; what the class refers to travels with it, `super()` included."""
    file = tmp_path / "script.py"
    file.write_text(SCRIPT)

    assert run_python(str(file)) == "7\n"


def test_a_class_of_a_command_line_works(tmp_path: Any) -> None:
    """`python -c`, which has no file at all."""
    assert run_python("-c", SCRIPT, cwd=tmp_path) == "7\n"


def test_a_class_of_a_function_keeps_its_closure(start: Any) -> None:
    """With the values that the variables have when the instance is made."""
    factor = 5

    class Local(ProcessActor):
        limit = 100

        @property
        def most(self) -> int:
            return self.limit

        @classmethod
        def named(cls) -> str:
            return cls.__name__

        @staticmethod
        def times(n: int) -> int:
            return n * factor

    proxy = start(Local).proxy()

    assert (proxy.times(2).result(LIMIT), proxy.named().result(LIMIT), proxy.most.result(LIMIT)) == (10, "Local", 100)


def test_the_child_imports_nothing_of_the_gates(start: Any) -> None:
    """No trio, no pykka, none of our floors: an actor's process is small and starts quickly."""

    class Small(ProcessActor):
        def imported(self) -> list[str]:
            import sys

            return [name for name in ("trio", "pykka", "actors", "supervisors", "tokengate") if name in sys.modules]

    assert start(Small).proxy().imported().result(LIMIT) == []


# Its death


@pytest.mark.parametrize("when", ["idle", "in a step", "in a hook of its end", "with a queue"])
def test_a_process_that_dies_is_a_crash_of_its_instance(
    system: ActorSystem, door: Door, when: str, caplog: pytest.LogCaptureFixture
) -> None:
    """The owner has word of it once, with the cause; what is queued is handled by the next instance."""
    door_ = door

    class Doomed(Worker):
        def wait(self) -> None:
            door_.pass_through()

        def on_stop(self) -> None:
            door_.pass_through()

    ends = Ends()
    ref = placed(system, Doomed, owner=ends)
    pid = _pid(ref)
    running = queued = stopped = None
    if when in ("in a step", "with a queue"):
        running = ref.proxy().wait()
    if when == "with a queue":
        queued = [ref.proxy().note(number) for number in range(5)]
    if when == "in a hook of its end":
        ends.again = False
        stopped = ref._place.stop(NORMAL, drain=False, administrative=False)
    if when != "idle":
        door.wait_reached()
    os.kill(pid, signal.SIGKILL)
    if running is not None:
        error = running.exception(LIMIT)
        assert isinstance(error, WorkerDied)
        assert (error.pid, error.exit_code) == (pid, -signal.SIGKILL)
        assert "SIGKILL" in str(error)
        assert "Doomed.wait" in str(error)
        assert (running.state, running.attempt) == (TokenState.FAILED, 1)
    if stopped is not None:
        assert stopped.result(LIMIT) == NORMAL  # it was to end, and it has
        assert "SIGKILL" in caplog.text
        assert ref._place.status is Status.VACANT
        ref._place.start().result(LIMIT)
    assert [token.result(LIMIT) for token in queued or ()] == [*range(len(queued or ()))]
    assert ends.ended.wait(LIMIT)
    assert ref.ask("next", timeout=LIMIT) == "next"

    assert len(ends.reasons) == 1
    assert ends.reasons[0].kind == ("normal" if stopped is not None else "error")
    assert _pid(ref) != pid


def test_a_process_that_dies_in_init_or_on_start_is_a_failed_start(system: ActorSystem) -> None:
    """The place stays vacant with its queue, and the next start may succeed."""
    starts = SharedList()

    class Moody(Worker):
        def __init__(self) -> None:
            import os

            super().__init__()
            starts.append("init")
            if len(starts) == 1:
                os._exit(9)

        def on_start(self) -> None:
            import os
            import signal

            starts.append("on_start")
            if len(starts) == 3:
                os.kill(os.getpid(), signal.SIGABRT)

    ends = Ends()
    place = system.place("moody", Moody, owner=ends)
    token = place.ref.ask(1, block=False)
    errors = []
    for _ in range(2):
        with pytest.raises(StartFailed) as caught:
            place.start().result(LIMIT)
        errors.append(caught.value.__cause__)
        assert place.status is Status.VACANT
    place.start().result(LIMIT)

    assert [getattr(error, "exit_code", error) for error in errors] == [9, -signal.SIGABRT]
    assert token.result(LIMIT) == 1
    assert (starts.entries(), ends.reasons) == (["init", "init", "on_start", "init", "on_start"], [])


def test_a_process_that_dies_in_on_failure_has_crashed_with_the_error_before(
    system: ActorSystem, caplog: pytest.LogCaptureFixture
) -> None:
    """The owner gets the error that began it; the death of the hook is logged."""

    class Doomed(Worker):
        def fail(self) -> None:
            raise ZeroDivisionError("first")

        def on_failure(self, *_error: object) -> None:
            import os

            os._exit(4)

    ends = Ends()
    ref = placed(system, Doomed, owner=ends)
    failing, behind = ref.proxy().fail(), ref.proxy().note("behind")
    assert isinstance(failing.exception(LIMIT), ZeroDivisionError)

    assert behind.result(LIMIT) == "behind"
    assert [type(reason.error) for reason in ends.reasons] == [ZeroDivisionError]
    assert "exited with code 4" in caplog.text


def test_a_process_that_dies_without_an_owner_is_the_end_of_the_actor(system: ActorSystem, until: Any) -> None:
    """What is queued ends with ActorDead, and the name is free."""
    ref = placed(system, Worker)
    ref.actor_inbox.suspend()
    queued = ref.ask("never", block=False)
    os.kill(_pid(ref), signal.SIGKILL)
    with pytest.raises(ActorDead):
        queued.result(LIMIT)
    until(lambda: not ref.is_alive())

    assert ref.stop(timeout=LIMIT) is False
    assert placed(system, Worker).path == ref.path


@pytest.mark.parametrize("how", ["sys.exit", "os._exit", "exception"])
def test_leaving_by_an_exit_is_the_end_of_that_instance_only(system: ActorSystem, how: str) -> None:
    """`sys.exit()` in a step is a crash with SystemExit, as in a thread; `os._exit()` takes the process along."""

    class Leaver(Worker):
        def leave(self, how: str) -> None:
            import os
            import sys

            if how == "sys.exit":
                sys.exit(5)
            if how == "os._exit":
                os._exit(5)
            raise KeyboardInterrupt

    ends = Ends()
    ref = placed(system, Leaver, owner=ends)
    error = ref.proxy().leave(how).exception(LIMIT)

    assert type(error) is {"sys.exit": SystemExit, "os._exit": WorkerDied, "exception": KeyboardInterrupt}[how]
    assert ref.ask("alive", timeout=LIMIT) == "alive"
    assert [reason.error for reason in ends.reasons] == [error]


def test_results_that_were_there_before_the_death_are_not_lost(system: ActorSystem) -> None:
    """Each message is answered, or has crashed its instance, or is handled later; none runs twice."""
    diary = SharedList()

    class Doomed(Worker):
        def work(self, number: int) -> int:
            import os

            self.note(number)
            if number % 5 == 4:
                os._exit(1)
            return number

    ref = placed(system, Doomed, diary, owner=Ends())
    tokens = [ref.proxy().work(number) for number in range(12)]
    outcomes = [token.exception(LIMIT) or token.result() for token in tokens]

    assert [n for n, outcome in enumerate(outcomes) if isinstance(outcome, WorkerDied)] == [4, 9]
    assert [outcome for outcome in outcomes if not isinstance(outcome, WorkerDied)] == [0, 1, 2, 3, 5, 6, 7, 8, 10, 11]
    assert [entry for entry in diary if isinstance(entry, int)] == [*range(12)]


def test_a_stopped_process_can_be_killed(system: ActorSystem, door: Door) -> None:
    """Even while it is stopped from outside: its token ends, its owner decides."""
    ends = Ends()
    ref = placed(system, Worker, owner=ends)
    token = ref.ask(door.pass_through, block=False)
    door.wait_reached()
    pid = _pid(ref)
    os.kill(pid, signal.SIGSTOP)
    assert ref._place.abandon(token, "the test wants it") == []

    assert token.state is TokenState.TERMINATED
    assert ref.ask("alive", timeout=LIMIT) == "alive"
    assert ends.reasons == [KILLED]
    assert _pid(ref) != pid


def test_closing_the_system_ends_a_process_that_never_would(until: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Busy in C, deaf to signals: it is killed, and everybody who waits is answered."""
    monkeypatch.setattr("actors.system._system._LAST_SECONDS", LIMIT)  # no thread is named that is only held up
    system = ActorSystem("test", threads=1, processes=ProcessPool(size=1, spares=0))
    system.open()
    with opened_at_the_end() as make:
        door = share(make())

        class Deaf(ProcessActor):
            def on_receive(self, _message: Any) -> None:
                import signal

                for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
                    signal.signal(number, signal.SIG_IGN)
                door.reached.set()
                while True:
                    signal.pause()

        ref = system.start_actor(Deaf, (), {})
        token = ref.ask("listen", block=False)
        door.wait_reached()
        pid = _pid(ref)
        late = system.close(0.01)
        until(lambda: not psutil.pid_exists(pid))

        assert token.exception(LIMIT) is not None
        assert late == ()


# Limits


def test_a_token_that_exceeds_a_limit_is_a_crash_with_the_cause(system: ActorSystem) -> None:
    """The class's `limits` hold for each of its tokens; the next instance handles what is queued."""

    class Greedy(Worker):
        limits = Limits(cpu_time=0.05)

        def spin(self) -> None:
            while True:
                pass

    ends = Ends()
    ref = placed(system, Greedy, owner=ends)
    spinning, queued = ref.proxy().spin(), ref.proxy().note("queued")
    with pytest.raises(LimitExceeded, match="cpu_time"):
        spinning.result(LIMIT)

    assert queued.result(LIMIT) == "queued"
    assert [type(reason.error) for reason in ends.reasons] == [LimitExceeded]


def test_an_address_space_is_refused_within_the_token(start: Any) -> None:
    """The code gets a MemoryError, and if that is expected, the process lives on."""

    class Hungry(Worker):
        limits = Limits(address_space=2**31)
        expected = (MemoryError, LimitExceeded)

        def eat_or_not(self, size: int) -> int:
            try:
                return self.eat(size)
            except MemoryError:
                return 0

        def eat(self, size: int) -> int:
            return len(bytearray(size))

    ref = start(Hungry)
    with pytest.raises(LimitExceeded, match="address_space") as caught:
        ref.proxy().eat(2**32).result(LIMIT)

    assert isinstance(caught.value.__cause__, MemoryError)
    assert [ref.proxy().eat_or_not(size).result(LIMIT) for size in (2**32, 10)] == [0, 10]


# Time


class Clock:
    """A clock that the test moves."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def timed() -> Iterator[tuple[ActorSystem, Callable[[float], None]]]:
    """An open system, and a function that lets time pass in it and returns when all due messages are sent."""
    clock = Clock()
    opened = ActorSystem("timed", threads=1, clock=clock, processes=ProcessPool(size=1, spares=0))
    opened.open()

    def advance(seconds: float) -> None:
        clock.now += seconds
        opened.system_host.call_soon(opened.timers.look)
        opened.system_host.run(trio.testing.wait_all_tasks_blocked).result(LIMIT)

    yield opened, advance
    assert opened.close(LIMIT) == ()


class Silent(ProcessActor):
    """An actor with a receive timeout."""

    context = (shade,)

    def __init__(self, diary: Any, seconds: float | None) -> None:
        self.diary, self.seconds = diary, seconds

    def on_start(self) -> None:
        if self.seconds is not None:
            self.receive_timeout(self.seconds)

    def on_receive(self, message: Any) -> Any:
        if callable(message):
            return message(self)
        self.diary.append(type(message).__name__ if hasattr(message, "seconds") else message)
        return None


def test_a_receive_timeout_comes_after_silence_and_again(timed: Any, until: Any) -> None:
    """Each message starts the time anew, time-outs included; None ends it."""
    system, advance = timed
    diary = SharedList()
    ref = system.start_actor(Silent, (diary, 10), {})
    advance(6)
    ref.ask("x", timeout=LIMIT)
    until(lambda: not system.live)
    advance(6)
    early = diary.entries()
    for number in range(2):
        advance(10)
        until(lambda number=number: len(diary) == number + 2 and not system.live)
    ref.ask(lambda actor: actor.receive_timeout(None), timeout=LIMIT)
    advance(100)
    ref.ask("y", timeout=LIMIT)

    assert early == ["x"]
    assert diary == ["x", "ReceiveTimeout", "ReceiveTimeout", "y"]


def test_timers_die_with_their_process(timed: Any) -> None:
    """Neither a pending message nor a queued one, nor a time-out, gets to the next instance."""
    system, advance = timed
    diary = SharedList()
    place = system.place("silent", Silent, (diary, None), owner=Ends())
    place.start().result(LIMIT)

    def arm(actor: Any) -> None:
        actor.send_after(1, "queued")
        actor.send_after(5, "pending")
        actor.send_every(1, "tick")
        actor.receive_timeout(2)

    place.ref.ask(arm, timeout=LIMIT)
    place.mailbox.suspend()
    advance(1)
    os.kill(_pid(place.ref), signal.SIGKILL)
    place.ref.watch().result(LIMIT)
    place.mailbox.resume()
    place.ref.ask("next", timeout=LIMIT)
    advance(20)

    assert (place.ref.ask(lambda actor: actor.diary.entries(), timeout=LIMIT), len(system.timers)) == (["next"], 0)


def test_a_message_of_a_timer_carries_the_named_context_of_the_code_that_set_it(timed: Any) -> None:
    """As any message does."""
    system, advance = timed
    diary = SharedList()
    ref = system.start_actor(Silent, (diary, None), {})

    def set_timer(actor: Any) -> None:
        actor.send_after(1, lambda actor: actor.diary.append("red" in contextvars.copy_context().values()))

    contextvars.Context().run(lambda: (shade.set("red"), ref.ask(set_timer, timeout=LIMIT)))
    advance(1)
    ref.ask("last", timeout=LIMIT)

    assert diary == [True, "last"]


# Hooks and names


def test_an_async_hook_or_method_is_refused_with_the_remedy(start: Any) -> None:
    """Coroutine functions are trio code, which a child has none of."""

    class Awaiting(ProcessActor):
        expected = (TypeError,)

        async def on_receive(self, message: Any) -> Any:
            return message

    class Starting(ProcessActor):
        async def on_start(self) -> None:  # type: ignore[override]
            pass

    with pytest.raises(TypeError, match="coroutine function"):
        start(Awaiting).ask(1, timeout=LIMIT)
    with pytest.raises(StartFailed, match="async"):
        start(Starting)


def test_names_of_the_actor_are_the_same_on_both_sides(start: Any) -> None:
    """Urn and path in the child are those of the ref."""

    class Named(ProcessActor):
        def names(self) -> tuple[Any, ...]:
            return self.actor_urn, self.actor_ref.path, self.actor_ref, self.actor_ref.is_alive()

    ref = start(Named)

    assert ref.proxy().names().result(LIMIT) == (ref.actor_urn, ref.path, ref, True)


def test_a_class_of_process_actors_can_be_tried_by_hand() -> None:
    """Made by hand it is only an object, in the gate's process."""
    worker = Worker()

    assert (worker.note(1), worker.pid()) == (1, os.getpid())
    assert worker.actor_ref.is_alive()


def test_a_class_can_be_started_outside_of_any_system(tmp_path: Any) -> None:
    """pykka's habit: `Cls.start()`, registry and `stop_all`."""
    program = textwrap.dedent(
        """
        import pykka
        from actors import ProcessActor

        class Echo(ProcessActor):
            def on_receive(self, message):
                return message

        ref, other = Echo.start(), Echo.start()
        print(ref.ask(1), pykka.ActorRegistry.get_by_urn(ref.actor_urn) is ref)
        ref.stop()
        print(pykka.ActorRegistry.get_by_urn(ref.actor_urn), other.ask(2))
        pykka.ActorRegistry.stop_all()
        """
    )

    assert run_python("-c", program, cwd=tmp_path) == "1 True\nNone 2\n"


def test_what_a_child_prints_and_imports_is_its_own(start: Any) -> None:
    """Globals of a module that is imported in the child are not the gate's."""

    class Setter(ProcessActor):
        def put(self, value: Any) -> Any:
            import textwrap

            textwrap.mark = value  # type: ignore[attr-defined]
            return textwrap.mark  # type: ignore[attr-defined]

    assert start(Setter).proxy().put(1).result(LIMIT) == 1
    assert not hasattr(textwrap, "mark")


def test_errors_of_processes_can_be_pickled() -> None:
    """WorkerDied keeps what it knows."""
    error = pickle.loads(pickle.dumps(WorkerDied("died", 12, -9)))

    assert (str(error), error.pid, error.exit_code) == ("died", 12, -9)
