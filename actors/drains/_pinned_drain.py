"""The drain that runs a place's tokens on a thread of its own."""

from __future__ import annotations

from actors.concurrency._pinned_dispatcher import PinnedDispatcher
from actors.drains._cpu_drain import CpuDrain
from actors.mailboxes._signals import Signal
from actors.places._place import Place


class PinnedDrain(CpuDrain):
    """Runs a place's tokens on its own thread, which ends when the place is closed."""

    __slots__ = ("_pinned",)

    def __init__(self, place: Place, throughput: int, throughput_deadline: float) -> None:
        system = place.system
        self._pinned = PinnedDispatcher(f"{system.name}-cpu-{place.path}", system.pinned)
        super().__init__(place, self._pinned, throughput, throughput_deadline)

    def handle_here(self, _signal: Signal, _here: bool, _plain: bool, /) -> bool:
        """Return False: signals must be handled on the pinned thread."""
        return False

    def close(self) -> None:
        self._pinned.close()
