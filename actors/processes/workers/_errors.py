"""Errors of calls that have lost their worker, or got none."""

from __future__ import annotations

import signal
import sys
from typing import TYPE_CHECKING

from actors._exceptions import WorkerDied
from actors.concurrency._container import memory

if TYPE_CHECKING:
    from actors.processes.workers._worker import Worker


def no_worker_error(what: str, why: str) -> WorkerDied:
    """Return the error of a call that has not started, since no worker can be started for it."""
    return WorkerDied(
        f"{what} was not started: {why}; fix that (file descriptors, memory, processes, permissions of "
        f"{sys.executable}), and try again"
    )


def died_error(worker: Worker, what: str) -> BaseException:
    """Return the error of a call that a dead worker may have run, and will not answer."""
    if worker.kill_reason is not None:
        return worker.kill_reason
    error = WorkerDied(f"{worker.describe_end()} while it ran {what}", worker.pid, worker.exit_code)
    if worker.exit_code == -signal.SIGKILL:
        share = memory()
        error.add_note(f"The system does that when memory runs out; it allows {share.amount:,} bytes ({share.source}).")
    written = worker.crash_report()
    if written:
        error.add_note(f"What process {worker.pid} wrote as it died:\n{written}")
    return error
