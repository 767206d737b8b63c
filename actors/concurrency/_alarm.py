"""An alarm: a task on a loop that sleeps until a due time, which may change at any moment."""

from __future__ import annotations

from collections.abc import Callable

import trio

from actors.concurrency._trio_host import TrioHost


class Alarm:
    """Calls `ring` on a loop whenever `due` has come.

    Args:
        name: of the task, which the first `look` starts.
        host: the loop.
        clock: returns the time in seconds, on the scale of `due`.
        due: returns the time of the next ring; `inf` for none. It is called after each ring and by each `look`.
        ring: called at the due time; it must not raise.
    """

    def __init__(
        self,
        name: str,
        host: TrioHost,
        clock: Callable[[], float],
        due: Callable[[], float],
        ring: Callable[[], object],
    ) -> None:
        self._name = name
        self._host = host
        self._clock = clock
        self._due = due
        self._ring = ring
        self._sleep: trio.CancelScope | None = None  # ends at the due time

    def look(self) -> None:
        """Ask again when it is due; only on the loop."""
        if self._sleep is None:
            self._sleep = trio.CancelScope()
            self._host.start_task(self._serve, self._name)
        else:
            self._sleep.deadline = self._wake_at()

    async def _serve(self) -> None:
        while True:
            # `look` moves the deadline. This task cannot miss that: between the end of one scope and the start of the
            # next, the loop runs nothing else.
            with trio.CancelScope(deadline=self._wake_at()) as self._sleep:
                await trio.sleep_forever()
            self._ring()

    def _wake_at(self) -> float:
        """Return when it is due, in the loop's time."""
        # The difference first: rounded to the present time, a due time just after it would be waited for endlessly on a
        # clock that moves only while all wait.
        return trio.current_time() + (self._due() - self._clock())
