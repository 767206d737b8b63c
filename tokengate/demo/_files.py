"""Read files without holding up a loop."""

from __future__ import annotations

import os
import sys


def read_cached(path: str) -> bytes | None:
    """Read a file that the operating system has in memory, without waiting for a disk.

    A read in another thread costs more than reading from memory does: each switch takes the interpreter lock from
    a thread that computes.

    Returns:
        the content; None if reading would wait, or if the platform (other than Linux) cannot tell.

    Raises:
        OSError: the file cannot be opened.
    """
    if sys.platform != "linux":
        return None
    file = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        content = bytearray(os.fstat(file).st_size)
        complete = bool(content) and os.preadv(file, [content], 0, os.RWF_NOWAIT) == len(content)
        return bytes(content) if complete else None
    except OSError:  # it would have to wait, or this file system cannot tell
        return None
    finally:
        os.close(file)
