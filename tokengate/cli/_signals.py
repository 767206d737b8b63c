"""SIGINT and SIGTERM ask a gate to stop in order; a second signal shortens its deadlines.

Python runs signal handlers in the main thread between two of its instructions, so a signal that comes just before the
main thread begins to wait for a lock is handled only when that wait ends. The wake-up descriptor is written at once;
another thread reads it and calls the gate.
"""

from __future__ import annotations

import signal
import socket
import threading
from collections.abc import Generator
from contextlib import contextmanager
from types import FrameType

import attrs
import click

from tokengate import Gate

_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_END = b"\0"  # not a number of a signal


@attrs.define
class Stopping:
    """The gate that signals stop, and the signals that came.

    Attributes:
        gate: None until there is a gate to stop; until then a signal raises `KeyboardInterrupt`.
        received: names of the signals, in order.
        interrupt: whether the second signal raises `KeyboardInterrupt`, for code that does not observe the gate.
        notice: text that is printed at the first signal.
    """

    gate: Gate | None = None
    received: list[str] = attrs.field(factory=list)
    interrupt: bool = False
    notice: str = ""
    _seen_in_main: int = attrs.field(default=0, init=False)

    @property
    def asked(self) -> bool:
        """Whether any signal came."""
        return bool(self.received) or self._seen_in_main > 0

    def listen(self, descriptor: socket.socket) -> None:
        """Handle the signals that the wake-up descriptor reports, until it is closed."""
        while (number := descriptor.recv(1)) not in (_END, b""):
            if number[0] not in _SIGNALS:
                continue
            self.received.append(signal.Signals(number[0]).name)
            gate = self.gate
            if gate is not None and len(self.received) == 1:
                gate.request_stop()
                if self.notice:
                    click.echo(self.notice, err=True)
            elif gate is not None:
                gate.hurry()

    def handle(self, _number: int, _frame: FrameType | None) -> None:
        """Interrupt the main thread if that is wanted; `listen` does the rest."""
        self._seen_in_main += 1
        if self.gate is None or (self.interrupt and self._seen_in_main > 1):
            raise KeyboardInterrupt


@contextmanager
def stop_on_signals() -> Generator[Stopping]:
    """Handle the signals during a block; only in the main thread."""
    stopping = Stopping()
    ours, theirs = socket.socketpair()
    theirs.setblocking(False)
    listener = threading.Thread(target=stopping.listen, args=(ours,), name="tokengate-signals", daemon=True)
    listener.start()
    descriptor = signal.set_wakeup_fd(theirs.fileno(), warn_on_full_buffer=False)
    handlers = {number: signal.signal(number, stopping.handle) for number in _SIGNALS}
    try:
        yield stopping
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(descriptor)
        theirs.send(_END)
        listener.join()
        ours.close()
        theirs.close()
