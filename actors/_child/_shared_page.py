"""The shared page: memory in which a child and its gate leave state for each other, even while the child is stopped.

The child writes which call it runs, and does not wait until that is read. The gate reads it only while the child is
stopped or dead, or to show it; so nothing depends on the order in which two processors see writes. The child reads what
the gate writes between two steps.
"""

from __future__ import annotations

import mmap
import sys
from typing import Final

SIZE: Final = 4096 + 65536  # bytes
OUTBOX_AT: Final = 4096  # offset of the outbox: frames that the child has not sent yet
OUTBOX_SIZE: Final = SIZE - OUTBOX_AT

# Each name below is the index of a word of eight bytes.

# Written by the child
BEGUN: Final = (
    0  # number of the latest call that it has started: later ones have not run, this and earlier ones may have
)
STEPS: Final = 1  # number of steps of that call that have begun
CPU_BEFORE: Final = 2  # nanoseconds of processor time that the process had used when the call began
OUTBOX: Final = 3  # bytes of complete frames in the outbox
STOPPED: Final = 4  # number of the call, at a yield point of which it stops itself, as `STOP_AT` demands
ENDED: Final = 5  # number of the latest call that is over; its outcome may not be sent yet
CPU_OF: Final = 6  # number of the latest call that took long enough to have its processor time measured
CPU_USED: Final = 7  # nanoseconds of processor time that this call has used

# Written by the gate
REVOKED: Final = 16  # calls up to this number are not started any more; written only while the child is stopped
CANCEL: Final = 17  # number of the call that is to end at its next yield point
STOP_CALL: Final = 18  # number of the call that `STOP_AT` is for
STOP_AT: Final = 19  # the child stops itself (SIGSTOP) at the yield point at which STEPS has reached this

# The value of BEGUN when REVOKED was written: that call goes on. A child that was stopped right after it had written
# BEGUN has not looked at REVOKED yet. Without KEPT it would skip that call, and the gate believes that it runs.
KEPT: Final = 20

# MARK has the value MARKED, unless code other than the runtime has written to the page.
MARK: Final = 24
MARKED: Final = 0x746F6B656E67


if sys.version_info >= (3, 13):

    def map_shared(descriptor: int, size: int = 0) -> mmap.mmap:
        """Map a file into memory, or the first bytes of it; the map keeps no descriptor."""
        return mmap.mmap(descriptor, size, trackfd=False)

else:

    def map_shared(descriptor: int, size: int = 0) -> mmap.mmap:
        """Map a file into memory, or the first bytes of it; the map keeps a descriptor of its own."""
        return mmap.mmap(descriptor, size)


class Page:
    """The page, mapped into memory.

    Args:
        descriptor: of its file; it can be closed afterwards.
    """

    __slots__ = ("_map", "outbox", "word")

    def __init__(self, descriptor: int) -> None:
        self._map: mmap.mmap | None = map_shared(descriptor, SIZE)
        view = memoryview(self._map)
        self.word = view[:OUTBOX_AT].cast("q")  # {index: value}, signed; reads and writes of a word are atomic
        self.outbox = view[OUTBOX_AT:]

    def close(self) -> None:
        """Unmap the memory, to which no view may exist any more."""
        self.word.release()
        self.outbox.release()
        if self._map is not None:
            self._map.close()

    def leave(self) -> None:
        """Release the memory, which is unmapped with the last view of it; the words stay readable, as a copy."""
        self.word = memoryview(bytearray(self.word)).cast("q")
        self.outbox = memoryview(b"")
        self._map = None
