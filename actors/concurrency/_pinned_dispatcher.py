"""A dedicated thread for one place, for libraries with objects that belong to the thread that made them."""

from __future__ import annotations

import logging
import threading
from collections.abc import Collection
from itertools import count
from typing import TYPE_CHECKING

from actors.concurrency._daemon_thread import DaemonThread
from actors.concurrency._dispatcher import join_threads
from actors.concurrency._run_queue import RunQueue

if TYPE_CHECKING:
    from actors.concurrency._dispatcher import Runnable

_logger = logging.getLogger("tokengate.actors")


class PinnedThreads:
    """All threads of one system that belong to one place each; they end with their place or with the system."""

    def __init__(self) -> None:
        self.closing = False
        self._lock = threading.Lock()
        self._of: dict[DaemonThread, PinnedDispatcher] = {}  # {thread that has not ended: its dispatcher}

    def __len__(self) -> int:
        return len(self._of)

    def begun(self, thread: DaemonThread, dispatcher: PinnedDispatcher) -> None:
        with self._lock:
            self._of[thread] = dispatcher

    def ended(self, thread: DaemonThread) -> None:
        with self._lock:
            self._of.pop(thread, None)

    def dispatchers(self) -> set[PinnedDispatcher]:
        """Return those that have threads."""
        with self._lock:
            return {*self._of.values()}

    def close(self, deadline: float, waiters: Collection[threading.Thread] = ()) -> list[str]:
        """Let the threads finish what they do and end.

        Args:
            deadline: when to stop waiting for them, in seconds of `time.monotonic`.
            waiters: threads that wait for the caller, and so cannot end before it returns.

        Returns:
            names of the threads that were still at work then; they are daemons, and end when their code returns.
        """
        with self._lock:
            self.closing = True
            threads = dict(self._of)
        for dispatcher in set(threads.values()):
            dispatcher.close()
        return join_threads(threads, deadline, waiters)


class PinnedDispatcher:
    """One thread that runs all that is submitted, from the first runnable until `close`.

    Only an abandoned thread is ever replaced: what was submitted and has not begun runs on the next one.

    Args:
        name: of the thread; one that replaces another is numbered.
        threads: all pinned threads of the system, among which this one is listed while it runs.
    """

    def __init__(self, name: str, threads: PinnedThreads) -> None:
        self._name = name
        self._threads = threads
        self._queue: RunQueue[Runnable | None] = RunQueue()  # None makes the thread check whether to end
        self._lock = threading.Lock()
        self._thread: DaemonThread | None = None  # changes under the lock; others that run are abandoned
        self._numbers = count(1)
        self._closed = False

    def submit(self, runnable: Runnable) -> None:
        with self._lock:
            self._queue.put(runnable)
            self._ensure_thread()
            if self._threads.closing:  # its `close` may have missed this one
                self._closed = True
            if self._closed:
                self._queue.put(None)

    def waiting(self) -> list[Runnable]:
        """Return the runnables that wait for the thread, the first to run first."""
        return [one for one in self._queue.items() if one is not None]

    @property
    def queued(self) -> Collection[Runnable]:
        """What waits for the thread; nothing if there is none, because a caller was interrupted before it made one."""
        return () if self._thread is None or self._thread.waits_for_begin else self.waiting()

    def recover(self) -> None:
        """Wake the thread for what is queued, since a sender may have been interrupted before it did."""
        self._queue.recover()

    def unstarted(self) -> list[DaemonThread]:
        """Return the thread, if it was not started, because the code that was about to start it was interrupted."""
        with self._lock:
            return [self._thread] if self._thread is not None and self._thread.waits_for_begin else []

    def abandon(self, thread: threading.Thread) -> None:
        """Give up a thread that cannot be ended; when its code returns, it ends."""
        with self._lock:
            if self._thread is thread:
                self._thread = None
                if self._queue:
                    self._ensure_thread()

    def close(self) -> None:
        """Let the thread end when it has run what was submitted."""
        with self._lock:
            self._closed = True
            self._queue.put(None)

    def _ensure_thread(self) -> None:
        if self._thread is None:
            number = next(self._numbers)
            name = self._name if number == 1 else f"{self._name}-{number}"
            self._thread = DaemonThread(self._main, name)
        if self._thread.waits_for_begin:
            self._threads.begun(self._thread, self)
            self._thread.begin()

    def _main(self) -> None:
        me = threading.current_thread()
        assert isinstance(me, DaemonThread)
        while True:
            runnable = self._queue.take()
            if runnable is not None:
                me.busy = True
                try:
                    while runnable.run(me):
                        pass  # no other place needs the thread
                except BaseException:
                    # A bug of the runtime: exceptions of user code end in its token.
                    _logger.exception("%s could not run %r", me.name, runnable)
                me.busy = False
                del runnable  # an idle thread keeps nothing alive
            if self._may_go(me):
                self._threads.ended(me)
                return

    def _may_go(self, me: threading.Thread) -> bool:
        with self._lock:
            if self._thread is me:
                if not self._closed or self._queue:
                    return False
                self._thread = None
            return True
