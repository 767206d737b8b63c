"""The gate: opens a tree, closes it in order, loses nothing in between."""

from __future__ import annotations

import gc
import inspect
import pickle
import sys
import threading
import weakref
from collections.abc import Callable, Generator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import trio
from interrupts import Strike

from actors.places import _actor
from tokengate import ActorRef, AsyncioActor, ChildSpec, CpuActor, Gate, IoActor, TokenState, token
from tokengate.errors import ActorDead, BadSpec, ChildError, GateState, StartFailed, UnknownActor, WouldBlock
from tokengate.events import DeadLetter, RestartScheduled
from tokengate.types import current_gate

WAIT = 60.0  # seconds; only reached when something is broken


class Counter(CpuActor):
    def __init__(self, start: int = 0) -> None:
        super().__init__()
        self.value = start

    def increment(self, by: int = 1) -> int:
        if by < 0:
            raise ValueError(f"by is {by}")
        self.value += by
        return self.value


class IoCounter(IoActor):
    async def on_start(self) -> None:
        self.value = 0

    async def increment(self) -> int:
        await trio.lowlevel.checkpoint()
        self.value += 1
        return self.value


def test_children_are_there_while_the_gate_is_open_and_gone_afterwards() -> None:
    """`with` opens and closes; a ref that outlives the gate says that its actor is dead."""
    with Gate("shop", children=[ChildSpec("counter", Counter, args=(5,)), ChildSpec("io", IoCounter)]) as gate:
        counter = gate.find("counter")

        assert counter.proxy().increment().result(WAIT) == 6
        assert gate.find("io").proxy().increment().get(timeout=WAIT) == 1
    assert not counter.is_alive()
    with pytest.raises(ActorDead):
        counter.tell("too late")


def test_spawn_starts_an_actor_under_the_gates_own_supervisor() -> None:
    """By name, with arguments; the name is free again after its stop."""
    with Gate("shop") as gate:
        ref = gate.spawn(Counter, 7, name="c2")

        assert ref.path == "spawned/c2"
        assert gate.find("c2") is ref
        with pytest.raises(ChildError, match="'c2' already"):
            gate.spawn(Counter, name="c2")
        assert ref.stop() is True
        assert gate.spawn(Counter, name="c2") is not ref


def test_a_ref_stays_valid_when_its_actor_crashes_and_is_restarted() -> None:
    """The caller gets the error; the next call finds a new instance with fresh state."""
    with Gate("shop") as gate:
        counter = gate.spawn(Counter, 10).proxy()
        assert counter.increment().result(WAIT) == 11
        with pytest.raises(ValueError, match="by is -1"):
            counter.increment(-1).result(WAIT)

        assert counter.increment().result(WAIT) == 11
        assert gate.find("Counter-1").is_alive()


def test_spawn_without_its_supervisor_is_refused() -> None:
    """It has ended, as in a gate that is closing."""
    with Gate("shop") as gate:
        gate._root.ref.proxy().terminate_child("spawned").result(WAIT)
        with pytest.raises(ActorDead):
            gate.spawn(Counter)
        gate._root.ref.proxy().delete_child("spawned").result(WAIT)
        with pytest.raises(ActorDead, match="'c' was not started: the supervisor of spawned actors"):
            gate.spawn(Counter, name="c")


class Shard(CpuActor):
    def __init__(self, base: int, number: int = 0, *, factor: int = 1) -> None:
        super().__init__()
        if number < 0:
            raise ValueError(f"number is {number}")
        self.value = (base + number) * factor


class IoShard(IoActor):
    def __init__(self, base: int, number: int = 0, *, factor: int = 1) -> None:
        self.value = (base + number) * factor

    async def on_start(self) -> None:
        await trio.lowlevel.checkpoint()


@pytest.mark.parametrize("kind", [Shard, IoShard])
def test_spawn_many_starts_actors_in_order_with_common_and_own_arguments(kind: type[CpuActor] | type[IoActor]) -> None:
    """More than start at once; by number or by the arguments of each, with names or without."""
    with Gate("shop") as gate:
        refs = gate.spawn_many(kind, [{"number": number} for number in range(100)], 1, factor=2)
        alike = gate.spawn_many(kind, 3, 5, names="abc", restart="temporary")

        async def in_loop() -> list[ActorRef[Any]]:
            return await gate.aspawn_many(kind, ({"number": number} for number in range(70)), 0)

        awaited = trio.run(in_loop)

        assert [ref.proxy().value.result(WAIT) for ref in refs] == [2 * (1 + number) for number in range(100)]
        assert [ref.path for ref in alike] == ["spawned/a", "spawned/b", "spawned/c"]
        assert [ref.proxy().value.result(WAIT) for ref in alike] == [5, 5, 5]
        assert [ref.proxy().value.result(WAIT) for ref in awaited] == list(range(70))
        assert gate.spawn_many(kind, 0) == []
        with pytest.raises(WouldBlock, match="aspawn_many"):
            trio.run(_call, gate.spawn_many, kind, 1, 0)


async def _call(function: Any, *args: Any) -> Any:
    return function(*args)


def test_spawn_many_raises_the_first_failure_and_what_has_started_runs_on() -> None:
    """As in a loop of single spawns; the others of its group start, and no later group does."""
    with Gate("shop") as gate:
        numbers = [*range(40), -1, -2, *range(150)]
        with pytest.raises(StartFailed, match="number is -1") as raised:
            gate.spawn_many(Shard, [{"number": number} for number in numbers], 0)
        with pytest.raises(ValueError, match="names has 1 names for 2 actors"):
            gate.spawn_many(Shard, 2, 0, names=["one"])
        with pytest.raises(TypeError, match="each has 'a'; it must be a number of actors"):
            gate.spawn_many(Shard, ["a"], 0)  # type: ignore[list-item]
        with pytest.raises(TypeError, match="each is None; it must be a number of actors"):
            gate.spawn_many(Shard, None, 0)  # type: ignore[arg-type]
        with pytest.raises(ValueError, match="each is -1; it must be a number of actors of at least 0"):
            gate.spawn_many(Shard, -1, 0)
        with pytest.raises(ChildError, match="'a'"):
            gate.spawn_many(Shard, 3, 0, names=["a", "a", "b"])

        assert raised.value.__notes__ == ["62 of 192 actors have started, and run on"]
        assert len(gate.find("spawned").proxy().which_children().result(WAIT)) == 64
        assert gate.find("a").is_alive()


def test_spawn_many_in_a_gate_that_closes_is_refused() -> None:
    """The error is that of a single spawn."""
    with Gate("shop") as gate:
        gate._root.ref.proxy().terminate_child("spawned").result(WAIT)
        with pytest.raises(ActorDead) as raised:
            gate.spawn_many(Shard, 10, 0)

    assert raised.value.__notes__ == ["0 of 10 actors have started, and run on"]


def test_spawn_on_a_trio_thread_says_to_await() -> None:
    """A blocking call on a loop's thread raises instead of deadlocking; the awaiting form works there."""

    class Parent(IoActor):
        def blocking(self) -> Any:
            gate = current_gate()
            assert gate is not None
            return gate.spawn(Counter)

        async def awaiting(self) -> Any:
            gate = current_gate()
            assert gate is not None
            return await (await gate.aspawn(Counter)).call("ignored")

    with Gate("shop") as gate:
        proxy = gate.spawn(Parent).proxy()
        with pytest.raises(WouldBlock, match="await"):
            proxy.blocking().result(WAIT)

        assert gate.spawn(Parent).proxy().awaiting().result(WAIT) is None


def test_find_names_what_is_missing_or_ambiguous() -> None:
    """An unknown name is an error that says so; an ambiguous one lists the paths."""
    from tokengate import Supervisor

    tree = [Supervisor.child_spec(name, [ChildSpec("worker", Counter)]) for name in ("left", "right")]
    with Gate("shop", children=tree) as gate:
        with pytest.raises(UnknownActor, match="no actor or operation is called 'nobody' in 'shop'"):
            gate.find("nobody")
        with pytest.raises(UnknownActor, match="left/worker, right/worker"):
            gate.find("worker")

        assert gate.find("left/worker").path == "left/worker"


def test_a_child_that_does_not_start_leaves_nothing_open() -> None:
    """`with` raises, naming the child and chaining the cause; earlier children were stopped."""
    stopped: list[str] = []

    class Good(CpuActor):
        def on_stop(self) -> None:
            stopped.append("good")

    class Bad(CpuActor):
        def on_start(self) -> None:
            raise RuntimeError("no disk")

    gate = Gate("shop", children=[ChildSpec("good", Good), ChildSpec("bad", Bad)])
    with pytest.raises(StartFailed, match="no disk"):
        gate.open()

    assert stopped == ["good"]
    assert current_gate() is None


def test_a_gate_opens_once() -> None:
    """Opening it again, or using it before, is an error that says what to do."""
    gate = Gate("once")
    with pytest.raises(GateState, match="not open"):
        gate.find("anything")
    with gate, pytest.raises(GateState, match="opens once"):
        gate.open()
    with pytest.raises(GateState, match="opens once"):
        gate.open()


def test_closing_waits_for_what_was_accepted() -> None:
    """Tokens that were accepted come to their own end, as long as the deadline allows."""
    go, done = threading.Event(), []

    @token(concurrency=1)
    def work(number: int) -> None:
        go.wait(WAIT)
        done.append(number)

    with Gate("shop", shutdown=WAIT) as gate:
        work.map(range(5))
        go.set()
    report = gate.close()

    assert done == [0, 1, 2, 3, 4]
    assert report.clean
    assert report.terminated == 0


def test_tokens_that_live_ones_submit_are_accepted_while_the_gate_drains() -> None:
    """Draining means letting accepted work finish, and its children are part of it; others are refused."""
    closing, outside = threading.Event(), []

    @token
    def child() -> str:
        return "done"

    @token
    def parent() -> str:
        closing.wait(WAIT)
        return child.submit().result(WAIT)

    gate = Gate("shop", shutdown=WAIT)
    gate.open()
    t = parent.submit()
    closer = threading.Thread(target=gate.close)
    closer.start()
    while not gate._system.intake_closed:
        pass
    outside.append(child.submit())
    closing.set()
    closer.join(WAIT)

    assert t.result(WAIT) == "done"
    assert outside[0].state is TokenState.REJECTED


@pytest.mark.usefixtures("impatient")
def test_a_token_that_does_not_end_is_ended_and_its_thread_is_named() -> None:
    """The deadline holds: nobody hangs, every token has a terminal state, what is left behind is named."""
    started, release = threading.Event(), threading.Event()
    names: list[str] = []

    @token(concurrency=1)
    def stuck() -> None:
        names.append(threading.current_thread().name)
        started.set()
        release.wait(WAIT)

    gate = Gate("shop")
    with gate:
        tokens = [stuck.submit(), stuck.submit()]
        started.wait(WAIT)
        report = gate.close(0.0)
    release.set()

    assert [t.state for t in tokens] == [TokenState.TERMINATED] * 2
    assert not report.drained
    assert len(names) == 1
    assert names[0].startswith("shop-cpu")
    assert names[0] in report.abandoned
    assert report.terminated == 2


def test_an_exception_in_the_block_skips_the_drain() -> None:
    """Whoever leaves the block in distress does not wait for a long queue."""
    started, never = threading.Event(), threading.Event()

    @token(concurrency=1)
    def work() -> Generator[None, None, None]:
        started.set()
        while not never.is_set():
            yield

    gate = Gate("shop", shutdown=600.0)
    gate.open()
    running, queued = work.submit(), work.submit()
    started.wait(WAIT)
    gate.__exit__(KeyError, KeyError("distress"), None)

    assert (running.state, queued.state) == (TokenState.TERMINATED, TokenState.TERMINATED)
    assert gate.close().abandoned == ()


def test_a_second_interrupt_while_an_opening_is_undone_leaves_no_gate_half_open(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """At each point of the gate's code where a signal handler may run after the first one has raised."""

    def interrupt(_gate: Gate) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Gate, "_make_own_root", interrupt)
    for at in range(1, 1_000):
        gate = Gate("struck", control_socket=False)
        strike = Strike(at, grain="signal", homes=(str(inspect.getsourcefile(Gate)),))
        _, error = strike.run(gate.open)

        assert isinstance(error, KeyboardInterrupt)
        assert gate._state in ("closed", "new"), strike.places  # in the latter case it had not begun to open
        if not strike.places:
            break
    assert at > 5


def test_an_operation_whose_first_call_was_interrupted_can_be_called(monkeypatch: pytest.MonkeyPatch) -> None:
    """The place that the interrupted call has made is in no other's way."""

    @token
    def first() -> str:
        return "served"

    class Struck(BaseException):
        """What a signal handler raises."""

    with Gate("test"):
        make = type(first._spec).make_place

        def struck(*args: Any) -> Any:
            make(*args)
            raise Struck

        with monkeypatch.context() as patch:
            patch.setattr(type(first._spec), "make_place", struck)
            with pytest.raises(Struck):
                first()

        assert first() == "served"
        assert first.submit().result(WAIT) == "served"


def test_a_gate_is_not_pickled() -> None:
    """The error names it and says what to send instead."""
    with (
        Gate("shop", control_socket=False) as gate,
        pytest.raises(TypeError, match=r"gate 'shop' cannot be pickled, .*; send what the other process needs"),
    ):
        pickle.dumps(gate)


def test_request_stop_lets_wait_return() -> None:
    """From any thread, and more than once."""
    with Gate("shop") as gate:
        assert gate.wait(0.0) is False
        threading.Thread(target=gate.request_stop).start()

        assert gate.wait(WAIT) is True
        assert gate.wait(WAIT) is True
        assert gate.stopping


@pytest.mark.usefixtures("impatient")
def test_hurry_cuts_a_shutdown_short() -> None:
    """An operator who asks twice does not wait for the deadline."""
    started, release = threading.Event(), threading.Event()

    class Stuck(CpuActor):
        def work(self) -> None:
            started.set()
            release.wait(WAIT)

    gate = Gate("shop", shutdown=600.0)
    gate.open()
    t = gate.spawn(Stuck).proxy().work()
    started.wait(WAIT)
    closer = threading.Thread(target=gate.close)
    closer.start()
    while not gate.stopping:
        pass
    gate.hurry()
    closer.join(WAIT)

    assert not closer.is_alive()
    assert t.state is TokenState.TERMINATED
    release.set()


def test_a_root_that_gives_up_stops_the_gate() -> None:
    """More restarts than allowed: the gate asks to be closed, and the report says why."""

    class Bad(CpuActor):
        def work(self) -> None:
            raise ValueError("always")

    with Gate("shop", children=[ChildSpec("bad", Bad)], intensity=1) as gate:
        proxy = gate.find("bad").proxy()
        for _ in range(2):
            proxy.work().exception(WAIT)

        assert gate.wait(WAIT) is True
        report = gate.close()
    assert report.gave_up
    assert not report.clean


def test_a_gate_is_not_opened_on_a_trio_thread() -> None:
    """It would block the loop: an error that says where to open it instead."""

    async def main() -> None:
        with pytest.raises(WouldBlock, match="async with"):
            Gate("shop").open()

    trio.run(main)


def test_a_token_cannot_close_its_own_gate() -> None:
    """It would wait for itself: an error that says what to call instead."""

    @token
    def close() -> None:
        gate = current_gate()
        assert gate is not None
        gate.close()

    with Gate("shop"), pytest.raises(GateState, match="request_stop"):
        close.submit().result(WAIT)


def test_a_typo_on_a_proxy_is_the_callers_error_alone() -> None:
    """The attribute error is raised at once, and the actor lives on."""
    with Gate("shop") as gate:
        proxy = gate.spawn(Counter, 3).proxy()
        with pytest.raises(AttributeError, match=r"Counter.* has no attribute 'incremnt'"):
            proxy.incremnt()

        assert proxy.value.result(WAIT) == 3
        assert gate.statistics().restarts == 0


def test_dead_letters_reach_subscribers() -> None:
    """A token that nobody handles is reported, never lost."""
    letters: list[DeadLetter] = []
    with Gate("shop") as gate:
        unsubscribe = gate.subscribe(lambda event: letters.append(event) if isinstance(event, DeadLetter) else None)
        ref = gate.spawn(Counter)
        ref.stop()
        t = ref.ask("too late", block=False)

        assert t.state is TokenState.REJECTED
        assert [letter.token for letter in letters] == [t]
        unsubscribe()
        ref.ask("unheard", block=False)
        assert len(letters) == 1


def test_statistics_count_every_token_once_in_its_state() -> None:
    """The counts add up to what was sent, and stay readable after the gate has closed."""

    @token
    def work(number: int) -> int:
        return 1 // number

    with Gate("shop") as gate:
        tokens = work.map([0, 1, 2, 0, 4])
        for t in tokens:
            t.exception(WAIT)
    counts = {state: n for state, n in gate.statistics().tokens.items() if n}

    assert counts == {TokenState.COMPLETED: 3, TokenState.FAILED: 2}


def test_the_switch_interval_is_the_smallest_wanted_and_is_restored() -> None:
    """While a gate is open, other threads wait less for the interpreter."""
    before = sys.getswitchinterval()
    with Gate("one", switch_interval=0.002), Gate("two", switch_interval=0.001):
        inside = sys.getswitchinterval()

    assert inside == pytest.approx(0.001)
    assert sys.getswitchinterval() == pytest.approx(before)


def test_a_gate_can_leave_the_switch_interval_alone() -> None:
    """Alone, and beside a gate that wants another one."""
    before = sys.getswitchinterval()
    with Gate("none", switch_interval=None):
        assert sys.getswitchinterval() == pytest.approx(before)
        with Gate("one", switch_interval=0.001):
            assert sys.getswitchinterval() == pytest.approx(0.001)

        assert sys.getswitchinterval() == pytest.approx(before)


def test_the_environment_can_forbid_the_control_socket(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """`TOKENGATE_CONTROL=0` holds for all gates of the process; `gate.control` works all the same."""
    monkeypatch.setenv("TOKENGATE_RUNTIME_DIR", str(tmp_path))
    monkeypatch.setenv("TOKENGATE_CONTROL", "0")
    with Gate("quiet") as gate:
        assert list(tmp_path.iterdir()) == []
        assert gate.control.actors() is not None

    monkeypatch.setenv("TOKENGATE_CONTROL", "1")
    with Gate("open"):
        assert list(tmp_path.iterdir()) != []


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"shutdown": -1}, "shutdown of gate 'bad' is -1"),
        ({"switch_interval": "fast"}, "switch_interval of gate 'bad' is 'fast'"),
        ({"gc": "fast"}, "gc of gate 'bad' is 'fast'; it must be 'tuned', or None"),
        ({"threads": 0}, "threads of system 'bad' is 0"),
        ({"intensity": -1}, "intensity is -1"),
        ({"period": 0}, "period is 0"),
        ({"children": [ChildSpec("a", Counter), ChildSpec("a", Counter)]}, "'a': id is used twice"),
        ({"children": [Counter]}, "is not a ChildSpec"),
    ],
)
def test_arguments_that_cannot_work_are_refused(options: dict[str, Any], message: str) -> None:
    """Before anything is started, with the name, the value and the remedy."""
    with pytest.raises(ValueError, match=message):
        Gate("bad", **options)


def test_a_bad_spec_is_a_value_error() -> None:
    """So that callers need not know our errors."""
    assert issubclass(BadSpec, ValueError)


def test_opening_and_closing_again_and_again_leaves_nothing_behind() -> None:
    """Threads, loops and descriptors all go; the leak check of the suite counts them."""
    for _ in range(30):
        with Gate("cycle", children=[ChildSpec("c", Counter), ChildSpec("i", IoCounter)]) as gate:
            gate.find("c").proxy().increment().result(WAIT)
            gate.find("i").proxy().increment().result(WAIT)

    assert current_gate() is None


def test_what_a_draining_token_submits_and_leaves_is_waited_for_too() -> None:
    """Accepted is accepted: the child of a live token comes to its own end, even when nobody waits for it."""
    closing, done = threading.Event(), []

    @token
    def child() -> None:
        done.append("child")

    @token
    def parent() -> None:
        closing.wait(WAIT)
        child.submit()

    gate = Gate("shop", shutdown=WAIT).open()
    parent.submit()
    unblock = threading.Thread(target=lambda: (gate.wait(WAIT), closing.set()))
    unblock.start()
    report = gate.close()
    unblock.join(WAIT)

    assert done == ["child"]
    assert (report.clean, report.terminated) == (True, 0)


def test_closing_on_a_trio_thread_is_refused_and_harms_nothing() -> None:
    """It would block the loop; the gate stays open, and closes elsewhere."""
    gate = Gate("shop").open()

    async def main() -> None:
        with pytest.raises(WouldBlock, match="aclose"):
            gate.close()

    trio.run(main)

    assert gate.close().clean


def test_a_plain_function_with_checkpoints_ends_with_its_gate() -> None:
    """`checkpoint()` raises once the gate closes, so no thread is left behind."""
    from tokengate import checkpoint

    started = threading.Event()

    @token
    def spin() -> None:
        while True:
            started.set()
            checkpoint()

    gate = Gate("shop", shutdown=0.1).open()
    t = spin.submit()
    started.wait(WAIT)
    report = gate.close()

    assert t.state is TokenState.TERMINATED
    assert report.abandoned == ()


def test_an_exception_whose_repr_raises_is_only_its_actors_problem() -> None:
    """Messages and logs show exceptions of user classes; none of these can stop the supervisor."""

    class Hostile(Exception):
        def __repr__(self) -> str:
            raise SystemExit("repr")

        __str__ = __repr__

    class Bad(CpuActor):
        def on_start(self) -> None:
            raise Hostile

    with Gate("shop") as gate:
        with pytest.raises(StartFailed, match="Hostile whose repr raised"):
            gate.spawn(Bad)

        assert gate.spawn(Counter).proxy().increment().result(WAIT) == 1


@pytest.mark.parametrize(("name", "value"), [("capacity", 0), ("throughput", 0), ("throughput_deadline", "x")])
def test_a_bad_class_attribute_fails_that_spawn_alone(name: str, value: object) -> None:
    """The others that were spawned live on."""
    with Gate("shop") as gate:
        other = gate.spawn(Counter).proxy()
        with pytest.raises(StartFailed, match=f"{name} of"):
            gate.spawn(type("Bad", (Counter,), {name: value}))

        assert other.increment().result(WAIT) == 1


def test_a_listener_that_raises_anything_is_logged_and_harms_nobody() -> None:
    """On the main thread that is any `Exception`: what is none may come from a signal handler there."""

    def listener(_event: object) -> None:
        raise ValueError if threading.current_thread() is threading.main_thread() else SystemExit

    with Gate("shop") as gate:
        gate.subscribe(listener)

        assert gate.spawn(Counter).proxy().increment().result(WAIT) == 1


def test_a_cancellation_that_user_code_kept_and_raised_does_not_end_the_loop() -> None:
    """It is the token's failure; other actors of the loop go on."""

    class Evil(IoActor):
        async def work(self) -> None:
            kept: list[BaseException] = []
            with trio.move_on_after(0):
                try:
                    await trio.sleep_forever()
                except trio.Cancelled as error:
                    kept.append(error)
                    raise
            raise kept[0]

    with Gate("shop") as gate:
        evil, good = gate.spawn(Evil).proxy(), gate.spawn(IoCounter).proxy()

        assert isinstance(evil.work().exception(WAIT), trio.Cancelled)
        assert good.increment().result(WAIT) == 1


def test_stopping_a_child_that_is_down_is_answered() -> None:
    """There is no instance to handle what is queued, so it ends, and the stop with it."""
    attempts: list[int] = []

    class Flaky(CpuActor):
        def on_start(self) -> None:
            attempts.append(1)
            if len(attempts) > 1:
                raise RuntimeError("no disk")

        def crash(self) -> None:
            raise ValueError("crash")

    with Gate("shop", children=[ChildSpec("flaky", Flaky)], intensity=1_000_000) as gate:
        ref = gate.find("flaky")
        proxy = ref.proxy()
        proxy.crash().exception(WAIT)
        queued = proxy.crash()
        ref.stop(timeout=WAIT)

        assert not ref.is_alive()
        assert isinstance(queued.exception(WAIT), (ActorDead, ValueError))


def test_a_stage_that_fails_does_not_stop_the_next_ones(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Staged shutdown: the failure is logged and in the report, and the tree is stopped all the same."""
    stopped = threading.Event()

    class Clerk(CpuActor):
        def on_stop(self) -> None:
            stopped.set()

    def fail() -> None:
        raise OSError("no drain")

    gate = Gate("shop", children=[ChildSpec("clerk", Clerk)]).open()
    monkeypatch.setattr(gate._system, "drain", fail)
    report = gate.close()

    assert report.stages == {"drain": "failed", "intake": "done", "tree": "done", "threads": "done"}
    assert stopped.is_set()
    assert not report.clean
    assert "stage 'drain' of the shutdown failed" in caplog.text


@pytest.mark.usefixtures("impatient")
def test_a_stage_that_hangs_does_not_stop_the_next_ones() -> None:
    """Staged shutdown: a child with all the time of the world is cut off at the gate's deadline; the report says so."""
    working, release = threading.Event(), threading.Event()
    names: list[str] = []

    class Slow(CpuActor):
        def work(self) -> None:
            names.append(threading.current_thread().name)
            working.set()
            release.wait(WAIT)

    gate = Gate("shop", children=[ChildSpec("slow", Slow, shutdown="infinity")]).open()
    gate.find("slow").proxy().work()
    assert working.wait(WAIT)
    report = gate.close(0.0)
    release.set()

    assert dict(report.stages) == {
        "drain": "cut short",
        "intake": "done",
        "tree": "cut short",
        "threads": "cut short",
    }
    assert names[0] in report.abandoned


def test_a_system_loop_that_hangs_does_not_keep_the_gate_open(monkeypatch: pytest.MonkeyPatch) -> None:
    """A listener that never returns holds the loop of the supervisors; closing goes on without it, and names it."""
    monkeypatch.setattr("tokengate.gate._gate._ANSWER_SECONDS", 0.05)
    monkeypatch.setattr("tokengate.gate._gate._THREADS_SECONDS", 0.05)
    entered, release = threading.Event(), threading.Event()

    class Clerk(CpuActor):
        def work(self) -> None:
            raise ValueError("crash")

    def listen(event: object) -> None:
        if isinstance(event, RestartScheduled):
            entered.set()
            release.wait(WAIT)

    gate = Gate("shop", children=[ChildSpec("clerk", Clerk)]).open()
    gate.subscribe(listen)
    gate.find("clerk").proxy().work().exception(WAIT)
    assert entered.wait(WAIT)
    report = gate.close(0.0)
    release.set()

    assert report.stages["tree"] == "cut short"
    assert any("system" in name for name in report.abandoned)


def test_closing_runs_once_however_many_close() -> None:
    """Everyone who closes gets the report of the one shutdown."""
    stops: list[str] = []

    class Clerk(CpuActor):
        def on_stop(self) -> None:
            stops.append("stopped")

    gate = Gate("shop", children=[ChildSpec("clerk", Clerk)]).open()
    with ThreadPoolExecutor(4) as pool:
        reports = list(pool.map(lambda _: gate.close(), range(4)))

    assert stops == ["stopped"]
    assert all(report is reports[0] for report in reports)


class Unhashable(type(CpuActor)):  # type: ignore[misc]
    """A metaclass that compares, and so has no hash, unless it defines one."""

    def __eq__(cls, other: object) -> bool:
        return cls is other

    __hash__ = None  # type: ignore[assignment]


@pytest.mark.parametrize("base", [CpuActor, IoActor, AsyncioActor])
def test_a_class_whose_metaclass_has_no_hash_is_a_class_like_others(base: Any) -> None:
    """`issubclass` of an abstract class, such as those of actors, raises for it."""

    class Clerk(base, metaclass=Unhashable):  # type: ignore[misc]
        def answer(self) -> int:
            return 42

    with Gate("shop", children=[ChildSpec("clerk", Clerk)], control_socket=False) as gate:
        refs = [gate.find("clerk"), gate.spawn(Clerk), Clerk.start()]

        assert [ref.proxy().answer().get(timeout=60) for ref in refs] == [42, 42, 42]


def test_a_class_that_was_spawned_can_be_forgotten(until: Callable[[Callable[[], bool]], None]) -> None:
    """What was checked of it does not keep it alive."""

    def spawn_once() -> weakref.ref[type]:
        class Clerk(CpuActor):
            pass

        with Gate("shop", control_socket=False) as gate:
            gate.spawn(Clerk).stop()
        return weakref.ref(Clerk)

    clerk = spawn_once()

    def is_gone() -> bool:
        gc.collect()
        return clerk() is None

    until(is_gone)  # a thread that has just ended may hold it for a moment
    assert all(alive() is not None for alive, _, _ in _actor._checked.values())
