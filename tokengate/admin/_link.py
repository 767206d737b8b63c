"""Connections to a gate, over its control socket: one for its requests, and one for each that waits or goes on."""

from __future__ import annotations

import asyncio
import itertools
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final, TypeAlias

import attrs
import msgspec

from tokengate.admin._principal import Principal
from tokengate.admin._problems import Problem, problem_of
from tokengate.control._exceptions import BadRequest
from tokengate.control._validation import checked
from tokengate.control.messages import Message, Stream, verb_of
from tokengate.control.transport import _protocol
from tokengate.control.transport._protocol import MAX_ANSWER, PROTOCOL, ErrorText

_PATIENCE = 10.0  # seconds for an answer, in addition to those that the message lets the gate wait
_AT_ONCE: Final = 8  # requests that a gate works on for this daemon
_QUEUED: Final = 64  # further requests that wait for their turn
_WAITING: Final = 16  # requests that let the gate wait
_SOON: Final = 1.0  # seconds; a message that lets the gate wait longer is one of these
_WRONG: Final = (OSError, ValueError, RecursionError)  # of lines that are no gate's

_Lines: TypeAlias = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class _Reply(msgspec.Struct, frozen=True):
    """A line from a gate, of which answers and items stay JSON."""

    id: int | None = None
    result: msgspec.Raw = msgspec.Raw(b"null")
    error: ErrorText | None = None
    item: msgspec.Raw = msgspec.Raw(b"")
    end: bool = False


class _Item(msgspec.Struct, frozen=True):
    lost: int = 0


_decode_reply: Final = msgspec.json.Decoder(_Reply).decode
_decode_item: Final = msgspec.json.Decoder(_Item).decode


def request_line(id: int, message: Message[Any], principal: Principal) -> bytes:
    """Return a message on behalf of a principal, as gates read it.

    Raises:
        Problem: a field has a value that cannot work (422).
    """
    try:
        return _protocol.encode_request(id, checked(message), principal.on_behalf_of)
    except BadRequest as error:
        raise problem_of("BadRequest", str(error)) from None


def key_of(message: Message[Any], principal: Principal) -> bytes:
    """Return what is equal for the same message with the same rights, whichever request asks.

    Raises:
        Problem: as `request_line`.
    """
    return request_line(0, message, attrs.evolve(principal, request=""))


class Link:
    """The connections to a gate. Requests are sent on behalf of principals; answers stay JSON.

    One connection, made when it is needed, and again after a loss, carries the requests, of which the gate has eight at
    most; others wait for their turn. A request that its sender gives up keeps its place until it is answered, so that
    senders which come and go cannot have a gate work on more. A message that lets the gate wait holds up no other: it
    has a connection of its own, by whose end the gate gives it up.

    Args:
        path: of the control socket.
        on_loss: called when the gate has ended the connection.
    """

    def __init__(self, path: Path, on_loss: Callable[[], None] = lambda: None) -> None:
        self.path = path
        self._on_loss = on_loss
        self._ids = itertools.count(1)
        self._opening: asyncio.Task[_Requests] | None = None
        self._places = _Places(path.stem, _AT_ONCE, _QUEUED)
        self._places_to_wait = _Places(path.stem, _WAITING, 0)

    async def ask(self, message: Message[Any], principal: Principal) -> bytes:
        """Send a message, and return its answer as JSON.

        Raises:
            Problem: the gate's error; or (503) it has gone, does not answer, speaks another protocol, or has too much
                to do; or (429) too much of this owner's.
        """
        if isinstance(message, Stream):
            raise Problem(422, "BadRequest", f"'{verb_of(type(message))}' is a stream", "follow it")
        id = next(self._ids)
        line = request_line(id, message, principal)
        waits = float(sum(getattr(message, field, 0.0) for field in ("wait", "sample", "grace")))
        try:
            async with asyncio.timeout(_PATIENCE + waits):
                reply = await (self._ask_apart if waits > _SOON else self._ask)(id, line, principal.owner)
        except TimeoutError:
            raise _no_answer(self.path) from None
        return bytes(_said(reply, self.path).result)

    @asynccontextmanager
    async def follow(self, stream: Stream, principal: Principal) -> AsyncGenerator[AsyncIterator[tuple[bytes, int]]]:
        """Open a stream; it has a connection of its own, and its items are `(JSON, how many were left out before)`.

        Raises:
            Problem: as `ask`; while it is read, too.
        """
        line, writer = request_line(1, stream, principal), None
        try:
            try:
                async with asyncio.timeout(_PATIENCE):
                    reader, writer = await _open(self.path)
                    writer.write(line)
                    if _said(await _next(reader), self.path).end:
                        raise _gone(self.path)
            except TimeoutError:
                raise _no_answer(self.path) from None
            yield _items(reader, self.path)
        finally:
            if writer is not None:
                writer.transport.abort()

    async def close(self) -> None:
        """End the connection; requests without an answer fail."""
        if self._opening is not None:
            self._opening.cancel()
            (opened,) = await asyncio.gather(self._opening, return_exceptions=True)
            if isinstance(opened, _Requests):
                await opened.close()

    async def _ask(self, id: int, line: bytes, owner: int) -> _Reply | None:
        await self._places.take(owner)
        try:
            answer = (await self._connected()).send(id, line)
        except BaseException:
            self._places.give(owner)
            raise
        answer.add_done_callback(lambda _: self._places.give(owner))
        return await asyncio.shield(answer)

    async def _ask_apart(self, id: int, line: bytes, owner: int) -> _Reply | None:
        await self._places_to_wait.take(owner)
        try:
            own = _Requests(await _open(self.path))
            try:
                return await own.send(id, line)
            finally:
                await own.close()
        finally:
            self._places_to_wait.give(owner)

    async def _connected(self) -> _Requests:
        """Return the connection; all who need it wait for the same attempt, so that a hung gate has only one."""
        known = self._opening
        if known is None or (known.done() and (known.cancelled() or known.exception() or known.result().lost)):
            known = self._opening = asyncio.create_task(self._connect())
            known.add_done_callback(lambda one: one.cancelled() or one.exception())  # perhaps no caller waits for it
        return await asyncio.shield(known)

    async def _connect(self) -> _Requests:
        return _Requests(await _open(self.path), self._on_loss)


class _Places:
    """Places for requests in a gate, and for those that wait for one, in their order; one owner has half of them."""

    def __init__(self, gate: str, places: int, queue: int) -> None:
        self._gate = gate
        self._room = places + queue
        self._free = asyncio.Semaphore(places)
        self._taken: Counter[int] = Counter()  # {owner: its requests}

    async def take(self, owner: int) -> None:
        """Wait for a place.

        Raises:
            Problem: there are too many of this owner's (429), or of all (503: the gate has no room).
        """
        again = "try again in a second", {"Retry-After": "1"}
        if self._taken[owner] >= self._room // 2:
            text = f"user {owner} has {self._taken[owner]} requests under way in gate '{self._gate}'"
            raise Problem(429, "TooManyRequests", text, *again)
        if self._taken.total() >= self._room:
            raise Problem(503, "GateBusy", f"gate '{self._gate}' has {self._room} requests under way", *again)
        self._taken[owner] += 1
        try:
            await self._free.acquire()
        except BaseException:
            self._leave(owner)
            raise

    def give(self, owner: int) -> None:
        """Give a place back."""
        self._free.release()
        self._leave(owner)

    def _leave(self, owner: int) -> None:
        self._taken[owner] -= 1
        if not self._taken[owner]:
            del self._taken[owner]


class _Requests:
    """A connection that carries requests.

    Attributes:
        lost: whether it has ended.
    """

    def __init__(self, lines: _Lines, on_loss: Callable[[], None] = lambda: None) -> None:
        self.lost = False
        self._reader, self._writer = lines
        self._on_loss = on_loss
        self._answers: dict[int, asyncio.Future[_Reply | None]] = {}
        self._reading = asyncio.create_task(self._read())
        self._reading.add_done_callback(self._ended)  # also if it is cancelled before it begins

    def send(self, id: int, line: bytes) -> asyncio.Future[_Reply | None]:
        """Send a request, and return what will be its reply; None if the connection ends before."""
        answer: asyncio.Future[_Reply | None] = asyncio.get_running_loop().create_future()
        if self.lost:
            answer.set_result(None)
        else:
            self._answers[id] = answer
            self._writer.write(line)
        return answer

    async def close(self) -> None:
        self._reading.cancel()
        await asyncio.gather(self._reading, return_exceptions=True)

    async def _read(self) -> None:
        while (reply := await _next(self._reader)) is not None:
            answer = self._answers.pop(reply.id or 0, None)
            if answer is not None and not answer.done():
                answer.set_result(reply)

    def _ended(self, _: object) -> None:
        self.lost = True
        self._writer.transport.abort()
        for answer in self._answers.values():
            if not answer.done():
                answer.set_result(None)
        self._on_loss()


async def _open(path: Path) -> _Lines:
    """Connect, and exchange hellos."""
    try:
        reader, writer = await asyncio.open_unix_connection(path, limit=MAX_ANSWER)
    except OSError:
        raise _gone(path) from None
    try:
        said = _protocol.decode_server_hello(await reader.readline())
        if isinstance(said, ErrorText):
            raise problem_of(said.type, said.message)
        if said.protocol != PROTOCOL:
            text = f"gate '{path.stem}' speaks protocol {said.protocol}, and this daemon {PROTOCOL}"
            raise Problem(503, "OtherProtocol", text, f"use TokenGate {said.version} for both")
        writer.write(_protocol.encode_client_hello())
    except BaseException as error:
        writer.transport.abort()
        if isinstance(error, _WRONG):
            raise _gone(path) from None
        raise
    return reader, writer


async def _next(reader: asyncio.StreamReader) -> _Reply | None:
    """Return the next line; None if the connection has ended, or what comes is not a gate's."""
    try:
        return _decode_reply(await reader.readline())
    except _WRONG:
        return None


async def _items(reader: asyncio.StreamReader, path: Path) -> AsyncIterator[tuple[bytes, int]]:
    while not (reply := _said(await _next(reader), path)).end:
        item = bytes(reply.item)
        yield item, _decode_item(item).lost if b'"lost":' in item else 0


def _said(reply: _Reply | None, path: Path) -> _Reply:
    if reply is None:
        raise _gone(path)
    if reply.error is not None:
        raise problem_of(reply.error.type, reply.error.message)
    return reply


def _gone(path: Path) -> Problem:
    return Problem(503, "Unreachable", f"gate '{path.stem}' has gone, or cannot be reached", "see 'tokengate ls'")


def _no_answer(path: Path) -> Problem:
    text = f"gate '{path.stem}' did not answer in time; it may still do what was asked"
    return Problem(503, "NoAnswer", text, "its process may be stopped or overloaded: look at it, then try again")
