"""The connection to one child process: a stream of frames, and a socket for the files of large payloads."""

from __future__ import annotations

import os
import select
import socket
import threading
import time
from collections import deque
from collections.abc import Sequence
from typing import Final, TypeGuard

from actors._child import _wire
from actors._child._payload import receive_descriptor

_READ: Final = 262_144  # bytes at once

_LOOKS: Final = 50  # at the stream, before its reader sleeps


class FilePayload(bytes):
    """The table of a payload in a file, with the file's descriptor, which is closed when it is sent or dropped."""

    descriptor = -1

    def send_to(self, files: socket.socket) -> None:
        """Send the descriptor on the socket for files."""
        try:
            socket.send_fds(files, [b"f"], [self.descriptor])
        except OSError:
            pass  # the process is dead, which the fork server reports
        finally:
            self.close()

    def close(self) -> None:
        """Close the descriptor."""
        descriptor, self.descriptor = self.descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)

    def __del__(self) -> None:
        self.close()


def _is_file(piece: bytes) -> TypeGuard[FilePayload]:
    return type(piece) is FilePayload


class WorkerStream:
    """The gate's ends of the sockets of one child process; none of its methods but `wait_readable` blocks.

    Any thread may send. Only the thread that has the worker's `read_lock` reads.

    Args:
        stream: for frames.
        files: for descriptors of files, in the order of their frames.

    Attributes:
        received: number of bytes that were read.
    """

    def __init__(self, stream: socket.socket, files: socket.socket) -> None:
        stream.setblocking(False)
        self.received = 0
        self._stream = stream
        self._files = files
        self._writing = threading.Lock()
        self._unsent: deque[bytes] = deque()  # what the stream had no room for yet
        self._frames = _wire.Frames()
        self._poll = select.poll()
        self._poll.register(stream, select.POLLIN)

    def fileno(self) -> int:
        """Return the descriptor of the stream of frames."""
        return self._stream.fileno()

    def close(self) -> None:
        """Close both sockets."""
        self._stream.close()
        self._files.close()

    # Sending

    def send(self, pieces: Sequence[bytes]) -> bool:
        """Write the pieces of frames, as far as the stream has room; tell whether something is left for `send_rest`."""
        data = b"".join(pieces)
        with self._writing:
            # Under the lock, so that descriptors are in the order of their frames, whichever thread sends them.
            for file in filter(_is_file, pieces):
                file.send_to(self._files)
            if self._unsent:
                self._unsent.append(data)
                return True
            return self._write(data)

    def send_rest(self) -> bool:
        """Write what the stream had no room for; tell whether something is left."""
        with self._writing:
            while self._unsent:
                if self._write(self._unsent.popleft()):
                    return True
            return False

    def _write(self, data: bytes) -> bool:
        try:
            sent = self._stream.send(data)
        except BlockingIOError:
            sent = 0
        except OSError:  # the process is dead, which the fork server reports
            return False
        if sent < len(data):
            self._unsent.appendleft(data[sent:])
            return True
        return False

    def end_writing(self) -> None:
        """Send an end of file after all that was sent: the process ends by itself."""
        try:
            self._stream.shutdown(socket.SHUT_WR)
        except OSError:
            pass  # it is dead already

    # Reading

    def read(self) -> tuple[list[_wire.Frame], bool]:
        """Return the frames that have come, and whether the stream has ended."""
        frames: list[_wire.Frame] = []
        while not self.is_foreign:
            try:
                data = self._stream.recv(_READ)
            except BlockingIOError:
                break
            except OSError:
                data = b""
            if not data:
                return frames, True
            self.received += len(data)
            frames.extend(self._frames.feed(data))
            if len(data) < _READ:
                break
        return frames, False

    @property
    def is_foreign(self) -> bool:
        """Whether something has come that is no frame from a child."""
        return self._frames.is_foreign

    @property
    def may_peek(self) -> bool:
        """Whether nothing was read of the next frame."""
        return self._frames.is_empty

    def peek(self) -> tuple[list[_wire.Frame], int]:
        """Read, and leave it on the stream: return the complete frames, and the number of all bytes."""
        try:
            data = self._stream.recv(_READ, socket.MSG_PEEK)
        except OSError:
            data = b""
        return list(_wire.Frames().feed(data)), len(data)

    def consume(self, size: int) -> None:
        """Take bytes off the stream that were peeked at."""
        if size:
            self._stream.recv(size)

    def wait_readable(self, until: float) -> bool:
        """Wait for something to read, until a time of time.monotonic; tell whether there may be something."""
        poll = self._poll
        for _ in range(_LOOKS):  # a process that was just sent a short call answers within these
            if poll.poll(0):
                return True
            os.sched_yield()
        return bool(poll.poll(max(0.0, until - time.monotonic()) * 1000))

    def receive_file(self) -> int | None:
        """Return the descriptor of the file with the next large payload; None if none has come.

        Raises:
            OSError: this process has too many open files.
        """
        try:
            return receive_descriptor(self._files, socket.MSG_DONTWAIT)
        except BlockingIOError:
            return None
