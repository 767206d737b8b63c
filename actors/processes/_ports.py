"""What the parts of the process host need of the host."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from actors.processes.workers._poller import Poller


class HostThread(Protocol):
    """The thread of the process host, for the parts of the host that run on it."""

    closed: bool
    poller: Poller | None  # None until `open_poller`

    def on_thread(self) -> bool:
        """Tell whether the calling thread is the host's."""
        ...

    def open_poller(self) -> Poller:
        """Return the poller, which is created by the first call.

        Raises:
            OSError: this process has no file descriptor left for it.
        """
        ...

    def call_soon(self, fn: Callable[[], object], /) -> None:
        """Have the thread call a function; any thread may ask."""

    def call_later(self, seconds: float, fn: Callable[[], object], /) -> object:
        """Call a function after some seconds; only on the thread."""

    def guarded(self, fn: Callable[..., object], /, *args: Any) -> None:
        """Call a function; log what it raises."""
