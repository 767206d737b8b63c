"""Processes that are replaced as soon as they are idle: nothing that runs there ends, and nothing queued is lost."""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Iterator
from typing import Any

import psutil
import pytest
import trio
from gated_code import LIMIT, Door, opened_at_the_end, share

from actors import TokenState
from tokengate import ChildSpec, CpuActor, Gate, ProcessActor, Supervisor, checkpoint, token
from tokengate.control import BadRequest, NotSteerable
from tokengate.errors import StartFailed, UnknownActor
from tokengate.types import ProcessPool

Until = Callable[[Callable[[], bool]], None]
Rounds = Callable[[int], int]


@pytest.fixture
def gate() -> Iterator[Gate]:
    pool = ProcessPool(size=2, spares=1)
    with Gate("recycling", threads=2, processes=pool, control_socket=False, shutdown=LIMIT) as opened:
        yield opened
        opened.close(drain=False)


@pytest.fixture
def doors() -> Iterator[Callable[[], Door]]:
    with opened_at_the_end() as make:
        yield lambda: share(make())


@token(affinity="process")
def pid() -> int:
    return os.getpid()


@token(affinity="process")
def behind(door: Door) -> int:
    door.reached.set()
    while not door.is_open:
        checkpoint()
    return os.getpid()


@token
def on_a_thread() -> None: ...


class Model(ProcessActor):
    def __init__(self, notes: str = "") -> None:
        super().__init__()
        self.notes = notes

    def on_stop(self) -> None:
        if self.notes:
            with open(self.notes, "a") as file:
                file.write(f"{os.getpid()} stopped\n")

    def pid(self) -> int:
        return os.getpid()

    def behind(self, door: Door) -> int:
        door.reached.set()
        while not door.is_open:
            checkpoint()
        return os.getpid()


class Plain(CpuActor): ...


def is_gone(pid: int) -> bool:
    return not psutil.pid_exists(pid)


# Operations


def test_an_idle_process_is_replaced_at_once(gate: Gate, until: Until) -> None:
    """It ends by itself, and the next token runs in another one."""
    first = pid()

    done = gate.control.recycle("pid", wait=LIMIT)

    assert (done.actor, done.outcome) == ("operations/pid", "done")
    assert done.note == f"process {first} has ended; another one begins when it is needed"
    until(lambda: is_gone(first))
    assert pid() != first


def test_a_busy_process_finishes_what_it_runs(gate: Gate, doors: Callable[[], Door], until: Until) -> None:
    """What is queued meanwhile runs in others, in order, and nothing new begins in the old one."""
    door = doors()
    sent = behind.submit(door)
    door.wait_reached()
    (old,) = (worker.pid for worker in sent._place.drain.workers())  # type: ignore[attr-defined]

    pending = gate.control.recycle("behind", wait=0.0)

    assert pending.outcome == "pending"
    assert pending.note == (
        f"process {old} runs token {sent.id} (behind); it is replaced after that, and is given nothing new"
    )
    others = [behind.submit(opened) for opened in (doors(), doors())]
    for other in others:
        other.args[0].open()
    assert {other.result(LIMIT) for other in others}.isdisjoint({old})
    assert sent.state is TokenState.RUNNING
    door.open()
    assert sent.result(LIMIT) == old
    until(lambda: is_gone(old))
    assert gate.control.recycle("behind", worker=old).outcome == "unchanged"


def test_what_waits_for_a_busy_process_runs_in_the_next_one(doors: Callable[[], Door]) -> None:
    """With one process there is no other one meanwhile; none of them is sent to the old one any more."""
    with Gate("recycling", processes=ProcessPool(size=1), control_socket=False, shutdown=LIMIT) as gate:
        door, opened = doors(), doors()
        opened.open()
        sent = behind.submit(door)
        door.wait_reached()
        waiting = [behind.submit(opened) for _ in range(20)]
        assert gate.control.recycle("behind", wait=0).outcome == "pending"
        door.open()
        old = sent.result(LIMIT)
        new = {one.result(LIMIT) for one in waiting}

    assert len(new) == 1
    assert old not in new


def test_one_process_of_several_is_named_by_its_pid(gate: Gate, doors: Callable[[], Door], until: Until) -> None:
    """The other ones stay."""
    both = doors(), doors()
    sent = [behind.submit(door) for door in both]
    for door in both:
        door.wait_reached()
    pids = [gate.control.describe(one).process.pid for one in sent]  # type: ignore[union-attr]

    assert gate.control.recycle("behind", worker=pids[0], wait=0).outcome == "pending"
    for door in both:
        door.open()
    assert [one.result(LIMIT) for one in sent] == pids
    until(lambda: is_gone(pids[0]))
    assert not is_gone(pids[1])


def test_what_has_no_such_process_is_unchanged(gate: Gate) -> None:
    """Before its first token, and for a pid that no process has."""
    gate.register(pid)

    assert gate.control.recycle("pid").note == "no process has run its tokens"
    nobody = gate.control.recycle("pid", worker=4_194_304)
    assert (nobody.outcome, nobody.note) == ("unchanged", "no process 4194304 runs tokens of operations")


def test_what_runs_elsewhere_has_no_process(gate: Gate) -> None:
    """Each refusal says so."""
    gate.register(on_a_thread)
    gate.spawn(Plain, name="plain")
    for name in ("on_a_thread", "plain"):
        with pytest.raises(NotSteerable, match="run with affinity cpu; only 'process' has processes"):
            gate.control.recycle(name)
    with pytest.raises(UnknownActor):
        gate.control.recycle("nobody")
    with pytest.raises(BadRequest):
        gate.control.recycle("plain", worker="first")  # type: ignore[arg-type]


def test_no_token_is_lost_as_processes_are_replaced_again_and_again(
    gate: Gate, chance: random.Random, rounds: Rounds, until: Until
) -> None:
    """Each token ends once, with its result, whatever is replaced meanwhile."""
    square: Any = token(affinity="process")(lambda number: number * number)
    sent = []
    for number in range(rounds(150)):
        sent.append(square.submit(number))
        if chance.random() < 0.1:
            gate.control.recycle(square._name, wait=0)
    assert [one.result(LIMIT) for one in sent] == [number * number for number in range(len(sent))]
    assert [one.attempt for one in sent] == [1] * len(sent)
    statistics = gate._system.processes.statistics()
    assert statistics is not None
    assert statistics.died == 0


# Process actors


def test_an_idle_actor_gets_another_process(gate: Gate, tmp_path: Any, until: Until) -> None:
    """In order: the last hook runs in the old process; that is no crash for its supervisor."""
    notes = tmp_path / "notes"
    ref = gate.spawn(Model, str(notes), name="model")
    first = ref.proxy().pid().get(timeout=LIMIT)

    done = gate.control.recycle("model", wait=LIMIT)

    assert (done.actor, done.outcome, done.note) == ("spawned/model", "done", "its instance is number 2")
    assert notes.read_text() == f"{first} stopped\n"
    until(lambda: is_gone(first))
    assert ref.proxy().pid().get(timeout=LIMIT) != first
    window = gate.control.describe_actor("model").window
    assert window is not None
    assert window.used == 0


def test_a_busy_actor_finishes_its_message_and_keeps_its_mailbox(gate: Gate, doors: Callable[[], Door]) -> None:
    """Messages that wait are handled by the new instance, in order; a second request joins the first."""
    ref = gate.spawn(Model, name="model")
    first = ref.proxy().pid().get(timeout=LIMIT)
    door = doors()
    sent = ref.proxy().behind(door)
    door.wait_reached()
    waiting = [ref.proxy().pid() for _ in range(3)]

    pending = gate.control.recycle("model", wait=0)
    assert pending.outcome == "pending"
    assert pending.note == f"it runs token {sent.id} (Model.behind); its process is replaced after that"
    assert gate.control.recycle("model", worker=first, wait=0).outcome == "pending"
    assert gate.control.recycle("model", worker=first + 1).note == f"its process is {first}"
    door.open()
    assert sent.get(timeout=LIMIT) == first
    second = {one.get(timeout=LIMIT) for one in waiting}
    assert len(second) == 1
    assert first not in second
    (row,) = gate.control.actors("model")
    assert (row.row.starts, row.row.depth, row.row.suspended) == (2, 0, False)


def test_the_intensity_of_its_supervisor_is_not_used_up(until: Until) -> None:
    """However often that is asked for."""
    children = [Supervisor.child_spec("office", [ChildSpec("model", Model)], intensity=0)]
    with Gate("recycling", children=children, processes=1, control_socket=False, shutdown=LIMIT) as gate:
        ref = gate.find("model")
        pids = [ref.proxy().pid().get(timeout=LIMIT)]
        for number in range(2, 5):
            done = gate.control.recycle("office/model", wait=LIMIT)
            assert done.note == f"its instance is number {number}"
            pids.append(ref.proxy().pid().get(timeout=LIMIT))
        assert len(set(pids)) == 4


def test_a_temporary_actor_stays(gate: Gate) -> None:
    """It is not forgotten for that."""
    ref = gate.spawn(Model, name="once", restart="temporary")
    first = ref.proxy().pid().get(timeout=LIMIT)

    assert gate.control.recycle("once", wait=LIMIT).outcome == "done"
    assert ref.proxy().pid().get(timeout=LIMIT) != first


class Fragile(ProcessActor):
    def __init__(self, door: Door) -> None:
        super().__init__()
        if door.is_open:
            raise RuntimeError("no second instance")

    def pid(self) -> int:
        return os.getpid()


def test_an_actor_that_does_not_start_again_says_so(gate: Gate, doors: Callable[[], Door]) -> None:
    """As `restart` does."""
    door = doors()
    gate.spawn(Fragile, door, name="fragile").proxy().pid().get(timeout=LIMIT)
    door.open()

    with pytest.raises(StartFailed, match="no second instance"):
        gate.control.recycle("fragile", wait=LIMIT)


def test_an_actor_that_crashes_meanwhile_has_its_new_process_already(
    gate: Gate, doors: Callable[[], Door], until: Until
) -> None:
    """It is not replaced a second time."""
    ref = gate.spawn(Model, name="model")
    first = ref.proxy().pid().get(timeout=LIMIT)
    door = doors()
    sent = ref.proxy().behind(door)
    door.wait_reached()
    assert gate.control.recycle("model", wait=0).outcome == "pending"
    psutil.Process(first).kill()

    assert sent.exception(LIMIT) is not None
    second = ref.proxy().pid().get(timeout=LIMIT)
    assert second != first
    until(lambda: gate.control.actors("model")[0].row.starts == 2)
    assert ref.proxy().pid().get(timeout=LIMIT) == second


def test_a_pid_of_an_actor_is_no_worker_of_an_operation(gate: Gate) -> None:
    """The error says whose it is."""
    own = gate.spawn(Model, name="model").proxy().pid().get(timeout=LIMIT)
    pid()

    with pytest.raises(NotSteerable, match=f"process {own} is that of actor 'spawned/model'; recycle that"):
        gate.control.recycle("pid", worker=own)


def test_a_gate_that_closes_does_not_wait_for_a_renewal(doors: Callable[[], Door]) -> None:
    """No caller hangs, and no process is left."""
    with Gate("recycling", processes=1, control_socket=False, shutdown=0.2) as gate:
        ref = gate.spawn(Model, name="model")
        door = doors()
        sent = ref.proxy().behind(door)
        door.wait_reached()
        waiting = ref.proxy().pid()
        assert gate.control.recycle("model", wait=0).outcome == "pending"
    assert sent.done()
    assert waiting.done()


def test_handles_and_coroutines_have_the_verb(gate: Gate) -> None:
    """With the same arguments."""
    pid()

    async def ask() -> str:
        return (await gate.control.aio.recycle("pid", wait=LIMIT)).outcome

    assert trio.run(ask) == "done"
    pid()
    assert gate.control.actor("pid").recycle(wait=LIMIT).outcome == "done"


def test_a_dry_run_replaces_nothing(gate: Gate) -> None:
    """It is applied by its number."""
    first = pid()
    planned = gate.control.recycle("pid", dry_run=True)

    assert planned.outcome == "would"
    assert planned.proposal is not None
    assert psutil.pid_exists(first)  # the next call may run in a spare one
    applied = gate.control.apply(planned.proposal.number)
    assert [one.outcome for one in applied.actors] in (["done"], ["pending"])
    assert pid() != first
