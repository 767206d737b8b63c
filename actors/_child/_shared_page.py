"""The page that a child process and its gate share: what each must know of the other although one of them is stopped.

The child writes where it is, and does not wait for anybody to read it. The gate reads that only when the child is
stopped or dead, or as a figure for people; so nothing here depends on the order in which two processors see writes.
What the gate writes is looked at by the child between two steps.
"""

from __future__ import annotations

import mmap
import sys
from typing import Final

SIZE: Final = 4096 + 65536  # bytes
OUTBOX_AT: Final = 4096  # where frames are that the child has made and not sent yet
OUTBOX_SIZE: Final = SIZE - OUTBOX_AT

# Each is a place of eight bytes.

# Written by the child
BEGUN: Final = 0  # number of the call that it begins: those up to it may have run, those after it have not
STEPS: Final = 1  # how many steps of that call have begun
CPU_BEFORE: Final = 2  # nanoseconds of processor time that the process had used when the call began
OUTBOX: Final = 3  # bytes of whole frames in the outbox
ENDED: Final = 5  # number of the latest call whose code is over; what it came to may not be sent yet
STOPPED: Final = 4  # number of the call at whose step point it has stopped itself, as `STOP_AT` wants it

# Written by the gate
REVOKED: Final = 16  # calls up to this number are not begun any more; written only while the child is stopped
CANCEL: Final = 17  # number of the call that is to end at its next step point
STOP_CALL: Final = 18  # number of the call that `STOP_AT` is for
STOP_AT: Final = 19  # the child stops itself (SIGSTOP) at the step point where STEPS has reached this

# What BEGUN was when REVOKED was written: that call goes on. A child that was stopped right after it had written BEGUN
# has not looked at REVOKED yet, and could not tell otherwise that the gate believes that call to run.
KEPT: Final = 20

# What is in MARK as long as nothing but the runtime writes to the page.
MARK: Final = 24
MARKED: Final = 0x746F6B656E67


if sys.version_info >= (3, 13):

    def map_shared(descriptor: int, size: int = 0) -> mmap.mmap:
        """Map a file into memory, or so many bytes of it; the descriptor is not needed any more then."""
        return mmap.mmap(descriptor, size, trackfd=False)

else:

    def map_shared(descriptor: int, size: int = 0) -> mmap.mmap:
        """Map a file into memory, or so many bytes of it; the map keeps a descriptor of its own."""
        return mmap.mmap(descriptor, size)


class Page:
    """A view of the page.

    Args:
        descriptor: of the file that it is in; it can be closed afterwards.
    """

    __slots__ = ("_map", "outbox", "word")

    def __init__(self, descriptor: int) -> None:
        self._map: mmap.mmap | None = map_shared(descriptor, SIZE)
        view = memoryview(self._map)
        self.word = view[:OUTBOX_AT].cast("q")  # {place: value}, signed, read and written at once
        self.outbox = view[OUTBOX_AT:]

    def close(self) -> None:
        """Let go of the memory, into which nobody looks any more."""
        self.word.release()
        self.outbox.release()
        if self._map is not None:
            self._map.close()

    def leave(self) -> None:
        """Let go of the memory, which goes as soon as nobody looks into it; what was in the words stays readable."""
        self.word = memoryview(bytearray(self.word)).cast("q")
        self.outbox = memoryview(b"")
        self._map = None
