"""State and processor time of a process, as the operating system reports them."""

from __future__ import annotations

import sys
import time

import psutil

if sys.platform == "linux":

    def state_of(pid: int) -> str:
        """Return the state of a process's main thread as in /proc: R, S, D, T, ...; X when there is no such process."""
        try:
            with open(f"/proc/{pid}/stat", "rb", buffering=0) as file:
                stat = file.read(512)
        except OSError:
            return "X"
        at = stat.rindex(b")") + 2  # the name before that may have anything in it
        return chr(stat[at])

    def cpu_seconds(pid: int) -> float | None:
        """Return the processor time that a process has used; None when there is no such process.

        The figures of psutil have a resolution of 10 ms here.
        """
        try:
            return time.clock_gettime(~pid << 3 | 2)  # the process's clock, as clock_getcpuclockid(3) computes it
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
        """Return the state of a process as a letter: R, S, T, Z; X when there is no such process."""
        try:
            return _STATES.get(psutil.Process(pid).status(), "S")
        except psutil.NoSuchProcess:
            return "X"

    def cpu_seconds(pid: int) -> float | None:
        """Return the processor time that a process has used; None when there is no such process."""
        try:
            times = psutil.Process(pid).cpu_times()
        except psutil.Error:
            return None
        return times.user + times.system


def does_not_run(pid: int) -> bool:
    """Tell whether a process is stopped, or has ended."""
    return state_of(pid) in "TtZX"
