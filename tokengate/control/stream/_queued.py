"""A reader of the stream with a thread of its own, since it may block."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Sequence
from typing import Final

from tokengate.control.stream._record import Batch, Entry

LONGEST: Final = 20_000
"""Entries that wait for such a reader; those that come then are lost."""


class Queued:
    """Passes entries on to a function that may block, on a thread of its own.

    Args:
        name: of the reader.
        take: the function.
        end: called on that thread at the end, after the last entries.

    Attributes:
        name: of the reader.
        lost: how many entries came while the queue was full, or were with a call that raised.
        error: what the latest call raised that did; None: none did.
    """

    def __init__(
        self, name: str, take: Callable[[Sequence[Entry]], object], end: Callable[[], object] = lambda: None
    ) -> None:
        self.name = name
        self.lost = 0
        self.error: Exception | None = None
        self._take = take
        self._end = end
        self._queue: deque[Entry] = deque()
        self._in_hand = 0
        self._arrived = threading.Condition(threading.Lock())
        self._is_closed = False
        self._thread = threading.Thread(target=self._run, name=f"stream-{name}", daemon=True)
        self._thread.start()

    def take(self, batch: Batch) -> None:
        """Queue the entries of a batch; count those that find no room."""
        entries = batch.entries
        with self._arrived:
            room = max(0, LONGEST - len(self._queue))
            self._queue.extend(entries[:room])
            self.lost += max(0, len(entries) - room)
            self._arrived.notify()

    def close(self, seconds: float) -> str:
        """Wait, for at most so many seconds, until all is passed on; return what was not, as text."""
        with self._arrived:
            self._is_closed = True
            self._arrived.notify()
        self._thread.join(seconds)
        left = len(self._queue) + self._in_hand
        return f"{left} records of '{self.name}'" if self._thread.is_alive() or left else ""

    def _run(self) -> None:
        while True:
            with self._arrived:
                while not self._queue and not self._is_closed:
                    self._arrived.wait()
                entries = list(self._queue)
                self._queue.clear()
                self._in_hand = len(entries)
                is_last = self._is_closed
            try:
                if entries:
                    self._take(entries)
            except Exception as error:
                self.error = error
                with self._arrived:
                    self.lost += len(entries)
            self._in_hand = 0
            if is_last:
                self._end()
                return
