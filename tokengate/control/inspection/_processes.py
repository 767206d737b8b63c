"""Child processes, and the tokens that they run."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Final

import attrs
import trio

from actors import Token
from actors.lowlevel import UNITS, Place, ProcessDrain, cpu_seconds, process_drain
from tokengate.control.inspection._off_loop import OffLoop
from tokengate.control.messages import TokenProcess

# Seconds for which processor time is measured.
_CPU_LOOK: Final = 0.01
# Seconds that reading the figures of a process may take.
_LOOK_SECONDS: Final = 1.0

_lookers = OffLoop("figures of child processes", 4)


def limits_of(token: Token[Any]) -> dict[str, float]:
    """Return {name of a limit: its value, in bytes or seconds} of the limits that a token has."""
    drain = process_drain(token)
    if drain is None:
        return {}
    limits = drain.limits_of(token)
    return {name: float(value) for name in UNITS if (value := getattr(limits, name)) is not None}


def own_pid(place: Place) -> int | None:
    """Return the pid of the child process that belongs to an actor's instance; None if there is none."""
    drain = place.drain
    if not isinstance(drain, ProcessDrain) or not drain.own:
        return None
    return next((worker.pid for worker in drain.workers() if worker.pid), None)


async def process_of(token: Token[Any]) -> tuple[TokenProcess | None, float | None]:
    """Return the child process that runs a token, and its share of processor time; None where they are unknown."""
    drain = process_drain(token)
    worker = None if drain is None else drain.worker_of(token)
    if worker is None:
        return None, None
    stopped = worker.stopped
    figures = await _lookers.run(_LOOK_SECONDS, worker.figures)
    if figures is None:
        return None, None
    shown = TokenProcess(stopped=stopped, **attrs.asdict(figures, recurse=False))
    return shown, await cpu_share(lambda: cpu_seconds(figures.pid))


async def memory_of(tokens: Iterable[Token[Any]]) -> list[tuple[int, Token[Any]]]:
    """Return (bytes, token) of those that child processes run, as far as the operating system tells it in time."""
    found = ((token, process_drain(token)) for token in tokens)
    workers = [(token, worker) for token, drain in found if drain and (worker := drain.worker_of(token)) is not None]
    read = lambda: [(size, token) for token, worker in workers if (size := worker.memory()) is not None]  # noqa: E731
    return (await _lookers.run(_LOOK_SECONDS, read) if workers else None) or []


async def cpu_share(used: Callable[[], float | None]) -> float | None:
    """Read a clock of processor time twice, 10 ms apart, and return by how much of these it has advanced."""
    at, before = trio.current_time(), used()
    await trio.sleep(_CPU_LOOK)
    elapsed, after = trio.current_time() - at, used()
    if before is None or after is None or elapsed <= 0:
        return None
    return max(0.0, (after - before) / elapsed)
