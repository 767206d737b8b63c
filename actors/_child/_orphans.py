"""What the tokens of workers have started and left behind: the fork server adopts such processes, and reaps them.

Else they would stay as zombies where process 1 is the gate's own process, as in a container.
"""

from __future__ import annotations

import ctypes
import os
import sys
import time
from collections.abc import Container, Iterable
from typing import Final

_PR_SET_CHILD_SUBREAPER: Final = 36

# Seconds that killed processes get to end, and between two looks at them.
_SECONDS: Final = 1.0
_LOOK_SECONDS: Final = 0.002


def adopt() -> None:
    """Become the parent of all descendants whose parents end, where the system can do that (Linux)."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def reap(workers: Container[int]) -> None:
    """Reap the children of this process, which has one thread, that have exited and are no workers.

    Args:
        workers: pids of children that have to stay zombies.
    """
    try:
        with open(f"/proc/self/task/{os.getpid()}/children") as file:
            children = [int(pid) for pid in file.read().split()]
    except OSError:  # this system has no such file
        return
    for pid in children:
        if pid not in workers:
            _is_gone(pid)


def reap_groups(workers: Iterable[int]) -> None:
    """Reap workers that were killed with their process groups, and all that is in these, within a second."""
    left, deadline = set(workers), time.monotonic() + _SECONDS
    while True:
        left = {pid for pid in left if not _is_gone(-pid)}
        if not left or time.monotonic() > deadline:
            return
        time.sleep(_LOOK_SECONDS)


def _is_gone(pid: int) -> bool:
    """Reap a child, or those of a process group, if it has exited; tell whether none is left."""
    try:
        while os.waitpid(pid, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        return True
    return False
