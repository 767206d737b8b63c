"""What is seen of child processes and of the tokens that they run."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import trio

from actors import ProcessStatistics, Token
from actors.lowlevel import UNITS, Place, ProcessDrain, cpu_seconds
from tokengate.control.inspection._off_loop import OffLoop
from tokengate.control.messages import Processes, TokenProcess

# Seconds for which a process is watched, to learn what part of them it computes.
_CPU_LOOK: Final = 0.01
# Seconds that the system may take to tell of a process.
_LOOK_SECONDS: Final = 1.0

_lookers = OffLoop("looks at child processes", 4)


def process_drain(token: Token[Any]) -> ProcessDrain | None:
    """Return what runs a token in child processes; None if it is not for these."""
    drain = token._place.drain
    return drain if isinstance(drain, ProcessDrain) else None


def limits_of(token: Token[Any]) -> dict[str, float]:
    """Return {name of a limit: its value, in bytes or seconds} of the limits that a token has."""
    drain = process_drain(token)
    if drain is None:
        return {}
    limits = drain.limits_of(token)
    return {name: float(value) for name in UNITS if (value := getattr(limits, name)) is not None}


def own_pid(place: Place) -> int | None:
    """Return the pid of the process that an actor's instance has for itself; None if there is none."""
    drain = place.drain
    if not isinstance(drain, ProcessDrain) or not drain.own:
        return None
    return next((worker.pid for worker in drain.workers() if worker.pid), None)


async def process_of(token: Token[Any]) -> tuple[TokenProcess | None, float | None]:
    """Return the process that runs a token, and how much that computes; None where it runs in none, or is not told."""
    drain = process_drain(token)
    worker = None if drain is None else drain.worker_of(token)
    if worker is None:
        return None, None
    stopped = worker.stopped
    figures = await _lookers.run(_LOOK_SECONDS, worker.figures)
    if figures is None:
        return None, None
    shown = TokenProcess(
        figures.pid,
        stopped,
        figures.cpu_time,
        figures.memory,
        figures.threads,
        figures.open_files,
        figures.children,
    )
    return shown, await cpu_share(lambda: cpu_seconds(figures.pid))


async def cpu_share(used: Callable[[], float | None]) -> float | None:
    """Watch a clock of processor time for a moment, and return the part of that for which it ran."""
    at, before = trio.current_time(), used()
    await trio.sleep(_CPU_LOOK)
    elapsed, after = trio.current_time() - at, used()
    if before is None or after is None or elapsed <= 0:
        return None
    return max(0.0, (after - before) / elapsed)


def pool_of(figures: ProcessStatistics | None) -> Processes | None:
    """Return what is told of the child processes of a gate."""
    if figures is None:
        return None
    return Processes(figures.workers, figures.busy, figures.spares, figures.started, figures.died, tuple(figures.pids))
