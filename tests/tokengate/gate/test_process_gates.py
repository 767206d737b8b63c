"""A gate that the code of a process token, or of a process actor, opens for itself."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from gated_code import LIMIT

from tokengate import CpuActor, Gate, ProcessActor, Token, checkpoint, current_token, token
from tokengate.errors import ActorDead, TokenTerminated, WaitTimeout
from tokengate.types import ProcessPool, current_gate


@pytest.fixture
def outer() -> Iterator[Gate]:
    """An open gate whose pool has one process."""
    with Gate("outer", threads=2, processes=ProcessPool(size=1, spares=0), control_socket=False) as opened:
        yield opened


@token(affinity="process")
def inside(use: Callable[[Gate], Any]) -> Any:
    with Gate("inner", threads=2, processes=ProcessPool(size=1, spares=0), control_socket=False, shutdown=LIMIT) as own:
        found = use(own)
        assert current_gate() is own
    assert own.state == "closed"
    token = current_token()
    assert token is not None
    return found, token.operation


@token
def name() -> str | None:
    running = current_token()
    checkpoint()
    return None if running is None else running.operation


@token
def spin() -> None:
    while True:
        checkpoint()


@token(affinity="process")
def further(number: int) -> tuple[int, int, str | None]:
    running = current_token()
    return number + 1, os.getpid(), None if running is None else running.operation


class Counter(CpuActor):
    def add(self, number: int) -> int:
        return number + 1


class Remote(ProcessActor):
    def add(self, number: int) -> tuple[int, int]:
        return number + 1, os.getpid()


def begun() -> Token[Any]:
    sent = spin.submit()
    while sent.started_at is None:
        os.sched_yield()
    return sent


def calls(_gate: Gate) -> Any:
    return name(), name.submit().result(LIMIT)


def actors(gate: Gate) -> Any:
    return gate.spawn(Counter).proxy().add(1).result(LIMIT)


def processes(gate: Gate) -> Any:
    one, other = further(1), gate.spawn(Remote).proxy().add(2).result(LIMIT)
    assert os.getpid() not in (one[1], other[1])
    return one[0], one[2], other[0]


def control(gate: Gate) -> Any:
    sent = begun()
    (found,) = gate.control.tokens()
    assert found.id == sent.id
    gate.control.terminate(sent.id)
    return isinstance(sent.exception(LIMIT), TokenTerminated)


def errors(gate: Gate) -> Any:
    told = []
    ref = gate.spawn(Counter)
    ref.stop()
    try:
        ref.ask("nobody")
    except ActorDead:
        told.append("dead")
    sent = begun()
    try:
        sent.result(0.0)
    except WaitTimeout:
        told.append("late")
    sent.cancel()
    assert isinstance(sent.exception(LIMIT), TokenTerminated)
    return told


@pytest.mark.usefixtures("outer")
def test_a_gate_in_a_child_process_is_a_gate() -> None:
    """The names of the runtime serve its tokens, and the token that has opened it; errors are of the classes named."""
    assert inside.submit(calls).result(LIMIT) == (("name", "name"), "inside")
    assert inside.submit(actors).result(LIMIT) == (2, "inside")
    assert inside.submit(processes).result(LIMIT) == ((2, "further", 3), "inside")
    assert inside.submit(control).result(LIMIT) == (True, "inside")
    assert inside.submit(errors).result(LIMIT) == (["dead", "late"], "inside")


@pytest.mark.usefixtures("outer")
def test_names_that_are_carried_there_serve_it_as_well() -> None:
    """Functions of the runtime that carried code refers to are the runtime's own, and its base classes, too."""
    scope: dict[str, Any] = {"__name__": "__main__", "token": token, "Gate": Gate, "ProcessActor": ProcessActor}
    scope |= {"current_token": current_token, "checkpoint": checkpoint, "LIMIT": LIMIT}
    exec(CARRIED, scope)
    sent = token(affinity="process")(scope["use"]).submit()

    assert sent.result(LIMIT) == (["local", 3], "use")


CARRIED = """
class Remote(ProcessActor):
    def add(self, number): return number + 1

def use():
    with Gate("inner", threads=2, processes=1, control_socket=False, shutdown=LIMIT) as gate:
        def local():
            checkpoint()
            return current_token().operation
        found = [token(local).submit().result(LIMIT), gate.spawn(Remote).proxy().add(2).get(timeout=LIMIT)]
    return found, current_token().operation
"""
