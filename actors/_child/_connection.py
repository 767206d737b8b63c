"""The connection of a child to its gate: it reads and writes frames, and waits for answers to requests.

Results are collected in the outbox, which is on the shared page: the gate can read it even when this process is stopped
or dead. They are sent together. Only the thread that runs the calls uses the outbox; any thread may send other frames,
and make requests.
"""

from __future__ import annotations

import os
import pickle
import socket
import sys
import threading
from collections import deque
from collections.abc import Callable
from itertools import count
from threading import get_ident
from time import perf_counter_ns
from typing import Any, Final, NoReturn, cast

from . import _shared_page, _wire
from ._exceptions import ActorDead, NotPicklable
from ._failures import error_of
from ._payload import INLINE, open_payload, receive_descriptor
from ._pickling import Pickler
from ._shared_page import Page
from ._wire import LARGE, Frame, Frames

FLUSH_AFTER: Final = 2_000_000  # nanoseconds since the outbox was last sent
_READ: Final = 65536  # bytes at once

_HEADER: Final = _wire.HEADER
_HEADER_SIZE: Final = _wire.HEADER.size
_OUTBOX: Final = _shared_page.OUTBOX
_OUTBOX_SIZE: Final = _shared_page.OUTBOX_SIZE

_RUN_HEAD: Final = _wire.RUN_HEAD
_ITEMS: Final = _wire.RUN_ITEMS
_JOINABLE: Final = _wire.RUN_PROTOCOL

_header_into = _HEADER.pack_into
_dumps = pickle.dumps


class Connection:
    """The child's ends of the connection to its gate.

    Args:
        stream: for frames.
        files: for descriptors of large payloads, in the order of their frames.
        page: the shared page.
    """

    def __init__(self, stream: socket.socket, files: socket.socket, page: Page) -> None:
        self.page = page
        self.pending: deque[Frame] = deque()  # frames that are not handled yet, the oldest first
        self.due_since = 0  # since when results may be in the outbox, in nanoseconds of time.perf_counter_ns
        self.owner = 0  # the thread that runs the calls
        self.ended = False  # whether the gate has closed the stream
        self._stream = stream
        self._files = files
        self._word = page.word
        self._outbox = page.outbox
        self._in_run = False  # whether what is in the outbox is a run of plain results
        self._frames = Frames()
        self._sending = threading.Lock()
        self._sender = 0  # the thread that holds `_sending`
        self._late: deque[bytes] = deque()  # frames of that thread itself, from code that has interrupted it
        # A thread that waits for a frame reads, if no other thread does, and passes on the frames for others.
        self._turn = threading.Condition()
        self._reader = 0  # the thread that reads now
        self._requests = count(1)
        self._wanted: set[int] = set()  # numbers of requests that are waited for
        self._replies: dict[int, Frame] = {}

    # Results, on the thread that runs the calls

    def put(self, kind: int, number: int, extra: int, payload: bytes) -> None:
        """Put a frame into the outbox; send the outbox first, if it has no room or contains a run."""
        if self._in_run:
            self.flush()
        word, outbox = self._word, self._outbox
        used = word[_OUTBOX]
        start = used + _HEADER_SIZE
        end = start + len(payload)
        if end > _OUTBOX_SIZE:
            self.flush()
            used, start, end = 0, _HEADER_SIZE, _HEADER_SIZE + len(payload)
        _header_into(outbox, used, kind, 0, len(payload), number, extra)
        outbox[start:end] = payload
        word[_OUTBOX] = end

    def put_result(self, number: int, nanoseconds: int, value: Any) -> bool:
        """Add a plain result to the run in the outbox; return False if it is too large, or frames are there."""
        result = _dumps((number, nanoseconds, value), _JOINABLE)[_ITEMS]
        start = self._word[_OUTBOX]
        end = start + len(result)
        if not self._in_run or end > _OUTBOX_SIZE:
            if (start and not self._in_run) or len(result) > INLINE:
                return False
            self.flush()
            self._in_run = True
            start = len(_RUN_HEAD)
            end = start + len(result)
            self._outbox[:start] = _RUN_HEAD
        self._outbox[start:end] = result
        self._word[_OUTBOX] = end
        return True

    def put_file(self, kind: int, number: int, extra: int, file: tuple[int, bytes]) -> None:
        """Send the outbox, then a frame whose payload is in a file, with the file's descriptor and its table."""
        self.flush()
        self._send_file(kind, number, extra, file)

    def flush(self) -> None:
        """Send the outbox, then empty it: a frame that the gate sees twice is known by its number."""
        used = self._word[_OUTBOX]
        if used:
            self._send(_wire.complete(bytes(self._outbox[:used])))
            self._word[_OUTBOX] = 0
            self._in_run = False
        self.due_since = perf_counter_ns()

    def flush_if_due(self) -> None:
        """Send the outbox, if FLUSH_AFTER is over."""
        if self._word[_OUTBOX] and perf_counter_ns() - self.due_since > FLUSH_AFTER:
            self.flush()

    # For any thread

    def send(self, kind: int, number: int, extra: int, payload: bytes, flags: int = 0) -> None:
        """Send a frame at once, not through the outbox."""
        self._send(_HEADER.pack(kind, flags, len(payload), number, extra) + payload)

    def ask(self, item: Any) -> Any:
        """Make a request, and wait for the answer.

        Raises:
            NotPicklable: a part of the request cannot be pickled.
            ActorDead: the gate has ended.
            RuntimeError: this code has interrupted code that sends to the gate, or reads from it.
            BaseException: the error that the gate has answered with.
        """
        me = get_ident()
        if me in (self._sender, self._reader):
            raise RuntimeError(
                "no request can be made here: this code has interrupted code that sends to the gate, or reads from it"
            )
        number = next(self._requests)
        packed = _pack(item)
        self._wanted.add(number)
        try:
            if me == self.owner:
                self.flush()  # results of earlier calls are not to wait as well
            if isinstance(packed, bytes):
                self.send(_wire.REQUEST, number, 0, packed)
            else:
                self._send_file(_wire.REQUEST, number, 0, packed)
            self._read_until(lambda: number in self._replies)
        except ConnectionError:
            pass
        finally:
            self._wanted.discard(number)
            frame = self._replies.pop(number, None)
        if frame is None:
            raise ActorDead("the gate of this process has ended")
        value = load(frame)
        if frame.extra:
            raise error_of(value)
        return value

    def wait_pending(self) -> bool:
        """Wait for a frame; return False when none will come any more."""
        self._read_until(lambda: self.pending)
        self.due_since = perf_counter_ns()
        return bool(self.pending)

    def disown(self) -> None:
        """Leave the gate to the parent, in a process that user code has forked; it ends when that code returns."""
        self.close()
        self._turn = threading.Condition()

        def end(*_args: Any) -> NoReturn:
            leave(0)

        vars(self).update(put=end, put_result=end, put_file=end, flush=end, send=end, ask=_nobody_to_ask)

    def close(self) -> None:
        """Close both sockets."""
        self._stream.close()
        self._files.close()

    # Writing

    def _send(self, data: bytes | memoryview, descriptor: int | None = None) -> None:
        me = get_ident()
        if self._sender == me:  # a signal handler, or a finalizer
            self._late.append(bytes(data))
            return
        with self._sending:
            self._sender = me
            try:
                if descriptor is not None:
                    socket.send_fds(self._files, [b"f"], [descriptor])
                self._stream.sendall(data)
                while self._late:
                    self._stream.sendall(self._late.popleft())
            finally:
                self._sender = 0

    def _send_file(self, kind: int, number: int, extra: int, file: tuple[int, bytes]) -> None:
        descriptor, table = file
        try:
            self._send(_HEADER.pack(kind, LARGE, len(table), number, extra) + table, descriptor)
        finally:
            os.close(descriptor)

    # Reading

    def _read_until(self, there: Callable[[], object]) -> None:
        """Read, or wait for the thread that reads, until a condition holds, or the stream has ended."""
        with self._turn:
            while not there() and not self.ended:
                if self._reader:
                    self._turn.wait()
                    continue
                self._reader = get_ident()
                self._turn.release()
                frames: list[Frame] = []
                try:
                    frames = self._receive()
                finally:
                    self._turn.acquire()
                    self._reader = 0
                    for frame in frames:
                        if frame.kind != _wire.REPLY:
                            self.pending.append(frame)
                        elif frame.number in self._wanted:
                            self._replies[frame.number] = frame
                    self._turn.notify_all()

    def _receive(self) -> list[Frame]:
        try:
            data = self._stream.recv(_READ)
        except ConnectionError:
            data = b""
        if not data:
            self.ended = True
        frames = list(self._frames.feed(data))
        for index, frame in enumerate(frames):
            if frame.flags & LARGE:
                frames[index] = frame._replace(payload=cast("Any", self._open(frame.payload)))
        return frames

    def _open(self, table: memoryview) -> Any:
        """Return a large payload, mapped into memory; or the error, which the call ends with."""
        try:
            descriptor = receive_descriptor(self._files)
            if descriptor is None:
                raise EOFError("no file has come with a large payload")
            return open_payload(descriptor, table)
        except Exception as error:
            return error


def _pack(item: Any) -> bytes | tuple[int, bytes]:
    """Pickle a request; return it as bytes, or as a file's descriptor and table."""
    pickler = Pickler()
    try:
        pickler.dump(item)
    except Exception as error:
        what = f"the arguments of request '{item[0]}' cannot be sent to the gate"
        raise NotPicklable(f"{what}: {type(error).__name__}: {error}") from error
    data = pickler.payload.inline()
    return pickler.payload.to_file() if data is None else data


def leave(code: int) -> NoReturn:
    """Flush the standard streams, and end this process."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except BaseException:
            pass  # it is closed, or the user has replaced it
    os._exit(code)


def _nobody_to_ask(_item: object) -> NoReturn:
    raise RuntimeError("this process was forked by a child process of a gate, and has no gate to ask")


def load(frame: Frame) -> Any:
    """Unpickle the payload of a frame."""
    if not frame.flags & LARGE:
        return pickle.loads(frame.payload)
    opened: Any = frame.payload
    if isinstance(opened, Exception):
        raise opened
    stream, buffers = opened
    return pickle.loads(stream, buffers=buffers)
