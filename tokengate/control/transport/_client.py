"""A blocking client of the control socket, which needs no loop and no gate."""

from __future__ import annotations

import itertools
import os
import socket
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Self

import msgspec

import actors
import supervisors
from actors import TokenGateError
from tokengate import _exceptions as _of_gates
from tokengate.control import _exceptions as _of_control
from tokengate.control._exceptions import BadRequest, NoAnswer, RemoteError, UnknownVerb, Unreachable
from tokengate.control._validation import checked
from tokengate.control.messages import (
    ANSWER_SECONDS,
    VERBS,
    Event,
    Health,
    HealthReport,
    Message,
    Stream,
    answer_of,
    verb_of,
)
from tokengate.control.registry._kinds import unanswered
from tokengate.control.transport import _protocol
from tokengate.control.transport._protocol import ErrorText, OnBehalfOf, Reply, ServerHello

_WAITING = ("wait", "sample", "grace")  # fields with seconds for which a message delays its answer
_LONGEST = 86_400.0  # seconds; a socket has a maximum timeout

_KNOWN: Mapping[str, type[TokenGateError]] = {
    name: found
    for module in (actors, supervisors, _of_gates, _of_control)
    for name, found in vars(module).items()
    if isinstance(found, type) and issubclass(found, TokenGateError)
}
"""{name: the error that is raised here when a gate answers with it}."""


class ControlClient:
    """A connection to a gate through its control socket. Threads may share it; they ask one after the other.

    Args:
        path: of the socket, see `find_gate`.
        timeout: seconds to wait for an answer, in addition to the seconds that the message lets the gate wait.
        on_behalf_of: the caller whom the gate takes it for; None: its own user, with all rights of that one.

    Attributes:
        hello: the first line of the gate: its name, pid, version and protocol.

    Raises:
        Unreachable: nothing listens there, or the gate refused the connection.
        BadRequest: the gate speaks another protocol.
    """

    def __init__(self, path: Path, timeout: float = 10.0, on_behalf_of: OnBehalfOf | None = None) -> None:
        self._path = path
        self._timeout = timeout
        self._on_behalf_of = on_behalf_of
        self._lock = threading.RLock()  # a signal handler may close it in the thread that asks
        self._connection = _Connection(path, timeout, on_behalf_of)
        self.hello: ServerHello = self._connection.hello

    def ask(self, message: Message[Any]) -> Any:
        """Return the answer, of the type that the message names.

        Raises:
            TokenGateError: the gate's error; `RemoteError` if its class does not exist here.
            Unreachable: the gate has gone, or (`NoAnswer`) did not answer in time; it may have done what the message
                says. The answer to `Health` says so instead.
            BadRequest: the message cannot be sent through a socket.
        """
        message = checked(message)
        verb = verb_of(type(message))
        if isinstance(message, Stream):
            raise BadRequest(f"'{verb}' has no single answer; use follow()")
        patience = self._timeout + sum(getattr(message, field, 0.0) for field in _WAITING)
        is_health = isinstance(message, Health)
        if is_health:
            patience = ANSWER_SECONDS
        with self._lock:
            id = self._connection.send(message)
            try:
                reply = self._connection.receive(id, verb, patience)
            except NoAnswer as error:
                if is_health:
                    return HealthReport.of_hung(error.gate)
                raise
            except UnknownVerb:
                if verb in VERBS:
                    raise
                raise unanswered(type(message)) from None  # its process has not imported the plugin
        try:
            return msgspec.json.decode(reply.result, type=answer_of(type(message)))
        except (ValueError, RecursionError) as error:
            raise RemoteError(
                f"answer to '{verb}' is not what {type(message).__name__} declares: {error}; "
                "use the same TokenGate on both sides, and let its method return that type"
            ) from None

    def follow(self, stream: Stream) -> Subscription:
        """Return the items of a stream; nothing that happens after this has returned is missing.

        The stream has a connection of its own.

        Raises:
            TokenGateError: as `ask`.
        """
        verb = verb_of(type(stream))
        connection = _Connection(self._path, self._timeout, self._on_behalf_of)
        try:
            id = connection.send(stream)
            first = connection.receive(id, verb, self._timeout)
            if first.item is not None or first.end:
                raise RemoteError(
                    f"{connection.name} did not say that '{verb}' has begun; use the same TokenGate on both sides"
                )
        except BaseException:
            connection.close()
            raise
        return Subscription(connection, id, verb)

    def close(self) -> None:
        """End the connection: messages without an answer are cancelled, and a thread that waits for one is woken."""
        self._connection.hang_up()
        with self._lock:  # its holder reads: the file descriptor must not be reused meanwhile
            self._connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.close()


class Subscription(Iterator[Event]):
    """The items of a stream of a gate: `next` waits for one. Close it with `close`, or use it in a `with` block.

    It ends when the gate ends it, and after an error.

    Raises:
        TokenGateError: the gate's error.
        Unreachable: the gate has gone.
    """

    def __init__(self, connection: _Connection, id: int, verb: str) -> None:
        self._connection = connection
        self._id = id
        self._verb = verb
        self._closed = False
        # Held while a thread reads, so that the file descriptor is not closed, and reused, meanwhile. A signal handler
        # may close the stream that its own thread reads.
        self._reading = threading.RLock()

    def __next__(self) -> Event:
        with self._reading:
            while not self._closed:
                try:
                    reply = self._connection.receive(self._id, self._verb, None)
                except TokenGateError:
                    if self._closed:
                        break
                    self.close()
                    raise
                if reply.end:
                    self.close()
                elif reply.item is not None and not self._closed:
                    return reply.item
            raise StopIteration

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.close()

    def close(self) -> None:
        """End the stream, and wake a thread that waits for an item; a second call does nothing."""
        self._closed = True
        self._connection.hang_up()
        with self._reading:
            self._connection.close()


class _Connection:
    """A socket, its lines, and the hello of the gate."""

    def __init__(self, path: Path, timeout: float, on_behalf_of: OnBehalfOf | None) -> None:
        self._path = path
        self._on_behalf_of = on_behalf_of
        self.gate, self.name = "", f"gate at '{path}'"
        self._timeout = timeout
        self._ids = itertools.count(1)
        self._buffer = bytearray()
        self._searched = 0  # bytes of the buffer that were searched for the end of a line
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            self._socket.settimeout(min(timeout, _LONGEST))
            self._socket.connect(os.fspath(path))
            self.hello = self._greet()
        except BaseException as error:
            self.close()
            if isinstance(error, TokenGateError) or not isinstance(error, OSError):
                raise
            if isinstance(error, BlockingIOError):  # its backlog is full
                raise self._no_answer("accept a connection", timeout) from error
            raise Unreachable(f"{self.name} cannot be reached: {error}; it may have closed") from error

    def _greet(self) -> ServerHello:
        line = self._line("say hello", self._timeout)
        try:
            said = _protocol.decode_server_hello(line)
        except ValueError as error:
            raise Unreachable(f"what listens at '{self._path}' is not a gate: {error}") from None
        if isinstance(said, ErrorText):
            raise _error(said)
        self.gate, self.name = said.gate, f"gate '{said.gate}' (pid {said.pid})"
        if said.protocol != _protocol.PROTOCOL:
            raise BadRequest(
                f"{self.name} speaks protocol {said.protocol}, and this client {_protocol.PROTOCOL}; "
                f"use TokenGate {said.version} for it"
            )
        self._send(_protocol.encode_client_hello())
        return said

    def send(self, message: Message[Any]) -> int:
        """Send a message and return its id."""
        id = next(self._ids)
        self._send(_protocol.encode_request(id, message, self._on_behalf_of))
        return id

    def receive(self, id: int, verb: str, patience: float | None) -> Reply:
        """Return the next reply to a message, or raise its error. Replies to others, which timed out, are skipped."""
        while True:
            line = self._line(f"answer '{verb}'", patience)
            try:
                reply = _protocol.decode_reply(line)
            except ValueError as error:
                raise RemoteError(f"answer of {self.name} cannot be read: {error}") from None
            if reply.error is not None and reply.id in (id, None):
                raise _error(reply.error)
            if reply.id == id:
                return reply

    def hang_up(self) -> None:
        """Shut the socket down, which wakes a thread that waits for a line; the file stays open."""
        try:
            self._socket.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass  # the gate has closed it before

    def close(self) -> None:
        self._socket.close()

    def _send(self, line: bytes) -> None:
        try:
            self._socket.settimeout(min(self._timeout, _LONGEST))
            self._socket.sendall(line)
        except OSError as error:
            raise self._lost(error) from error

    def _line(self, what: str, patience: float | None) -> bytes:
        """Wait for a line; `patience` is in seconds, and None has no limit."""
        end_of_time = None if patience is None else time.monotonic() + min(patience, _LONGEST)
        while (end := self._buffer.find(b"\n", self._searched)) < 0:
            self._searched = len(self._buffer)
            if self._searched > _protocol.MAX_ANSWER:
                self.close()
                raise RemoteError(f"{self.name} sends a line of more than {_protocol.MAX_ANSWER} bytes")
            left = None if end_of_time is None else end_of_time - time.monotonic()
            try:
                if left is not None and left <= 0:
                    raise TimeoutError
                self._socket.settimeout(left)
                chunk = self._socket.recv(65536)
            except TimeoutError:
                raise self._no_answer(what, patience) from None
            except OSError as error:
                raise self._lost(error) from error
            if not chunk:
                raise self._lost(None)
            self._buffer += chunk
        line = bytes(self._buffer[:end])
        del self._buffer[: end + 1]
        self._searched = 0
        return line

    def _no_answer(self, what: str, patience: float | None) -> NoAnswer:
        text = f"{self.name} did not {what} within {patience or 0.0:g} s; try again, or wait longer"
        return NoAnswer(text, self.gate)

    def _lost(self, error: OSError | None) -> Unreachable:
        gone_before = self._socket.fileno() < 0
        self.close()
        reason = "" if error is None or gone_before else f": {error.strerror or error}"
        return Unreachable(f"{self.name} went away{reason}; it may have closed")


def _error(sent: ErrorText) -> TokenGateError:
    """Return the error of a gate's answer."""
    known = _KNOWN.get(sent.type)
    return RemoteError(f"{sent.type}: {sent.message}") if known is None else known(sent.message)
