"""Memory use of this process."""

from __future__ import annotations

import ctypes
import gc

import psutil

MIB = 2**20


def resident() -> int:
    """Return the resident memory in bytes, once the allocator has given back what it does not use."""
    gc.collect()
    if hasattr(libc := ctypes.CDLL(None), "malloc_trim"):
        libc.malloc_trim(0)
    return psutil.Process().memory_info().rss
