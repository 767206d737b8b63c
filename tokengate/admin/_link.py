"""A connection to a gate, over its control socket: any number of requests at once."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

from tokengate.admin._principal import Principal
from tokengate.admin._problems import Problem, problem_of
from tokengate.control._validation import checked
from tokengate.control.messages import Message, Stream
from tokengate.control.transport import _protocol
from tokengate.control.transport._protocol import MAX_ANSWER, ErrorText, ServerHello

_PATIENCE: Final = 10.0  # seconds for an answer, in addition to those that the message lets the gate wait


class Link:
    """A connection to a gate. Its requests are sent on behalf of principals; answers stay JSON.

    Args:
        path: of the control socket.

    Attributes:
        hello: the first line of the gate; None before it is connected.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.hello: ServerHello | None = None
        self._writer: asyncio.StreamWriter | None = None
        self._reading: asyncio.Task[None] | None = None
        self._ids = itertools.count(1)
        self._waiting: dict[int, asyncio.Future[_protocol.Reply]] = {}
        self._connecting = asyncio.Lock()

    async def ask(self, message: Message[Any], principal: Principal) -> bytes:
        """Send a message, and return its answer as JSON.

        Raises:
            Problem: the gate's error; or it has gone, or does not answer.
        """
        writer = await self._connected()
        message = checked(message)
        id = next(self._ids)
        answer = self._waiting[id] = asyncio.get_running_loop().create_future()
        try:
            writer.write(_protocol.encode_request(id, message, principal.on_behalf_of))
            patience = _PATIENCE + sum(getattr(message, field, 0.0) for field in ("wait", "sample", "grace"))
            async with asyncio.timeout(patience):
                reply: _protocol.Reply = await answer
        except TimeoutError:
            raise Problem(503, "NoAnswer", f"gate '{self.path.stem}' did not answer in time", "try again") from None
        finally:
            self._waiting.pop(id, None)
        if reply.error is not None:
            raise problem_of(reply.error.type, reply.error.message)
        return bytes(reply.result)

    @asynccontextmanager
    async def follow(self, stream: Stream, principal: Principal) -> AsyncGenerator[AsyncIterator[bytes]]:
        """Open a stream, and return its items, each as JSON; it has a connection of its own.

        Raises:
            Problem: as `ask`; while it is read, too.
        """
        reader, writer, _ = await _open(self.path)
        try:
            writer.write(_protocol.encode_request(1, checked(stream), principal.on_behalf_of))
            yield _items(reader, self.path.stem)
        finally:
            writer.close()

    async def close(self) -> None:
        """End the connection; requests without an answer fail."""
        if self._reading is not None:
            self._reading.cancel()
            await asyncio.gather(self._reading, return_exceptions=True)

    async def _connected(self) -> asyncio.StreamWriter:
        async with self._connecting:
            if self._writer is None:
                reader, self._writer, self.hello = await _open(self.path)
                self._reading = asyncio.create_task(self._read(reader, self._writer))
            return self._writer

    async def _read(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while line := await reader.readline():
                reply = _protocol.decode_reply(line)
                answer = self._waiting.get(reply.id or 0)
                if answer is not None and not answer.done():
                    answer.set_result(reply)
        except (OSError, ValueError):
            pass  # it is gone, or is no gate
        finally:
            self._writer = None
            writer.close()
            for answer in self._waiting.values():
                if not answer.done():
                    answer.set_exception(_gone(self.path.stem))


async def _open(path: Path) -> tuple[asyncio.StreamReader, asyncio.StreamWriter, ServerHello]:
    try:
        reader, writer = await asyncio.open_unix_connection(path, limit=MAX_ANSWER)
        said = _protocol.decode_server_hello(await reader.readline())
    except (OSError, ValueError):
        raise _gone(path.stem) from None
    if isinstance(said, ErrorText):
        writer.close()
        raise problem_of(said.type, said.message)
    writer.write(_protocol.encode_client_hello())
    return reader, writer, said


async def _items(reader: asyncio.StreamReader, name: str) -> AsyncIterator[bytes]:
    while line := await reader.readline():
        reply = _protocol.decode_reply(line)
        if reply.error is not None:
            raise problem_of(reply.error.type, reply.error.message)
        if reply.end:
            return
        if reply.item is not None:
            yield line[line.index(b'"item":') + 7 : -2]
    raise _gone(name)


def _gone(name: str) -> Problem:
    return Problem(503, "Unreachable", f"gate '{name}' has gone, or does not answer", "see 'tokengate ls'")
