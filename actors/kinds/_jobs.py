"""Jobs of an actor: tasks beside its mailbox, so that what takes long holds up no message."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import trio

from actors.concurrency._trio_host import TrioHost


class Jobs:
    """The tasks that an instance of an actor runs beside its mailbox, each in a cancel scope of its own.

    Args:
        host: the loop that runs them, which is the actor's.
    """

    def __init__(self, host: TrioHost) -> None:
        self._host = host
        self._scopes: set[trio.CancelScope] = set()  # of the jobs that have not ended

    def __len__(self) -> int:
        return len(self._scopes)

    def begin(self, scope: trio.CancelScope, work: Callable[[], Awaitable[None]], name: str) -> None:
        """Start a job; on the loop.

        Args:
            scope: the scope that the job enters; `cancel` cancels it.
            work: the job, which raises nothing.
            name: of the task.
        """

        async def run() -> None:
            try:
                await work()
            finally:
                self._scopes.discard(scope)

        self._scopes.add(scope)
        self._host.start_task(run, name)

    def cancel(self) -> None:
        """Have all jobs cancelled soon; from any thread."""
        self._host.call_soon(self.cancel_here)

    def cancel_here(self) -> None:
        """Cancel all jobs; on the loop."""
        for scope in list(self._scopes):
            scope.cancel()
