"""Gates that are opened and closed again and again leave nothing behind.

30 times; 1,000 times, and memory is looked at, with TOKENGATE_TORTURE=1.
"""

from __future__ import annotations

import faulthandler
import gc
import os
import threading
from collections.abc import Callable
from typing import Any

import psutil
import pykka
import trio
from memory import MIB, resident
from tiers import in_ci

from tokengate import AsyncioActor, ChildSpec, CpuActor, DynamicSupervisor, Gate, IoActor, Supervisor, token

TORTURE = os.environ.get("TOKENGATE_TORTURE") == "1"
CYCLES = 1_000 if TORTURE else 30


class _Echo:
    def on_receive(self, message: Any) -> Any:
        return message


class CpuEcho(_Echo, CpuActor):
    pass


class PinnedEcho(_Echo, CpuActor):
    dispatcher = "pinned"


class IoEcho(_Echo, IoActor):
    pass


class AsyncioEcho(_Echo, AsyncioActor):
    pass


class ForeignEcho(_Echo, pykka.ThreadingActor):
    pass


async def wait() -> None:
    await trio.sleep_forever()


@token
def double(number: int) -> int:
    return 2 * number


def tree() -> list[ChildSpec]:
    """Return a tree of twenty: three supervisors, and children of each kind."""
    kinds: list[Any] = [CpuEcho, IoEcho, wait]
    return [
        Supervisor.child_spec(
            "one", [ChildSpec(f"one-{number}", kinds[number % 3]) for number in range(9)], strategy="one_for_all"
        ),
        Supervisor.child_spec(
            "two",
            [ChildSpec("pinned", PinnedEcho), ChildSpec("foreign", ForeignEcho), ChildSpec("asyncio", AsyncioEcho)]
            + [ChildSpec(f"two-{number}", kinds[number % 3]) for number in range(6)],
            strategy="rest_for_one",
        ),
        DynamicSupervisor.child_spec("pool"),
    ]


def threads() -> list[str]:
    # trio keeps idle worker threads of `trio.to_thread` for ten seconds.
    return sorted(thread.name for thread in threading.enumerate() if not thread.name.startswith("Trio thread"))


def are_gone() -> bool:
    """Tell whether no thread of a gate is left; the one that has closed it ends by itself."""
    return not any(name.startswith("cycle-") for name in threads())


def cycle() -> None:
    with Gate("cycle", children=tree()) as gate:
        for name in ("one-0", "one-1", "pinned", "foreign", "asyncio"):
            assert gate.find(name).ask(name, timeout=120) == name
        assert double(4) == 8


@in_ci
def test_a_gate_that_is_opened_and_closed_many_times_leaves_nothing_behind(
    until: Callable[[Callable[[], bool]], None],
) -> None:
    """Threads, children and descriptors are as many as before; memory grows by less than 2 MiB over 900 cycles."""
    faulthandler.cancel_dump_traceback_later()  # this test may take longer
    process = psutil.Process()
    for _ in range(CYCLES // 10):
        cycle()
    until(are_gone)
    gc.collect()  # files of others that are closed by it are not counted
    before = threads(), process.children(), process.num_fds()
    memory = resident()
    for _ in range(CYCLES - CYCLES // 10):
        cycle()
    until(are_gone)
    grown = resident() - memory
    print(f"{CYCLES} cycles, {grown / MIB:+.2f} MiB")

    assert (threads(), process.children(), process.num_fds()) == before
    assert not TORTURE or grown < 2 * MIB
