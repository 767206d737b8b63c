"""Statistics of single actors: counted while they are on, and nothing else costs anything."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from gated_code import LIMIT, Door
from running_tokens import Turner, cpu_operation

from actors import UnknownActor
from tokengate import CpuActor, Gate, token
from tokengate.control import messages as m
from tokengate.control._exceptions import BadRequest

Until = Callable[[Callable[[], bool]], None]


class Worker(CpuActor):
    expected = (LookupError,)

    def work(self) -> None: ...

    def fail(self) -> None:
        raise LookupError


@token
def nothing() -> str:
    return "done"


def figures(gate: Gate, name: str, switch: str = "show") -> m.ActorStatistics | None:
    [row] = gate.find("$system/control").ask(m.Statistics(name, switch))  # type: ignore[arg-type]
    found: m.ActorStatistics | None = row.statistics
    return found


def counted(gate: Gate, name: str, number: int, until: Until) -> m.ActorStatistics:
    """Return the figures of a name when so many tokens are counted, each a moment after its result is there."""
    found: list[m.ActorStatistics | None] = [None]

    def are_counted() -> bool:
        found[0] = figures(gate, name)
        return found[0] is not None and found[0].handled >= number

    until(are_counted)
    assert found[0] is not None
    return found[0]


def test_what_an_actor_handles_is_counted_from_the_moment_they_are_on(gate: Gate, until: Until) -> None:
    """And from nothing again, when they are switched on anew."""
    proxy = gate.spawn(Worker, name="worker").proxy()
    proxy.work().result(LIMIT)
    assert figures(gate, "worker") is None

    figures(gate, "worker", "on")
    for _ in range(5):
        proxy.work().result(LIMIT)
    proxy.fail().exception(LIMIT)
    nothing.submit().result(LIMIT)
    found = counted(gate, "worker", 6, until)
    assert (found.handled, found.failed) == (6, 1)
    assert 0 <= found.took <= found.longest <= found.seconds
    assert 0 <= found.busy_share <= 1
    assert found.waited >= 0
    again = figures(gate, "worker", "on")
    assert again is not None
    assert again.handled == 0


def test_what_runs_while_they_are_asked_for_counts_as_busy(gate: Gate, door: Door, until: Until) -> None:
    """A long token makes its actor busy before it has ended, and since the beginning only."""
    proxy = gate.spawn(Turner, name="turner").proxy()
    sent = proxy.turn(door)
    door.wait_reached()

    figures(gate, "turner", "on")
    first = figures(gate, "turner")
    assert first is not None
    assert first.handled == 0
    assert first.busy_share == pytest.approx(1.0, abs=0.05)
    door.open()
    sent.result(LIMIT)
    second = counted(gate, "turner", 1, until)
    assert second.handled == 1
    assert second.busy_share <= 1


def test_a_queued_token_has_waited(gate: Gate, until: Until) -> None:
    """From the queue to its beginning."""
    nothing.submit().result(LIMIT)
    figures(gate, "nothing", "on")
    gate.control.suspend("nothing")
    sent = nothing.submit()
    gate.control.tokens("*")
    gate.control.unsuspend("nothing")
    sent.result(LIMIT)
    found = counted(gate, "nothing", 1, until)

    assert sent.started_at is not None
    assert sent.queued_at is not None
    assert found.waited == pytest.approx(sent.started_at - sent.queued_at)


def test_nothing_is_observed_while_all_are_off(gate: Gate) -> None:
    """The observer comes with the first, and goes with the last."""
    for name in ("one", "two"):
        gate.spawn(Worker, name=name)
    assert gate._system.on_token_finished is None

    gate.control.statistics("*", "on")
    assert gate._system.on_token_finished is not None
    figures(gate, "one", "off")
    assert gate._system.on_token_finished is not None
    gate.control.statistics("*", "off")
    assert gate._system.on_token_finished is None


def test_an_actor_that_has_gone_is_counted_no_more(gate: Gate) -> None:
    """Nobody could switch it off by its name."""
    gate.spawn(Worker, name="gone")
    gate.spawn(Worker, name="there")
    figures(gate, "gone", "on")
    gate.control.terminate_child("spawned", "gone")

    figures(gate, "there", "off")
    assert gate._system.on_token_finished is None


def test_a_direct_call_is_counted(gate: Gate, door: Door) -> None:
    """It is a token like others, only on its caller's thread."""
    door.open()
    cpu_operation(door)
    figures(gate, "turn", "on")
    cpu_operation(door)
    found = figures(gate, "turn")

    assert found is not None
    assert found.handled == 1


def test_who_cannot_be_counted_is_refused(gate: Gate) -> None:
    """Nobody of that name, no such switch."""
    with pytest.raises(UnknownActor):
        figures(gate, "nobody", "on")
    with pytest.raises(BadRequest):
        figures(gate, "spawned", "maybe")
