"""What the system says of a process: whether it runs, and how much of a processor it has had."""

from __future__ import annotations

import sys
import time

import psutil

if sys.platform == "linux":

    def state_of(pid: int) -> str:
        """Return the state of a process's main thread as /proc has it: R, S, D, T, ...; X when there is none."""
        try:
            with open(f"/proc/{pid}/stat", "rb", buffering=0) as file:
                stat = file.read(512)
        except OSError:
            return "X"
        at = stat.rindex(b")") + 2  # the name before that may have anything in it
        return chr(stat[at])

    def cpu_seconds(pid: int) -> float | None:
        """Return how much processor time a process has used; None when there is none.

        What psutil tells has steps of 10 ms here.
        """
        try:
            return time.clock_gettime(~pid << 3 | 2)  # its clock, as clock_getcpuclockid(3) has it
        except OSError:
            return None

else:
    _STATES = {
        psutil.STATUS_RUNNING: "R",
        psutil.STATUS_STOPPED: "T",
        psutil.STATUS_ZOMBIE: "Z",
        psutil.STATUS_DEAD: "X",
    }

    def state_of(pid: int) -> str:
        """Return the state of a process in a letter: R, S, T, Z; X when there is none."""
        try:
            return _STATES.get(psutil.Process(pid).status(), "S")
        except psutil.NoSuchProcess:
            return "X"

    def cpu_seconds(pid: int) -> float | None:
        """Return how much processor time a process has used; None when there is none."""
        try:
            times = psutil.Process(pid).cpu_times()
        except psutil.Error:
            return None
        return times.user + times.system


def does_not_run(pid: int) -> bool:
    """Tell whether a process is stopped, or has ended."""
    return state_of(pid) in "TtZX"
