"""Plugins of a gate: their order, what they bring, and what comes of their failures."""

from __future__ import annotations

import _thread
import gc
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from typing import Any

import attrs
import psutil
import pytest
import trio

from actors.lowlevel import Crash
from tokengate import ChildSpec, CpuActor, Gate, Token
from tokengate.control.registry import Plugin
from tokengate.errors import GateState, StartFailed, UnknownPlugin
from tokengate.types import Observer

WAIT = 60.0  # seconds; only reached when something is broken


class Noting(CpuActor):
    """Notes its start and its stop."""

    def __init__(self, name: str, notes: list[str], fails: bool = False) -> None:
        super().__init__()
        self.name, self.notes, self.fails = name, notes, fails

    def on_start(self) -> None:
        if self.fails:
            raise RuntimeError("no disk")
        self.notes.append(f"start {self.name}")

    def on_stop(self) -> None:
        self.notes.append(f"stop {self.name}")

    def on_receive(self, message: object) -> int:
        if message == "crash":
            raise RuntimeError("as it was told")
        return len(self.notes)


@attrs.define
class Base(Plugin):
    """A plugin with an actor."""

    notes: list[str] = attrs.field(factory=list)
    fails: bool = False

    def child(self, gate: Gate, /) -> ChildSpec:
        return ChildSpec(type(self).__name__.lower(), Noting, args=(type(self).__name__, self.notes, self.fails))


class Disk(Base):
    pass


class Diary(Base):
    needs = (Disk,)


class Report(Base):
    needs = (Disk, Diary)


def test_actors_of_plugins_run_around_control_and_the_children_of_the_gate() -> None:
    """They start first, each after those that its plugin needs, and stop last, in reverse."""
    notes: list[str] = []
    child = ChildSpec("child", Noting, args=("child", notes))
    with Gate("shop", plugins=[Diary(notes), Disk(notes)], children=[child], control_socket=False) as gate:
        assert gate.find("$system/plugins/diary").is_alive()
        assert [row.path for row in gate.control.tree(system=True)][-4:] == [
            "$system/plugins",
            "$system/plugins/disk",
            "$system/plugins/diary",
            "$system/control",
        ]

    assert notes == ["start Disk", "start Diary", "start child", "stop child", "stop Diary", "stop Disk"]


def test_a_plugin_that_another_one_needs_is_added_with_its_defaults() -> None:
    """It is there once, however many need it, and `gate.plugin` finds it by its class, or a class above."""
    report = Report()
    with Gate("shop", plugins=[report], control_socket=False) as gate:
        assert gate.plugin(Report) is report
        assert gate.plugin(Disk).notes == ["start Disk"]
        assert gate.plugin(Diary).gate is gate


def test_a_plugin_that_is_not_there_is_an_error_that_names_it() -> None:
    with Gate("shop", plugins=[Disk()], control_socket=False) as gate, pytest.raises(UnknownPlugin) as raised:
        gate.plugin(Diary)

    assert str(raised.value) == "gate 'shop' has no Diary; open it with plugins=[Diary(...)]"


class Mine(Disk):
    pass


@attrs.frozen
class Archive(Plugin):
    directory: str


class Needy(Plugin):
    needs = (Archive,)


class Hen(Plugin):
    pass


class Egg(Plugin):
    needs = (Hen,)


Hen.needs = (Egg,)


@pytest.mark.parametrize(
    ("plugins", "text"),
    [
        ([Disk], "Disk is a class; give an object: Disk()"),
        ([5], "5 is no plugin; give an object of a class derived from `Plugin`"),
        (Disk(), "it must be a list of plugins"),
        ([Disk(), Diary(), Disk()], "Disk and Disk are of one class; give only one of them"),
        ([Disk(), Mine()], "Disk and Mine are of one class; give only one of them"),
        ([Hen()], "they need each other in a circle: Hen -> Egg -> Hen; take one out of `needs`"),
        ([Needy()], "Needy needs Archive, which has no defaults"),
    ],
)
def test_plugins_that_cannot_work_are_refused_when_the_gate_is_made(plugins: Any, text: str) -> None:
    """The error names the gate, the plugin and the remedy."""
    with pytest.raises(ValueError, match="plugins of gate 'shop'") as raised:
        Gate("shop", plugins=plugins)

    assert text in str(raised.value)


@pytest.mark.parametrize("needs", [Disk, [Disk], (Disk(),)])
def test_needs_must_be_a_tuple_of_plugin_classes(needs: Any) -> None:
    with pytest.raises(TypeError, match=r"needs of Wrong is .*; it must be a tuple of plugin classes"):
        type("Wrong", (Plugin,), {"needs": needs})


def test_a_plugin_object_serves_one_gate() -> None:
    """A gate opens once, and so does what belongs to it; a gate that could not be made has taken nothing."""
    archive = Archive("here")
    with pytest.raises(RuntimeError, match="plugin Archive has no gate; give it to one"):
        archive.gate  # noqa: B018
    with pytest.raises(ValueError, match="processes"):
        Gate("shop", plugins=[archive], processes="two")  # type: ignore[arg-type]
    gate = Gate("shop", plugins=[archive])

    with pytest.raises(ValueError, match="this Archive serves gate 'shop' already; make a new one"):
        Gate("other", plugins=[archive])
    assert archive.gate is gate


def _open(gate: Gate) -> None:
    with gate:
        pass


def _open_in_trio(gate: Gate) -> None:
    async def run() -> None:
        async with gate:
            pass

    trio.run(run)


@pytest.mark.parametrize("opened", [_open, _open_in_trio])
def test_a_plugin_that_does_not_start_makes_opening_fail(opened: Callable[[Gate], None]) -> None:
    """Those that have started are stopped in order, and no child of the gate is started."""
    notes: list[str] = []
    gate = Gate(
        "shop",
        plugins=[Disk(notes), Diary(notes, fails=True)],
        children=[ChildSpec("child", Noting, args=("child", notes))],
    )
    with pytest.raises(StartFailed, match=r"'\$system/plugins/diary' .* did not start: RuntimeError\('no disk'\)"):
        opened(gate)

    assert notes == ["start Disk", "stop Disk"]
    assert gate.state == "closed"


@pytest.mark.parametrize("opened", [_open, _open_in_trio])
def test_plugins_are_stopped_in_order_when_a_child_of_the_gate_does_not_start(opened: Callable[[Gate], None]) -> None:
    """A plugin writes what it has to write, whatever fails above it."""
    notes: list[str] = []
    gate = Gate(
        "shop",
        plugins=[Diary(notes), Disk(notes)],
        children=[ChildSpec("child", Noting, args=("child", notes, True))],
    )
    with pytest.raises(StartFailed, match="no disk"):
        opened(gate)

    assert notes == ["start Disk", "start Diary", "stop Diary", "stop Disk"]


class Interrupting(CpuActor):
    """Starts when the main thread has been interrupted."""

    def __init__(self, interrupted: threading.Event) -> None:
        super().__init__()
        self.interrupted = interrupted

    def on_start(self) -> None:
        _thread.interrupt_main()
        assert self.interrupted.wait(WAIT)


def test_plugins_are_stopped_after_the_children_of_a_gate_whose_opening_is_interrupted() -> None:
    """Ctrl-C while a child starts: those before it are stopped in order, as after an error."""
    notes: list[str] = []
    interrupted = threading.Event()

    def interrupt(*_: object) -> None:
        interrupted.set()
        raise KeyboardInterrupt

    children = [ChildSpec("child", Noting, args=("child", notes)), ChildSpec("last", Interrupting, args=(interrupted,))]
    before = signal.signal(signal.SIGINT, interrupt)
    try:
        with pytest.raises(KeyboardInterrupt):
            _open(Gate("shop", plugins=[Disk(notes)], children=children))
    finally:
        signal.signal(signal.SIGINT, before)

    assert notes == ["start Disk", "start child", "stop child", "stop Disk"]


class Broken(Plugin):
    def observer(self, gate: Gate, /) -> Observer:
        raise RuntimeError("no exporter")


@pytest.mark.parametrize("opened", [_open, _open_in_trio])
def test_an_error_of_a_plugin_makes_opening_fail(opened: Callable[[Gate], None]) -> None:
    gate = Gate("shop", plugins=[Disk(), Broken()])
    with pytest.raises(RuntimeError, match="no exporter"):
        opened(gate)

    assert gate.state == "closed"


class Early(Plugin):
    def child(self, gate: Gate, /) -> ChildSpec:
        gate.close()
        raise AssertionError


@pytest.mark.parametrize("opened", [_open, _open_in_trio])
def test_a_plugin_that_uses_a_gate_which_is_not_open_leaves_nothing_open(opened: Callable[[Gate], None]) -> None:
    """Its error is the one of a gate that is opened twice, which has nothing to undo."""
    gate = Gate("shop", plugins=[Early()])
    with pytest.raises(GateState, match="is not open"):
        opened(gate)

    assert gate.state == "closed"
    with pytest.raises(GateState, match="gate 'shop' is closed; a gate opens once"):
        opened(gate)


def test_an_actor_of_a_plugin_that_crashes_is_restarted(until: Callable[[Callable[[], bool]], None]) -> None:
    notes: list[str] = []
    with Gate("shop", plugins=[Disk(notes)], control_socket=False) as gate:
        disk = gate.find("$system/plugins/disk")
        with pytest.raises(RuntimeError, match="as it was told"):
            disk.ask("crash")

        until(lambda: notes.count("start Disk") == 2)
        assert disk.ask("how many") == 2


def test_plugins_that_crash_too_often_leave_control_alone(until: Callable[[Callable[[], bool]], None]) -> None:
    """The gate goes on without the actors of its plugins."""
    with Gate("shop", plugins=[Disk()], control_socket=False) as gate:
        disk = gate.find("$system/plugins/disk")
        for _ in range(4):
            disk.tell("crash")

        until(lambda: not disk.is_alive())
        until(lambda: [row.path for row in gate.control.tree(system=True)][-2:] == ["$system", "$system/control"])
        assert gate.state == "open"


class Answering(Disk):
    def answers(self, gate: Gate, /) -> object:
        self.notes.append("answers")
        return gate.find("$system/plugins/answering")


def test_control_restarts_after_the_actor_of_a_plugin_was_given_up(until: Callable[[Callable[[], bool]], None]) -> None:
    """The object that answers is asked for once, since it may need the actor; what it then answers is its affair."""
    notes: list[str] = []
    with Gate("shop", plugins=[Answering(notes)], control_socket=False) as gate:
        actor, control = gate.find("$system/plugins/answering"), gate._actor_place("$system/control")
        for _ in range(4):
            actor.tell("crash")
        until(lambda: not actor.is_alive())

        control.signal(Crash(RuntimeError("a fault")))
        until(lambda: control.starts == 2)
        assert gate.control.info().state == "open"

    assert notes.count("answers") == 1


class Watching(Plugin, Observer):
    """A plugin that observes."""

    def __init__(self) -> None:
        self.started: list[str] = []
        self.finished: list[Token[Any]] = []

    def observer(self, gate: Gate, /) -> Observer:
        return self

    def actor_started(self, ref: Any, /) -> None:
        self.started.append(ref.path)

    def token_finished(self, token: Token[Any], /) -> None:
        self.finished.append(token)


def test_the_observer_of_a_plugin_observes_from_the_first_actor_on() -> None:
    watching = Watching()
    with Gate("shop", plugins=[Disk(), watching], control_socket=False):
        pass

    assert watching.started[0] == "$system/plugins/disk"
    assert {"$system/control", "spawned"} <= {*watching.started}


def test_a_gate_without_plugins_loads_and_starts_nothing_for_them(until: Callable[[Callable[[], bool]], None]) -> None:
    """Nor does one whose plugins bring nothing have another thread or file."""
    script = "import sys; from tokengate import Gate\nwith Gate('a') as gate: gate.control.info()\nprint(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout.split()
    assert "tokengate.control._actor" in loaded
    assert "tokengate.gate._plugins" not in loaded

    def threads() -> list[threading.Thread]:
        return [thread for thread in threading.enumerate() if thread.name.startswith("shop-")]

    def figures(plugins: list[Plugin]) -> tuple[int, int, int]:
        until(lambda: not threads())  # the one that has closed the gate before ends by itself
        gc.collect()  # files of others that are closed by it are not counted
        files = psutil.Process().num_fds()
        with Gate("shop", plugins=plugins, control_socket=False) as gate:
            actors = gate.control.info().actors
            return len(threads()), psutil.Process().num_fds() - files, actors

    assert figures([]) == figures([Plugin()])
