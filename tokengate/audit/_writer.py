"""The thread that writes a log: what waits together is one batch, with one sync; no one else waits for the disk."""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Final

from actors.lowlevel import DaemonThread
from tokengate.audit._appender import Appender, Item
from tokengate.audit._record import Entry
from tokengate.audit._refusals import Refusals
from tokengate.control._exceptions import AuditUnavailable

SECONDS: Final = 2.0  # that a caller waits for the disk
_LATER: Final = 1.0  # seconds after which a record is on disk for which no one waits; and between two attempts
_HEADS: Final = 60.0  # seconds between two heads
_BATCH: Final = 256  # records
_KEPT: Final = 1_000  # records in memory while the disk fails
_NEVER: Final = float("inf")

_logger = logging.getLogger("tokengate.audit")


class Writer:
    """Writes entries in the order in which it gets them; its thread starts with the first.

    Args:
        gate: name of the gate.
        appender: what it writes with.
        told: called, in its thread, with lines that are on disk.
    """

    def __init__(self, gate: str, appender: Appender, told: Callable[[list[bytes]], object]) -> None:
        self._gate = gate
        self._appender = appender
        self._told = told
        self._thread = DaemonThread(self._run, f"{gate}-audit")
        self._ready = threading.Condition()
        # Under its lock:
        self._queue: deque[Item] = deque()
        self._refusals = Refusals()
        self._closed_at = 0.0
        self._busy_since: float | None = None
        self._error = ""
        self._failing_since = 0.0
        self._dropped = 0
        # Of the thread alone:
        self._tried = 0.0  # when a batch failed
        self._head, self._head_at = b"", -_HEADS  # mac of the latest head, and when it was told

    @property
    def hangs(self) -> bool:
        """Whether a batch takes longer than callers wait."""
        since = self._busy_since
        return since is not None and time.monotonic() - since > SECONDS

    @property
    def health(self) -> str:
        """Empty; or why it cannot write."""
        return "the disk does not answer" if self.hangs else self._error

    @property
    def failing_for(self) -> float | None:
        """Seconds for which it cannot write, as far as they are known; None if it can."""
        now, busy, since = time.monotonic(), self._busy_since, self._failing_since
        if not since and busy is not None and self.hangs:
            since = busy + SECONDS
        return now - since if since else None

    def put(self, entry: Entry, wake: Callable[[], object] | None = None, *, lasts: bool = True) -> Item:
        """Have an entry written: at once if its caller waits, else with the next batch, or after a second.

        Args:
            entry: what is recorded.
            wake: called when that is on disk, or has failed.
            lasts: whether it is kept and written later if it cannot be written now.

        Raises:
            AuditUnavailable: the log is closed; or it cannot be written, and the entry does not last, or too many do.
        """
        item = Item(entry, lasts, wake)
        with self._ready:
            if self._closed_at:
                raise self.unavailable("it is closed")
            if self.hangs and not lasts:
                raise self.unavailable(self.health)
            if lasts and self.health and len(self._queue) >= _KEPT:
                self._dropped += 1
                raise self.unavailable(f"{self.health}; and {_KEPT:,} records are in memory")
            self._queue.append(item)
            self._ready.notify()
        try:
            if self._thread.waits_for_begin:
                self._thread.begin()
        except RuntimeError as error:  # no thread can be started now
            raise self.unavailable(str(error)) from error
        return item

    def refuse(self, entry: Entry) -> None:
        """Have a refusal written, or counted."""
        with self._ready:
            recorded = not self._closed_at and self._refusals.add(entry, time.monotonic())
        if recorded:
            self.put(entry)

    def settle(self, item: Item) -> int:
        """Return the seq of an entry whose caller waits no longer; 0: it is not on disk, and the caller is told so."""
        with self._ready:
            item.given_up = not item.seq
            return item.seq

    def unavailable(self, why: str) -> AuditUnavailable:
        """Return the error for a caller."""
        return AuditUnavailable(f"the audit log of gate '{self._gate}' cannot be written: {why}")

    def close(self, seconds: float) -> None:
        """Write what is left, and end the thread; it is left behind if it takes longer than so many seconds."""
        with self._ready:
            self._closed_at = self._closed_at or time.monotonic()
            self._ready.notify()
        if not self._thread.gone(time.monotonic() + seconds):
            _logger.error("the audit log of gate '%s' could not be closed: %s", self._gate, self.health or "it is slow")

    # --- In the thread ------------------------------------------------------------------------------------------------

    def _run(self) -> None:
        try:
            while (batch := self._next()) is not None:
                if batch or self._error:
                    self._write(batch)
                if self._news and time.monotonic() >= self._head_at + _HEADS:
                    self._tell_head()
            if self._appender.end is not None:
                self._write([Item(Entry(kind="closed"))])
            if self._news:
                self._tell_head()
        finally:
            self._appender.close()

    def _next(self) -> list[Item] | None:
        """Wait for what is to be written, and return it; nothing if a head is due, None if the log is closed."""
        with self._ready:
            self._busy_since = None
            while True:
                now = time.monotonic()
                self._queue.extend(map(Item, self._refusals.over(_NEVER if self._closed_at else now)))
                if self._closed_at and (not self._queue or self._tried >= self._closed_at):
                    break
                due = self._due()
                if self._closed_at or due <= now:
                    batch = [self._queue.popleft() for _ in range(min(_BATCH, len(self._queue)))]
                    self._busy_since = now
                    return batch
                head = self._head_at + _HEADS if self._news else _NEVER
                if head <= now:
                    return []
                until = min(due, head, self._refusals.due)
                self._ready.wait(None if until == _NEVER else until - now)
        if self._queue:
            _logger.error("%d audit records of gate '%s' are lost: %s", len(self._queue), self._gate, self._error)
        return None

    def _due(self) -> float:
        """Return when the queue is to be written, or when it is tried whether the disk works again."""
        if any(item.wake for item in self._queue) or (len(self._queue) >= _BATCH and not self._error):
            return 0.0
        if self._error:
            return self._tried + _LATER
        return self._queue[0].mono + _LATER if self._queue else _NEVER

    def _write(self, batch: list[Item]) -> None:
        """Write a batch, and wake the callers that wait for it."""
        batch = [item for item in batch if item.lasts or not item.given_up]  # what was given up had no effect
        notes = []
        if self._failing_since:
            args = {"why": self._error, "seconds": round(time.monotonic() - self._failing_since, 3)}
            notes.append(Item(Entry(kind="unavailable", args=args, outcome={"dropped": self._dropped})))
        if not batch and not notes:
            return
        try:
            lines = self._appender.write([*notes, *batch])
        except Exception as error:  # whatever it is, nothing is on record
            with self._ready:
                items = [*batch, *self._queue]
                self._queue = deque(item for item in items if item.lasts)
                for item in items:
                    item.error = _in_words(error)
            self._failed(error)
            _wake(items)
            return
        with self._ready:
            self._error, self._failing_since, self._dropped = "", 0.0, 0
            late = [item.seq for item in batch if item.given_up and not item.lasts]
            self._queue.extend(Item(Entry(kind="outcome", of=seq, outcome={"unavailable": 1})) for seq in late)
        if notes:
            _logger.warning("the audit log of gate '%s' can be written again", self._gate)
        self._told(lines)  # before its caller can follow what is written later
        _wake(batch)
        try:
            self._appender.finish()
        except OSError as error:  # which is tried again before the next batch
            self._failed(error)

    def _failed(self, error: Exception) -> None:
        first = not self._failing_since
        self._tried = time.monotonic()
        self._error, self._failing_since = _in_words(error), self._failing_since or self._tried
        if first:
            surprise = None if isinstance(error, OSError) else error
            _logger.error(
                "the audit log of gate '%s' cannot be written: %s", self._gate, self._error, exc_info=surprise
            )

    @property
    def _news(self) -> bool:
        """Whether there are records after the latest head."""
        end = self._appender.end
        return end is not None and end.seq > 1 and end.mac != self._head

    def _tell_head(self) -> None:
        """Give the log of the process the head of the chain."""
        end = self._appender.end
        assert end is not None
        self._head, self._head_at = end.mac, time.monotonic()
        text = "audit head: chain=%s seq=%d mac=%s directory='%s'"
        _logger.info(text, end.chain, end.seq - 1, end.mac.decode(), self._appender.path)


def _in_words(error: Exception) -> str:
    if not isinstance(error, OSError) or not error.strerror:
        return str(error) or repr(error)
    return f"{error.strerror}: {error.filename}" if error.filename else error.strerror


def _wake(items: list[Item]) -> None:
    for item in items:
        wake, item.wake = item.wake, None
        if wake is not None:
            wake()
