"""A reader of the stream with a thread of its own, since it may block."""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, Final

from tokengate.control.stream._record import Batch

_logger = logging.getLogger("tokengate.stream")

LONGEST: Final = 20_000
"""Entries that wait for such a reader; those that come then are lost."""


class Queued:
    """Passes entries on to a function that may block, on a thread of its own.

    Args:
        name: of the reader.
        take: the function.
        end: called on that thread at the end, after the last entries.
        raw: whether the function gets the items of batches as they are, instead of entries.
        idle: seconds without entries after which the function is called with none; None: never.

    Attributes:
        name: of the reader.
        lost: how many entries came while the queue was full, were with a call that raised, or were lost by the
            function.
        error: what the latest call raised that did; None: none did.
    """

    def __init__(
        self,
        name: str,
        take: Callable[[Sequence[Any]], object],
        end: Callable[[], object] = lambda: None,
        *,
        raw: bool = False,
        idle: float | None = None,
    ) -> None:
        self.name = name
        self.lost = 0
        self.error: BaseException | None = None
        self._take = take
        self._end = end
        self._raw = raw
        self._idle = idle
        self._queue: deque[Any] = deque()
        self._in_hand = 0
        self._arrived = threading.Condition(threading.Lock())
        self._is_closed = False
        self._thread = threading.Thread(target=self._run, name=f"stream-{name}", daemon=True)
        self._thread.start()

    def take(self, batch: Batch) -> None:
        """Queue the entries of a batch; count those that find no room."""
        entries: Sequence[Any] = batch.items if self._raw else batch.entries
        with self._arrived:
            room = max(0, LONGEST - len(self._queue))
            self._queue.extend(entries if len(entries) <= room else entries[:room])
            self.lost += max(0, len(entries) - room)
            self._arrived.notify()

    def lose(self, number: int) -> None:
        """Count entries that the function could not keep."""
        with self._arrived:
            self.lost += number

    def end(self) -> None:
        """Have the thread end when all is passed on."""
        with self._arrived:
            self._is_closed = True
            self._arrived.notify()

    def close(self, seconds: float) -> str:
        """Wait, for at most so many seconds, until all is passed on; return what was not, as text."""
        self.end()
        self._thread.join(seconds)
        left = len(self._queue) + self._in_hand
        return f"{left} records of '{self.name}'" if self._thread.is_alive() or left else ""

    def _run(self) -> None:
        while True:
            with self._arrived:
                while not self._queue and not self._is_closed:
                    if not self._arrived.wait(self._idle):
                        break
                entries = list(self._queue)
                self._queue.clear()
                self._in_hand = len(entries)
                is_last = self._is_closed
            try:
                if entries or self._idle is not None:
                    self._take(entries)
            except BaseException as error:  # `SystemExit`, too: without the thread, what comes would be lost uncounted
                if self.error is None:
                    _logger.exception("'%s' raised, and loses records; this is told once", self.name)
                self.error = error
                with self._arrived:
                    self.lost += len(entries)
            self._in_hand = 0
            if is_last:
                self._end()
                return
