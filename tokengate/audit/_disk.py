"""The calls to the system that a full, broken or hung disk makes fail or hang; tests have disks of their own."""

from __future__ import annotations

import os
from typing import Final

_sync: Final = getattr(os, "fdatasync", os.fsync)


class Disk:
    """The disk of this machine; each call may raise OSError."""

    def open(self, name: str, flags: int, folder: int) -> int:
        """Open a file in an open directory."""
        return os.open(name, flags, 0o600, dir_fd=folder)

    def write(self, file: int, text: bytes) -> int:
        """Write at the end, and return how many bytes."""
        return os.write(file, text)

    def replace(self, file: int, text: bytes) -> int:
        """Write at the beginning, and return how many bytes."""
        return os.pwrite(file, text, 0)

    def truncate(self, file: int, size: int) -> None:
        """Cut a file."""
        os.ftruncate(file, size)

    def sync(self, file: int) -> None:
        """Return when the bytes of a file are on disk."""
        _sync(file)

    def reserve(self, file: int, size: int) -> None:
        """Take so many bytes of the disk for a file."""
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(file, 0, size)
        else:
            os.write(file, bytes(size))
