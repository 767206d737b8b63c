"""The control socket's server: takes questions off connections, asks the backend, and writes what it answers.

It lives in the system loop of a gate, beside supervisors and timers, so nothing that a client does may hold that
loop up or end it: whatever is read, kept or waited for has a bound, and whatever is raised stays in its connection.
"""

from __future__ import annotations

import logging
import math
import os
import select
import socket
import struct
import traceback
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any, Protocol

import attrs
import trio

from actors import TokenGateError
from actors.lowlevel import is_cancellation
from tokengate.control._exceptions import BadRequest, ControlError, Unreachable
from tokengate.control.inspection._queries import own_version
from tokengate.control.inspection._turns import Turns, next_turn
from tokengate.control.messages import Message, Stream, StreamItem
from tokengate.control.transport import _protocol
from tokengate.control.transport._discovery import listen
from tokengate.control.transport._protocol import Cancel, ServerHello

_logger = logging.getLogger("tokengate.control")

_MAX_CONNECTIONS = 64
_MAX_IN_FLIGHT = 32  # requests of a connection
_MAX_WAITING = 256 * 1024  # bytes for a client beyond which nothing is worked on for it, and it is sent no items
_LINE_SECONDS = 30.0  # for a client to finish a line that it has begun; it has begun its hello when it connects
_PATIENCE = 10.0  # seconds for a client to read a chunk
_GONE_SECONDS = 1.0  # between two looks at whether a client that is not read from is still there
_CHUNK = 16 * 1024  # bytes


class Backend(Protocol):
    """What answers the questions."""

    async def ask(self, message: Message) -> Any:
        """Return the answer, of the type that the message names, or raise a TokenGateError."""
        ...

    def follow(self, stream: Stream) -> AbstractAsyncContextManager[AsyncIterator[StreamItem]]:
        """Return what yields the items of a stream while it is open; no item from then on is missing."""
        ...


class ControlServer:
    """Serves the control socket of a gate.

    Args:
        gate: its name.
        backend: what answers.
        directory: for the socket; None takes the runtime directory.
        turns: among which each client has its own; None makes some.

    Attributes:
        path: of the socket; None while it does not listen.
    """

    def __init__(
        self, gate: str, backend: Backend, directory: Path | None = None, *, turns: Turns | None = None
    ) -> None:
        self.path: Path | None = None
        self._backend = backend
        self._turns = turns or Turns()
        self._directory = directory
        self._gate = gate
        self._disowned = False
        self._sockets: set[trio.socket.SocketType] = set()  # the one that listens, and each client's
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
            async with listener, trio.open_nursery() as nursery:
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
                    hello = ServerHello(_protocol.PROTOCOL, self._gate, os.getpid(), own_version())
                    await _Connection(stream, self._backend, self._turns).run(hello)
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

    def __init__(self, stream: trio.SocketStream, backend: Backend, turns: Turns) -> None:
        self._stream = stream
        self._backend = backend
        self._lines = _Lines(stream)
        outgoing = self._outgoing = _Outgoing(turns.look)
        peer = _peer_of(stream.socket)
        # By process, which may have many connections, one after the other or at once.
        self._lane = turns.lane(lambda: not outgoing.full, None if peer is None else ("process", peer[0]))
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
            if not await self._has_room():
                return
            self._in_flight[id] = trio.CancelScope() if isinstance(message, Stream) else None
            requests.start_soon(self._handle, id, request.verb, message)

    async def _has_room(self) -> bool:
        """Wait for room for a request; return False if the client, which is not read from meanwhile, has gone."""
        while not _has_gone(self._stream.socket):
            with trio.move_on_after(_GONE_SECONDS):
                await self._room.acquire()
                return True
        return False

    def _cancel(self, id: int) -> bool:
        scope = self._in_flight.get(id)
        if scope is not None:
            scope.cancel()
        return scope is not None

    async def _handle(self, id: int, verb: str, message: Message) -> None:
        """Answer a request, whatever comes of it."""
        scope = self._in_flight[id]
        try:
            with self._lane.job().at_work():
                if isinstance(message, Stream):
                    assert scope is not None
                    with scope:
                        await self._follow(id, message)
                    last = _protocol.encode_end(id)
                else:
                    await next_turn()
                    last = await _protocol.encode_answer(id, await self._backend.ask(message))
        except TokenGateError as error:
            last = _protocol.encode_error(id, error)
        except BaseException as error:
            if is_cancellation(error):
                raise
            _log(f"control failed at '{verb}'", error)
            text = f"the gate failed at '{verb}' ({type(error).__name__}); its log says where"
            last = _protocol.encode_failure(id, "InternalError", text)
        await self._outgoing.put(last)
        # No checkpoint since: whoever reads the answer may use the id again.
        del self._in_flight[id]
        self._room.release()

    async def _follow(self, id: int, stream: Stream) -> None:
        """Tell that the stream is open, and send what happens; what a slow reader has no room for is counted only."""
        lost = 0
        await next_turn()
        async with self._backend.follow(stream) as items:
            await self._outgoing.put(_protocol.encode_result(id, True))
            async for item in items:
                lost += item.lost
                if self._outgoing.full:
                    lost += 1
                else:
                    self._outgoing.add(_protocol.encode_item(id, attrs.evolve(item, lost=lost)))
                    lost = 0

    async def _write(self, connection: trio.CancelScope) -> None:
        """Send what is to be sent, until that is closed; end the connection when nobody reads it."""
        try:
            while lines := await self._outgoing.take():
                for start in range(0, len(lines), _CHUNK):
                    chunk = lines[start : start + _CHUNK]
                    with trio.fail_after(_PATIENCE):
                        await self._stream.send_all(chunk)
                    self._outgoing.written(len(chunk))
        except (trio.BrokenResourceError, trio.TooSlowError):
            connection.cancel()


class _Lines:
    """Takes apart what a client sends."""

    def __init__(self, stream: trio.SocketStream) -> None:
        self._stream = stream
        self._buffer = bytearray()
        self._searched = 0  # bytes of it that have no end of a line

    async def next(self, *, begun: bool = False) -> bytes | None:
        """Return the next line, or None when the client has closed its side.

        Args:
            begun: whether to take the line for begun before anything of it is there.

        Raises:
            BadRequest: it is too long, or it has not been finished in time.
        """
        await trio.lowlevel.checkpoint()  # a client that always has more must not keep the loop
        deadline = trio.current_time() + _LINE_SECONDS if begun or self._buffer else math.inf
        while (end := self._buffer.find(b"\n", self._searched)) < 0:
            self._searched = len(self._buffer)
            if self._searched > _protocol.MAX_REQUEST:
                break
            chunk: bytes | bytearray | None = None
            with trio.CancelScope(deadline=deadline):
                try:
                    chunk = await self._stream.receive_some(_CHUNK)
                except trio.BrokenResourceError:
                    return None
            if chunk is None:
                raise BadRequest(f"a line that was begun {_LINE_SECONDS:g} s ago has no end; send lines at once")
            if not chunk:
                return None
            if deadline == math.inf:
                deadline = trio.current_time() + _LINE_SECONDS
            self._buffer += chunk
        if max(end, self._searched) > _protocol.MAX_REQUEST:
            raise BadRequest(f"a line has more than {_protocol.MAX_REQUEST} bytes; send less at once")
        line = bytes(self._buffer[:end])
        del self._buffer[: end + 1]
        self._searched = 0
        return line


class _Outgoing:
    """The lines on their way to a client. Answers wait for room; items, which are not waited for, have to look first.

    Args:
        on_room: called when there is room again.
    """

    def __init__(self, on_room: Callable[[], None]) -> None:
        self._on_room = on_room
        self._lines: deque[bytes] = deque()
        self._bytes = 0  # not written yet
        self._closed = False
        self._writer = trio.lowlevel.ParkingLot()
        self._waiting = trio.lowlevel.ParkingLot()

    @property
    def full(self) -> bool:
        return self._bytes >= _MAX_WAITING

    def add(self, line: bytes) -> None:
        self._lines.append(line)
        self._bytes += len(line)
        self._writer.unpark()

    async def put(self, line: bytes) -> None:
        while self.full:
            await self._waiting.park()
        self.add(line)

    async def take(self) -> bytes:
        """Return a long line, or some short ones, once there are any; nothing when it is closed."""
        while not self._lines and not self._closed:
            await self._writer.park()
        taken: list[bytes] = []
        size = 0
        while self._lines and (not taken or size + len(self._lines[0]) <= _CHUNK):
            taken.append(self._lines.popleft())
            size += len(taken[-1])
        return taken[0] if len(taken) == 1 else b"".join(taken)

    def written(self, size: int) -> None:
        """Make room for as many bytes."""
        was_full, self._bytes = self.full, self._bytes - size
        if was_full and not self.full:
            self._waiting.unpark_all()
            self._on_room()

    def close(self) -> None:
        """Let the writer end when it has sent the rest."""
        self._closed = True
        self._writer.unpark()


def _user_of(client: trio.socket.SocketType) -> int | None:
    """Return who has connected; None where that cannot be told, and the directory's mode has to do."""
    peer = _peer_of(client)
    return None if peer is None else peer[1]


def _peer_of(client: trio.socket.SocketType) -> tuple[int, int] | None:
    """Return the process that has connected, and its user; None where that cannot be told."""
    if not hasattr(socket, "SO_PEERCRED"):
        return None
    layout = "iII"  # pid, uid, gid
    found = client.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize(layout))
    process, user, _group = struct.unpack(layout, found)
    return process, user


def _has_gone(client: trio.socket.SocketType) -> bool:
    """Tell whether a client has closed its end, whatever of what it sent has not been read."""
    poll = select.poll()
    poll.register(client.fileno(), 0)  # asks for nothing but hang-ups and errors, which always come
    return bool(poll.poll(0))


def _remove(path: Path, ours: os.stat_result) -> None:
    """Remove the file of a socket, unless another one has its name by now."""
    try:
        found = path.lstat()
        if (found.st_dev, found.st_ino) == (ours.st_dev, ours.st_ino):
            path.unlink()
    except OSError:
        pass  # somebody has tidied up


def _log(text: str, error: BaseException) -> None:
    """Log an error without its text, which could be a user's code."""
    _logger.error("%s: %s", text, _where(error))


def _where(error: BaseException) -> str:
    """Return the type of an error, and where it was raised; of a group, each one's."""
    lines = f"{type(error).__name__}\n{''.join(traceback.format_tb(error.__traceback__))}"
    inner = error.exceptions if isinstance(error, BaseExceptionGroup) else ()
    return "".join((lines, *map(_where, inner)))
