"""A directory of the gate's user alone, for what a gate keeps on disk."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path
from typing import Final

NO_LINK: Final = os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
"""Flags with which a file is opened that must be no link, nor a FIFO without a reader."""


def opened_directory(path: Path) -> int:
    """Open a directory, which is made if it does not exist; return its descriptor.

    Raises:
        OSError: it cannot be used, belongs to another user, or is open to others.
    """
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    path.mkdir(mode=0o700, exist_ok=True)
    folder = os.open(path, os.O_RDONLY | os.O_DIRECTORY | NO_LINK)
    found = os.fstat(folder)
    why = ""
    if found.st_uid != os.geteuid() != 0:
        why = f"it belongs to user {found.st_uid}; name another"
    elif mode := stat.S_IMODE(found.st_mode) & 0o077:
        why = f"it is open to others (mode ...{mode:03o}); chmod 700"
    if why:
        os.close(folder)
        raise PermissionError(errno.EPERM, why, str(path))
    return folder
