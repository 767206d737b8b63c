"""The stream of a gate: the thread that passes records on to what reads them, and what was lost on the way.

A reader that blocks has a thread of its own (`_queued.py`). Nothing here is made before the first reader comes, and all
of it ends with the last one.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from typing import Final, Protocol

from actors import ActorSystem
from tokengate.control.stream._collector import KEPT, Collector, Happenings, Moments
from tokengate.control.stream._queued import Queued
from tokengate.control.stream._record import LOST, Batch

_logger = logging.getLogger("tokengate.stream")

INTERVAL: Final = 0.1
"""Seconds between two looks of the thread at what was recorded."""

_AT_ONCE: Final = 2_048  # records that are passed on together
_ADJUSTED: Final = 60.0  # seconds between two readings of both clocks
_STEP: Final = 0.5  # seconds by which the system's time must differ to be called a step
_BETWEEN: Final = 1.0  # seconds between two events that tell what was lost


class Sink(Protocol):
    """A reader of the stream.

    Attributes:
        name: for reports of what it has lost.
        lost: how many entries it has lost.
    """

    name: str

    @property
    def lost(self) -> int: ...

    def take(self, batch: Batch, /) -> None:
        """Read a batch, on the thread of the stream; it must not block. One that raises loses the batch."""
        ...

    def close(self, seconds: float, /) -> str:
        """Flush, for at most so many seconds; return what was not delivered, as text; empty: nothing."""
        ...


class _Reader:
    """A sink that is attached.

    Attributes:
        sink: the sink.
        records: whether it gets records of attempts.
        moments: whether it also gets moments of tokens that are no ends.
        failed: how many entries it has lost since it raised.
    """

    def __init__(self, sink: Sink, records: bool, moments: bool) -> None:
        self.sink = sink
        self.records = records
        self.moments = moments
        self.failed = 0

    @property
    def lost(self) -> int:
        return self.sink.lost + self.failed


class Stream:
    """The records of one opening of a gate.

    Args:
        system: of the gate.
        gate: its name.

    Attributes:
        gate: its name.
        run: this opening, 8 hexadecimal digits.
        collector: makes the records.
    """

    def __init__(self, system: ActorSystem, gate: str) -> None:
        self.gate = gate
        self.run = system.run
        self.collector = Collector(system, self.run)
        self._system = system
        self._moments, self._happenings = Moments(self.collector), Happenings(self.collector)
        self._lock = threading.Lock()  # of all below
        self._readers: tuple[_Reader, ...] = ()
        self._gone: dict[str, int] = {}  # {name of sinks that were detached: entries that they had lost}
        self._flushes: list[threading.Event] = []  # set when what was recorded before has been passed on
        self._thread: threading.Thread | None = None
        self._is_closed = False
        self._lost = 0  # records that were appended and then lost
        self._received = 0  # written by the thread of the stream only, as is all that follows
        self._told: dict[str, int] = {}  # {where: lost records that were reported}
        self._told_at = self._read_at = system.clock()
        self._offset = _offset(system.clock)
        self._before_pass: Callable[[float], object] = lambda _now: None
        self._has_failed = False

    # Readers

    @property
    def sinks(self) -> tuple[Sink, ...]:
        """The readers, in the order in which they came."""
        return tuple(reader.sink for reader in self._readers)

    def attach(self, sink: Sink, *, records: bool = True, moments: bool = False) -> bool:
        """Pass entries on to a reader from now on; some may be from a moment ago.

        Args:
            sink: the reader.
            records: whether it needs records of attempts; without them, it may get those that others need.
            moments: whether it also gets that tokens are queued, begin, are paused and resumed.

        Returns:
            whether it was attached; False once the gate closes.
        """
        with self._lock:
            if self._is_closed:
                return False
            if self._thread is None:
                thread = threading.Thread(target=self._pass_all, name=f"{self.gate}-stream", daemon=True)
                thread.start()
                self._thread = thread
            self._readers = (*self._readers, _Reader(sink, records, moments))
            self._observe()
            return True

    def detach(self, sink: Sink) -> None:
        """Pass nothing more on to a reader, but for what is just being passed on.

        With the last reader, nothing more is recorded, and the thread ends.
        """
        with self._lock:
            self._take_out(sink)
            self._observe()
        self.collector.hurry()

    def _take_out(self, sink: Sink) -> None:
        for reader in self._readers:
            if reader.sink is sink:
                self._gone[sink.name] = self._gone.get(sink.name, 0) + reader.lost
        self._readers = tuple(reader for reader in self._readers if reader.sink is not sink)

    def _observe(self) -> None:
        """Observe what the readers need; under the lock."""
        readers = self._readers
        self.collector.is_read = bool(readers)
        for observer, wanted in (
            (self.collector, any(reader.records for reader in readers)),
            (self._moments, any(reader.moments for reader in readers)),
            (self._happenings, bool(readers)),
        ):
            if wanted:
                self._system.add_observer(observer)
            else:
                self._system.remove_observer(observer)

    def before_pass(self, call: Callable[[float], object]) -> None:
        """Have a function called with the clock's time on the thread of the stream, before entries are passed on."""
        self._before_pass = call

    # Times

    def utc(self, at: float) -> float:
        """Return a time of the gate's clock as seconds since the epoch."""
        return at + self._offset

    def _read_clocks(self, now: float) -> None:
        offset = _offset(self._system.clock)
        step = offset - self._offset
        self._offset, self._read_at = offset, now
        if abs(step) > _STEP:
            text = f"the system's time was set by {step:+.1f} s"
            self.collector.put("clock.stepped", text, details={"seconds": round(step, 3)})

    # Loss

    def lost(self) -> dict[str, int]:
        """Return {where: how many records were lost there}: `collector`, or the name of a sink.

        No number ever falls, and what is on its way is in none.
        """
        collector = self.collector
        # In this order: what moves on meanwhile is counted twice, and the loss is then found a moment later.
        appended, waiting = collector.appended, len(collector.pending)
        with self._lock:
            self._lost = max(self._lost, appended - waiting - self._received)
            lost = {"collector": self._lost + collector.errors, **self._gone}
            readers = self._readers
        for reader in readers:
            lost[reader.sink.name] = lost.get(reader.sink.name, 0) + reader.lost
        return {name: number for name, number in lost.items() if number}

    def _tell_losses(self, now: float) -> None:
        if now - self._told_at < _BETWEEN:
            return
        for name, total in self.lost().items():
            number = total - self._told.get(name, 0)
            if number > 0:
                self._told[name], self._told_at = total, now
                where = "before they were read" if name == "collector" else f"by '{name}'"
                details = {"where": name, "records": number, "total": total}
                self.collector.put(LOST, f"{number} records were lost {where}", details=details)

    # Passing on

    def flush(self, seconds: float = 1.0) -> bool:
        """Wait until what was recorded before this call has been passed on, for at most so many seconds.

        Returns:
            whether it was. False on the thread of the stream itself.
        """
        over = threading.Event()
        with self._lock:
            if self._thread is None:
                return True
            if self._thread is threading.current_thread():
                return False
            self._flushes.append(over)
        self.collector.hurry()
        return over.wait(seconds)

    def close(self, seconds: float) -> list[str]:
        """Flush, end all readers, and record nothing more; return what was not delivered, as text.

        Args:
            seconds: for that, at most.
        """
        deadline = time.monotonic() + seconds
        with self._lock:
            self._is_closed = True
            readers, thread = self._readers, self._thread
        self.collector.hurry()
        left = []
        if thread is not None:
            thread.join(max(0.0, deadline - time.monotonic()))
            if thread.is_alive():
                left.append(f"{len(self.collector.pending)} records, since a reader blocks")
        for reader in readers:
            if isinstance(reader.sink, Queued):
                reader.sink.end()  # all of them at once: one that blocks takes the seconds of no other
        for reader in readers:
            try:
                if undelivered := reader.sink.close(max(0.0, deadline - time.monotonic())):
                    left.append(undelivered)
            except Exception:
                _logger.exception("'%s' raised as gate '%s' closed", reader.sink.name, self.gate)
                left.append(f"what '{reader.sink.name}' had left")
            self.detach(reader.sink)
        return left

    def disown(self) -> None:
        """Have no readers and no thread, in a forked child: they are the parent's."""
        self._lock = threading.Lock()  # a thread that does not exist here may have held it
        self._readers, self._thread, self._is_closed = (), None, True
        self.collector.pending.clear()

    def _pass_all(self) -> None:
        while True:
            self.collector.wait(INTERVAL)
            with self._lock:
                flushes, self._flushes = self._flushes, []
                is_last = self._is_closed
            self._pass_on()
            with self._lock:
                is_last = is_last or not self._readers
                if is_last:
                    self._thread = None
                    flushes += self._flushes
            for over in flushes:
                over.set()
            if is_last:
                return

    def _pass_on(self) -> None:
        now = self._system.clock()
        if now - self._read_at > _ADJUSTED:
            self._read_clocks(now)
        self._tell_losses(now)
        try:
            self._before_pass(now)
        except Exception:
            if not self._has_failed:
                self._has_failed = True
                _logger.exception("figures of gate '%s' could not be taken; this is told once", self.gate)
        pending = self.collector.pending
        for _ in range(1 + KEPT // _AT_ONCE):
            number = min(len(pending), _AT_ONCE)
            if not number:
                break
            self._received += number  # before they are taken, so that none of them counts as lost
            batch = Batch([pending.popleft() for _ in range(number)], self.run)
            for reader in self._readers:
                self._give(reader, batch)

    def _give(self, reader: _Reader, batch: Batch) -> None:
        try:
            reader.sink.take(batch)
        except Exception:
            if not reader.failed:
                name = reader.sink.name
                _logger.exception("'%s' raised, and loses records of gate '%s'; this is told once", name, self.gate)
            reader.failed += len(batch.items)


def _offset(clock: Callable[[], float]) -> float:
    """Return what the system's time is ahead of a clock, in seconds.

    Of three readings the one counts for which the thread was held up least.
    """
    readings = []
    for _ in range(3):
        before, wall, after = clock(), time.time(), clock()
        readings.append((after - before, wall - (before + after) / 2))
    return min(readings)[1]
