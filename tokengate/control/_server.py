"""The control socket's server: takes questions off connections, asks the backend, and writes what it answers.

It lives in the system loop of a gate, beside supervisors and timers, so nothing that a client does may hold that loop up or
end it: whatever is read, kept or waited for has a bound, and whatever is raised stays in its connection.
"""

from __future__ import annotations

import logging
import math
import os
import socket
import struct
import traceback
from collections import deque
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from importlib.metadata import version
from pathlib import Path
from typing import Any, Protocol

import attrs
import trio

from actors import TokenGateError, is_cancellation
from tokengate.control import _protocol
from tokengate.control._discovery import listen
from tokengate.control._exceptions import BadRequest, ControlError, Unreachable
from tokengate.control._protocol import Cancel, ServerHello
from tokengate.control.messages import Message, Stream, StreamItem

_logger = logging.getLogger("tokengate.control")

_MAX_CONNECTIONS = 64
_MAX_IN_FLIGHT = 32  # requests of a connection
_MAX_WAITING = 256 * 1024  # bytes for a client beyond which it is sent no items, and answers wait
_LINE_SECONDS = 30.0  # for a client to finish a line that it has begun; it has begun its hello when it connects
_PATIENCE = 10.0  # seconds for a client to read a chunk
_CHUNK = 16 * 1024  # bytes


class Backend(Protocol):
    """What answers the questions."""

    async def ask(self, message: Message) -> Any:
        """Return the answer, of the type that the message names, or raise a TokenGateError."""
        ...

    def follow(self, stream: Stream) -> AbstractAsyncContextManager[AsyncIterator[StreamItem]]:
        """Return what yields the items of a stream while it is open."""
        ...


class ControlServer:
    """Serves the control socket of a gate.

    Args:
        gate: its name.
        backend: what answers.
        directory: for the socket; None takes the runtime directory.

    Attributes:
        path: of the socket; None while it does not listen.
    """

    def __init__(self, gate: str, backend: Backend, directory: Path | None = None) -> None:
        self.path: Path | None = None
        self._backend = backend
        self._directory = directory
        self._gate = gate
        self._disowned = False
        self._listening: socket.socket | None = None
        self._sockets: set[trio.socket.SocketType] = set()  # those that are open: the listening one, and one for each client
        self._connections = 0

    async def serve(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Serve until cancelled; the socket's file goes with it. Reports itself as started once it listens.

        Raises:
            ControlError: there is no place for the socket, see `listen`; nothing is left open.
        """
        made, path = listen(self._gate, self._directory)
        found = path.lstat()
        listener = trio.SocketListener(trio.socket.from_stdlib_socket(made))
        self._sockets.add(listener.socket)
        self.path = path
        try:
            async with trio.open_nursery() as nursery:
                await nursery.start(trio.serve_listeners, self._serve_client, [listener])
                task_status.started()
        except BaseException as error:
            if is_cancellation(error):
                raise
            _log(f"control socket of gate '{self._gate}' is closed, since accepting connections failed", error)
        finally:
            self._sockets.discard(listener.socket)
            self.path = None
            if not self._disowned:
                _remove(path, found)

    def disown(self) -> None:
        """Leave the socket to the parent, in a forked child: close what was inherited, and touch no loop."""
        self._disowned = True
        self.path = None
        while self._sockets:
            # Not its `close`, which tells the loop, whose epoll the parent shares.
            if (fd := self._sockets.pop().detach()) >= 0:
                os.close(fd)

    async def _serve_client(self, stream: trio.SocketStream) -> None:
        """Talk to a client until one of the two has enough. Raises nothing: it would end all others, and the loop."""
        self._sockets.add(stream.socket)
        self._connections += 1
        try:
            async with stream:
                if refusal := self._refusal(stream):
                    await stream.send_all(_protocol.encode_error(None, refusal))
                else:
                    hello = ServerHello(_protocol.PROTOCOL, self._gate, os.getpid(), version("tokengate-runtime"))
                    await _Connection(stream, self._backend).run(hello)
        except trio.BrokenResourceError:
            pass  # it went before it was refused
        except BaseException as error:
            if is_cancellation(error):
                raise
            _log(f"a connection to gate '{self._gate}' is closed, since serving it failed", error)
        finally:
            self._connections -= 1
            self._sockets.discard(stream.socket)

    def _refusal(self, stream: trio.SocketStream) -> Unreachable | None:
        """Return why a client is not talked to. What is said then fits into the socket's own buffer."""
        user = _user_of(stream.socket)
        if user not in (None, os.geteuid(), 0):
            return Unreachable(f"gate '{self._gate}' is of another user, and user {user} may not control it")
        if self._connections > _MAX_CONNECTIONS:
            return Unreachable(f"gate '{self._gate}' has {_MAX_CONNECTIONS} connections already; close one")
        return None


class _Connection:
    """One client: a task reads its lines, one writes, and each request has one of its own."""

    def __init__(self, stream: trio.SocketStream, backend: Backend) -> None:
        self._stream = stream
        self._backend = backend
        self._lines = _Lines(stream)
        self._outgoing = _Outgoing()
        self._room = trio.Semaphore(_MAX_IN_FLIGHT)
        self._in_flight: dict[int, trio.CancelScope | None] = {}  # {request id: what ends it, if it is a stream}

    async def run(self, hello: ServerHello) -> None:
        async with trio.open_nursery() as connection:
            connection.start_soon(self._write, connection.cancel_scope)
            self._outgoing.add(_protocol.encode_server_hello(hello))
            async with trio.open_nursery() as requests:
                farewell: bytes | None = None
                try:
                    await self._read(requests)
                except ControlError as error:
                    farewell = _protocol.encode_error(None, error)
                requests.cancel_scope.cancel()
            if farewell is not None:
                self._outgoing.add(farewell)
            self._outgoing.close()

    async def _read(self, requests: trio.Nursery) -> None:
        """Start what the client asks for, until it has closed its side; raise what ends the connection."""
        line = await self._lines.next(begun=True)
        if line is None:
            return
        _protocol.check_client_hello(line)
        while (line := await self._lines.next()) is not None:
            id: int | None = None
            try:
                request = _protocol.decode_request(line)
                id = request.id
                if id in self._in_flight:
                    raise BadRequest(f"request {id} is not answered yet; give each request an id of its own")
                message = _protocol.decode_message(request)
            except BadRequest as error:
                await self._outgoing.put(_protocol.encode_error(id, error))
                continue
            if isinstance(message, Cancel):  # takes no room: it is how a client makes some
                await self._outgoing.put(_protocol.encode_result(id, self._cancel(message.request)))
                continue
            await self._room.acquire()
            if isinstance(message, Stream):
                self._in_flight[id] = trio.CancelScope()
                requests.start_soon(self._handle, id, request.verb, self._follow, message)
            else:
                self._in_flight[id] = None
                requests.start_soon(self._handle, id, request.verb, self._ask, message)
