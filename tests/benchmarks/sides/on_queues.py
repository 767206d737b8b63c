"""litequeue and persist-queue: put, take, acknowledge, in one thread; they keep no results."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from sides._workload import Run, bursts

IN_FLIGHT = 1_000


@contextmanager
def _litequeue() -> Iterator[Run]:
    import litequeue

    with tempfile.TemporaryDirectory(dir=".") as folder:
        queue = litequeue.LiteQueue(str(Path(folder) / "queue.db"))

        def run(number: int) -> None:
            for size in bursts(number, IN_FLIGHT):
                for one in range(size):
                    queue.put(str(one))
                for one in range(size):
                    message = queue.pop()
                    assert int(message.data) == one
                    queue.done(message.message_id)

        yield run
        queue.close()


@contextmanager
def _persist_queue() -> Iterator[Run]:
    import persistqueue

    with tempfile.TemporaryDirectory(dir=".") as folder:
        queue: Any = persistqueue.SQLiteAckQueue(folder, auto_commit=True)

        def run(number: int) -> None:
            for size in bursts(number, IN_FLIGHT):
                for one in range(size):
                    queue.put(one)
                for one in range(size):
                    got = queue.get()
                    assert got == one
                    queue.ack(got)

        yield run
        queue.close()


litequeue = SimpleNamespace(in_flight=_litequeue)
persist_queue = SimpleNamespace(in_flight=_persist_queue)
