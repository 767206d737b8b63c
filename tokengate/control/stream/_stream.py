"""The stream of a gate: the thread that passes records on to what reads them, and what was lost on the way.

A reader that blocks has a thread of its own (`_queued.py`). Nothing here is made before the first reader comes, and all
of it ends with the last one.
"""

from __future__ import annotations

import contextlib
import logging
import secrets
import threading
import time
from collections.abc import Callable
from typing import Final, Protocol

from actors import ActorSystem
from tokengate.control.stream._collector import KEPT, Collector, Moments
from tokengate.control.stream._record import Batch, Happening, Raw

_logger = logging.getLogger("tokengate.stream")

INTERVAL: Final = 0.1
"""Seconds between two looks of the thread at what was recorded."""

_AT_ONCE: Final = 2_048  # records that are passed on together
_ADJUSTED: Final = 60.0  # seconds between two readings of both clocks
_STEP: Final = 0.5  # seconds by which the system's time must differ to be called a step


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
        self.run = secrets.token_hex(4)
        self.collector = Collector(system, self.run)
        self._system = system
        self._moments = Moments(self.collector)
        self._lock = threading.Lock()  # of the readers
        self._passing = threading.Lock()  # held while entries are passed on
        self._sinks: tuple[Sink, ...] = ()
        self._with_moments: tuple[Sink, ...] = ()
        self._failed: dict[str, int] = {}  # {name of a sink: entries that it lost since it raised}
        self._thread: threading.Thread | None = None
        self._is_closed = False
        self._received = 0
        self._told = 0  # lost records that were reported
        self._offset = time.time() - system.clock()
        self._read_at = system.clock()
        self._before_pass: Callable[[float], object] = lambda _now: None

    # Readers

    @property
    def sinks(self) -> tuple[Sink, ...]:
        """The readers, in the order in which they came."""
        return self._sinks

    def attach(self, sink: Sink, *, moments: bool = False) -> None:
        """Pass entries on to a reader from now on.

        Args:
            sink: the reader.
            moments: whether it also gets that tokens are queued, begin, are paused and resumed.
        """
        with self._lock:
            if self._is_closed:
                return
            self._sinks = (*self._sinks, sink)
            if moments:
                self._with_moments = (*self._with_moments, sink)
            self._observe()
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name=f"{self.gate}-stream", daemon=True)
                self._thread.start()

    def detach(self, sink: Sink) -> None:
        """Pass nothing more on to a reader; with the last one, nothing more is recorded."""
        with self._lock:
            self._sinks = tuple(one for one in self._sinks if one is not sink)
            self._with_moments = tuple(one for one in self._with_moments if one is not sink)
            self._observe()
        self.collector.full.set()

    def _observe(self) -> None:
        """Observe what the readers need; under the lock."""
        for observer, wanted in ((self.collector, self._sinks), (self._moments, self._with_moments)):
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
        offset = time.time() - now
        if abs(offset - self._offset) > _STEP:
            step = offset - self._offset
            self.collector.put(
                "clock.stepped", f"the system's time was set by {step:+.1f} s", details={"seconds": step}
            )
        self._offset, self._read_at = offset, now

    # Passing on

    def lost(self) -> dict[str, int]:
        """Return {where: how many records were lost there}: `collector`, or the name of a sink."""
        lost = {"collector": max(0, self.collector.made - self._received - len(self.collector.pending))}
        for sink in self._sinks:
            lost[sink.name] = lost.get(sink.name, 0) + sink.lost + self._failed.get(sink.name, 0)
        return {name: number for name, number in lost.items() if number}

    def flush(self) -> None:
        """Pass on what was recorded before this call, on the calling thread or by the thread of the stream."""
        self._pass_on()

    def close(self, seconds: float) -> list[str]:
        """Flush, end all readers, and record nothing more; return what was not delivered, as text.

        Args:
            seconds: for that, at most.
        """
        deadline = time.monotonic() + seconds
        with self._lock:
            self._is_closed = True
            sinks, thread = self._sinks, self._thread
        self.collector.full.set()
        if thread is not None and thread is not threading.current_thread():
            thread.join(max(0.0, deadline - time.monotonic()))
        left = []
        if thread is not None and thread.is_alive():
            left.append(f"{len(self.collector.pending)} records")
        for sink in sinks:
            with contextlib.suppress(Exception):
                if undelivered := sink.close(max(0.0, deadline - time.monotonic())):
                    left.append(undelivered)
        for sink in sinks:
            self.detach(sink)
        return left

    def _run(self) -> None:
        while True:
            self.collector.full.wait(INTERVAL)
            self.collector.full.clear()
            with self._lock:
                is_last = self._is_closed
                if not self._sinks:
                    self._thread = None
                    self.collector.pending.clear()
                    return
            self._pass_on()
            if is_last:
                return

    def _pass_on(self) -> None:
        with self._passing:
            now = self._system.clock()
            if now - self._read_at > _ADJUSTED:
                self._read_clocks(now)
            try:
                self._before_pass(now)
            except Exception:
                _logger.exception("figures of gate '%s' could not be taken", self.gate)
            pending = self.collector.pending
            for _ in range(1 + KEPT // _AT_ONCE):
                items: list[Raw | Happening] = []
                take = pending.popleft
                with contextlib.suppress(IndexError):
                    for _ in range(_AT_ONCE):
                        items.append(take())
                if not items:
                    break
                self._received += len(items)
                batch = Batch(items, self.run)
                for sink in self._sinks:
                    self._give(sink, batch)

    def _give(self, sink: Sink, batch: Batch) -> None:
        try:
            sink.take(batch)
        except Exception:
            if sink.name not in self._failed:
                _logger.exception("'%s' raised, and has lost records of gate '%s'", sink.name, self.gate)
            self._failed[sink.name] = self._failed.get(sink.name, 0) + len(batch.items)
