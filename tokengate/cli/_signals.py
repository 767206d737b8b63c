"""SIGINT and SIGTERM ask a gate to stop, in order; a second one hurries it.

Python runs signal handlers in the main thread between two of its instructions, so a signal that comes just before the
main thread begins to wait for a lock is seen only when that wait ends. The wake-up descriptor is written to at once,
whatever the main thread does; a thread of its own reads it and talks to the gate.
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
_END = b"\0"  # no signal has this number


@attrs.define
class Stopping:
    """The gate that signals are for, once it is open, and the signals that came.

    Attributes:
        gate: None until there is one to stop; until then a signal is a `KeyboardInterrupt`.
        received: names of the signals, in order.
        interrupt: raise `KeyboardInterrupt` at the second signal, for code that does not watch the gate.
        notice: what to say at the first signal.
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
        """Pass on what the wake-up descriptor says, until it ends."""
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
        """Interrupt the main thread, where that is wanted; the rest is done by `listen`."""
        self._seen_in_main += 1
        if self.gate is None or (self.interrupt and self._seen_in_main > 1):
            raise KeyboardInterrupt


@contextmanager
def stop_on_signals() -> Generator[Stopping]:
    """Handle the signals for the length of a block; only in the main thread."""
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
