"""Starts child processes, hands them out, retires them, and replaces those that die."""

from __future__ import annotations

import errno
import logging
import os
import pickle
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING, Any, Final, cast

from actors._child import _wire
from actors.processes.pickling import _carrier
from actors.processes.workers._fork_server import ForkServer, describe_exit
from actors.processes.workers._poller import READ
from actors.processes.workers._worker import Worker

if TYPE_CHECKING:
    from actors.processes._ports import HostThread
    from actors.processes._results import Results
    from actors.processes.pickling._ports import ProcessSystem
    from actors.processes.requests._requests import Requests
    from actors.processes.workers._poller import Poller
    from actors.processes.workers._worker_pool import WorkerPool

_logger = logging.getLogger("tokengate.actors")

# Seconds before the next try, after a worker could not be started, or died before it was ready.
_RETRY_SECONDS: Final = 0.5
_FAILURES_AT_ONCE: Final = 3  # in a row, after which the next try waits that long

# What waits for a worker fails after so many failures in a row, the first of them so many seconds ago.
_FAILURES_AT_MOST: Final = 5
_FAILING_SECONDS: Final = 2.0

# Seconds that a retired worker gets to end by itself.
_RETIRE_SECONDS: Final = 1.0

_TIDY_SECONDS: Final = 1.0  # between two looks for workers that are not needed

_REAP_SECONDS: Final = 1.0  # after which a worker that was killed has ended


class WorkerLifecycle:
    """Starts the workers that the pool lacks, and ends those that it does not need; on the host's thread.

    Args:
        system: the actor system of the workers.
        host: the host's thread.
        pool: keeps account of workers and their holders.
        requests: of the workers.
        results: reads from the workers.
    """

    def __init__(
        self, system: ProcessSystem, host: HostThread, pool: WorkerPool, requests: Requests, results: Results
    ) -> None:
        self.will_tidy = False  # whether the host's thread wakes up to look for workers that are not needed
        self._system = system
        self._host = host
        self._pool = pool
        self._requests = requests
        self._results = results
        self._server: ForkServer | None = None
        self._numbers = 0
        self._forking: dict[int, Worker] = {}  # {number: worker that the fork server was asked for}
        self._by_pid: dict[int, Worker] = {}
        self._retiring: dict[Worker, float] = {}  # {worker that is to end by itself: when it is killed}
        self._no_start_before = 0.0
        self._failures = 0  # in a row
        self._failing_since = 0.0  # time of the first of them
        self._last_failure = ""
        self._given_up = False  # whether no worker is started until one is asked for again
        self._tidy_at = 0.0

    # Starting

    def fill(self) -> None:
        """Hand out the idle workers, and start those that the pool lacks."""
        self._assign()
        if self._host.closed:
            return
        if self.should_give_up():
            self.give_up()
        if self._given_up and self._pool.has_waiting:
            self._given_up = False
        if self._given_up or self._no_start_before or not self._host.on_thread():
            return
        for _ in range(self._pool.missing()):
            if self._no_start_before:
                self._pool.forget_start()
            else:
                self._start_worker()

    def _assign(self) -> None:
        while (assignment := self._pool.next_assignment()) is not None:
            holder, worker = assignment
            holder.assigned(worker)

    def _start_worker(self) -> None:
        """Ask the fork server for one more child process; start the server if there is none."""
        self._numbers += 1
        worker: Worker | None = None
        try:
            poller = self._host.open_poller()
            if self._server is None:
                self._server = ForkServer()
                poller.add(self._server.fileno(), self._server)
            setup = _wire.pack(_wire.SETUP, 0, 0, pickle.dumps(self._setup()))
            worker = Worker(self._system, self._numbers)
            self._pool.making(worker)
            self._forking[worker.number] = worker
            self._server.spawn(worker.number, worker.descriptors)
            worker.stream.send([setup])
        except Exception as error:
            if worker is None:
                self._pool.forget_start()
            else:
                self._forking.pop(worker.number, None)
            self._start_failed(_carrier.cause(error), worker)

    def _setup(self) -> dict[str, Any]:
        try:
            folder = os.getcwd()
        except OSError:  # it was removed
            folder = ""
        return {
            "path": [entry or folder for entry in sys.path],
            "argv": list(sys.argv),
            "cwd": folder,
            "gate": self._system.name,
            "level": _carrier.log_level(),
        }

    def read_server(self, server: ForkServer) -> None:
        """Handle what the fork server reports: children that it has forked, and children that have exited."""
        try:
            for kind, first, second in server.read():
                if kind == _wire.SPAWNED:
                    self._on_spawned(self._forking.pop(first), second)
                elif kind == _wire.EXITED and (worker := self._by_pid.get(first)) is not None:
                    self._on_exited(worker, second)
        except EOFError:
            self._on_server_died(server)

    def _on_spawned(self, worker: Worker, pid: int) -> None:
        if pid < 0:
            self._start_failed(f"fork: {os.strerror(-pid)} ({errno.errorcode.get(-pid, -pid)})", worker)
            return
        worker.started(pid)
        self._by_pid[pid] = worker
        self._results.watch(worker, READ)
        self._pool.made(worker)
        self._assign()

    # Failures to start one

    def _start_failed(self, why: str, worker: Worker | None) -> None:
        if worker is not None:
            self._pool.not_made(worker)
            worker.close()
        self._put_off(f"no child process could be made: {why}")

    def _put_off(self, why: str) -> None:
        self.count_failure(why)
        if self._failures > _FAILURES_AT_ONCE:
            self._no_start_before = time.monotonic() + _RETRY_SECONDS
        else:
            self._host.call_soon(self.fill)

    def count_failure(self, why: str) -> None:
        """Count one more failure in a row, and log it; the more there are, the rarer."""
        if not self._failures:
            self._failing_since = time.monotonic()
        self._failures += 1
        self._last_failure = why
        if self._failures & self._failures - 1 == 0:
            _logger.error("%s; trying again (failure %s in a row)", why, self._failures)

    def note_ready(self) -> None:
        """End the row of failures: a worker is ready."""
        self._failures = 0

    def should_give_up(self) -> bool:
        """Tell whether what waits for a worker is to fail: none can be started, and none lives that may become free."""
        return (
            self._failures >= _FAILURES_AT_MOST
            and time.monotonic() - self._failing_since >= _FAILING_SECONDS
            and not self._pool.may_come_free()
        )

    def give_up(self) -> None:
        """Fail what waits for a worker; start over when a worker is asked for the next time."""
        self._failures, self._no_start_before, self._given_up = 0, 0.0, True
        for holder in self._pool.take_waiting():
            self._host.guarded(holder.no_worker, self._last_failure)

    # Ending

    def retire(self, worker: Worker) -> None:
        """Have a worker end by itself, and kill it if it does not in time."""
        if worker.dead or worker.doomed:
            return
        worker.retire()
        self._retiring[worker] = time.monotonic() + _RETIRE_SECONDS

    def _on_exited(self, worker: Worker, code: int | None) -> None:
        """Settle the calls that a dead worker leaves behind, and start another one in its place."""
        del self._by_pid[worker.pid]
        worker.died(code)
        self._results.forget(worker)
        self._retiring.pop(worker, None)
        sound = worker.page_is_sound()
        try:
            with worker.read_lock:
                self._results.unwatch(worker)
                frames, _ = worker.read()
            if worker.holder is not None and not worker.protocol_error:  # else nothing more can be believed
                self._results.handle(worker, frames)
                if sound:
                    self._results.handle(worker, list(worker.outbox()))
        finally:
            unexpected = worker.hung_up or not worker.doomed
            holder = self._pool.gone(worker, died=unexpected)
            if unexpected and not worker.is_ready and not worker.begun:
                causes = [f"{worker.describe_end()} before it was ready", worker.crash_report()]
                self._put_off(": ".join(filter(None, causes)))
            not_started = worker.revoke() if sound else []
            begun = worker.take_calls(list(worker.inflight))
            try:
                if holder is not None:
                    holder.worker_lost(worker, begun, not_started)
            finally:
                self._requests.forget(worker)
                worker.close()
                if self._server is not None:
                    self._server.reap(worker.pid)
                self.fill()

    def _on_server_died(self, server: ForkServer) -> None:
        """Start over with another fork server: without the old one, no exit of its children would be reported."""
        _logger.error("the fork server, process %s, has died; another takes its place", server.pid)
        cast("Poller", self._host.poller).forget(server.fileno())
        server.close()
        self._server = None
        if not any(worker.is_ready for worker in self._pool.workers):
            self._put_off(
                f"no child process could be made: the fork server ({sys.executable}) {describe_exit(server.exit_code)} "
                "before it had made one; what it wrote is in the program's standard error"
            )
        for worker in list(self._forking.values()):
            self._pool.not_made(worker)
            worker.close()
        self._forking.clear()
        for worker in list(self._by_pid.values()):
            worker.kill(worker.kill_reason)
            self._on_exited(worker, None)
            if os.getpid() == 1:  # else process 1 reaps it
                self._host.call_later(_REAP_SECONDS, partial(_reap, worker.pid))
        self.fill()

    def end(self, note_progress: Callable[[], object]) -> None:
        """End the fork server and all workers, and the calls that they leave behind.

        Args:
            note_progress: called again and again while the server ends.
        """
        for worker in list(self._pool.workers):
            worker.doomed = True
        if self._server is not None:
            self._server.close(note_progress)
        for worker in list(self._pool.workers):
            worker.died(None)
            holder = worker.holder
            if holder is not None:
                self._host.guarded(holder.worker_lost, worker, list(worker.inflight.values()), [])
            self._host.guarded(self._requests.forget, worker)
            worker.close()
        self._pool.workers.clear()

    def disown(self) -> None:
        """Leave the fork server and all workers to the parent, in a forked child: close what was inherited."""
        for worker in list(self._pool.workers):
            worker.dead = True
            worker.close()
        if self._server is not None:
            self._server.disown()

    # What is due later

    def due(self) -> Iterator[float]:
        """Return when `check` has something to do, in seconds of time.monotonic."""
        yield from self._retiring.values()
        if self._no_start_before > time.monotonic():
            yield self._no_start_before
        self.will_tidy = self._pool.has_superfluous
        if self.will_tidy:
            yield self._tidy_at

    def check(self, now: float) -> None:
        """Do what is due."""
        for worker, until in list(self._retiring.items()):
            if now >= until:
                del self._retiring[worker]
                worker.kill()
        if self._no_start_before and now >= self._no_start_before:
            self._no_start_before = 0.0
            self._host.guarded(self.fill)
        if self._pool.has_superfluous and now >= self._tidy_at:
            self._tidy_at = now + min(_TIDY_SECONDS, max(0.01, self._pool.config.idle_after))
            for worker in self._pool.superfluous():
                self.retire(worker)


def _reap(pid: int) -> None:
    """Reap a worker that this process has got as a child, when the fork server died."""
    try:
        os.waitpid(pid, os.WNOHANG)
    except ChildProcessError:
        pass  # it was not among the children, or has been reaped
