"""SIGINT and SIGTERM ask a gate to stop, in order; a second one hurries it."""

from __future__ import annotations

import signal
from collections.abc import Generator
from contextlib import contextmanager
from types import FrameType

import attrs

from tokengate import Gate

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


@attrs.define
class Stopping:
    """The gate that signals are for, once it is open, and the signals that came.

    Attributes:
        gate: None until there is one to stop.
        received: names of the signals, in order.
        interrupt: raise `KeyboardInterrupt` at the second signal, for code that does not watch the gate.
    """

    gate: Gate | None = None
    received: list[str] = attrs.field(factory=list)
    interrupt: bool = False

    def receive(self, number: int, _frame: FrameType | None) -> None:
        """Handle a signal."""
        self.received.append(signal.Signals(number).name)
        if self.gate is None:
            raise KeyboardInterrupt
        if len(self.received) == 1:
            self.gate.request_stop()
            return
        self.gate.hurry()
        if self.interrupt:
            raise KeyboardInterrupt


@contextmanager
def stop_on_signals() -> Generator[Stopping]:
    """Handle the signals for the length of a block; only in the main thread."""
    stopping = Stopping()
    before = {number: signal.signal(number, stopping.receive) for number in _SIGNALS}
    try:
        yield stopping
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
