"""Programs that were written for pykka, within a gate: actors of `Cls.start()` belong to its tree."""

from __future__ import annotations

from typing import Any

import pykka
import pytest
import trio

from tokengate import CpuActor, Gate, IoActor, ProcessActor
from tokengate.errors import AmbiguousGate, StartFailed, WouldBlock
from tokengate.types import current_gate

WAIT = 60.0  # seconds; only reached when something is broken


class Cpu(CpuActor):
    def __init__(self, name: str = "") -> None:
        super().__init__()
        self.name = name

    def on_receive(self, message: Any) -> Any:
        if isinstance(message, Exception):
            raise message
        return self.name, message

    def start_another(self) -> str:
        return Cpu.start().path  # type: ignore[no-any-return]


class Io(IoActor):
    def __init__(self, name: str = "") -> None:
        super().__init__()
        self.name = name

    on_receive = Cpu.on_receive


class Process(ProcessActor):
    def __init__(self, name: str = "") -> None:
        super().__init__()
        self.name = name

    def on_receive(self, message: Any) -> Any:
        return self.name, message


def refs() -> list[Any]:
    return list(pykka.ActorRegistry.get_all())


@pytest.mark.parametrize("actor_class", [Cpu, Io, Process])
def test_an_actor_of_start_is_a_child_of_the_gate(actor_class: Any) -> None:
    """Control sees and steers it; pykka's registry has it until it ends, here with the gate."""
    with Gate("shop") as gate:
        ref = actor_class.start(name="x")
        assert ref.ask(1, timeout=WAIT) == ("x", 1)
        assert [row.path for row in gate.control.actors(ref.path)] == [ref.path]
        assert ref.path.startswith("spawned/")
        assert refs() == [ref]
    assert (ref.is_alive(), refs()) == (False, [])


def test_pykkas_registry_stops_what_start_started_in_a_gate() -> None:
    """`stop_all` leaves nothing in the tree, except actors of `gate.spawn`."""
    with Gate("shop") as gate:
        spawned = gate.spawn(Cpu)
        Cpu.start()
        Io.start()
        assert pykka.ActorRegistry.stop_all(timeout=WAIT) == [True, True]  # type: ignore[arg-type]
        assert [row.path for row in gate.control.actors() if "spawned/" in row.path] == [spawned.path]


def test_an_actor_of_start_that_crashes_is_gone() -> None:
    """As in pykka it is not started again, and the registry forgets it."""
    with Gate("shop"):
        ref = Cpu.start()
        with pytest.raises(ZeroDivisionError):
            ref.ask(ZeroDivisionError(), timeout=WAIT)
        ref.actor_stopped.wait(WAIT)
        assert (ref.is_alive(), refs()) == (False, [])


def test_a_start_that_fails_within_a_gate_leaves_nothing() -> None:
    """Neither in the tree nor in the registry."""
    with Gate("shop") as gate:
        with pytest.raises(StartFailed, match="unexpected keyword argument 'nmae'"):
            Cpu.start(nmae="x")
        assert (refs(), [row for row in gate.control.actors() if "spawned/" in row.path]) == ([], [])


def test_start_chooses_the_gate_as_a_call_of_an_operation_does() -> None:
    """That of the running token, then the innermost one entered here; without a choice it is an error."""
    with Gate("inner") as inner:
        actor = Cpu.start()
        with Gate("outer") as outer:
            assert outer.find(Cpu.start().path)
            path = actor.proxy().start_another().result(WAIT)
            assert inner.find(path)
        third = Gate("third").open()
        try:
            assert current_gate() is inner
        finally:
            third.close()


def test_start_says_how_to_choose_between_gates() -> None:
    """Two gates that were opened without `with` leave the choice open."""
    gates = [Gate(name).open() for name in ("a", "b")]
    try:
        with pytest.raises(AmbiguousGate, match="'a', 'b'"):
            Cpu.start()
    finally:
        for gate in gates:
            gate.close()


def test_start_would_block_a_trio_loop() -> None:
    """The error names what to await."""

    async def main() -> None:
        async with Gate("shop") as gate:
            with pytest.raises(WouldBlock, match=r"await gate\.aspawn\(Cpu\)"):
                Cpu.start()
            assert [row.path for row in await gate.control.aio.actors() if "spawned/" in row.path] == []

    trio.run(main)
