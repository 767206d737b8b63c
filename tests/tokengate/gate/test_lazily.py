"""Gates that open lazily: at their first use, in each process that uses them."""

from __future__ import annotations

import asyncio
import contextvars
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import trio

from actors import WouldBlock
from supervisors import ChildSpec
from tokengate import CpuActor, Gate, token
from tokengate.errors import AmbiguousGate, GateState, NeedsGate, StartFailed
from tokengate.types import current_gate

WAIT = 30.0  # seconds; only reached when something is broken


@token
def double(n: int) -> int:
    return 2 * n


@token(affinity="asyncio")
async def triple(n: int) -> int:
    return 3 * n


class Counter(CpuActor):
    def __init__(self) -> None:
        super().__init__()
        self.total = double(1)  # its gate is being opened

    def add(self, n: int) -> int:
        self.total += n
        return self.total


@pytest.fixture
def gate() -> Iterator[Gate]:
    gate = Gate("lazy", open="lazily", children=[ChildSpec("counter", Counter)], control_socket=False)
    yield gate
    gate.close()


def ours() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("lazy")]


USES: dict[str, Callable[[Gate], object]] = {
    "submit": lambda gate: double.submit(2).result(WAIT),
    "a direct call": lambda gate: double(2),
    "map": lambda gate: double.map([2]),
    "spawn": lambda gate: gate.spawn(Counter),
    "start": lambda gate: Counter.start(),
    "find": lambda gate: gate.find("counter"),
    "control": lambda gate: gate.control.info(),
    "executor": lambda gate: gate.executor(),
    "register": lambda gate: gate.register(double),
    "open": lambda gate: gate.open(),
}


@pytest.mark.parametrize("use", USES.values(), ids=USES)
def test_the_first_use_opens_the_gate(gate: Gate, use: Callable[[Gate], object]) -> None:
    """Before it nothing has started; after it the children run, and the gate is as any other."""
    assert (gate.state, ours(), current_gate()) == ("new", [], gate)

    use(gate)

    assert gate.state == "open"
    assert gate.find("counter").proxy().add(3).result(WAIT) == 5
    assert gate.open() is gate


def test_uses_at_the_same_moment_open_it_once_and_see_its_children(gate: Gate) -> None:
    barrier, found = threading.Barrier(8), list[int]()

    def use() -> None:
        barrier.wait(WAIT)
        found.append(gate.find("counter").proxy().add(double(1)).result(WAIT))

    threads = [threading.Thread(target=use) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(WAIT)

    assert sorted(found) == [4, 6, 8, 10, 12, 14, 16, 18]


def test_a_gate_that_is_never_used_starts_nothing(gate: Gate) -> None:
    """Its block ends it without having opened it."""
    with gate:
        assert current_gate() is gate
        gate.request_stop()
        assert gate.wait(0)
        assert (ours(), gate.statistics().restarts) == ([], 0)

    assert (gate.state, gate.close().stages, current_gate()) == ("closed", {}, None)


def test_a_block_ends_the_gate_that_was_used_in_it(gate: Gate) -> None:
    with gate:
        assert double.submit(2).result(WAIT) == 4

    assert gate.close().clean
    for use in (lambda: gate.spawn(Counter), gate.__enter__, gate.open):
        with pytest.raises(GateState, match="closed"):
            use()
    with pytest.raises(NeedsGate, match=r"no gate is open to submit 'double' to; use 'with Gate"):
        double.submit(2)


def test_a_first_use_that_fails_is_tried_again(until: Callable[[Callable[[], bool]], None]) -> None:
    """A child that does not start is the error of the use; nothing of that opening is left."""
    works: list[bool] = []

    class Fragile(CpuActor):
        def on_start(self) -> None:
            if not works:
                raise RuntimeError("not yet")

    gate = Gate("lazy", open="lazily", children=[ChildSpec("fragile", Fragile)], control_socket=False)
    try:
        for _ in range(2):
            with pytest.raises(StartFailed, match="fragile"):
                double.submit(2)
            until(lambda: not ours())  # the thread that has undone the opening ends by itself
            assert (gate.state, current_gate()) == ("new", gate)
        works.append(True)

        assert double.submit(2).result(WAIT) == 4
    finally:
        gate.close()


def test_subscriptions_before_the_first_use_hold(gate: Gate) -> None:
    seen: list[object] = []
    gate.subscribe(seen.append)
    double(2)

    assert seen


def test_it_is_the_current_gate_where_no_other_is_open(gate: Gate) -> None:
    """One that is open goes first as long as the lazy one was not used; then a call has to be within one of them."""
    outside = contextvars.Context()  # within no block
    with Gate("other", control_socket=False) as other:
        assert outside.run(current_gate) is other
        gate.open()

        assert current_gate() is other
        with pytest.raises(AmbiguousGate, match=r"several gates are open \('lazy', 'other'\)"):
            outside.run(double.submit, 2)


LOOPS: dict[str, Callable[..., Any]] = {
    "trio": trio.run,
    "asyncio": lambda main, *args: asyncio.run(main(*args)),
}


@pytest.mark.parametrize("run", LOOPS.values(), ids=LOOPS)
@pytest.mark.parametrize("use", ["await", "asubmit", "aspawn", "aspawn_many"])
def test_an_awaited_use_opens_it_without_holding_up_the_loop(run: Callable[..., Any], use: str) -> None:
    """Children start while other tasks of the loop go on, or this test would hang."""
    on, may_start = threading.Event(), threading.Event()

    class Slow(CpuActor):
        def on_start(self) -> None:
            on.set()
            assert may_start.wait(WAIT)

    gate = Gate("lazy", open="lazily", children=[ChildSpec("slow", Slow)], control_socket=False)

    async def main() -> None:
        sleep: Any = trio.sleep if run is trio.run else asyncio.sleep

        async def let_start() -> None:
            while not on.is_set():
                await sleep(0.001)
            may_start.set()

        async def do() -> None:
            if use == "await":
                assert await triple(2) == 6
            elif use == "asubmit":
                assert await (await triple.asubmit(2)) == 6
            elif use == "aspawn":
                assert (await gate.aspawn(Counter)).is_alive()
            else:
                assert len(await gate.aspawn_many(Counter, 2)) == 2

        if run is trio.run:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(let_start)
                nursery.start_soon(do)
        else:
            await asyncio.gather(let_start(), do())
        await gate.aclose()

    run(main)


def test_a_use_that_would_block_a_trio_loop_is_refused_with_the_remedy(gate: Gate) -> None:
    async def main() -> None:
        with pytest.raises(WouldBlock, match="await its first use"):
            double.submit(2)
        async with gate:
            assert (await (await double.asubmit(2)), gate.state) == (4, "open")

    trio.run(main)


def test_a_value_of_open_that_does_not_exist_is_an_error() -> None:
    with pytest.raises(ValueError, match="open of gate 'x' is 'soon'; it must be 'lazily', or None"):
        Gate("x", open="soon")  # type: ignore[arg-type]
