"""The first use of a gate that opens lazily: one thread opens the gate, and the others wait for that."""

from __future__ import annotations

import threading
from collections.abc import Callable

from actors import ActorSystem, Reply
from actors.lowlevel import DaemonThread, Place, current_turn, refusal


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


def runs_in(system: ActorSystem) -> bool:
    """Tell whether the calling code is run by a system, so that the end of its opening may depend on this code."""
    place = current_turn()
    hosts = (system.system_host, system.io_host, system.asyncio_hosts.own)
    own = isinstance(place, Place) and place.system is system
    return own or bool(refusal()) or any(host.on_loop() for host in hosts)
