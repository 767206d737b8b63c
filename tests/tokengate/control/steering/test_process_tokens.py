"""What the verbs do to tokens in child processes, and what is seen of these: the truth, and at once."""

from __future__ import annotations

import itertools
import os
import random
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import attrs
import cloudpickle
import psutil
import pytest
import trio
from gated_code import LIMIT

from actors import ActorSystem, Guard, Limits, Token, TokenState
from actors.lowlevel import Kill, OperationPlace, ProcessDrain, Reconciler
from actors.mailboxes._mailbox import Drainer
from actors.processes._limits import UNITS
from actors.processes._operation_drain import OperationDrain
from tokengate import CpuActor, Gate, ProcessActor, checkpoint, token
from tokengate.control import KEEP, BadRequest, NotSent
from tokengate.control import messages as m
from tokengate.control.inspection._actor_state import looked_at, replace_attributes_and_send, sent_attributes
from tokengate.control.messages import Limit, Outcome
from tokengate.control.steering._steering import killed as outcome_of
from tokengate.control.transport._client import ControlClient
from tokengate.control.transport._discovery import find_gate
from tokengate.errors import LimitExceeded, TokenTerminated

Until = Callable[[Callable[[], bool]], None]
Rounds = Callable[[int], int]


@attrs.frozen
class Door:
    """A spot in code of a child process: files tell that it was reached, and that it may go on."""

    reached: str
    opened: str

    def wait_reached(self) -> None:
        deadline = time.monotonic() + LIMIT
        while not os.path.exists(self.reached):
            assert time.monotonic() < deadline, "nobody came to the door"
            time.sleep(0.001)

    def open(self) -> None:
        Path(self.opened).touch()


@token(affinity="process")
def turn(reached: str, opened: str) -> str:
    with open(reached, "w"):
        while not os.path.exists(opened):
            checkpoint()
    return "through"


@token(affinity="process")
def turn_in_steps(reached: str, opened: str) -> Any:
    open(reached, "w").close()
    while not os.path.exists(opened):
        yield
    return "through"


@token(affinity="process")
def block(reached: str, opened: str) -> str:
    """Be in C code that runs no Python code, and knows no checkpoint; the file is there after all other code."""
    os.mkfifo(reached)
    time.sleep(60)
    return opened


@token(affinity="process")
def nothing() -> int:
    return os.getpid()


@token
def on_a_thread() -> int:
    return os.getpid()


class Model(ProcessActor):
    show = ("new", "lock")

    def __init__(self) -> None:
        super().__init__()
        self.total = 0
        self.lock = threading.Lock()
        self._private = "x"

    def add(self, n: int) -> int:
        self.total += n
        return self.total

    def spin(self, reached: str) -> None:
        open(reached, "w").close()
        while True:
            pass


@pytest.fixture
def gate() -> Iterator[Gate]:
    """An open gate, which has no processes until it needs one."""
    with Gate("processes", threads=2, control_socket=False, shutdown=LIMIT) as opened:
        yield opened
        opened.close(drain=False)


@pytest.fixture
def doors(tmp_path: Path) -> Callable[[], Door]:
    numbers = itertools.count()

    def make() -> Door:
        number = next(numbers)
        return Door(str(tmp_path / f"reached-{number}"), str(tmp_path / f"opened-{number}"))

    return make


@pytest.fixture
def door(doors: Callable[[], Door]) -> Door:
    return doors()


def one(outcomes: Any) -> Outcome:
    [outcome] = outcomes
    return outcome  # type: ignore[no-any-return]


def begin(operation: Any, door: Door) -> Token[Any]:
    """Send a token, and return it when it runs, and its process has told so."""
    sent: Token[Any] = operation.submit(door.reached, door.opened)
    door.wait_reached()
    deadline = time.monotonic() + LIMIT
    while sent.started_at is None:
        assert time.monotonic() < deadline
        time.sleep(0.001)
    return sent


# --- Pause, resume, step ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("operation", [turn, turn_in_steps, block], ids=lambda one: one.__name__)
def test_a_token_is_paused_wherever_it_is(gate: Gate, door: Door, operation: Any, until: Until) -> None:
    """Its process is stopped, in C code as well; it can be looked into meanwhile, and goes on."""
    sent = begin(operation, door)

    outcome = one(gate.control.pause(sent, wait=LIMIT))
    described = gate.control.describe(sent)
    assert described.process is not None
    pid = described.process.pid
    assert (outcome.outcome, outcome.note) == ("paused", f"process {pid} is stopped; its clock runs on")
    assert (sent.state, described.row.state, described.row.held) == (TokenState.PAUSED, "paused", "paused")
    assert described.process.stopped
    # The kernel shows a stop when the process has got a turn to make it; until then it runs no instruction.
    until(lambda: psutil.Process(pid).status() == psutil.STATUS_STOPPED)
    assert one(gate.control.pause(sent)).outcome == "unchanged"
    door.open()
    assert one(gate.control.resume(sent)).outcome == "resumed"
    if operation is not block:
        assert sent.result(LIMIT) == "through"
    gate.control.terminate(sent)


def test_a_paused_token_shows_where_it_was_stopped(gate: Gate, door: Door, until: Until) -> None:
    """As far as its process could tell in the moment before; that is short, so it may take another pause."""
    sent = begin(block, door)

    def told() -> bool:
        gate.control.resume(sent)
        assert one(gate.control.pause(sent, wait=LIMIT)).outcome == "paused"
        return bool(gate.control.stack(sent).frames)

    until(told)
    shown = gate.control.stack(sent)
    assert (shown.where, shown.thread, shown.held) == ("process", None, "paused")
    assert [frame.function for frame in shown.frames] == ["block"]
    gate.control.terminate(sent)


@pytest.mark.parametrize("operation", [turn, turn_in_steps], ids=lambda one: one.__name__)
def test_a_paused_token_takes_steps_from_point_to_point(gate: Gate, door: Door, operation: Any) -> None:
    """Exactly so many, but for the first one, which it may have begun already; its end counts as well."""
    sent = begin(operation, door)
    assert one(gate.control.pause(sent, wait=LIMIT)).outcome == "paused"
    assert one(gate.control.step(sent, wait=LIMIT)).outcome == "stepped"

    for n in (1, 1, 3):
        before = gate.control.describe(sent).row.steps
        assert one(gate.control.step(sent, n, wait=LIMIT)).outcome == "stepped"
        assert gate.control.describe(sent).row.steps - before == n
        assert sent.state is TokenState.PAUSED
    door.open()
    outcome = one(gate.control.step(sent, 1_000, wait=LIMIT))
    assert (outcome.outcome, sent.result(LIMIT)) == ("stepped", "through")


def test_a_step_of_code_without_step_points_is_asked_for(gate: Gate, door: Door) -> None:
    """The note says where it would be held again."""
    sent = begin(block, door)
    gate.control.pause(sent, wait=LIMIT)

    outcome = one(gate.control.step(sent, wait=0))
    assert (outcome.outcome, "checkpoint()" in outcome.note) == ("step_requested", True)
    gate.control.terminate(sent)


def test_a_queued_token_is_paused_before_it_begins(gate: Gate) -> None:
    """No process is needed for that."""
    nothing.submit().result(LIMIT)
    gate.control.suspend("nothing")
    sent = nothing.submit()

    assert one(gate.control.pause(sent)).outcome == "paused"
    assert gate.control.stack(sent).where == "nowhere"
    gate.control.unsuspend("nothing")
    assert one(gate.control.resume(sent)).outcome == "resumed"
    assert sent.result(LIMIT)


# --- Terminate -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["interrupt", "kill"])
def test_what_no_thread_could_end_is_killed_at_once(gate: Gate, door: Door, mode: Any) -> None:
    """The answer does not wait for the grace, names the process, and that is gone; the next token has another one."""
    sent = begin(block, door)
    process = gate.control.describe(sent).process
    assert process is not None
    asked = time.monotonic()

    outcome = one(gate.control.terminate(sent, mode, wait=60, grace=60, reason="enough"))

    assert time.monotonic() - asked < LIMIT
    assert outcome.outcome == "killed"
    assert outcome.note == f"process {process.pid} was killed; another one replaces it"
    assert sent.state is TokenState.TERMINATED
    assert isinstance(sent.exception(LIMIT), TokenTerminated)
    assert "enough" in str(sent.exception())
    assert one(gate.control.terminate(sent, mode)).outcome == "ended"
    assert nothing.submit().result(LIMIT) != process.pid
    assert gate.control.info().abandoned == ()


def test_a_paused_token_is_killed_where_it_is(gate: Gate, door: Door) -> None:
    """It is not let go for that."""
    sent = begin(turn, door)
    gate.control.pause(sent, wait=LIMIT)
    door.open()

    assert one(gate.control.terminate(sent)).outcome == "killed"
    assert isinstance(sent.exception(LIMIT), TokenTerminated)


@pytest.mark.parametrize("operation", [turn, turn_in_steps], ids=lambda one: one.__name__)
def test_cancel_only_asks_and_the_process_lives(gate: Gate, door: Door, operation: Any) -> None:
    """It ends at its next step point, paused or not."""
    sent = begin(operation, door)
    pid = gate.control.stack(sent).pid
    gate.control.pause(sent, wait=LIMIT)

    assert one(gate.control.terminate(sent, "cancel", wait=LIMIT)).outcome == "terminated"
    assert psutil.pid_exists(pid or 0)


def test_code_without_step_points_is_asked_in_vain(gate: Gate, door: Door) -> None:
    """And is told not to have come to one; a second verb ends it."""
    sent = begin(block, door)

    assert one(gate.control.terminate(sent, "cancel", wait=0)).outcome == "cancel_requested"
    assert one(gate.control.pause(sent)).outcome == "refused"
    assert one(gate.control.terminate(sent)).outcome == "killed"


def test_a_queued_token_ends_and_no_process_is_killed(gate: Gate, door: Door) -> None:
    """`terminated`, in every mode."""
    pid = nothing.submit().result(LIMIT)
    gate.control.suspend("nothing")
    sent = [nothing.submit() for _ in range(3)]

    for one_of, mode in zip(sent, ("cancel", "interrupt", "kill"), strict=True):
        outcome = one(gate.control.terminate(one_of, mode))  # type: ignore[arg-type]
        assert (outcome.outcome, outcome.note) == ("terminated", "it never ran")
    gate.control.unsuspend("nothing")
    assert nothing.submit().result(LIMIT)
    pool = gate.control.info().processes
    assert pool is not None
    assert (pool.died, pid in pool.pids) == (0, True)


def test_the_instance_of_an_actor_goes_with_its_process(gate: Gate, door: Door, until: Until) -> None:
    """Its supervisor starts another, from nothing; what was queued is handled by that one."""
    model = gate.spawn(Model, name="model").proxy()
    assert model.add(5).result(LIMIT) == 5
    sent = model.spin(door.reached)
    door.wait_reached()
    queued = model.add(1)

    [before] = gate.control.actors("model")

    outcome = one(gate.control.terminate(sent))

    assert outcome.outcome == "killed"
    assert outcome.note == f"process {before.row.pid} was killed; its supervisor decides whether to restart"
    assert queued.result(LIMIT) == 1
    [after] = gate.control.actors("model")
    assert (after.row.affinity, after.row.starts) == ("process", 2)
    assert after.row.pid not in (None, before.row.pid)


def test_verbs_that_race_with_tokens_tell_the_truth(
    gate: Gate, tmp_path: Path, seed: int, rounds: Rounds, until: Until
) -> None:
    """Who is said never to have run has not; who is said to be killed has begun at most once, and has not completed."""
    draw = random.Random(seed)

    @token(affinity="process", concurrency=4)
    def short(path: str, seconds: float) -> int:
        with open(path, "a") as file:
            file.write("x")
        time.sleep(seconds)
        return 1

    told: list[str] = []
    for number in range(rounds(40)):
        paths = [str(tmp_path / f"{number}-{part}") for part in range(4)]
        chosen = draw.randrange(4)
        seconds = [draw.choice([0.0, 0.0005, 0.004]) for _ in paths]
        if number == 0:
            seconds[chosen] = 10 * LIMIT  # one that is killed for sure
        sent = [short.submit(path, each) for path, each in zip(paths, seconds, strict=True)]
        time.sleep(draw.choice([0.0, 0.0005, 0.002, 0.006]))
        if number == 0:
            until(lambda: os.path.exists(paths[chosen]))  # noqa: B023
        outcome = one(gate.control.terminate(sent[chosen], draw.choice(["interrupt", "kill"]), wait=LIMIT))
        told.append(outcome.outcome)
        errors = [one_of.exception(LIMIT) for one_of in sent]
        begun = os.path.getsize(paths[chosen]) if os.path.exists(paths[chosen]) else 0

        assert begun <= 1
        if outcome.outcome == "ended":
            assert (sent[chosen].state, begun) == (TokenState.COMPLETED, 1)
        elif outcome.outcome == "terminated":
            assert (sent[chosen].state, outcome.note, begun) == (TokenState.TERMINATED, "it never ran", 0)
        else:
            assert (sent[chosen].state, outcome.outcome) == (TokenState.TERMINATED, "killed")
        del errors[chosen]
        assert errors == [None] * 3
    assert set(told) <= {"ended", "terminated", "killed"}
    assert "killed" in told


def test_verbs_that_race_with_tokens_lose_none_and_run_none_twice(
    gate: Gate, tmp_path: Path, seed: int, rounds: Rounds
) -> None:
    """Whatever a verb meets, each token runs once and completes; who is said to be paused is, until it is let go."""
    draw = random.Random(seed)

    @token(affinity="process", concurrency=2)
    def short(path: str, seconds: float) -> int:
        with open(path, "a") as file:
            file.write("x")
        time.sleep(seconds)
        return 1

    control = gate.control
    verbs: list[Callable[[Token[int]], Any]] = [
        lambda one: control.pause(one, wait=LIMIT),
        lambda one: control.renice(one, draw.randrange(3)),
        lambda one: control.reroute(one, affinity=draw.choice(["cpu", "process"])),
        lambda one: control.limit(one, wall_time=60 + draw.random()),
    ]
    for number in range(rounds(40)):
        paths = [str(tmp_path / f"{number}-{part}") for part in range(4)]
        sent = [short.submit(path, draw.choice([0.0, 0.0005, 0.004])) for path in paths]
        time.sleep(draw.choice([0.0, 0.0005, 0.002, 0.006]))
        chosen = draw.choice(sent)
        outcome = one(draw.choice(verbs)(chosen))
        if outcome.outcome == "paused":
            assert chosen.state is TokenState.PAUSED
            assert one(control.resume(chosen)).outcome == "resumed"
        else:
            assert outcome.outcome in {"ended", "reniced", "noted", "rerouted", "refused", "unchanged", "limited"}
        assert [one_of.result(LIMIT) for one_of in sent] == [1] * 4
        assert [os.path.getsize(path) for path in paths] == [1] * 4


# --- Races, one by one -----------------------------------------------------------------------------------------------


@attrs.define
class FakeWorker:
    pid: int = 4711
    doomed: bool = False
    stopped: bool = False


class FakeDrain(ProcessDrain):
    """Tells of a worker, and does nothing."""

    own = False

    def __init__(self, place: Any) -> None:
        super().__init__(place)
        self.worker: Any = None
        self.cancelled: list[Token[Any]] = []

    def new_drainer(self) -> Drainer:
        return Drainer()

    def wake(self, drainer: Any, /) -> None: ...

    def recover(self, drainers: Any, /) -> None: ...

    def workers(self) -> list[Any]:
        return []

    def seal(self, only: Token[Any] | None = None) -> tuple[list[str], list[Token[Any]]]:
        return [], []

    def go_on(self, worker: Any) -> None: ...

    def worker_of(self, token: Token[Any]) -> Any:
        return self.worker

    def cancel(self, token: Token[Any]) -> None:
        self.cancelled.append(token)


class FakePlace(OperationPlace):
    """A place whose tokens are where the test says.

    Attributes:
        abandoning: what happens, one after the other, when it is to abandon a token.
    """

    __slots__ = ("abandoning",)

    def _make_drain(self) -> Any:
        return FakeDrain(self)

    def abandon(self, token: Token[Any], why: str) -> list[str] | None:
        return self.abandoning.pop(0)(token, why) if self.abandoning else None  # type: ignore[no-any-return]


@pytest.fixture
def place() -> FakePlace:
    """A place in a system that was never opened."""
    system = ActorSystem("unopened", threads=2)
    made = FakePlace(system, "operations/fake", "process", generator=False, concurrency=1)
    made.abandoning = []
    return made


def kill_of(place: FakePlace) -> tuple[Kill, FakeDrain]:
    """Return the end of a token that is in no mailbox, and has not begun."""
    sent = place.token("fake", int, ())
    sent._phase = TokenState.QUEUED
    drain: Any = place.drain
    return Kill(sent, "enough"), drain


def killed(token: Token[Any], why: str) -> list[str]:
    drain: Any = token._place.drain
    drain.worker.doomed = True
    token._terminate(why)
    return []


def completed_meanwhile(token: Token[Any], _why: str) -> list[str]:
    token._begin(0.0)
    token._finish(TokenState.COMPLETED, 5)
    return []


def taken_out_of_the_hand(token: Token[Any], why: str) -> list[str]:
    token._terminate(why)
    return []


def test_a_token_that_completes_as_it_is_to_be_killed_has_ended(place: FakePlace) -> None:
    """By itself, whatever becomes of its process."""
    kill, drain = kill_of(place)
    drain.worker = FakeWorker()
    place.abandoning = [completed_meanwhile]

    assert kill.attempt()
    assert (outcome_of(kill).outcome, kill.token.result()) == ("ended", 5)


def test_a_token_that_its_process_had_not_begun_is_not_said_to_be_killed(place: FakePlace) -> None:
    """The process lives."""
    kill, drain = kill_of(place)
    drain.worker = FakeWorker()
    place.abandoning = [taken_out_of_the_hand]

    assert kill.attempt()
    assert (outcome_of(kill).outcome, outcome_of(kill).note) == ("terminated", "it never ran")


def test_a_token_between_its_queue_and_a_process_is_pursued(place: FakePlace) -> None:
    """Until it is in one of them."""
    kill, drain = kill_of(place)
    assert not kill.attempt()
    assert outcome_of(kill).outcome == "cancel_requested"
    drain.worker = FakeWorker()
    place.abandoning = [lambda _token, _why: None, killed]

    async def main() -> Kill:
        async with trio.open_nursery() as nursery:
            reconciler = Reconciler(lambda job, _name: nursery.start_soon(job))
            pursued = reconciler.kill(kill.token, "enough")
            assert reconciler.kill(kill.token, "again") is pursued
        assert not reconciler._kills
        return pursued

    place.abandoning = [lambda _token, _why: None, lambda _token, _why: None, killed]
    found = outcome_of(trio.run(main))
    assert (found.outcome, found.note) == ("killed", "process 4711 was killed; another one replaces it")


def test_a_token_that_goes_back_to_its_queue_is_ended_there(place: FakePlace) -> None:
    """It never ran."""
    kill, _ = kill_of(place)
    assert not kill.attempt()
    place.mailbox.put(kill.token)

    assert kill.attempt()
    assert outcome_of(kill).outcome == "terminated"
    assert kill.token.started_at is None


def test_a_cancel_that_comes_before_the_beginning_reaches_the_process(place: FakePlace) -> None:
    """The process is asked once more when the token has begun."""
    from actors.lowlevel import Hold

    kill, drain = kill_of(place)
    token = kill.token

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            token._cancel("enough")
            Reconciler(lambda job, _name: nursery.start_soon(job)).begin(Hold.of(token))
            await trio.testing.wait_all_tasks_blocked()
            drain.cancelled.clear()
            token._begin(0.0)

    trio.run(main)
    assert drain.cancelled == [token]


# --- Looking ---------------------------------------------------------------------------------------------------------


def test_a_process_is_described_with_what_it_uses(gate: Gate, door: Door, until: Until) -> None:
    """Its figures are those of the system; the file that the token has open is among them."""
    sent = begin(turn, door)
    described = gate.control.describe(sent)
    process = described.process
    assert process is not None

    assert (described.row.affinity, described.thread, process.stopped) == ("process", None, False)
    assert described.memory == process.memory > 2**20
    assert door.reached in process.open_files
    assert (process.threads, process.children) == (1, ())
    until(lambda: (gate.control.describe(sent).cpu_share or 0) > 0)  # it may not get a core for a moment
    assert process.cpu_time >= 0
    assert described.limits == {}
    door.open()
    assert sent.result(LIMIT) == "through"


def test_the_stack_of_a_process_has_its_lines(gate: Gate, door: Door, until: Until) -> None:
    """From the token's own function on, with the source."""
    sent = begin(block, door)
    # It may still be in the call that has made the file.
    until(lambda: [frame.source for frame in gate.control.stack(sent).frames] == ["time.sleep(60)"])
    shown = gate.control.stack(sent)

    assert (shown.where, shown.thread) == ("process", None)
    assert [(frame.function, frame.file, frame.source) for frame in shown.frames] == [
        ("block", __file__, "time.sleep(60)")
    ]
    gate.control.terminate(sent)


def test_steps_of_a_running_token_are_counted_in_its_process(gate: Gate, door: Door, until: Until) -> None:
    """A list and a selector see them as well."""
    sent = begin(turn, door)

    until(lambda: gate.control.describe(sent).row.steps > 2)
    assert [row.id for row in gate.control.tokens("steps>2", sort="-steps")] == [sent.id]
    door.open()


def test_a_gate_tells_of_its_processes(gate: Gate, door: Door) -> None:
    """None before it needs one."""
    assert gate.control.info().processes is None
    sent = begin(block, door)
    pool = gate.control.info().processes

    assert pool is not None
    assert (pool.busy, pool.started >= 1, gate.control.stack(sent).pid in pool.pids) == (1, True, True)
    gate.control.terminate(sent)


def test_all_of_it_goes_through_the_socket(door: Door, until: Until) -> None:
    """The answers are the same."""
    with Gate("processes-socket", threads=2) as gate:
        sent = begin(block, door)
        client = ControlClient(find_gate(f"processes-socket@{os.getpid()}").path)
        try:
            described, there = client.ask(m.Describe(sent.id)), gate.control.describe(sent)
            assert described.process is not None
            assert there.process is not None
            assert described.process.pid == there.process.pid
            stack = client.ask(m.Stack(sent.id))
            assert (stack.where, stack.pid) == ("process", there.process.pid)
            until(lambda: client.ask(m.Info()).processes == gate.control.info().processes)
            [limited] = client.ask(Limit((sent.id,), memory="2GiB", wall_time=90.0))
            assert limited.note == "memory 2 GiB, was no limit; wall_time 90 s, was no limit"
            assert client.ask(m.Describe(sent.id)).limits == {"memory": 2.0**31, "wall_time": 90.0}
            [ended] = client.ask(m.Terminate((sent.id,)))
            assert ended.outcome == "killed"
        finally:
            client.close()


# --- Limits ----------------------------------------------------------------------------------------------------------


def test_limits_are_set_raised_and_lifted_while_a_token_runs(gate: Gate, door: Door) -> None:
    """The note has old and new values; what is not named stays; what is so already is said."""
    sent = begin(turn, door)
    limit = gate.control.limit

    first = one(limit(sent, memory=2**30, cpu_time="10m"))
    assert (first.outcome, first.note) == ("limited", "memory 1 GiB, was no limit; cpu_time 600 s, was no limit")
    raised = one(limit(sent, memory="2GiB", cpu_time=KEEP))
    assert (raised.outcome, raised.note) == ("limited", "memory 2 GiB, was 1 GiB")
    assert gate.control.describe(sent).limits == {"memory": 2.0**31, "cpu_time": 600.0}
    assert one(limit(sent, memory=2**31)).outcome == "unchanged"
    lifted = one(limit(sent, memory=None, cpu_time=600))
    assert (lifted.outcome, lifted.note) == ("limited", "memory no limit, was 2 GiB; cpu_time 600 s, as before")
    assert gate.control.describe(sent).limits == {"cpu_time": 600.0}
    door.open()
    assert sent.result(LIMIT) == "through"
    assert one(limit(sent, memory=1)).outcome == "ended"


def test_a_limit_that_is_below_what_was_used_ends_the_token(gate: Gate, door: Door) -> None:
    """The error names it."""
    sent = begin(turn, door)

    assert one(gate.control.limit(sent, wall_time="1ms")).outcome == "limited"
    error = sent.exception(LIMIT)
    assert isinstance(error, LimitExceeded)
    assert "wall_time" in str(error)


def test_a_limit_that_is_exceeded_before_the_process_has_its_token_holds(
    gate: Gate, doors: Callable[[], Door], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A token has begun a moment before it is sent, and its thread may be stopped in between."""
    arrested, asked = OperationDrain.arrested, itertools.count()
    monkeypatch.setattr(OperationDrain, "arrested", lambda *args: arrested(*args) if next(asked) else None)
    door = doors()

    @token(affinity="process", limits=Limits(wall_time=0.05))
    def limited(reached: str, opened: str) -> None:
        open(reached, "w").close()
        while not os.path.exists(opened):
            pass

    assert isinstance(limited.submit(door.reached, door.opened).exception(LIMIT), LimitExceeded)


def test_a_queued_token_takes_its_limits_along(gate: Gate, doors: Callable[[], Door]) -> None:
    """And leaves those of its operation as they are."""
    door = doors()

    @token(affinity="process", limits=Limits(wall_time=60))
    def limited(reached: str, opened: str) -> None:
        open(reached, "w").close()
        while not os.path.exists(opened):
            pass

    early = doors()
    early.open()
    limited.submit(early.reached, early.opened).result(LIMIT)
    gate.control.suspend("limited")
    sent, other = limited.submit(door.reached, door.opened), limited.submit(early.reached, early.opened)

    assert one(gate.control.limit(sent, wall_time="50ms")).note == "wall_time 0.05 s, was 60 s"
    assert [gate.control.describe(one).limits for one in (sent, other)] == [{"wall_time": 0.05}, {"wall_time": 60.0}]
    gate.control.unsuspend("limited")
    assert isinstance(sent.exception(LIMIT), LimitExceeded)
    assert other.exception(LIMIT) is None


def test_only_tokens_in_processes_have_limits(gate: Gate) -> None:
    """Others are refused, and the note says why."""
    on_a_thread.submit().result(LIMIT)
    gate.control.suspend("on_a_thread")
    sent = on_a_thread.submit()

    outcome = one(gate.control.limit(sent, memory="1GiB"))
    assert (outcome.outcome, "only tokens in child processes" in outcome.note) == ("refused", True)
    assert gate.control.describe(sent).limits == {}
    sent.cancel()


@pytest.mark.parametrize("guard", ["force", "approval"])
def test_to_lower_a_limit_of_what_is_guarded_needs_force(gate: Gate, guard: Guard) -> None:
    """To raise one does not: it can end nothing."""

    @token(affinity="process", guard=guard, limits=Limits(memory=2**30))
    def precious() -> None: ...

    precious.submit().result(LIMIT)
    gate.control.suspend("precious")
    sent = precious.submit()
    limit = gate.control.limit

    assert one(limit(sent, memory="2GiB")).outcome == "limited"
    refused = one(limit(sent, memory="1GiB"))
    assert (refused.outcome, "force" in refused.note) == ("refused", True)
    assert one(limit(sent, wall_time=5)).outcome == "refused"
    assert one(limit(sent, memory="1GiB", force=True, reason="a test")).outcome == "limited"
    sent.cancel()


@pytest.mark.parametrize(
    ("limits", "said"),
    [
        ({}, "limit needs a limit to set: memory, address_space, cpu_time, wall_time"),
        ({"memory": "2G"}, "memory: '2G' is not a size; write 2GiB, 500MB, or 'none' for no limit"),
        ({"wall_time": "soon"}, "wall_time: 'soon' is not a time; write 30, 30s, 5m or 1h, or 'none' for no limit"),
        ({"memory": 0}, "memory is 0; it must be a whole number of bytes above 0, or 'none'"),
        ({"memory": 1.5}, "memory is 1.5; it must be a whole number of bytes"),
        ({"cpu_time": -1}, "cpu_time is -1; it must be a number of seconds above 0"),
        ({"cpu_time": float("nan")}, "cpu_time is nan; it must be"),
        ({"address_space": float("inf")}, "address_space is inf; it must be"),
        ({"memory": 2**80}, "memory is 1208925819614629174706176; it must be"),
        ({"memory": True}, "memory of limit is True; it must be a number or a text"),
        ({"memory": [1]}, r"memory of limit is \[1\]; it must be"),
    ],
)
def test_a_limit_that_cannot_be_meant_is_refused(gate: Gate, limits: dict[str, Any], said: str) -> None:
    """The error names the limit, its value and what can be."""
    with pytest.raises(BadRequest, match=said):
        gate.control.limit("*", **limits)


def test_the_verb_has_all_limits_that_there_are() -> None:
    """By their names."""
    assert {*UNITS} == {field.name for field in attrs.fields(Limit)} - {
        field.name for field in attrs.fields(m.OnTokens)
    }


# --- Reroute ---------------------------------------------------------------------------------------------------------


def test_a_queued_token_is_rerouted_to_a_process_and_back(gate: Gate) -> None:
    """An affinity like the others."""
    on_a_thread.submit().result(LIMIT)
    gate.control.suspend("on_a_thread")
    there, back = on_a_thread.submit(), on_a_thread.submit()

    assert one(gate.control.reroute(there, affinity="process")).outcome == "rerouted"
    assert there.result(LIMIT) != os.getpid()
    assert there.affinity == "process"
    gate.control.suspend("on_a_thread@process")
    assert one(gate.control.reroute(back, affinity="process")).outcome == "rerouted"
    assert [row.id for row in gate.control.tokens("affinity=process")] == [back.id]
    assert one(gate.control.reroute(back, affinity="cpu")).outcome == "rerouted"
    gate.control.unsuspend("on_a_thread")
    assert back.result(LIMIT) == os.getpid()


class NotAwaiting(ProcessActor):
    async def add(self, n: int) -> None: ...


class Adder(CpuActor):
    def add(self, n: int) -> int:
        return n


def test_a_coroutine_function_is_nothing_for_a_process(gate: Gate) -> None:
    """Not of an actor either."""
    source = gate.spawn(Adder, name="source")
    gate.spawn(NotAwaiting, name="target")
    gate.control.suspend("source")
    sent = source.proxy().add(1)

    outcome = one(gate.control.reroute(sent, actor="target"))
    assert (outcome.outcome, "which a process actor cannot await" in outcome.note) == ("refused", True)
    gate.spawn(Model, name="model")
    assert one(gate.control.reroute(sent, actor="model")).outcome == "rerouted"
    assert sent.result(LIMIT) == 1


# --- The state of actors ---------------------------------------------------------------------------------------------


def test_the_state_of_an_actor_in_a_process_is_read_and_replaced(gate: Gate) -> None:
    """Copies come back; of what cannot be pickled, type and size do, and that never fails."""
    model = gate.spawn(Model, name="model").proxy()
    control = gate.control
    assert model.add(3).result(LIMIT) == 3

    state = control.get_state("model")
    assert (state["total"], state["lock"]) == (3, NotSent("lock"))
    assert "_private" not in state
    assert control.set_state("model", total=10).outcome == "done"
    assert model.add(1).result(LIMIT) == 11
    replaced = control.replace_state("model", lambda state: {**state, "total": 20, "new": [threading.Lock()]})
    assert (replaced["total"], replaced["new"]) == (20, NotSent("list", 1))
    assert model.add(1).result(LIMIT) == 21
    with pytest.raises(BadRequest, match="the function returned int"):
        control.replace_state("model", lambda _: 5)  # type: ignore[arg-type,return-value]
    assert control.visit("model", lambda instance: instance._private) == "x"

    shown = gate.find("$system/control").ask(m.GetState("model"))
    found = {one.name: (one.type, one.size, one.value) for one in shown.attributes}
    assert (found["total"], found["lock"]) == (("int", None, None), ("lock", None, None))
    assert found["new"] == ("list", 1, "[<lock>]")


class Instance:
    def __init__(self) -> None:
        self.total = 5
        self.names = ["a", len]
        self.secret = "s"
        self._private = 1


_CHILD = """
import sys
class Nothing:
    def find_spec(self, name, path=None, target=None):
        assert name.partition(".")[0] not in ("actors", "supervisors", "tokengate", "trio", "attrs", "attr"), name
sys.meta_path.insert(0, Nothing())
import cloudpickle
functions, instance = cloudpickle.load(sys.stdin.buffer)
sys.stdout.buffer.write(cloudpickle.dumps([function(instance) for function in functions]))
"""


def test_functions_that_look_into_actors_work_where_the_runtime_is_not(tmp_path: Path) -> None:
    """They are carried by value, all that they call included, and import nothing of it."""
    from functools import partial

    from actors.processes.pickling._carrier import Carrier

    functions = [
        partial(looked_at, show=frozenset({"total", "names"})),
        sent_attributes,
        partial(replace_attributes_and_send, function=lambda state: {"total": state["total"] + 1}),
        partial(replace_attributes_and_send, function=lambda _: None),
    ]
    cloudpickle.register_pickle_by_value(sys.modules[__name__])
    try:
        carried = Carrier(ActorSystem("unopened", threads=2)).pack((functions, Instance())).inline()
    finally:
        cloudpickle.unregister_pickle_by_value(sys.modules[__name__])
    assert carried is not None
    child = subprocess.run([sys.executable, "-c", _CHILD], input=bytes(carried), capture_output=True, check=False)
    assert child.returncode == 0, child.stderr.decode()
    looked, sent, replaced, refused = cloudpickle.loads(child.stdout)

    assert looked == [
        ("total", "int", None, "5"), ("names", "list", 2, "['a', <builtin_function_or_method>]"),
        ("secret", "str", 1, None),
    ]  # fmt: skip
    assert [name for name, _, kept in sent if kept is None] == ["total", "names", "secret"]
    assert replaced == ("", [("total", 6, None)])
    assert refused[0].startswith("the function returned NoneType")
