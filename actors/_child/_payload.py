"""Objects on their way between two processes: pickled once, and copied as seldom as can be.

What is small travels in its frame. What is large goes through a file without a name that both sides map into memory
(`memfd_create`, which is no part of /dev/shm; elsewhere an unlinked temporary file), so that it is written once and
read where it is: arrays that pickle's protocol 5 takes out of band are used right there.
"""

from __future__ import annotations

import errno
import os
import pickle
import socket
import struct
import tempfile
from collections.abc import Sequence
from typing import Any, Final

from ._shared_page import map_shared

INLINE: Final = 65536 - 64  # bytes that travel in a frame at most: with its header, it fits the page's outbox
_OUT_OF_BAND: Final = 16384  # bytes of a buffer that is worth a place of its own
_ALIGN: Final = 64

_COUNT: Final = struct.Struct("<q")
_DESCRIPTOR: Final = struct.Struct("i")

_CLOEXEC: Final = getattr(socket, "MSG_CMSG_CLOEXEC", 0)


class Payload:
    """Where a pickler writes: the pieces of one pickle, and the buffers that are to travel beside it.

    Large pieces are kept as they come, which are the user's own objects: they are to be sent before anything else runs.
    """

    __slots__ = ("buffers", "pieces", "write")

    def __init__(self) -> None:
        self.pieces: list[Any] = []
        self.buffers: list[pickle.PickleBuffer] = []
        self.write = self.pieces.append  # for the pickler

    def take_buffer(self, buffer: pickle.PickleBuffer) -> bool:
        """Keep a buffer for out of band, if it is large; tell the pickler whether it is to write it itself."""
        try:
            if buffer.raw().nbytes < _OUT_OF_BAND:
                return True
        except BufferError:  # not contiguous
            return True
        self.buffers.append(buffer)
        return False

    def clear(self) -> None:
        """Forget what was written."""
        self.pieces.clear()
        self.buffers.clear()

    def inline(self) -> bytes | None:
        """Return all of it in one piece, if it may travel in a frame."""
        pieces = self.pieces
        if self.buffers:
            return None
        if len(pieces) == 1:
            return pieces[0] if len(pieces[0]) <= INLINE else None
        return b"".join(pieces) if sum(map(len, pieces)) <= INLINE else None

    def to_file(self) -> tuple[int, bytes]:
        """Write all of it to a file; return its descriptor, which is the caller's to close, and its table."""
        parts: list[Sequence[Any]] = [self.pieces, *([buffer.raw()] for buffer in self.buffers)]
        descriptor = unnamed_file("tokengate")
        table: list[tuple[int, int]] = []
        at = 0
        try:
            for part in parts:
                end = at
                for piece in part:
                    end = _write_at(descriptor, memoryview(piece).cast("B"), end)
                table.append((at, end - at))
                at = -(-end // _ALIGN) * _ALIGN
            os.ftruncate(descriptor, max(at, 1))
        except BaseException:
            os.close(descriptor)
            raise
        words = b"".join(_COUNT.pack(word) for entry in table for word in entry)
        return descriptor, words


def open_payload(descriptor: int, table: bytes | memoryview) -> tuple[memoryview, list[memoryview]]:
    """Map a payload's file into memory, and close the descriptor.

    Returns:
        the pickle, and the buffers beside it, which keep the memory for as long as they are used.
    """
    try:
        words = [word for (word,) in _COUNT.iter_unpack(bytes(table))]
        entries = list(zip(words[::2], words[1::2], strict=True))
        view = memoryview(map_shared(descriptor))
    finally:
        os.close(descriptor)
    stream, *buffers = (view[at : at + size] for at, size in entries)
    return stream, buffers


def receive_descriptor(files: socket.socket, flags: int = 0) -> int | None:
    """Return the descriptor that comes with the next byte on a socket; None if none does.

    (`socket.recv_fds` passes no flags on.)

    Raises:
        BlockingIOError: nothing has come, with `MSG_DONTWAIT`.
        OSError: there is no descriptor left in this process.
    """
    _, ancillary, told, _ = files.recvmsg(1, socket.CMSG_LEN(_DESCRIPTOR.size), flags | _CLOEXEC)
    for level, kind, content in ancillary:
        if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS) and len(content) >= _DESCRIPTOR.size:
            return int(_DESCRIPTOR.unpack_from(content)[0])
    if told & socket.MSG_CTRUNC:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
    return None


def unnamed_file(name: str) -> int:
    """Return the descriptor of a new file that no directory has; it goes with its last descriptor and mapping."""
    if hasattr(os, "memfd_create"):
        return os.memfd_create(name, os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    descriptor, path = tempfile.mkstemp(prefix=f"{name}-")
    os.unlink(path)
    return descriptor


def _write_at(descriptor: int, data: memoryview, at: int) -> int:
    while data.nbytes:
        written = os.pwrite(descriptor, data, at)
        data = data[written:]
        at += written
    return at
