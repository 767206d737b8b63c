"""Gates that a test plays: they say hello, and the test answers what they are asked. And waiting, in asyncio."""

from __future__ import annotations

import asyncio
import json
import os
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import attrs
from gated_code import LIMIT

from tokengate.control.transport._protocol import PROTOCOL


async def happens(condition: Callable[[], bool]) -> None:
    """Wait for a condition that is not announced."""
    deadline, looks = time.monotonic() + LIMIT, 0
    while not condition():
        looks += 1
        assert looks < 1_000 or time.monotonic() < deadline, "the condition never came true"
        await asyncio.sleep(0.001)


@attrs.define(eq=False)
class Asked:
    """A request that a played gate has received.

    Attributes:
        line: what was sent.
        writer: of its connection.
    """

    line: dict[str, Any]
    writer: asyncio.StreamWriter

    def answer(self, result: object) -> None:
        self.say({"result": result})

    def say(self, said: dict[str, Any]) -> None:
        """Send a line with the id of the request."""
        self.writer.write(json.dumps({"id": self.line["id"], **said}).encode() + b"\n")


class PlayedGate:
    """A gate that a test plays.

    Attributes:
        silent: whether it says no hello by itself.
        open: connections.
        asked: requests of all connections, in their order.
    """

    def __init__(self, hello: dict[str, Any], silent: bool) -> None:
        self._hello = hello
        self.silent = silent
        self.open: list[asyncio.StreamWriter] = []
        self.asked: asyncio.Queue[Asked] = asyncio.Queue()

    async def next(self) -> Asked:
        return await asyncio.wait_for(self.asked.get(), LIMIT)

    def greet(self, writer: asyncio.StreamWriter) -> None:
        """Say hello, or why not."""
        said = {"error": self._hello["error"]} if "error" in self._hello else {"hello": self._hello}
        writer.write(json.dumps(said).encode() + b"\n")

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve a client until it goes, or `hang_up`."""
        self.open.append(writer)
        try:
            if not self.silent:
                self.greet(writer)
            await reader.readline()
            while line := await reader.readline():
                self.asked.put_nowait(Asked(json.loads(line), writer))
        except OSError:
            pass
        finally:
            self.open.remove(writer)
            writer.transport.abort()

    def hang_up(self) -> None:
        """End all connections."""
        for writer in self.open:
            writer.transport.abort()


@asynccontextmanager
async def played(path: Path, *, silent: bool = False, **hello: Any) -> AsyncGenerator[PlayedGate]:
    """Listen at a path as a gate, whose hello has these fields; a silent one says it when `greet` is called."""
    gate = PlayedGate({"protocol": PROTOCOL, "gate": "shop", "pid": os.getpid(), **hello}, silent)
    tasks: set[asyncio.Task[None]] = set()

    def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(gate.serve(reader, writer))
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    server = await asyncio.start_unix_server(connected, path, limit=2**24)
    try:
        yield gate
    finally:
        server.close()
        gate.hang_up()
        await asyncio.gather(*tasks)
        path.unlink(missing_ok=True)
