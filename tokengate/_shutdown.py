"""The stages of a gate's end: let tokens finish, then stop the tree; each with a deadline that can be cut short."""

from __future__ import annotations

import math

import trio

from actors import SHUTDOWN, ActorPlace, ActorSystem, Reply

# Of the time for shutdown, what may go into waiting for tokens to complete; the rest is for stopping the tree.
_DRAIN_SHARE = 0.5


class Shutdown:
    """What runs on the system loop while a gate closes.

    Args:
        system: of the gate.
    """

    def __init__(self, system: ActorSystem) -> None:
        self._system = system
        self._hurried = False
        self._phase: trio.CancelScope | None = None

    def begin(self, root: ActorPlace, seconds: float, drain: bool) -> Reply[bool]:
        """Start the stages; the reply tells whether all tokens came to their own end.

        Args:
            root: of the tree.
            seconds: for all stages together.
            drain: whether to wait for accepted tokens first.
        """
        return self._system.system_host.run(lambda: self._run(root, seconds, drain))

    def hurry(self) -> None:
        """Cut the stage that runs, and those to come; safe in a signal handler."""
        self._hurried = True
        self._system.system_host.call_soon(self._cut_phase)

    async def _run(self, root: ActorPlace, seconds: float, drain: bool) -> bool:
        system, drained = self._system, False
        end = trio.current_time() + seconds
        if drain:
            system.drain()
            with self._limited(trio.current_time() + seconds * _DRAIN_SHARE):
                while live := list(system.live.values()):  # what these submit is accepted, and waited for, too
                    for token in live:
                        await token.wait()
                drained = True
        system.close_intake()
        with self._limited(end):
            await root.stop(SHUTDOWN, drain=False, administrative=False).wait()
        return drained

    def _limited(self, deadline: float) -> trio.CancelScope:
        self._phase = trio.CancelScope(deadline=-math.inf if self._hurried else deadline)
        return self._phase

    def _cut_phase(self) -> None:
        if self._phase is not None:
            self._phase.cancel()
