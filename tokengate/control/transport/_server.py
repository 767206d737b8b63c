"""The server of the control socket: reads requests, asks the backend, and writes its answers.

It runs on the system loop of a gate, beside supervisors and timers, so a client must not be able to delay or end that
loop: all that is read, buffered or waited for has a bound, and an error ends only the connection in which it is raised.
"""

from __future__ import annotations

import logging
import math
import os
import select
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
from tokengate.control._admission import Caller
from tokengate.control._exceptions import BadRequest, ControlError, UnknownVerb, Unreachable
from tokengate.control._version import own_version
from tokengate.control.inspection._turns import Turns, next_turn
from tokengate.control.messages import Event, Message, Stream
from tokengate.control.transport import _protocol
from tokengate.control.transport._discovery import listen
from tokengate.control.transport._peer import caller_of, peer_of
from tokengate.control.transport._protocol import Cancel, Request, ServerHello

_logger = logging.getLogger("tokengate.control")

_MAX_CONNECTIONS = 64
_MAX_IN_FLIGHT = 32  # requests of a connection
_MAX_WAITING = (
    256 * 1024
)  # bytes that wait for a client; beyond it, its requests are not worked on, and items are dropped
_LINE_SECONDS = 30.0  # for a client to finish a line; the time for its hello begins when it connects
_PATIENCE = 10.0  # seconds in which a client must read a chunk
_GONE_SECONDS = 1.0  # between two checks whether a client that is not read from is still connected
_CHUNK = 16 * 1024  # bytes


class Backend(Protocol):
    """What answers the messages."""

    async def ask(self, message: Message[Any], caller: Caller) -> Any:
        """Return the answer, of the type that the message names, or raise a TokenGateError."""
        ...

    def follow(self, stream: Stream, caller: Caller) -> AbstractAsyncContextManager[AsyncIterator[Event]]:
        """Open a stream, and return its items; none is missing from then on."""
        ...


class ControlServer:
    """Serves the control socket of a gate.

    Args:
        gate: name of the gate.
        backend: answers the messages.
        directory: for the socket; None takes the runtime directory.
        refusal: returns why a client is refused; empty if it is not.
        group: number of the group whose users may connect.
        turns: of which each client gets its share; None makes new ones.

    Attributes:
        path: of the socket; None while it does not listen.
    """

    def __init__(
        self,
        gate: str,
        backend: Backend,
        directory: Path | None = None,
        *,
        refusal: Callable[[Caller], str],
        group: int | None = None,
        turns: Turns | None = None,
    ) -> None:
        self.path: Path | None = None
        self._backend = backend
        self._refuses = refusal
        self._turns = turns or Turns()
        self._directory = directory
        self._group = group
        self._gate = gate
        self._disowned = False
        self._sockets: set[trio.socket.SocketType] = set()  # the listening one, and one for each client
        self._connections = 0

    async def serve(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Serve until cancelled, then remove the socket's file. Reports itself as started when it listens.

        Raises:
            ControlError: the socket cannot be made, see `listen`; nothing is left open.
        """
        made, path = listen(self._gate, self._directory, self._group)
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
        """Leave the socket to the parent, in a forked child: close inherited sockets, and do not touch the loop."""
        self._disowned = True
        self.path = None
        while self._sockets:
            # Not by its `close`, which would change the epoll object that is shared with the parent.
            if (fd := self._sockets.pop().detach()) >= 0:
                os.close(fd)

    async def _serve_client(self, stream: trio.SocketStream) -> None:
        """Serve a client until either side ends the connection. Raises nothing: an error would end the loop."""
        self._sockets.add(stream.socket)
        self._connections += 1
        try:
            async with stream:
                caller = caller_of(peer_of(stream.socket))
                if refusal := self._refusal(caller):
                    await stream.send_all(_protocol.encode_error(None, refusal))
                else:
                    hello = ServerHello(_protocol.PROTOCOL, self._gate, os.getpid(), own_version())
                    await _Connection(stream, self._backend, self._turns, caller).run(hello)
        except trio.BrokenResourceError:
            pass  # it disconnected before it was refused
        except BaseException as error:
            if is_cancellation(error):
                raise
            _log(f"a connection to gate '{self._gate}' is closed, since serving it failed", error)
        finally:
            self._connections -= 1
            self._sockets.discard(stream.socket)

    def _refusal(self, caller: Caller) -> Unreachable | None:
        """Return why a client is refused, or None. The text fits into the socket's buffer."""
        if why := self._refuses(caller):
            return Unreachable(f"gate '{self._gate}' {why}")
        if self._connections > _MAX_CONNECTIONS:
            return Unreachable(f"gate '{self._gate}' has {_MAX_CONNECTIONS} connections already; close one")
        return None


class _Connection:
    """One client: a task that reads, one that writes, and one for each request."""

    def __init__(self, stream: trio.SocketStream, backend: Backend, turns: Turns, caller: Caller) -> None:
        self._stream = stream
        self._backend = backend
        self._caller = caller
        self._lines = _Lines(stream)
        outgoing = self._outgoing = _Outgoing(turns.look)
        # By process: a process may have many connections.
        self._lane = turns.lane(lambda: not outgoing.full, caller.peer and ("process", caller.peer))
        self._room = trio.Semaphore(_MAX_IN_FLIGHT)
        self._in_flight: dict[int, trio.CancelScope | None] = {}  # {request id: the scope of a stream, else None}

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
        """Start the requests of the client, until it has closed its side; raise an error that ends the connection."""
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
            except (BadRequest, UnknownVerb) as error:
                await self._outgoing.put(_protocol.encode_error(id, error))
                continue
            if isinstance(message, Cancel):  # needs no room: it is how a client makes room
                await self._outgoing.put(_protocol.encode_result(id, self._cancel(message.request)))
                continue
            if not await self._has_room():
                return
            self._in_flight[id] = trio.CancelScope() if isinstance(message, Stream) else None
            requests.start_soon(self._handle, request, message)

    async def _has_room(self) -> bool:
        """Wait for room for a request, without reading meanwhile; return False if the client has disconnected."""
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

    async def _handle(self, request: Request, message: Message[Any]) -> None:
        """Answer a request, with a result or an error."""
        id, verb, scope, caller = request.id, request.verb, self._in_flight[request.id], self._caller
        if (other := request.on_behalf_of) is not None:
            rights = None if other.rights is None else frozenset(other.rights)
            groups = frozenset(other.groups)
            caller = Caller(other.principal, other.owner, groups, "http", caller.peer, caller, rights, other.request)
        try:
            with self._lane.job().at_work():
                if isinstance(message, Stream):
                    assert scope is not None
                    with scope:
                        await self._follow(id, message, caller)
                    last = _protocol.encode_end(id)
                else:
                    await next_turn()
                    last = await _protocol.encode_answer(id, await self._backend.ask(message, caller))
        except TokenGateError as error:
            last = _protocol.encode_error(id, error)
        except BaseException as error:
            if is_cancellation(error):
                raise
            _log(f"control failed at '{verb}'", error)
            text = f"the gate failed at '{verb}' ({type(error).__name__}); its log says where"
            last = _protocol.encode_failure(id, "InternalError", text)
        await self._outgoing.put(last)
        # No checkpoint before this: a client that has read the answer may use the id again.
        del self._in_flight[id]
        self._room.release()

    async def _follow(self, id: int, stream: Stream, caller: Caller) -> None:
        """Send that the stream is open, and then its items; items for which a slow reader has no room are counted."""
        lost = 0
        await next_turn()
        async with self._backend.follow(stream, caller) as items:
            await self._outgoing.put(_protocol.encode_result(id, True))
            async for item in items:
                lost += item.lost
                if self._outgoing.full:
                    lost += 1
                else:
                    self._outgoing.add(_protocol.encode_item(id, attrs.evolve(item, lost=lost)))
                    lost = 0

    async def _write(self, connection: trio.CancelScope) -> None:
        """Send the outgoing lines until they are closed; end the connection if the client does not read."""
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
    """Splits what a client sends into lines."""

    def __init__(self, stream: trio.SocketStream) -> None:
        self._stream = stream
        self._buffer = bytearray()
        self._searched = 0  # bytes of the buffer that were searched for the end of a line

    async def next(self, *, begun: bool = False) -> bytes | None:
        """Return the next line, or None when the client has closed its side.

        Args:
            begun: whether the time for the line begins now, and not with its first byte.

        Raises:
            BadRequest: the line is too long, or was not finished in time.
        """
        await trio.lowlevel.checkpoint()  # a client that sends all the time must not block the loop
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
                raise BadRequest(f"a line was not finished within {_LINE_SECONDS:g} s; send whole lines")
            if not chunk:
                return None
            if deadline == math.inf:
                deadline = trio.current_time() + _LINE_SECONDS
            self._buffer += chunk
        if max(end, self._searched) > _protocol.MAX_REQUEST:
            raise BadRequest(f"a line has more than {_protocol.MAX_REQUEST} bytes; send shorter lines")
        line = bytes(self._buffer[:end])
        del self._buffer[: end + 1]
        self._searched = 0
        return line


class _Outgoing:
    """The lines that wait to be sent to a client. Answers wait for room; items are dropped if there is none.

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
        """Wait for lines, and return a long one or several short ones; nothing when this is closed."""
        while not self._lines and not self._closed:
            await self._writer.park()
        taken: list[bytes] = []
        size = 0
        while self._lines and (not taken or size + len(self._lines[0]) <= _CHUNK):
            taken.append(self._lines.popleft())
            size += len(taken[-1])
        return taken[0] if len(taken) == 1 else b"".join(taken)

    def written(self, size: int) -> None:
        """Note that so many bytes were sent."""
        was_full, self._bytes = self.full, self._bytes - size
        if was_full and not self.full:
            self._waiting.unpark_all()
            self._on_room()

    def close(self) -> None:
        """Let the writer end after the last line."""
        self._closed = True
        self._writer.unpark()


def _has_gone(client: trio.socket.SocketType) -> bool:
    """Tell whether a client has closed its end, even if there is unread data."""
    poll = select.poll()
    poll.register(client.fileno(), 0)  # hang-ups and errors are always reported
    return bool(poll.poll(0))


def _remove(path: Path, ours: os.stat_result) -> None:
    """Remove the file of a socket, unless another file has its name by now."""
    try:
        found = path.lstat()
        if (found.st_dev, found.st_ino) == (ours.st_dev, ours.st_ino):
            path.unlink()
    except OSError:
        pass  # it was removed by another program


def _log(text: str, error: BaseException) -> None:
    """Log an error without its text, which would run its `__str__`, perhaps user code."""
    _logger.error("%s: %s", text, _where(error))


def _where(error: BaseException) -> str:
    """Return the type and the traceback of an error; of a group, those of each error."""
    lines = f"{type(error).__name__}\n{''.join(traceback.format_tb(error.__traceback__))}"
    inner = error.exceptions if isinstance(error, BaseExceptionGroup) else ()
    return "".join((lines, *map(_where, inner)))
