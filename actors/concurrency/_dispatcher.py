"""CPU threads that drain any number of actors in quanta, with spares for those that wait."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Collection
from typing import Protocol

import attrs

from actors._exceptions import DeadlockError
from actors.concurrency._blocking import lend_this_thread
from actors.concurrency._daemon_thread import DaemonThread
from actors.concurrency._run_queue import RunQueue

_logger = logging.getLogger("tokengate.actors")

# Seconds without work after which a thread beyond the dispatcher's size ends.
_SPARE_IDLE = 1.0


class Runnable(Protocol):
    """The unit of work of a dispatcher's threads."""

    def run(self, thread: threading.Thread) -> bool:
        """Work for one quantum on the current thread, which is `thread`; return whether to queue it again."""
        ...


# Seconds beyond the deadline of a close for which idle threads are waited for, and between two looks at them.
_LONGER_AT_MOST = 10.0
_LOOK_SECONDS = 0.05

# Maximum number of threads beyond the dispatcher's size that stand in for stalled ones.
_MAX_SPARES = 64

# Maximum number of steps that wait for other tokens or are paused; each keeps one more thread.
MAX_WAITING = 1_000


@attrs.frozen
class DispatcherStatistics:
    """A dispatcher's threads at one moment: those alive; of these, blocked (waiting or stalled) and abandoned ones."""

    size: int
    threads: int
    blocked: int
    abandoned: int
    runnable: int


def join_threads(
    threads: Collection[DaemonThread], deadline: float, waiters: Collection[threading.Thread] = ()
) -> list[str]:
    """Wait for threads to end, but not for the current one; return the names of those that have not by the deadline.

    An idle thread ends as soon as it gets a processor, so it is waited for up to 10 seconds longer.

    Args:
        threads: the threads; one that has not been started will not be started any more.
        deadline: in seconds of `time.monotonic`.
        waiters: threads that wait for the caller, and so cannot end before it returns.
    """
    others = [one for one in threads if one is not threading.current_thread() and one not in waiters]
    for thread in others:
        ends = deadline
        while not thread.gone(ends) and not thread.busy and ends < deadline + _LONGER_AT_MOST:
            ends = time.monotonic() + _LOOK_SECONDS
    return sorted(thread.name for thread in threads if thread.is_alive())


class CpuThread(DaemonThread):
    """A thread of a dispatcher.

    Attributes:
        quantum: number of the quantum it runs, or ran last.
    """

    def __init__(self, target: Callable[[CpuThread], object], name: str) -> None:
        super().__init__(lambda: target(self), name)
        self.quantum = 0
        self._clock: int | None = None  # set by the thread itself: it is unsafe to look up once the thread has ended

    def run(self) -> None:
        if hasattr(time, "pthread_getcpuclockid"):
            self._clock = time.pthread_getcpuclockid(threading.get_ident())
        super().run()

    def cpu_seconds(self) -> float:
        """Return the CPU time it has used; where unknown, the monotonic time, so that it never looks stalled."""
        if self._clock is not None:
            try:
                return time.clock_gettime(self._clock)
            except OSError:  # it has ended meanwhile
                pass
        return time.monotonic()


class Dispatcher:
    """A pool of threads over one queue of runnables.

    `size` threads are always free to run steps. A spare is started for each thread that waits for another token, is
    paused, blocks in something else while there is work, or is abandoned in code that cannot be ended.

    Args:
        name: prefix of the names of the threads.
        size: threads that run steps at once.
        make_thread: makes a thread of a function and a name.
    """

    def __init__(
        self, name: str, size: int, make_thread: Callable[[Callable[[CpuThread], object], str], CpuThread] = CpuThread
    ) -> None:
        self.size = size
        self._make_thread = make_thread
        self._name = name
        self._queue: RunQueue[Runnable | None] = RunQueue()  # None makes a thread check whether to end
        self._lock = threading.Lock()
        self._threads: set[CpuThread] = set()
        self._waiting: set[threading.Thread] = set()  # step waits for another token, or is paused
        self._stalled: set[CpuThread] = set()  # step uses no CPU time while there is work
        self._abandoned: set[CpuThread] = set()
        self._started = 0
        self._closing = False
        self.queued: Collection[Runnable] = ()  # waiting for a thread at the latest look of recovery
        self.watched = False  # whether a stall watch runs
        self.watch: Callable[[], object] = bool  # starts one; called when work comes and none runs

    def submit(self, runnable: Runnable) -> None:
        """Have a runnable run."""
        self._queue.put(runnable)
        if not self.watched:
            self.watched = True
            self.watch()

    def open(self) -> None:
        """Start the threads."""
        with self._lock:
            self._fill()

    def close(self, deadline: float, waiters: Collection[threading.Thread] = ()) -> list[str]:
        """Let the threads finish their quantum and end.

        Args:
            deadline: when to stop waiting for them, in seconds of `time.monotonic`.
            waiters: threads that wait for the caller, and so cannot end before it returns.

        Returns:
            names of the threads that were still at work then; they are daemons, and end when their code returns.
        """
        with self._lock:
            self._closing = True
            threads = list(self._threads)
        for _ in threads:
            self._queue.put(None)
        return join_threads(threads, deadline, waiters)

    def disown(self) -> None:
        """Mark as closed in a forked child, which has none of the threads, except perhaps the one that forked."""
        self._lock = threading.Lock()
        self._closing = True
        self._queue.clear()
        self._queue.put(None)

    def abandon(self, thread: threading.Thread) -> None:
        """Count a thread that cannot be ended as lost, and start another one to replace it."""
        with self._lock:
            if isinstance(thread, CpuThread) and thread in self._threads:
                self._abandoned.add(thread)
                self._fill()

    def step_waits(self, *, paused: bool = False) -> None:
        with self._lock:
            if len(self._waiting) >= MAX_WAITING and not paused:
                raise DeadlockError(
                    f"{MAX_WAITING:,} steps on the CPU threads of '{self._name}' wait for others or are paused, which "
                    "is the limit; nest less deeply, or await in io operations, which hold no thread"
                )
            self._waiting.add(threading.current_thread())
            self._fill()

    def step_resumes(self) -> None:
        with self._lock:
            self._waiting.discard(threading.current_thread())

    @property
    def may_wait(self) -> bool:
        """Whether one more step may wait, or be paused, without holding up others."""
        return len(self._waiting) < MAX_WAITING

    def waiting(self) -> list[Runnable]:
        """Return the runnables that wait for a thread, the first to run first."""
        return [one for one in self._queue.items() if one is not None]

    def threads(self) -> list[CpuThread]:
        """Return all threads, but for those that have been abandoned."""
        with self._lock:
            return list(self._threads - self._abandoned)

    def set_stalled(self, threads: set[CpuThread]) -> None:
        """Set the threads that seem to block; until the next call they do not count as free."""
        if threads or self._stalled:
            with self._lock:
                self._stalled = threads & self._threads
                self._fill()

    def help(self) -> None:
        """Provide an idle thread for each waiting runnable, since those ahead of it may block as well.

        Busy threads count as blocked: they may have blocked since the watch looked at them last.
        """
        with self._lock:
            busy = sum(thread.busy for thread in self._threads - (self._waiting | self._stalled | self._abandoned))
            self._fill(max(self.size, busy) + len(self._queue))

    def recover(self) -> None:
        """Wake a thread for queued work, since an interrupted sender may not have, and note what is queued."""
        self._queue.recover()
        self.queued = set(self.waiting())

    def unstarted(self) -> list[DaemonThread]:
        """Return the threads that were not started, because the code that was about to start them was interrupted."""
        with self._lock:
            threads = list(self._threads)
        return [thread for thread in threads if thread.waits_for_begin]

    def statistics(self) -> DispatcherStatistics:
        """Return the figures of this moment."""
        with self._lock:
            return DispatcherStatistics(
                size=self.size,
                threads=len(self._threads),
                blocked=len(self._waiting | self._stalled),
                abandoned=len(self._abandoned),
                runnable=len(self._queue),
            )

    def _fill(self, free: int | None = None) -> None:
        """Start threads until `free` are free, by default `size`; under the lock."""
        free = free or self.size
        most = self.size + _MAX_SPARES + len(self._abandoned) + len(self._waiting - self._abandoned)
        while not self._closing and self._free() < free and len(self._threads) < most:
            thread = self._make_thread(self._main, f"{self._name}-{self._started}")
            self._started += 1
            self._threads.add(thread)  # before it begins: if this is interrupted, a begun thread is still joined
            try:
                thread.begin()
            except RuntimeError as error:  # there are too many, or the interpreter exits
                self._threads.discard(thread)
                if not self._threads:
                    raise
                _logger.warning("dispatcher '%s' goes on with fewer threads: %s", self._name, error)
                return

    def _free(self) -> int:
        return len(self._threads) - len(self._waiting | self._stalled | self._abandoned)

    def _main(self, me: CpuThread) -> None:
        lend_this_thread(self)
        queue = self._queue
        while True:
            spares = len(self._threads) > self.size
            runnable = queue.take(_SPARE_IDLE if spares else None)
            if runnable is None:
                if self._may_go(me):
                    return
                continue
            me.busy = True
            try:
                me.quantum += 1
                while runnable.run(me):
                    me.quantum += 1
                    if queue:
                        queue.put(runnable)
                        break
            except BaseException:
                # A bug of the runtime: exceptions of user code end in its token.
                _logger.exception("the dispatcher could not run %r", runnable)
            me.busy = False
            del runnable  # an idle thread keeps nothing alive
            if me in self._abandoned and self._may_go(me):
                return

    def _may_go(self, me: CpuThread) -> bool:
        with self._lock:
            if not (self._closing or me in self._abandoned or self._free() > self.size):
                return False
            for threads in (self._threads, self._stalled, self._abandoned):
                threads.discard(me)
            return True
