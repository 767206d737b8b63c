"""What the verbs do to actors, operations and supervisors."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Any

import pytest
import trio
from gated_code import LIMIT, Door
from running_tokens import cpu_operation

from actors import ActorDead, DeadlockError, TokenState, UnknownActor
from actors.lowlevel import Status
from supervisors import ChildError, ChildSpec, Ignore, Supervisor
from tokengate import AsyncioActor, CpuActor, Gate, IoActor, checkpoint, token
from tokengate.control import messages as m
from tokengate.control._exceptions import BadRequest, Busy, ControlError, NotSteerable
from tokengate.errors import StartFailed

Doors = Callable[[], Door]
Until = Callable[[Callable[[], bool]], None]


class Counter(CpuActor):
    show = ("total",)

    def __init__(self, start: int = 0) -> None:
        super().__init__()
        self.total = start
        self._secret = "s"

    def add(self, n: int = 1) -> int:
        self.total += n
        return self.total

    def wait(self, door: Door) -> int:
        door.pass_through()
        return self.total

    def steps(self, door: Door) -> Any:
        while not door.is_open:
            door.reached.set()
            self.total += 1
            yield
        return self.total

    def crash(self) -> None:
        raise RuntimeError("as told")


class PinnedCounter(Counter):
    dispatcher = "pinned"


class IoCounter(IoActor):
    show = ("total",)

    def __init__(self, start: int = 0) -> None:
        super().__init__()
        self.total = start
        self._secret = "s"

    async def add(self, n: int = 1) -> int:
        await trio.lowlevel.checkpoint()
        self.total += n
        return self.total

    async def wait(self, door: Door) -> int:
        door.reached.set()
        while not door.is_open:
            await trio.lowlevel.checkpoint()
        return self.total

    async def crash(self) -> None:
        raise RuntimeError("as told")


class AsyncioCounter(AsyncioActor):
    show = ("total",)

    def __init__(self, start: int = 0) -> None:
        super().__init__()
        self.total = start
        self._secret = "s"

    async def add(self, n: int = 1) -> int:
        await asyncio.sleep(0)
        self.total += n
        return self.total

    async def wait(self, door: Door) -> int:
        door.reached.set()
        while not door.is_open:
            await asyncio.sleep(0)
        return self.total

    async def crash(self) -> None:
        raise RuntimeError("as told")


@pytest.fixture(params=[Counter, PinnedCounter, IoCounter, AsyncioCounter], ids=["cpu", "pinned", "io", "asyncio"])
def counter(request: pytest.FixtureRequest, gate: Gate) -> Any:
    """A proxy of an actor of each kind."""
    return gate.spawn(request.param, name="counter").proxy()


@token
def nothing() -> str:
    return "done"


def row_of(gate: Gate, name: str) -> m.ActorRow:
    [handle] = gate.control.actors(name)
    return handle.row


# --- Suspend ---------------------------------------------------------------------------------------------------------


def test_a_suspended_actor_begins_nothing_and_answers_control(gate: Gate, counter: Any) -> None:
    """Its mailbox fills; its control lane goes on; each verb says whether it did anything."""
    control = gate.control

    assert control.suspend("counter").outcome == "done"
    assert control.suspend("counter").outcome == "unchanged"
    sent = [counter.add() for _ in range(3)]
    assert {one.state for one in sent} == {TokenState.QUEUED}
    assert (row_of(gate, "counter").suspended, row_of(gate, "counter").depth) == (True, 3)
    assert control.get_state("counter") == {"total": 0}
    assert control.unsuspend("counter").outcome == "done"
    assert [one.result(LIMIT) for one in sent] == [1, 2, 3]
    assert control.unsuspend("counter").outcome == "unchanged"


def test_an_operation_is_suspended_and_a_direct_call_waits(gate: Gate, until: Until) -> None:
    """Nobody gets past it on his own thread."""
    nothing.submit().result(LIMIT)
    gate.control.suspend("nothing")
    results: list[str] = []

    def call() -> None:
        with gate.entered():
            results.append(nothing())

    caller = threading.Thread(target=call)
    caller.start()
    until(lambda: row_of(gate, "nothing").depth == 1)
    assert results == []
    gate.control.unsuspend("nothing")
    caller.join(LIMIT)
    assert results == ["done"]


def test_a_suspension_outlives_a_crash_and_a_restart(gate: Gate, counter: Any, until: Until) -> None:
    """It is the place that is suspended, not its instance."""
    crashing = counter.crash()
    crashing.exception(LIMIT)
    until(lambda: row_of(gate, "counter").starts == 2 and row_of(gate, "counter").status == "running")
    gate.control.suspend("counter")

    assert gate.control.restart("counter").outcome == "done"
    sent = counter.add()
    assert gate.control.get_state("counter") == {"total": 0}
    assert (sent.state, row_of(gate, "counter").starts) == (TokenState.QUEUED, 3)
    gate.control.unsuspend("counter")
    assert sent.result(LIMIT) == 1


@pytest.mark.parametrize("verb", ["suspend", "unsuspend", "drain", "restart", "stop", "get_state"])
def test_what_is_not_there_and_what_is_the_runtimes_own_is_refused(gate: Gate, verb: str) -> None:
    """No verb makes the runtime deaf."""
    with pytest.raises(UnknownActor):
        getattr(gate.control, verb)("nobody")
    with pytest.raises(NotSteerable):
        getattr(gate.control, verb)("$system/control")
    if verb in {"restart", "stop"}:
        with pytest.raises(NotSteerable):
            getattr(gate.control, verb)("/")
    elif verb != "get_state":
        with pytest.raises(NotSteerable):
            getattr(gate.control, verb)("spawned")
    if verb in {"restart", "stop", "get_state"}:
        nothing.submit().result(LIMIT)
        with pytest.raises(NotSteerable, match="operation"):
            getattr(gate.control, verb)("nothing")


# --- The state of instances ------------------------------------------------------------------------------------------


def test_the_public_attributes_are_read_and_replaced(gate: Gate, counter: Any) -> None:
    """Between two steps, as a whole; private ones are the actor's own."""
    counter.add(3).result(LIMIT)

    assert gate.control.get_state("counter") == {"total": 3}
    assert gate.control.replace_state("counter", lambda state: {**state, "total": 10, "new": "x"}) == {
        "total": 10,
        "new": "x",
    }
    assert counter.add().result(LIMIT) == 11
    assert gate.control.set_state("counter", total=1).outcome == "done"
    assert counter.add().result(LIMIT) == 2
    assert gate.control.visit("counter", lambda instance: instance._secret) == "s"


def test_the_socket_sees_types_and_the_values_that_the_class_shows(gate: Gate, counter: Any) -> None:
    """In the gate's process there are the objects, whatever is shown."""
    door = Door()
    gate.control.visit("counter", lambda instance: vars(instance).update(door=door, names=["a"]))

    state = gate.find("$system/control").ask(m.GetState("counter"))

    assert state.attributes == (
        m.Attribute("total", "int", None, "0"),
        m.Attribute("door", "Door", None, None),
        m.Attribute("names", "list", 1, None),
    )
    assert gate.control.get_state("counter") == {"total": 0, "door": door, "names": ["a"]}


def test_an_actor_that_is_at_work_is_busy_and_the_token_is_named(gate: Gate, counter: Any, door: Door) -> None:
    """What was not begun in time is never done."""
    sent = counter.wait(door)
    door.wait_reached()

    with pytest.raises(Busy, match=rf"token {sent.id} \("):
        gate.control.get_state("counter", wait=0.05)
    with pytest.raises(Busy):
        gate.find("$system/control").ask(m.SetState("counter", {"total": 99}, wait=0.0))
    door.open()
    sent.result(LIMIT)
    assert gate.control.get_state("counter") == {"total": 0}


def test_a_visit_that_has_begun_is_not_said_to_have_had_no_time(gate: Gate, counter: Any, door: Door) -> None:
    """The error says that it goes on: it may have an effect."""
    for wait in (0.1, 1.0, LIMIT):  # the actor may not come to it so soon; then it is never done
        with pytest.raises(Busy) as busy:
            gate.find("$system/control").ask(m.Visit("counter", lambda _: door.pass_through(), wait=wait))
        if "has begun" in str(busy.value):
            break
    assert "has begun" in str(busy.value)
    door.open()


def test_an_actor_is_visited_between_two_steps_of_a_paused_generator(gate: Gate, door: Door, until: Until) -> None:
    """Who is paused there keeps nobody from looking; what is set is seen by its next step."""
    sent = gate.spawn(Counter, name="counter").proxy().steps(door)
    door.wait_reached()

    def paused_between_steps() -> bool:
        """Pause it; it may be within a step, where nobody can look."""
        gate.control.resume(sent)
        gate.control.pause(sent, wait=LIMIT)
        try:
            gate.control.get_state("counter", wait=0.1)
        except Busy:
            return False
        return True

    until(paused_between_steps)
    total = gate.control.get_state("counter")["total"]
    assert gate.control.get_state("counter")["total"] == total

    gate.control.set_state("counter", total=1_000_000)
    door.open()
    gate.control.resume(sent)
    assert sent.result(LIMIT) == 1_000_000


def test_what_a_visitor_raises_is_his_own(gate: Gate, counter: Any) -> None:
    """The actor lives on, with what it had."""

    def fail(_: Any) -> Any:
        raise LookupError("mine")

    with pytest.raises(LookupError, match="mine"):
        gate.control.visit("counter", fail)
    with pytest.raises(LookupError, match="mine"):
        gate.control.replace_state("counter", fail)
    with pytest.raises(BadRequest):
        gate.control.replace_state("counter", lambda _: 5)  # type: ignore[arg-type,return-value]
    assert counter.add().result(LIMIT) == 1
    assert row_of(gate, "counter").starts == 1


def test_what_cannot_be_set_is_refused(gate: Gate, counter: Any) -> None:
    """Private names, no names, and attributes whose class says no, by the class of the error."""

    class Strict(CpuActor):
        @property
        def fixed(self) -> int:
            return 1

    gate.spawn(Strict, name="strict")
    with pytest.raises(NotSteerable, match="private"):
        gate.control.set_state("counter", _secret="x")
    with pytest.raises(BadRequest):
        gate.control.set_state("counter")
    with pytest.raises(BadRequest):
        gate.control.set_state("counter", **{"not a name": 1})
    with pytest.raises(ControlError, match="AttributeError"):
        gate.control.set_state("strict", fixed=2)


# --- Drain -----------------------------------------------------------------------------------------------------------


def test_a_drained_actor_handles_what_it_has_and_accepts_nothing(gate: Gate, counter: Any, door: Door) -> None:
    """It is not stopped: `reopen` lets it go on with the same instance."""
    control = gate.control
    working = counter.wait(door)
    door.wait_reached()
    queued = counter.add()

    outcome = control.drain("counter", 0)
    assert (outcome.outcome, outcome.note.startswith("2 tokens")) == ("pending", True)
    refused = counter.add()
    assert refused.state is TokenState.REJECTED
    assert row_of(gate, "counter").draining
    door.open()
    assert control.drain("counter", LIMIT).outcome == "done"
    assert (working.done(), queued.result(0)) == (True, 1)
    assert control.drain("counter", reopen=True).outcome == "done"
    assert control.drain("counter", reopen=True).outcome == "unchanged"
    assert counter.add().result(LIMIT) == 2


def test_an_operation_is_drained_with_the_calls_that_run_on_their_callers_threads(
    gate: Gate, door: Door, until: Until
) -> None:
    """`done` means that nothing of it runs anywhere."""

    def call() -> None:
        with gate.entered():
            cpu_operation(door)

    caller = threading.Thread(target=call)
    caller.start()
    door.wait_reached()
    assert gate.control.drain("turn", 0).outcome == "pending"
    door.open()
    caller.join(LIMIT)
    assert gate.control.drain("turn", LIMIT).outcome == "done"
    assert isinstance(cpu_operation.submit(door).exception(LIMIT), ActorDead)
    gate.control.drain("turn", reopen=True)
    assert cpu_operation.submit(door).result(LIMIT) == "through"


def test_an_actor_that_was_drained_and_then_stopped_is_not_reopened(gate: Gate) -> None:
    """Nothing is accepted that nobody would handle."""
    spec = ChildSpec("static", Counter)
    with Gate("reopen", control_socket=False, children=[spec]) as other:
        other.control.drain("static")
        assert other.control.stop("static").outcome == "done"
        assert other.control.drain("static", reopen=True).outcome == "unchanged"
        with pytest.raises(ActorDead):
            other.find("static").ask("anything", timeout=LIMIT)
        assert other.control.drain("static").outcome == "unchanged"
        assert other.control.restart_child("/", "static").outcome == "done"
        assert other.find("static").proxy().add().result(LIMIT) == 1


def test_a_restart_does_not_undo_a_drain(gate: Gate, counter: Any) -> None:
    """Whoever has closed the intake opens it."""
    gate.control.drain("counter")
    gate.control.restart("counter")

    assert isinstance(counter.add().exception(LIMIT), ActorDead)
    assert gate.control.actors("counter")[0].row.draining
    assert gate.control.drain("counter", reopen=True).outcome == "done"
    assert counter.add().result(LIMIT) == 1


@pytest.mark.parametrize("kind", ["restart", "state"])
def test_an_actor_that_asks_for_what_comes_after_its_own_step_is_told_so(gate: Gate, kind: str) -> None:
    """It would wait for its own end; the error names the step."""

    class Selfish(CpuActor):
        def ask(self) -> str:
            handle = gate.control.actor("selfish")
            with pytest.raises(DeadlockError, match=r"Selfish\.ask"):
                getattr(handle, kind)()
            return "told"

    assert gate.spawn(Selfish, name="selfish").proxy().ask().result(LIMIT) == "told"


def test_draining_a_suspended_actor_says_why_it_does_not_end(gate: Gate, counter: Any) -> None:
    """`pending`, with the reason."""
    gate.control.suspend("counter")
    sent = counter.add()

    assert "suspended" in gate.control.drain("counter", 0).note
    gate.control.unsuspend("counter")
    assert gate.control.drain("counter", LIMIT).outcome == "done"
    assert sent.result(0) == 1


# --- Restart and stop ------------------------------------------------------------------------------------------------


def test_a_restart_keeps_the_queue_and_counts_for_no_intensity(
    gate: Gate, counter: Any, door: Door, until: Until
) -> None:
    """However often: the supervisor does not give up."""
    counter.add(5).result(LIMIT)
    busy = counter.wait(door)
    door.wait_reached()
    queued = [counter.add() for _ in range(3)]
    asked = gate.find("$system/control").ask(m.Restart("counter"), block=False)
    place: Any = busy._place
    until(lambda: busy.done() or bool(place.mailbox.signals()) or place.status is not Status.RUNNING)  # it is to stop
    door.open()
    assert asked.get(timeout=LIMIT).outcome == "done"
    assert busy.done()
    assert [one.result(LIMIT) for one in queued] == [1, 2, 3]

    for number in range(3, 12):
        assert gate.control.restart("counter").note == f"its instance is number {number}"
    assert counter.add().result(LIMIT) == 1
    assert not gate.stopping


def test_a_restart_that_fails_is_told(gate: Gate) -> None:
    """The error is the start's; the child stays without an instance."""
    fail = threading.Event()

    class Moody(CpuActor):
        def on_start(self) -> None:
            if fail.is_set():
                raise LookupError("not today")

    class Shy(CpuActor):
        def on_start(self) -> None:
            if fail.is_set():
                raise Ignore

    gate.spawn(Moody, name="moody")
    gate.spawn(Shy, name="shy")
    fail.set()
    with pytest.raises(StartFailed, match="not today"):
        gate.control.restart("moody")
    assert gate.control.restart("shy").outcome == "unchanged"


def test_an_actor_is_stopped_for_good(gate: Gate, counter: Any) -> None:
    """After all that it has accepted; a second time nothing is done."""
    gate.control.suspend("counter")
    sent = counter.add()
    outcome = gate.control.stop("counter", wait=0)
    assert (outcome.outcome, "1 tokens" in outcome.note, "suspended" in outcome.note) == ("pending", True, True)
    gate.control.unsuspend("counter")
    assert sent.result(LIMIT) == 1
    assert isinstance(counter.add().exception(LIMIT), ActorDead)


def test_a_stop_without_draining_ends_what_is_queued(gate: Gate, counter: Any, until: Until) -> None:
    """Each of them with an error."""
    gate.control.suspend("counter")
    sent = counter.add()

    assert gate.control.stop("counter", drain=False).outcome == "done"
    assert isinstance(sent.exception(LIMIT), ActorDead)
    until(lambda: not [row for row in gate.control.actors() if row.path == "spawned/counter"])


# --- Supervisors -----------------------------------------------------------------------------------------------------


def test_the_children_of_a_static_supervisor_are_listed_ended_started_and_deleted() -> None:
    """The verbs of OTP, with what did nothing said."""
    shop = Supervisor.child_spec("shop", (ChildSpec("one", Counter), ChildSpec("two", IoCounter)))
    with Gate("children", control_socket=False, children=[shop, ChildSpec("top", Counter)]) as gate:
        control = gate.control
        assert [(row.id, row.path, row.status) for row in control.which_children("shop")] == [
            ("two", "shop/two", "running"),
            ("one", "shop/one", "running"),
        ]
        counts = control.count_children("shop")
        assert (counts.specs, counts.active, counts.workers, counts.supervisors) == (2, 2, 2, 0)
        outcome = control.terminate_child("/", "top")
        assert (outcome.actor, outcome.outcome) == ("top", "done")
        outcome = control.terminate_child("shop", "one")
        assert (outcome.actor, outcome.outcome) == ("shop/one", "done")
        assert control.terminate_child("shop", "one").outcome == "unchanged"
        assert control.count_children("shop").active == 1
        with pytest.raises(ChildError):
            control.restart_child("shop", "two")
        with pytest.raises(ChildError):
            control.delete_child("shop", "two")
        assert control.restart_child("shop", "one").outcome == "done"
        assert gate.find("shop/one").proxy().add().result(LIMIT) == 1
        control.terminate_child("shop", "one")
        assert control.delete_child("shop", "one").outcome == "done"
        with pytest.raises(ChildError):
            control.terminate_child("shop", "one")
        with pytest.raises(NotSteerable):
            control.which_children("shop/two")
        with pytest.raises(NotSteerable):
            control.terminate_child("$system", "control")
        assert [row.id for row in control.which_children("$system")] == ["control"]


def test_a_dynamic_supervisor_forgets_what_is_ended(gate: Gate) -> None:
    """So there is nothing to start again, or to delete."""
    gate.spawn(Counter, name="counter")
    control = gate.control

    assert [row.path for row in control.which_children("spawned")] == ["spawned/counter"]
    assert control.terminate_child("spawned", "counter").outcome == "done"
    assert control.count_children("spawned").specs == 0
    for verb in (control.restart_child, control.delete_child):
        with pytest.raises(NotSteerable, match="DynamicSupervisor"):
            verb("spawned", "counter")


def test_a_whole_supervisor_is_restarted_with_its_children() -> None:
    """Its children have new instances, and their queues."""
    shop = Supervisor.child_spec("shop", (ChildSpec("one", Counter),))
    with Gate("tree", control_socket=False, children=[shop]) as gate:
        gate.control.suspend("shop/one")
        sent = gate.find("shop/one").proxy().add()

        assert gate.control.restart("shop").outcome == "done"
        assert sent.state is TokenState.QUEUED
        gate.control.unsuspend("shop/one")
        assert sent.result(LIMIT) == 1
        assert gate.control.stop("shop").outcome == "done"
        assert gate.control.stop("shop").outcome == "unchanged"


def test_a_checkpoint_that_is_nobodys_step_does_nothing() -> None:
    """Code that is no token's is never held."""
    assert checkpoint() is None  # type: ignore[func-returns-value]
