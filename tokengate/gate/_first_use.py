"""The first use of a gate that opens lazily: one thread opens the gate, and the others wait for that."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import cast

from actors import ActorSystem, Reply
from actors.lowlevel import DaemonThread, Place, current_turn, refusal, submits_to_gate
from tokengate.gate._shutdown_report import ShutdownReport
from tokengate.gate._uninterrupted_call import UninterruptedCall
from tokengate.operations import _current
from tokengate.operations._ports import OpenGate


class FirstUse:
    """Opens a gate once, for whatever uses it first.

    Args:
        name: of the gate.
        open: opens the gate, if it is new.
    """

    def __init__(self, name: str, open: Callable[[], object]) -> None:
        self._name = name
        self._open = open
        self._lock = threading.RLock()  # a signal handler may use the gate in the very thread that opens it

    def here(self) -> None:
        """Open the gate, or block until another thread has opened it.

        Raises:
            StartFailed: a child did not start; the next use tries again.
        """
        with self._lock:
            self._open()

    def exclude(self, fn: Callable[[], object]) -> None:
        """Call a function while no use opens the gate."""
        with self._lock:
            fn()

    async def awaited(self) -> None:
        """Do as `here` does, on a thread of its own, and await it (trio and asyncio)."""
        reply: Reply[None] = Reply()

        def run() -> None:
            try:
                self.here()
            except BaseException as error:
                reply._set(error=error)
            else:
                reply._set()

        DaemonThread(run, f"{self._name}-first-use").begin()
        await reply


class LazyOpening:
    """The part of a gate that opens it at its first use, if it opens lazily.

    Attributes:
        name: of the gate.
    """

    name: str
    _state: str
    _first_use: FirstUse | None
    _system: ActorSystem
    _opening: UninterruptedCall
    _resuming: UninterruptedCall
    _closing: UninterruptedCall
    _report: ShutdownReport | None

    def _open(self) -> None:
        raise NotImplementedError

    def _renew(self) -> None:
        raise NotImplementedError

    def _open_if_new(self) -> None:
        """Open a gate that opens lazily; if that fails, the next use tries again."""
        if self._state == "new":
            try:
                self._open()
            except BaseException:
                if self._state == "closed":
                    self._renew()
                    self._offer()
                raise

    def _offer(self) -> None:
        """Take calls before the gate is open, except in a child process, where these are for the gate that made it."""
        if not submits_to_gate():
            _current.open_gates.append(cast("OpenGate", self))

    def _withdraw(self) -> None:
        own = cast("OpenGate", self)
        if own in _current.open_gates:
            _current.open_gates.remove(own)

    def _close_if_new(self) -> None:
        """Close a gate that opens lazily and was not used."""
        if self._state == "new":
            self._state, self._report = "closed", ShutdownReport({}, 0, (), False, 0.0)
            self._closing.disown()
            self._withdraw()

    def _waits_for_first_use(self) -> bool:
        """Tell whether the calling code has to wait until the gate is open; its own code does not."""
        if self._first_use is None or self._state not in ("new", "opening"):
            return False
        return not (self._opening.runs_here() or self._resuming.runs_here() or runs_in(self._system))

    async def _await_first_use(self) -> None:
        """Open a gate that opens lazily, or wait for that (trio and asyncio)."""
        if self._first_use is not None and self._waits_for_first_use():
            await self._first_use.awaited()


def runs_in(system: ActorSystem) -> bool:
    """Tell whether the calling code is run by a system, so that the end of its opening may depend on this code."""
    place = current_turn()
    hosts = (system.system_host, system.io_host, system.asyncio_hosts.own)
    own = isinstance(place, Place) and place.system is system
    return own or bool(refusal()) or any(host.on_loop() for host in hosts)
