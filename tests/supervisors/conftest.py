"""A tree of supervisors to test on, and workers that tell what they do."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from typing import Any

import pytest
import trio
import trio.testing

from actors import SHUTDOWN, ActorRef, ActorSystem, BaseActor, CpuActor, ExitReason, IoActor, Reply
from actors.lowlevel import ROOT, ActorPlace
from supervisors import ChildInfo, ChildSpec, ChildStarted, Supervisor

# Seconds until a test that waits in vain fails; a test that passes waits for events, not for time.
PATIENCE = 30.0

SIDES = 3  # of a race

Race = Callable[..., list[Any]]


class Diary:
    """A list that many threads write to, and that a test waits for."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._entries: list[Any] = []

    def write(self, entry: Any) -> None:
        with self._changed:
            self._entries.append(entry)
            self._changed.notify_all()

    @property
    def entries(self) -> list[Any]:
        with self._changed:
            return list(self._entries)

    def of(self, *kinds: type[Any]) -> list[Any]:
        """Return the entries of these types."""
        return [entry for entry in self.entries if isinstance(entry, kinds)]

    def wait_for(self, condition: Callable[[list[Any]], bool]) -> None:
        """Wait until the entries fulfil the condition."""
        with self._changed:
            assert self._changed.wait_for(lambda: condition(self._entries), PATIENCE), self._entries


class Door:
    """Where code waits until the test lets it go on."""

    def __init__(self) -> None:
        self._entered = threading.Event()
        self._opened = threading.Event()

    def wait_here(self) -> None:
        """Wait until the door is open; called by the code under test."""
        self._entered.set()
        assert self._opened.wait(PATIENCE)

    def wait_for_entry(self) -> None:
        """Wait until somebody waits at the door."""
        assert self._entered.wait(PATIENCE)

    def open(self) -> None:
        self._opened.set()


Hook = Callable[[], object]

_serials = count(1)


def do_nothing() -> None:
    pass


class Worker:
    """What both kinds of workers share; each instance has a serial number of its own.

    Args:
        name: what it calls itself in the diary.
        diary: where it writes what happens to it.
        starting: called within `on_start`, where it may take its time, or raise.
        ending: called within `on_stop`, likewise.
    """

    stop: Callable[[], None]

    def __init__(self, name: str, diary: Diary, starting: Hook = do_nothing, ending: Hook = do_nothing) -> None:
        super().__init__()
        self.serial = next(_serials)
        self._name = name
        self._diary = diary
        self._starting = starting
        self._ending = ending

    def on_failure(self, *_error: object) -> None:
        self._diary.write(f"{self._name} failed")

    def on_receive(self, message: object) -> None:
        self._diary.write((self.serial, message))

    def crash(self, error: BaseException) -> None:
        raise error

    def finish(self) -> None:
        self.stop()


class CpuWorker(Worker, CpuActor):
    def on_start(self) -> None:
        self._diary.write(f"{self._name} starts")
        self._starting()
        self._diary.write(f"{self._name} started")

    def on_stop(self) -> None:
        self._diary.write(f"{self._name} stops")
        self._ending()
        self._diary.write(f"{self._name} stopped")

    def hold(self, door: Door) -> None:
        door.wait_here()


class IoWorker(Worker, IoActor):
    # What a hook or a step does in a thread cannot be cancelled, so it takes as long as it wants.

    async def on_start(self) -> None:  # type: ignore[override]
        self._diary.write(f"{self._name} starts")
        await trio.to_thread.run_sync(self._starting)
        self._diary.write(f"{self._name} started")

    async def on_stop(self) -> None:  # type: ignore[override]
        self._diary.write(f"{self._name} stops")
        await trio.to_thread.run_sync(self._ending)
        self._diary.write(f"{self._name} stopped")

    async def hold(self, door: Door) -> None:
        await trio.to_thread.run_sync(door.wait_here)


class Tree:
    """A system whose root supervisor a test chooses.

    Attributes:
        reports: what the supervisors report, with dead letters.
        diary: what the workers write.
    """

    def __init__(self, system: ActorSystem, worker: type[BaseActor]) -> None:
        self.system = system
        self.worker = worker
        self.reports = Diary()
        self.diary = Diary()
        self.ended: Reply[ExitReason] = Reply()  # how the root has ended
        self._root: ActorPlace | None = None
        self._doors: list[Door] = []
        system.subscribe(self.reports.write)

    def child(self, id: str, *, starting: Hook = do_nothing, ending: Hook = do_nothing, **options: Any) -> ChildSpec:
        """Return the spec of a worker; `options` are those of `ChildSpec`.

        A stop may take longer than usual: the machine may be busy.
        """
        options.setdefault("shutdown", PATIENCE)
        return ChildSpec(id, self.worker, args=(id, self.diary, starting, ending), **options)

    def start(self, *children: ChildSpec, **options: Any) -> ActorRef[Any]:
        """Start a supervisor at the root; `options` are those of `Supervisor`."""
        self._root = self.system.place(ROOT, Supervisor, (children,), options, owner=self._root_ended)
        self._root.start().result(PATIENCE)
        return self._root.ref

    def begin_stop(self) -> Reply[ExitReason]:
        """Have the root stop, as its own supervisor would."""
        assert self._root is not None
        return self._root.stop(SHUTDOWN, drain=False, administrative=False)

    def stop(self) -> None:
        """Stop the root, and wait until it has."""
        self.begin_stop().result(PATIENCE)

    def settle(self) -> None:
        """Wait until every supervisor waits for something: what was asked of them has been passed on."""
        self.system.system_host.run(trio.testing.wait_all_tasks_blocked).result(PATIENCE)

    def ref(self, name: str) -> ActorRef[Any]:
        place = self.system.find(name)
        assert isinstance(place, ActorPlace)
        return place.ref

    def serial(self, name: str) -> int:
        """Return the serial number of a worker's present instance, or of the next one between two."""
        serial: int = self.ref(name).proxy().serial.result(PATIENCE)
        return serial

    def crash(self, name: str) -> None:
        """Crash a worker, and wait until its caller knows."""
        assert self.ref(name).proxy().crash(ValueError(name)).exception(PATIENCE) is not None

    def wait_for_restart(self, path: str, number: int = 1) -> None:
        """Wait until the child with this path has been restarted this often."""
        self.reports.wait_for(
            lambda reports: any(
                isinstance(report, ChildStarted) and report.child == path and report.restart == number
                for report in reports
            )
        )

    def children(self, name: str = ROOT) -> dict[str, ChildInfo]:
        """Return what a supervisor says of its children, by id."""
        infos: list[ChildInfo] = self.ref(name).proxy().which_children().result(PATIENCE)
        return {info.id: info for info in infos}

    def door(self) -> Door:
        """Return a door that is shut."""
        self._doors.append(Door())
        return self._doors[-1]

    def open_doors(self) -> None:
        for door in self._doors:
            door.open()

    def _root_ended(self, place: ActorPlace, reason: ExitReason, _administrative: bool) -> None:
        place.close(reason)
        self.ended._set(reason)


@pytest.fixture
def system() -> Iterator[ActorSystem]:
    """An open system; nothing of it may be left behind."""
    system = ActorSystem("test", threads=2)
    system.open()
    try:
        yield system
    finally:
        sealed = system.statistics().abandoned  # their doors are open by now
        for thread in threading.enumerate():
            if thread.name in sealed:
                thread.join(PATIENCE)
        abandoned = system.close(PATIENCE)
    assert abandoned == ()


@pytest.fixture(params=[CpuWorker, IoWorker], ids=["cpu", "io"])
def worker(request: pytest.FixtureRequest) -> type[BaseActor]:
    """The class of workers: what a supervisor does holds for both kinds."""
    kind: type[BaseActor] = request.param
    return kind


@pytest.fixture
def tree(system: ActorSystem, worker: type[BaseActor]) -> Iterator[Tree]:
    """A tree that is not started yet; its doors are open once the test is over."""
    tree = Tree(system, worker)
    yield tree
    tree.open_doors()


@pytest.fixture
def chance(seed: int) -> random.Random:
    """Draws of the seed."""
    return random.Random(seed)


@pytest.fixture
def race(chance: random.Random) -> Iterator[Race]:
    """Run what is given on a thread each, all begun at the same moment but for a random delay; return what they do."""
    start = threading.Barrier(SIDES)

    def side(body: Callable[[], Any], delay: int) -> Any:
        start.wait(PATIENCE)
        for _ in range(delay):
            pass
        return body()

    with ThreadPoolExecutor(SIDES) as pool:
        yield lambda *bodies: [
            future.result(6 * PATIENCE)
            for future in [pool.submit(side, body, chance.randrange(3_000)) for body in bodies]
        ]
