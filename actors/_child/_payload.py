"""Pickled objects that are sent between processes, with few copies.

A small one is sent in its frame. A large one is written to a file without a name, which both sides map into memory
(`memfd_create`, which does not use /dev/shm; elsewhere an unlinked temporary file). So it is written once and read in
place: arrays that pickle's protocol 5 keeps out of band are used right there.
"""

from __future__ import annotations

import errno
import os
import pickle
import socket
import struct
from collections.abc import Sequence
from typing import Any, Final

from ._shared_page import map_shared

INLINE: Final = 65536 - 64  # bytes in a frame at most: with its header, it fits into the page's outbox
_OUT_OF_BAND: Final = 16384  # bytes from which a buffer is kept out of band
_ALIGN: Final = 64

_COUNT: Final = struct.Struct("<q")
_DESCRIPTOR: Final = struct.Struct("i")

_CLOEXEC: Final = getattr(socket, "MSG_CMSG_CLOEXEC", 0)


class Payload:
    """What a pickler writes: the pieces of one pickle, and its out-of-band buffers.

    Large pieces are not copied, they are objects of the user: a payload must be sent before user code runs again.
    """

    __slots__ = ("buffers", "pieces", "write")

    def __init__(self) -> None:
        self.pieces: list[Any] = []
        self.buffers: list[pickle.PickleBuffer] = []
        self.write = self.pieces.append  # called by the pickler

    def take_buffer(self, buffer: pickle.PickleBuffer) -> bool:
        """Keep a buffer out of band, if it is large; return True if the pickler is to write it in band."""
        try:
            if buffer.raw().nbytes < _OUT_OF_BAND:
                return True
        except BufferError:  # not contiguous
            return True
        self.buffers.append(buffer)
        return False

    def clear(self) -> None:
        """Drop what was written."""
        self.pieces.clear()
        self.buffers.clear()

    def inline(self) -> bytes | None:
        """Return the pickle in one piece; None if it is too large for a frame."""
        pieces = self.pieces
        if self.buffers:
            return None
        if len(pieces) == 1:
            return pieces[0] if len(pieces[0]) <= INLINE else None
        return b"".join(pieces) if sum(map(len, pieces)) <= INLINE else None

    def to_file(self) -> tuple[int, bytes]:
        """Write pickle and buffers to a file; return its descriptor, which the caller has to close, and its table."""
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
        the pickle, and its out-of-band buffers; the memory stays mapped while one of them is referenced.
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
    """Return the descriptor that comes with the next byte on a socket; None if there is none.

    (`socket.recv_fds` ignores flags.)

    Raises:
        BlockingIOError: nothing has come, with `MSG_DONTWAIT`.
        OSError: this process has too many open files.
    """
    _, ancillary, returned_flags, _ = files.recvmsg(1, socket.CMSG_LEN(_DESCRIPTOR.size), flags | _CLOEXEC)
    for level, kind, content in ancillary:
        if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS) and len(content) >= _DESCRIPTOR.size:
            return int(_DESCRIPTOR.unpack_from(content)[0])
    if returned_flags & socket.MSG_CTRUNC:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
    return None


def unnamed_file(name: str) -> int:
    """Return the descriptor of a new file without a name; it is freed with its last descriptor and mapping."""
    if hasattr(os, "memfd_create"):
        return os.memfd_create(name, os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    import tempfile  # not above: it takes a tenth of the time in which a fork server starts

    descriptor, path = tempfile.mkstemp(prefix=f"{name}-")
    os.unlink(path)
    return descriptor


def _write_at(descriptor: int, data: memoryview, at: int) -> int:
    while data.nbytes:
        written = os.pwrite(descriptor, data, at)
        data = data[written:]
        at += written
    return at
