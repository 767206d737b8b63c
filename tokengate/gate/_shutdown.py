"""The stages of a gate's shutdown: drain, close the intake, stop the tree. If one fails or hangs, the next follows."""

from __future__ import annotations

import logging
import math
from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol

import trio

from actors import SHUTDOWN, ActorSystem, Reply
from actors.lowlevel import ActorPlace
from tokengate.gate._shutdown_report import Outcome

_logger = logging.getLogger("tokengate")

# The part of the time for shutdown that may be spent on waiting for tokens; the rest is for stopping the tree.
_DRAIN_SHARE = 0.5

# The part that may be over when open transactions are rolled back.
_UNDO_SHARE = 0.75


class Undoing(Protocol):
    """A rollback."""

    async def wait(self) -> None:
        """Await its end."""


class Shutdown:
    """The part of a shutdown that runs on the system loop.

    Args:
        system: of the gate.

    Attributes:
        stages: {name: its outcome so far}; empty before the first begins.
    """

    def __init__(self, system: ActorSystem) -> None:
        self.stages: dict[str, Outcome] = {}
        self._system = system
        self._hurried = False
        self._running: trio.CancelScope | None = None

    def begin(
        self,
        roots: Sequence[ActorPlace],
        seconds: float,
        drain: bool,
        undo: Callable[[], Sequence[Undoing]] | None = None,
    ) -> Reply[None]:
        """Start the stages; the reply is set after the last one.

        Args:
            roots: of the trees, in the order in which they are stopped.
            seconds: for all stages together.
            drain: whether to wait for accepted tokens first.
            undo: begins to roll back the open transactions, and returns what to wait for; None if there never was one.
        """
        self.stages = {"drain": "cut short" if drain else "skipped"}
        self.stages |= dict.fromkeys((*(("undo",) if undo is not None else ()), "intake", "tree"), "cut short")
        return self._system.system_host.run(lambda: self._run(roots, seconds, drain, undo))

    def hurry(self) -> None:
        """Cut short the stage that runs and those that follow; safe in a signal handler."""
        self._hurried = True
        self._system.system_host.call_soon(self._cut)

    async def _run(
        self,
        roots: Sequence[ActorPlace],
        seconds: float,
        drain: bool,
        undo: Callable[[], Sequence[Undoing]] | None,
    ) -> None:
        start = trio.current_time()

        async def roll_back() -> None:
            for rollback in undo() if undo is not None else ():
                await rollback.wait()

        async def stop_tree() -> None:
            for root in roots:
                await root.stop(SHUTDOWN, drain=False, administrative=False).wait()

        if drain:
            await self._stage("drain", start + seconds * _DRAIN_SHARE, self._drain)
        if undo is not None:
            await self._stage("undo", start + seconds * _UNDO_SHARE, roll_back)
        await self._stage("intake", math.inf, self._close_intake)
        await self._stage("tree", start + seconds, stop_tree)

    async def _drain(self) -> None:
        self._system.drain()
        # Tokens that these submit are accepted and waited for, too; questions of operators are not waited for.
        while live := [token for token in list(self._system.live.values()) if not token.serves_operators]:
            for token in live:
                await token.wait()

    async def _close_intake(self) -> None:
        self._system.close_intake()

    async def _stage(self, name: str, deadline: float, act: Callable[[], Awaitable[None]]) -> None:
        with trio.CancelScope(deadline=-math.inf if self._hurried else deadline) as self._running:
            try:
                await act()
                self.stages[name] = "done"
            except Exception:
                self.stages[name] = "failed"
                _logger.exception(
                    "gate '%s': stage '%s' of the shutdown failed; the next one follows", self._system.name, name
                )

    def _cut(self) -> None:
        if self._running is not None:
            self._running.cancel()
