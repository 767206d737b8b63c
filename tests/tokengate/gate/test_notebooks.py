"""Notebooks: cells that run twice, and helpers that are defined again."""

from __future__ import annotations

import asyncio
import contextvars
import sys
import threading
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any

import pytest
from gated_code import Door

from tokengate import CpuActor, Gate, TokenState, token
from tokengate.errors import ActorDead, AmbiguousGate, GateState, StartFailed, TokenTerminated
from tokengate.types import ProcessPool, current_gate

WAIT = 60.0  # seconds; only reached when something is broken


@token(affinity="asyncio")
async def forever() -> None:
    await asyncio.Event().wait()


class Counter(CpuActor):
    def __init__(self, total: int = 0) -> None:
        super().__init__()
        self.total = total

    def add(self, n: int) -> int:
        self.total += n
        return self.total


# Cells that run twice


@pytest.mark.parametrize("options", [{}, {"open": "lazily"}], ids=["now", "lazily"])
def test_a_gate_replaces_the_open_one_of_its_name(options: dict[str, Any]) -> None:
    """Whatever that one is doing: its tokens are ended, and others of another name stay."""
    with Gate("other", control_socket=False) as other:
        first = Gate("notebook", control_socket=False, **options).open(replace=True)
        counter = first.spawn(Counter, name="counter")
        second = Gate("notebook", control_socket=False, **options).open(replace=True)
        try:
            assert (first.state, second.state, other.state) == ("closed", "open", "open")
            with pytest.raises(ActorDead):
                counter.tell(1)
            with pytest.raises(GateState):
                first.open(replace=True)
            assert second.state == "open"
        finally:
            second.close()


def test_two_gates_of_one_name_are_told_apart_by_the_remedy() -> None:
    """A cell that runs twice has opened them."""
    with Gate("notebook", control_socket=False), Gate("notebook", control_socket=False):
        said = (
            r"\('notebook', 'notebook'\) .* use 'with gate:', or in a cell that runs twice 'gate.open\(replace=True\)'"
        )
        with pytest.raises(AmbiguousGate, match=said):
            contextvars.Context().run(forever.submit)


@pytest.mark.usefixtures("impatient")
def test_a_gate_is_replaced_within_a_running_loop_that_its_tokens_run_in() -> None:
    """As in a kernel of Jupyter; a token that waits there is terminated. Its task ends when the loop goes on."""

    async def cells() -> None:
        first = Gate("notebook", control_socket=False, shutdown=0.2).open(replace=True)
        waiting = forever.submit()
        while waiting.state is not TokenState.RUNNING:
            await asyncio.sleep(0.001)
        second = Gate("notebook", control_socket=False).open(replace=True)
        try:
            assert (first.state, current_gate()) == ("closed", second)
            with pytest.raises(TokenTerminated):
                await waiting
        finally:
            second.close()
        while any(thread.name == "notebook-asyncio" for thread in threading.enumerate()):
            await asyncio.sleep(0.001)

    asyncio.run(cells())


def test_spawn_replaces_the_actor_of_its_name() -> None:
    """Also one that does not exist yet; the old one's refs are dead, and the new one's work."""
    with Gate("notebook", control_socket=False) as gate:
        first, second = (gate.spawn(Counter, total, name="counter", replace=True) for total in (1, 10))

        assert second.proxy().add(1).result(WAIT) == 11
        with pytest.raises(ActorDead):
            first.ask("anything")

        async def replaced() -> int:
            ref = await gate.aspawn(Counter, 100, name="counter", replace=True)
            return await ref.call(Counter.add, 1)

        assert asyncio.run(replaced()) == 101
        with pytest.raises(ValueError, match="gate 'notebook' with replace=True needs the name of the actor"):
            gate.spawn(Counter, replace=True)


def test_an_actor_is_not_stopped_for_one_whose_arguments_do_not_fit() -> None:
    """The error says so, and the one that runs keeps its state."""
    with Gate("notebook", control_socket=False) as gate:
        counter = gate.spawn(Counter, 1, name="counter", replace=True)

        with pytest.raises(StartFailed, match="'counter' was not started, and none was stopped for it: too many"):
            gate.spawn(Counter, 1, 2, 3, name="counter", replace=True)
        assert counter.proxy().add(1).result(WAIT) == 2


# Helpers that are defined again

Cell = Callable[[str], Any]


@pytest.fixture
def cell(monkeypatch: pytest.MonkeyPatch) -> Cell:
    """Runs code as a cell of a notebook; returns the value of the last line, if that is an expression."""
    main = ModuleType("__main__")  # without a file
    monkeypatch.setitem(sys.modules, "__main__", main)
    exec("from tokengate import token, ProcessActor\nfrom functools import partial, cached_property", vars(main))

    def run(code: str) -> Any:
        *lines, last = code.strip().splitlines()
        try:
            expression = compile(last, "<cell>", "eval")
        except SyntaxError:
            exec(code, vars(main))
            return None
        exec("\n".join(lines), vars(main))
        return eval(expression, vars(main))

    return run


@pytest.fixture
def gate() -> Iterator[Gate]:
    pool = ProcessPool(size=1, spares=0)
    with Gate("notebook", threads=2, processes=pool, control_socket=False) as gate:
        yield gate


CHANGES = {
    "a helper": ("def helper(): return 1", "helper()", "def helper(): return 2"),
    "a helper of a helper": (
        "def inner(): return 1\ndef helper(): return inner()",
        "helper()",
        "def inner(): return 2",
    ),
    "a value": ("SIZE = 1", "SIZE", "SIZE = 2"),
    "a value in a dict": ("CONFIG = {'size': 1}", "CONFIG['size']", "CONFIG['size'] = 2"),
    "an element of a list": ("SIZES = [1]", "SIZES[0]", "SIZES[0] = 2"),
    "a method": ("class C:\n    def size(self): return 1", "C().size()", "C.size = lambda self: 2"),
    "a helper of a method": (
        "def helper(): return 1\nclass C:\n    @property\n    def size(self): return helper()",
        "C().size",
        "def helper(): return 2",
    ),
    "an attribute": ("class C: pass\nc = C()\nc.size = 1", "c.size", "c.size = 2"),
    "what a partial calls": ("def f(n): return n\ng = partial(f, 1)", "g()", "g = partial(f, 2)"),
    "a helper in a dict of functions": (
        "def f(): return h()\ndef h(): return 1\nD = {'f': f}",
        "D['f']()",
        "def h(): return 2",
    ),
    "a name that hides a built-in": ("", "len('x')", "def len(text): return 2"),
}


@pytest.mark.parametrize(("before", "use", "after"), CHANGES.values(), ids=CHANGES)
@pytest.mark.usefixtures("gate")
def test_a_process_token_uses_what_is_defined_when_it_is_sent(cell: Cell, before: str, use: str, after: str) -> None:
    """A cell that defines a helper anew is enough: the operation that uses it need not be defined again."""
    cell(f"{before}\n@token(affinity='process')\ndef work(): return {use}")
    assert cell("work()") == 1

    cell(after)

    assert cell("work()") == 2
    assert cell("[t.result() for t in [work.submit() for _ in range(20)]]") == [2] * 20


@pytest.mark.usefixtures("gate")
def test_a_token_uses_what_was_defined_before_it_although_its_worker_has_looked_already(
    cell: Cell, late_look: Door
) -> None:
    """A worker that has ended a token looks for the next one, which may come only now, after another cell."""
    cell("def helper(): return 1\n@token(affinity='process')\ndef work(): return helper()")
    assert cell("work()") == 1
    late_look.wait_reached()
    second = cell("def helper(): return 2\nwork.submit()")
    late_look.open()

    assert second.result(WAIT) == 2


def test_an_operation_of_unchanged_definitions_is_sent_once(cell: Cell, gate: Gate) -> None:
    cell("def helper(n): return n\n@token(affinity='process')\ndef work(n): return helper(n)")
    drain = gate._operations[cell("work")._spec].drain
    first = drain.current_function()  # type: ignore[attr-defined]

    assert [cell(f"work({n})") for n in range(5)] == [0, 1, 2, 3, 4]
    cell("other = 5")
    assert drain.current_function() is first  # type: ignore[attr-defined]


def test_a_process_actor_that_is_replaced_uses_the_new_helper(cell: Cell, gate: Gate) -> None:
    cell("def helper(): return 1\nclass A(ProcessActor):\n    def size(self): return helper()")
    for value in (1, 2):
        cell(f"def helper(): return {value}")
        ref = gate.spawn(cell("A"), name="a", replace=True)

        assert ref.proxy().size().result(WAIT) == value
