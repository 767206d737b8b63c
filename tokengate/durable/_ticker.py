"""The thread that looks at what is due: schedules, delays, the inbox, what is to be removed."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

from actors.lowlevel import DaemonThread

_logger = logging.getLogger("tokengate.durable")


class Ticker:
    """Calls functions again and again, each at its own interval, on one thread; they run no code of users.

    Args:
        name: of the thread.
    """

    def __init__(self, name: str) -> None:
        self._thread = DaemonThread(self._run, name)
        self._changed = threading.Condition()
        self._closing = False
        # [seconds between two calls, when the next one is due by `time.monotonic`, function]
        self._looks: list[tuple[float, list[float], Callable[[], object]]] = []

    def every(self, seconds: float, look: Callable[[], object]) -> Callable[..., None]:
        """Have a function called each so many seconds.

        Returns:
            a function that has it called at once, or after so many seconds if that is sooner.
        """
        due = [time.monotonic() + seconds]

        def now(seconds: float = 0.0) -> None:
            with self._changed:
                due[0] = min(due[0], time.monotonic() + seconds)
                self._changed.notify()

        with self._changed:
            self._looks.append((seconds, due, look))
            self._changed.notify()
        return now

    def open(self) -> None:
        """Start the thread."""
        self._thread.begin()

    def close(self, deadline: float) -> None:
        """End the thread by a deadline, in seconds of `time.monotonic`."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        self._thread.gone(deadline)

    def _run(self) -> None:
        while (looks := self._due()) is not None:
            for look in looks:
                try:
                    look()
                except Exception:
                    _logger.exception("%r has failed; it is called again", look)

    def _due(self) -> list[Callable[[], object]] | None:
        """Wait for functions that are due, and return them; None: it is closed."""
        with self._changed:
            while not self._closing:
                now = time.monotonic()
                found = [look for look in self._looks if look[1][0] <= now]
                if found:
                    for seconds, due, _ in found:
                        due[0] = now + seconds
                    return [look for _, _, look in found]
                self._changed.wait(min((due[0] for _, due, _ in self._looks), default=now + 60.0) - now)
        return None
