"""The rows of the table: the workload, the sides, and the goal of each."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Final

import attrs

OURS: Final = "TokenGate"
CORES: Final = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@attrs.frozen
class Goal:
    """A goal for the median.

    Attributes:
        value: our figure at most; if there is a peer, how many times as fast as that we are at least.
        peer: label of its side.
        cpu: whether processor time is compared instead of elapsed time.
    """

    value: float
    peer: str | None = None
    cpu: bool = False


@attrs.frozen
class Row:
    """One workload on all sides.

    Attributes:
        name: what the command line finds it by.
        number: of operations in a sample; the workload says what an operation is.
        sides: {label: the file in `sides/` and the workload in it}; ours is the first.
        goals: {mode: what is wanted there}.
        unit: of the figure.
    """

    name: str
    number: int
    sides: Mapping[str, str]
    goals: Mapping[str, Goal] = attrs.field(factory=dict)
    unit: str = "us"


def at_most(value: float) -> Mapping[str, Goal]:
    return {"free": Goal(value)}


def times(value: float, peer: str, busy: float | None = None, cpu: bool = False) -> Mapping[str, Goal]:
    """Return the goals of free mode and of busy mode, as multiples of a peer's speed."""
    free = {"free": Goal(value, peer, cpu)}
    return free if busy is None else {**free, "busy": Goal(busy, peer, cpu)}


def actors(ours: str, theirs: str, **others: str) -> Mapping[str, str]:
    """Return our side and those of the actor libraries."""
    return {
        OURS: f"ours.{ours}",
        "pykka": f"on_pykka.{theirs}",
        "async-pykka": f"on_async_pykka.workloads.{theirs}",
        "everything-is-an-actor": f"on_everything.workloads.{theirs}",
        "casty": f"on_casty.workloads.{theirs}",
        **others,
    }


def on_asyncio(workload: str) -> Mapping[str, str]:
    """Return our side and that of the actor library whose actors are like ours, in one asyncio loop."""
    return {OURS: f"ours_on_asyncio.workloads.{workload}", "async-pykka": f"on_async_pykka.workloads.{workload}"}


def pykka(ours: str, theirs: str) -> Mapping[str, str]:
    """Return our side and pykka's."""
    return {OURS: f"ours.{ours}", "pykka": f"on_pykka.{theirs}"}


def with_policies(name: str, most: float) -> Row:
    """Return the row of a token that is held to something, at so many times the processor time of a bare one."""
    sides = {OURS: f"ours_with_policies.{name}", "bare": "ours_with_policies.bare"}
    return Row(f"a token, {name.replace('_', ' ')}", 20_000, sides, times(1 / most, "bare", cpu=True))


def executor(workload: str) -> Mapping[str, str]:
    """Return our side and that of the executor with processes."""
    return {
        OURS: f"our_processes.workloads.{workload}",
        "ProcessPoolExecutor": f"on_executors.processes.{workload}",
    }


ROWS: Final = (
    Row("spawn and first answer, in turn", 1_000, actors("spawn_in_turn", "spawn_in_turn"), at_most(60)),
    Row("spawn and first answer, at once", 1_000, actors("spawn_at_once", "spawn_at_once"), at_most(60)),
    Row("spawn and first answer, beside 3,000", 1_000, pykka("spawn_beside_many", "spawn_in_turn")),
    Row("aspawn and first answer, in turn", 1_000, actors("aspawn_in_turn", "spawn_in_turn"), at_most(100)),
    Row("aspawn and first answer, with an __init__", 1_000, pykka("aspawn_initialized", "spawn_in_turn"), at_most(100)),
    Row("aspawn and first answer, at once", 1_000, actors("aspawn_at_once", "spawn_at_once"), at_most(100)),
    Row("ask in a loop, handler does not wait", 10_000, actors("ask_in_loop", "ask", trio="on_trio.ask"), at_most(5)),
    Row("ask in a loop, handler waits", 10_000, {OURS: "ours.ask_one_that_waits", "trio": "on_trio.ask"}),
    Row(
        "ask from a thread, cpu actor",
        5_000,
        {**pykka("ask_cpu", "ask"), "two queues": "on_executors.round_trips"},
        at_most(30),
    ),
    Row("tell, cpu actor", 100_000, actors("tell_cpu", "tell"), times(2, "pykka", busy=0.85)),
    Row("tell, io actor, from a thread", 100_000, pykka("tell_io", "tell"), times(1.7, "pykka")),
    Row("tell, io actor, in its loop", 50_000, actors("tell_in_loop", "tell"), times(1.2, "pykka")),
    Row("tell, collector tuned", 100_000, {OURS: "ours.tell_cpu_tuned", "not tuned": "ours.tell_cpu"}),
    Row("tell, with an observer", 50_000, {OURS: "ours.tell_observed", "without": "ours.tell_cpu"}),
    Row("1,000 asks in flight, cpu actor", 20_000, actors("ask_in_flight", "ask_in_flight"), times(3.3, "pykka")),
    Row("1,000 asks in flight, in a loop", 20_000, actors("ask_in_flight_in_loop", "ask_in_flight")),
    Row("fan-out to 100, cpu actors", 100, actors("fan_out_cpu", "fan_out"), at_most(580)),
    Row("fan-out to 100, io actors", 100, actors("fan_out_io", "fan_out"), at_most(850)),
    Row("start and stop, supervised", 1_000, pykka("start_and_stop", "start_and_stop"), times(1, "pykka")),
    Row(
        "submit and gather 10,000",
        50_000,
        {OURS: "ours.operations.gather", "ThreadPoolExecutor": "on_executors.threads.gather"},
        times(3.5, "ThreadPoolExecutor"),
    ),
    Row(
        "submit and gather 10,000, collector tuned",
        50_000,
        {OURS: "ours.operations_tuned.gather", "not tuned": "ours.operations.gather"},
    ),
    Row(
        "10,000 sleepers",
        10_000,
        {OURS: "ours.sleepers", "trio": "on_trio.sleepers"},
        times(1 / 1.3, "trio", cpu=True),
    ),
    Row("tell, asyncio actor, in its loop", 50_000, on_asyncio("tell")),
    Row("ask in an asyncio loop", 10_000, on_asyncio("ask")),
    Row("fan-out to 100, asyncio actors", 100, on_asyncio("fan_out")),
    Row(
        "10,000 sleepers on asyncio",
        10_000,
        {OURS: "ours_on_asyncio.sleepers", "TaskGroup": "ours_on_asyncio.group_of_sleepers"},
    ),
    Row(
        "submit and gather 10,000 coroutines, asyncio",
        50_000,
        {OURS: "ours_on_asyncio.operations.gather", "io": "ours_on_asyncio.io_operations.gather"},
        times(1 / 1.3, "io", cpu=True),
    ),
    Row("direct await, beyond the coroutine", 20_000, {OURS: "ours_on_asyncio.direct_await"}, at_most(6)),
    Row(
        "direct call",
        20_000,
        {OURS: "ours.direct_call", "ThreadPoolExecutor": "on_executors.threads.round_trips"},
        at_most(3),
    ),
    Row("off: a decorated call, no gate open", 500_000, {OURS: "ours.off"}, at_most(0.15)),
    with_policies("beside_policies", 1.05),
    with_policies("beside_1", 3),
    with_policies("beside_10", 3),
    with_policies("beside_100", 3),
    with_policies("beside_1000", 3),
    with_policies("under_1000_keys", 3),
    with_policies("deadline", 1.5),
    with_policies("rate", 1.5),
    with_policies("breaker", 1.5),
    with_policies("all_three", 2.2),
    with_policies("fair_1", 2.2),
    with_policies("fair_1000", 2.2),
    Row("memory of an idle actor", 10_000, {OURS: "ours.bytes_per_actor"}, at_most(3 * 1_024), "bytes"),
    Row("memory of a token in flight", 10_000, {OURS: "ours.bytes_per_token"}, at_most(480), "bytes"),
    Row("threads of 10,000 actors", 10_000, {OURS: "ours.threads"}, at_most(CORES + 4), "threads"),
    Row("process tokens, 10,000 small ones", 10_000, executor("gather"), times(20, "ProcessPoolExecutor")),
    Row("process tokens, one at a time", 2_000, executor("round_trips"), times(4, "ProcessPoolExecutor")),
    Row(
        "process tokens, direct calls",
        2_000,
        {**executor("round_trips"), OURS: "our_processes.calls"},
        times(4, "ProcessPoolExecutor"),
    ),
    Row(
        "process tokens, computing 20 ms",
        100,
        {**executor("compute"), "without calls": "from_submits.compute_alone"},
        times(1, "ProcessPoolExecutor"),
    ),
    Row("process tokens, 64 MiB of bytes", 3, executor("large_bytes"), times(2, "ProcessPoolExecutor")),
    Row("process tokens, 64 MiB of NumPy", 3, executor("large_array"), times(2, "ProcessPoolExecutor")),
    Row("killed worker replaced, idle", 20, {OURS: "our_processes.replacing_idle"}, at_most(50_000)),
    Row("killed worker replaced, busy", 20, {OURS: "our_processes.replacing_busy"}, at_most(50_000)),
    Row("token ended in a sleep", 10, {OURS: "our_processes.ending_sleep"}, at_most(100_000)),
    Row("token ended in a regular expression", 10, {OURS: "our_processes.ending_regex"}, at_most(100_000)),
    Row("token ended in a product of NumPy", 10, {OURS: "our_processes.ending_numpy"}, at_most(100_000)),
)
