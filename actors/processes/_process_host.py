"""The process host: one thread that reads from all child processes of a gate.

The thread starts with the first of them. Of user code it runs only what unpickling results calls. Operators do not
need it: they stop and kill processes from their own threads.
"""

from __future__ import annotations

import logging
import socket
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from functools import partial
from itertools import chain
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any, Final

import trio

from actors.concurrency._blocking import refuse_waits
from actors.processes._limit_watch import LimitWatch
from actors.processes._results import Results
from actors.processes._worker_lifecycle import WorkerLifecycle
from actors.processes.pickling import _carrier
from actors.processes.requests._requests import Requests
from actors.processes.workers._deadlines import Deadline, Deadlines
from actors.processes.workers._fork_server import ForkServer
from actors.processes.workers._poller import READ, WRITE, Poller, new_poller
from actors.processes.workers._worker import Worker
from actors.processes.workers._worker_pool import Holder, ProcessPool, ProcessStatistics, WorkerPool

if TYPE_CHECKING:
    from actors.processes.pickling._ports import ProcessSystem
    from actors.tokens._token import Token

_logger = logging.getLogger("tokengate.actors")

# Seconds before the next try to start the thread.
_RETRY_SECONDS: Final = 0.5

# Seconds without any progress, after which a closing system waits no longer for the thread, or for that of log records.
_STILL_SECONDS: Final = 1.0


class ProcessHost:
    """Owns the child processes of an actor system: starts them, hands them out, reads from them, ends them.

    Args:
        system: the actor system.
        config: how many workers there are to be.
        size: number of workers that run tokens of operations at once.
    """

    def __init__(self, system: ProcessSystem, config: ProcessPool, size: int) -> None:
        self.system = system
        self.pool = WorkerPool(config, size)
        self.closed = False
        self.poller: Poller | None = None
        self.limit_watch = LimitWatch(system)
        # Called with a token whose outcome has come, its worker and the number of the call, before the token ends.
        self.on_outcome: Callable[[Token[Any], Worker, int], object] | None = None
        self._requests = Requests(system, self)
        self.results = Results(system, self, self._requests, self._on_ready)
        self.lifecycle = WorkerLifecycle(system, self, self.pool, self._requests, self.results)
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._starting_later = False  # whether the system loop is to start the thread
        self._calls: deque[Callable[[], object]] = deque()  # of `call_soon`
        self._wake_read: socket.socket | None = None
        self._wake_write: socket.socket | None = None
        self._awake = False  # whether the thread is going to look at `_calls` without being woken once more
        self._wakeups: SimpleQueue[None] = SimpleQueue()  # wakes the thread until it has sockets for that
        self._turns = 0  # grows as long as the thread makes progress
        self._deadlines = Deadlines()

    # For any thread

    def start(self) -> None:
        """Start the thread, unless it exists.

        If no thread can be started now, nothing is raised: the system loop tries again.

        Raises:
            NotImplementedError: this is Windows.
        """
        if self._thread is not None or self.closed:
            return
        if sys.platform == "win32":
            raise NotImplementedError("affinity 'process' needs unix sockets and fork, which Windows lacks")
        with self._lock:
            if self._thread is not None or self.closed:
                return
            thread = threading.Thread(target=self._work, name=f"{self.system.name}-processes", daemon=True)
            try:
                thread.start()
            except RuntimeError as error:  # there are too many
                failed = error
            else:
                self._thread = thread
                self._calls.append(self.fill)
                return
        self._start_later(failed)

    def _start_later(self, error: RuntimeError) -> None:
        """Have the system loop start the thread after a moment, or fail what waits for it."""
        with self._lock:
            if self._starting_later:
                return
            self._starting_later = True
        try:
            self.lifecycle.count_failure(f"no thread could be started: {error}")
            self.system.system_host.start_daemon(self._start_after_a_while, f"{self.system.name}-processes")
        except BaseException:  # Ctrl-C, on the program's thread
            self._starting_later = False
            raise

    async def _start_after_a_while(self) -> None:
        await trio.sleep(_RETRY_SECONDS)
        self._starting_later = False
        if self.lifecycle.should_give_up():
            self._run_calls()  # these may tell what waits, too, and give up
        if self.lifecycle.should_give_up():
            self.lifecycle.give_up()
        if self.pool.has_waiting or self._calls:
            self.start()

    def on_thread(self) -> bool:
        """Tell whether the calling thread is the host's."""
        return threading.current_thread() is self._thread

    def call_soon(self, fn: Callable[[], object]) -> None:
        """Have the thread call a function."""
        try:
            self._calls.append(fn)
            self._wake()
        except BaseException:  # Ctrl-C, on the program's thread
            self._wake()
            raise

    def recover(self) -> None:
        """Start and wake the thread, if an interrupted caller has not come to that."""
        if self._calls or self.pool.has_waiting:
            self.start()
            self._awake = False
            self._wake()

    def acquire(self, holder: Holder) -> Worker | None:
        """Return a worker for a holder; None when none is free: then `holder.assigned` is called later."""
        self.start()
        worker = self.pool.acquire(holder)
        if worker is None or self.pool.is_short:
            self.call_soon(self.fill)
        return worker

    def release(self, worker: Worker) -> None:
        """Take back a worker that is idle."""
        if not self.pool.release(worker) and not worker.doomed:
            self.call_soon(lambda: self.lifecycle.retire(worker))
        if self.pool.has_waiting:
            self.call_soon(self.fill)
        elif not self.lifecycle.will_tidy and self.pool.has_superfluous:
            self._wake()  # it may sleep without a timeout

    def replace(self, workers: Iterable[Worker]) -> None:
        """Have other workers take the place of some of the pool, as soon as each is idle."""
        for worker in self.pool.replace(workers):
            self.call_soon(partial(self.lifecycle.retire, worker))

    def lend(self, *, paused: bool) -> None:
        """Let one more worker run, while the token of another one waits or is paused; see `WorkerPool.lend`."""
        self.pool.lend(paused=paused)
        self.call_soon(self.fill)

    def end_lend(self) -> None:
        """Undo one `lend`."""
        self.pool.end_lend()

    def want_room(self, worker: Worker) -> None:
        """Write the rest of what was sent to a worker as soon as its stream takes more."""
        self.call_soon(lambda: self.results.watch(worker, READ | WRITE))

    def note_batch(self, worker: Worker) -> None:
        """Note whether a worker has several calls; see `Results.note_batch`."""
        self.results.note_batch(worker)

    def statistics(self) -> ProcessStatistics | None:
        """Return the figures of this moment; None when no process was ever needed."""
        return self.pool.statistics() if self._thread is not None else None

    def close(self, deadline: float) -> list[str]:
        """End all processes and the thread.

        As long as the thread makes progress it is waited for, even past the deadline.

        Args:
            deadline: when to stop waiting, in seconds of time.monotonic.

        Returns:
            the names of the threads that have not ended.
        """
        with self._lock:
            self.closed = True
            thread = self._thread
        if thread is None:
            return []
        self._wake()
        thread.join(max(0.0, deadline - time.monotonic()))
        turns = -1
        while thread.is_alive() and turns != self._turns:
            turns = self._turns
            thread.join(_STILL_SECONDS)
        late = self._requests.join(max(deadline, time.monotonic() + _STILL_SECONDS))
        if not thread.is_alive():
            return late
        for worker in list(self.pool.workers):
            worker.kill()
        return [thread.name, *late]

    def disown(self) -> None:
        """Leave the processes to the parent, in a forked child: close what was inherited."""
        self.closed = True
        self._lock = threading.Lock()
        if self._thread is None:
            return
        self._thread = None
        self.lifecycle.disown()
        self._close_descriptors()

    def _close_descriptors(self) -> None:
        with self._lock:
            owned = (self._wake_write, self._wake_read, self.poller)
            for own in tuple(own for own in owned if own is not None):
                own.close()

    def _wake(self) -> None:
        if self._awake:
            return
        try:
            self._awake = True
            wake_write = self._wake_write
            if wake_write is None:  # then the thread has not looked at `_calls` since something was added
                self._wakeups.put(None)
            else:
                wake_write.send(b"w")
        except OSError:
            pass  # the socket is full, which wakes the thread as well; or closed, and the thread has ended
        except BaseException:  # Ctrl-C, on the program's thread
            self._awake = False
            raise

    # On the thread, for others

    def call_later(self, seconds: float, fn: Callable[[], object]) -> Deadline:
        """Call a function after some seconds."""
        return self._deadlines.add(seconds, fn)

    def fill(self) -> None:
        """Hand out the idle workers, and start those that the pool lacks."""
        self.lifecycle.fill()

    def reclaim(self, worker: Worker) -> None:
        """Take back the calls that a worker has not started; see `Results.reclaim`."""
        self.results.reclaim(worker)

    def open_poller(self) -> Poller:
        """Return the poller, which is created by the first call, with the sockets that wake the thread.

        Raises:
            OSError: this process has no file descriptor left for it.
        """
        if self.poller is not None:
            return self.poller
        wake_read, wake_write = socket.socketpair()
        try:
            wake_read.setblocking(False)
            wake_write.setblocking(False)
            poller = new_poller()
            poller.add(wake_read.fileno(), wake_read)
        except BaseException:
            wake_read.close()
            wake_write.close()
            raise
        self._wake_read, self.poller = wake_read, poller
        self._wake_write = wake_write  # last: a caller that sees it relies on the poller
        return poller

    def guarded(self, fn: Callable[..., object], *args: Any) -> None:
        """Call a function; log what it raises."""
        self._turns += 1
        try:
            fn(*args)
        except BaseException:
            _logger.exception("the thread of the child processes has raised an error")

    # The thread

    def _work(self) -> None:
        with self._lock:  # a caller that was interrupted while it started this thread may have started another one
            if self._thread not in (None, threading.current_thread()):
                return
            self._thread = threading.current_thread()
        _carrier.loading_for(self.system)
        refuse_waits(f"the thread that reads from the child processes of '{self.system.name}'")
        try:
            while not self.closed:
                for source, events in self._wait(self._seconds_to_wait()):
                    self.guarded(self._on_event, source, events)
                self._run_calls()
                self._check()
        finally:
            self._end()

    def _seconds_to_wait(self) -> float | None:
        if self._calls:
            return 0.0
        next_call = self._deadlines.next_at()
        due = list(chain(self.results.due(), self.lifecycle.due(), () if next_call is None else (next_call,)))
        return max(0.0, min(due) - time.monotonic()) if due else None

    def _wait(self, seconds: float | None) -> list[tuple[Any, int]]:
        """Wait until a worker, the fork server, or a caller that wakes the thread has sent something."""
        if self.poller is not None:
            return self.poller.wait(seconds)
        try:
            self._wakeups.get(timeout=seconds)
        except Empty:
            pass
        return []

    def _on_event(self, source: Any, events: int) -> None:
        if isinstance(source, Worker):
            if events & WRITE and not source.stream.send_rest():
                self.results.watch(source, READ)
            if events & READ:
                self.results.read(source)
        elif isinstance(source, ForkServer):
            self.lifecycle.read_server(source)
        else:
            try:
                source.recv(4096)
            except BlockingIOError:
                pass

    def _run_calls(self) -> None:
        self._awake = False  # before the look: a caller that adds something after it wakes the thread again
        for _ in range(len(self._calls)):
            self.guarded(self._calls.popleft())

    def _check(self) -> None:
        """Do what is due."""
        now = time.monotonic()
        while (call := self._deadlines.pop_due(now)) is not None:
            self.guarded(call)
        self.results.check(now)
        self.lifecycle.check(now)

    def _on_ready(self) -> None:
        self.lifecycle.note_ready()

    def _note_progress(self) -> None:
        self._turns += 1

    def _end(self) -> None:
        self.lifecycle.end(self._note_progress)
        self._requests.close()
        self._close_descriptors()
        while self._calls:
            self._calls.popleft()
