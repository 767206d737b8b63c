"""The watch over limits: it kills a child process when its token exceeds a limit."""

from __future__ import annotations

import logging
import math
import sys
import warnings
from typing import TYPE_CHECKING, Any, Final, Protocol

import attrs
import psutil
import trio

from actors._exceptions import LimitExceeded, PlatformWarning
from actors.processes._limits import UNITS, Limits
from actors.tokens._token import Token

if TYPE_CHECKING:
    from actors.processes.pickling._ports import ProcessSystem
    from actors.processes.workers._worker import Worker

_logger = logging.getLogger("tokengate.actors")

# Seconds between two looks at a process.
_LOOK_SECONDS: Final = 0.02


class LimitedDrain(Protocol):
    """The drain of a limited token."""

    def limits_of(self, token: Token[Any], /) -> Limits: ...

    def arrested(self, token: Token[Any], /) -> Worker | None: ...


@attrs.frozen(eq=False)
class _Watched:
    token: Token[Any]
    worker: Worker
    number: int  # of the call
    drain: LimitedDrain


def refused_memory(token: Token[Any], most: int, error: MemoryError) -> LimitExceeded:
    """Return the error of a token that got a `MemoryError` because of its limit `address_space`."""
    exceeded = LimitExceeded(
        f"{token._describe()} was refused memory by its limit address_space, {most:,} bytes", "address_space", most
    )
    exceeded.__cause__ = error
    return exceeded


class LimitWatch:
    """Looks at the processes of limited tokens every 20 ms, on the system loop, while there are any.

    Args:
        system: the actor system of the tokens.
    """

    def __init__(self, system: ProcessSystem) -> None:
        self._system = system
        self._watched: dict[Token[Any], _Watched] = {}
        self._running = False

    def begin(self, token: Token[Any], worker: Worker, number: int, drain: LimitedDrain) -> None:
        """Watch a token that has begun, or whose limits were changed."""
        limits = drain.limits_of(token)
        self._set_address_space(worker, limits.address_space)
        if limits:
            self._watched[token] = _Watched(token, worker, number, drain)
            self._system.system_host.call_soon(self._start)

    def _set_address_space(self, worker: Worker, most: int | None) -> None:
        """Have the operating system limit the address space of a process; None removes the limit."""
        if most == worker.address_space:
            return
        worker.address_space = most
        if not hasattr(psutil, "RLIMIT_AS"):
            warnings.warn(
                f"limit address_space has no effect: {sys.platform} cannot set it for another process",
                PlatformWarning,
                stacklevel=2,
            )
            return
        try:
            process = psutil.Process(worker.pid)
            _, hard = process.rlimit(psutil.RLIMIT_AS)
            soft = psutil.RLIM_INFINITY if most is None else most
            if hard != psutil.RLIM_INFINITY:  # the hard limit of this system
                soft = hard if soft == psutil.RLIM_INFINITY else min(soft, hard)
            process.rlimit(psutil.RLIMIT_AS, (soft, hard))
        except psutil.NoSuchProcess:
            pass  # it is dead, which the fork server reports
        except (psutil.Error, OSError, ValueError) as error:
            _logger.warning("limit address_space of process %s could not be set: %s", worker.pid, error)

    def _start(self) -> None:
        if not self._running:
            self._running = True
            self._system.system_host.start_task(self._work, "limits of tokens")

    async def _work(self) -> None:
        try:
            while self._watched:
                due = _LOOK_SECONDS
                for watched in list(self._watched.values()):
                    due = min(due, self._look(watched))
                await trio.sleep(due)
        finally:
            self._running = False

    def _look(self, watched: _Watched) -> float:
        """Kill the process of a token that exceeds a limit; return the seconds until the next look."""
        token, worker = watched.token, watched.worker
        if token.done() or worker.dead or worker.doomed or token.started_at is None:
            if self._watched.get(token) is watched:  # else its next attempt has begun
                del self._watched[token]
            return _LOOK_SECONDS
        limits = watched.drain.limits_of(token)
        left = math.inf
        now = self._system.clock()
        if limits.wall_time is not None:
            not_counted = token._extras.hold.seconds(now)[1] if token._extras.hold is not None else 0.0
            used = now - token.started_at - not_counted
            if used >= limits.wall_time:
                return self._exceeded(watched, "wall_time", limits.wall_time, used)
            left = limits.wall_time - used
        if (limits.cpu_time is not None or limits.memory is not None) and worker.begun == watched.number:
            try:
                if limits.cpu_time is not None:
                    used = worker.cpu_so_far() or 0.0
                    if used >= limits.cpu_time:
                        return self._exceeded(watched, "cpu_time", limits.cpu_time, used)
                if limits.memory is not None:
                    memory = psutil.Process(worker.pid).memory_info().rss
                    if memory > limits.memory:
                        return self._exceeded(watched, "memory", limits.memory, memory)
            except psutil.Error:
                pass  # it is dead, which the fork server reports
        return max(0.0, min(left, _LOOK_SECONDS))

    def _exceeded(self, watched: _Watched, name: str, most: float, used: float) -> float:
        token, worker = watched.token, watched.worker
        amount = f"{used:,.0f}" if UNITS[name] == "bytes" else f"{used:.3f}"
        error = LimitExceeded(
            f"{token._describe()} used {amount} {UNITS[name]}, and its limit {name} is {most:,} {UNITS[name]}; "
            f"process {worker.pid} was killed",
            name,
            most,
        )
        running = watched.drain.arrested(token)
        if running is not None:  # else it is over, or its thread has not come to sending it: the next look tells
            self._watched.pop(token, None)
            running.kill(error)
        return _LOOK_SECONDS
