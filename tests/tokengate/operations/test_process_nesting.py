"""Process tokens that wait for process tokens, in every form and mixed with others; 300 deep in CI."""

from __future__ import annotations

import os
import resource
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from tiers import in_ci

from actors.processes.workers import _worker_pool
from tokengate import CpuActor, Gate, ProcessActor, token
from tokengate.errors import DeadlockError
from tokengate.types import ProcessPool

LIMIT = 300.0  # seconds; reached only when a test fails

Until = Callable[[Callable[[], bool]], None]

DEPTHS = [pytest.param(5), pytest.param(300, marks=in_ci)]


@token(affinity="process")
def direct(depth: int) -> int:
    return 0 if not depth else 1 + direct(depth - 1)


@token(affinity="process", concurrency=1)
def narrow(depth: int) -> int:
    return 0 if not depth else 1 + narrow(depth - 1)


@token(affinity="process")
def submitted(depth: int) -> int:
    return 0 if not depth else 1 + submitted.submit(depth - 1).result()


@token(affinity="process")
def failing(depth: int) -> int:
    if not depth:
        raise ValueError("the innermost one fails")
    return failing(depth - 1)


@token
def on_a_thread(depth: int) -> int:
    return 0 if not depth else 1 + mixed(depth - 1)


@token
async def in_a_task(depth: int) -> int:
    forms: list[Any] = [on_a_thread.submit, in_a_process.submit, in_a_task]
    return 0 if not depth else 1 + int(await forms[depth % 3](depth - 1))


@token(affinity="process")
def in_a_process(depth: int) -> int:
    return 0 if not depth else 1 + mixed(depth - 1)


def _caller() -> Callable[[int], int]:
    """Return a function that travels to a child by value, as an operation does, with the operations that it calls."""

    def call(depth: int) -> int:
        forms: list[Callable[[int], int]] = [
            on_a_thread,
            in_a_process,
            lambda depth: on_a_thread.submit(depth).result(),
            lambda depth: in_a_task.submit(depth).result(),
            lambda depth: in_a_process.submit(depth).result(),
        ]
        return forms[depth % 5](depth)

    return call


mixed = _caller()  # calls one operation or another, in one form or another


class OnAThread(CpuActor):
    def depth(self, depth: int) -> int:
        return mixed(depth)


class InAProcess(ProcessActor):
    def depth(self, depth: int) -> int:
        return mixed(depth)


def is_idle(gate: Gate) -> bool:
    """Tell whether all tokens have ended, those included that steps had submitted whose wait was refused."""
    return not any(one.actor.startswith("operations/") for one in list(gate._system.live.values()))


@pytest.fixture
def gate(until: Until) -> Iterator[Gate]:
    """A gate with one process, in a program that may have enough file descriptors for 300 more."""
    few, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    enough = 4_000 if most == resource.RLIM_INFINITY else min(4_000, most)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(few, enough), most))
    try:
        with Gate("deep", threads=2, processes=ProcessPool(size=1), control_socket=False) as opened:
            yield opened
            until(lambda: is_idle(opened))
            assert opened._system.processes.pool._lent == 0
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (few, most))


@pytest.fixture
def at_most_3(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_worker_pool, "MAX_WAITING", 3)


@pytest.mark.parametrize("depth", DEPTHS)
def test_a_process_operation_calls_itself(gate: Gate, depth: int) -> None:
    """Neither its own concurrency nor the size of the pool is a limit."""
    assert [operation.submit(depth).result(LIMIT) for operation in (direct, narrow, submitted)] == [depth] * 3


@pytest.mark.parametrize("depth", DEPTHS)
def test_threads_tasks_and_processes_wait_for_one_another(gate: Gate, depth: int) -> None:
    """In any order, called and submitted, and from actors."""
    calls: list[Callable[[int], Any]] = [
        on_a_thread.submit,
        in_a_task.submit,
        in_a_process.submit,
        gate.spawn(OnAThread).proxy().depth,
        gate.spawn(InAProcess).proxy().depth,
    ]

    assert [call(depth).result(LIMIT) for call in calls] == [depth] * len(calls)


@pytest.mark.parametrize("operation", [direct, submitted], ids=lambda operation: operation.__name__)
def test_the_wait_that_is_one_too_many_names_the_limit_and_the_chain(
    gate: Gate, operation: Any, at_most_3: None, until: Until
) -> None:
    """Instead of a hang the innermost call gets the error, and all of them end; others are served afterwards."""
    tokens = [operation.submit(5)]
    error = tokens[0].exception(LIMIT)

    assert isinstance(error, DeadlockError)
    assert "3 process tokens wait for others" in str(error)
    first, *_, last = str(error).partition("each of these waits for the next: ")[2].split(" -> ")
    assert f"token {tokens[0].id}" in first
    assert first != last
    until(lambda: is_idle(gate))
    assert operation.submit(3).result(LIMIT) == 3


def test_a_wait_for_what_needs_no_process_is_refused_beyond_the_limit_too(
    gate: Gate, at_most_3: None, until: Until
) -> None:
    """It may wait for a process in turn, as it does here."""
    error = on_a_thread.submit(30).exception(LIMIT)

    assert isinstance(error, DeadlockError)
    assert "3 process tokens wait for others" in str(error)
    until(lambda: is_idle(gate))
    assert on_a_thread.submit(5).result(LIMIT) == 5


def test_an_error_that_passes_through_many_processes_has_the_traceback_of_each_once(gate: Gate) -> None:
    """Its notes do not double with each process."""
    error = failing.submit(4).exception(LIMIT)

    assert isinstance(error, ValueError)
    notes = "".join(error.__notes__)
    assert notes.count("ValueError: the innermost one fails") == 5
    assert notes.count(f'{os.path.basename(__file__)}", line') == 5
