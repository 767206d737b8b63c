"""A directory of the gate's user alone, for what a gate keeps on disk."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import stat
from pathlib import Path
from typing import Final

from tokengate._exceptions import BadStateDirectory

_REMOTE: Final = re.compile(r"nfs|cifs|smb|afs|ceph|9p|lustre|gluster|fuse\.ssh|ncpfs|gpfs|virtiofs")
_ELSEWHERE: Final = "name another directory, on a disk of this machine"

NO_LINK: Final = os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
"""Flags with which a file is opened that must be no link, nor a FIFO without a reader."""


def opened_directory(path: Path) -> int:
    """Open a directory, which is made if it does not exist; return its descriptor.

    Raises:
        OSError: it cannot be used, belongs to another user, or is open to others.
    """
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        path.mkdir(mode=0o700, exist_ok=True)
    except FileExistsError:
        raise NotADirectoryError(errno.ENOTDIR, "it is no directory", str(path)) from None
    folder = os.open(path, os.O_RDONLY | os.O_DIRECTORY | NO_LINK)
    found = os.fstat(folder)
    why = ""
    if found.st_uid != os.geteuid() != 0:
        why = f"it belongs to user {found.st_uid}; name another"
    elif (mode := stat.S_IMODE(found.st_mode)) & 0o077:
        why = f"it is open to others (mode {mode:03o}); chmod 700"
    if why:
        os.close(folder)
        raise PermissionError(errno.EPERM, why, str(path))
    return folder


def unusable(path: Path, error: OSError, elsewhere: str) -> BadStateDirectory:
    """Return the error of a directory that could not be opened.

    Args:
        path: of the directory.
        error: why it could not; behind a semicolon it may say what to do.
        elsewhere: what to do if neither that nor its rights can be the remedy.
    """
    why, _, remedy = (error.strerror or str(error)).partition("; ")
    rights = "give it to the user of the gate, or name another" if isinstance(error, PermissionError) else elsewhere
    return BadStateDirectory(str(path), why, remedy or rights)


def check_for_database(folder: Path) -> None:
    """Check that a directory can hold a database of SQLite; it is made if it does not exist.

    Raises:
        BadStateDirectory: it cannot.
    """
    try:
        os.close(opened_directory(folder))
    except OSError as error:
        raise unusable(folder, error, _ELSEWHERE) from error
    if not os.access(folder, os.W_OK | os.X_OK):
        raise BadStateDirectory(str(folder), "it is not writable", "give its user the right to write, or name another")
    if kind := _remote(folder):
        why = f"it is on a network file system ({kind}), where the locks of SQLite do not hold"
        raise BadStateDirectory(str(folder), why, _ELSEWHERE)


def _remote(folder: Path) -> str:
    """Return the kind of a network file system; empty if it is none, or if this system does not say."""
    device = os.stat(folder).st_dev
    mounts = ""
    with contextlib.suppress(OSError):
        mounts = Path("/proc/self/mountinfo").read_text()
    for line in mounts.splitlines():
        before, _, after = line.partition(" - ")
        if before.split()[2] == f"{os.major(device)}:{os.minor(device)}" and _REMOTE.match(after):
            return after.split()[0]
    return ""
