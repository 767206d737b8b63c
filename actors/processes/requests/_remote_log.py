"""Log records of child processes: the gate's loggers handle them, on a thread of their own."""

from __future__ import annotations

import contextvars
import logging
import os
import threading
import time
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any, NamedTuple

from actors.processes.pickling import _carrier
from actors.tokens._token import Token, _current

if TYPE_CHECKING:
    from actors._child import _wire
    from actors.processes.pickling._ports import ProcessSystem
    from actors.processes.workers._worker import Worker

_logger = logging.getLogger("tokengate.actors")


class _Sent(NamedTuple):
    """A log record as it came."""

    payload: bytes
    descriptor: int | None
    token: int | None
    actor: str | None
    context: contextvars.Context | None  # a copy of that of the token, for handlers


class RemoteLog:
    """Passes log records to the loggers that they name, in the order in which they came.

    Handlers are user code and may be slow, so they run on a thread of their own, which the first record starts.

    Args:
        system: the actor system of the children.
    """

    def __init__(self, system: ProcessSystem) -> None:
        self._system = system
        self._queue: SimpleQueue[_Sent | None] = SimpleQueue()
        self._thread: threading.Thread | None = None
        self._closed = False

    def take(self, worker: Worker, frame: _wire.Frame, descriptor: int | None) -> None:
        """Pass on a record; on the host's thread, before later frames of the same child are handled."""
        if self._closed:
            _close(descriptor)
            return
        if self._thread is None:
            name = f"{self._system.name}-process-log"
            self._thread = threading.Thread(target=self._work, name=name, daemon=True)
            self._thread.start()
        self._queue.put(_Sent(bytes(frame.payload), descriptor, *_origin(worker, frame.number)))

    def close(self) -> None:
        """Accept no more records, and end the thread after those that have come; on the host's thread."""
        self._closed = True
        self._queue.put(None)

    def join(self, deadline: float) -> list[str]:
        """Wait for the thread's end; return its name if handlers keep it running past the deadline."""
        thread = self._thread
        if thread is None:
            return []
        self._closed = True
        self._queue.put(None)  # again, in case the host has not called `close`
        thread.join(max(0.0, deadline - time.monotonic()))
        return [thread.name] if thread.is_alive() else []

    def _work(self) -> None:
        _carrier.loading_for(self._system)
        while (sent := self._queue.get()) is not None:
            try:
                _handle(sent)
            except BaseException:
                _logger.exception("a log record of a child process could not be handled")


def _origin(worker: Worker, number: int) -> tuple[int | None, str | None, contextvars.Context | None]:
    """Return the id, the path of the actor, and the context of the token that has made a record, by its call's number.

    In the context, the token is the current one.
    """
    waits = worker.inflight.get(number)
    if isinstance(waits, Token):
        context = waits._context
        if context is not None:
            context = context.copy()
            context.run(_current.set, waits)
        return waits.id, waits.actor, context
    # No call of a token: a hook of an actor, or a thread that its code has started.
    return None, worker.holder.place.path if worker.own and worker.holder is not None else None, None


def _handle(sent: _Sent) -> None:
    attributes: dict[str, Any] = _carrier.load(sent.payload, sent.descriptor)
    attributes.setdefault("token", sent.token)  # the user may have a field of that name
    attributes.setdefault("actor", sent.actor)
    record = logging.makeLogRecord(attributes)
    logger = logging.getLogger(record.name)
    if logger.isEnabledFor(record.levelno):
        if sent.context is None:
            logger.handle(record)
        else:
            sent.context.run(logger.handle, record)


def _close(descriptor: int | None) -> None:
    if descriptor is not None:
        os.close(descriptor)
