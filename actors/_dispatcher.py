"""CPU threads that drain any number of actors in quanta, with spares for those that wait."""

from __future__ import annotations

import logging
import threading
import time
from queue import Empty, SimpleQueue
from typing import Protocol

import attrs

from actors._blocking import lend_this_thread

_logger = logging.getLogger("tokengate.actors")

# Seconds after which a thread beyond the dispatcher's size goes, when it has nothing to do.
_SPARE_IDLE = 1.0


class Runnable(Protocol):
    """What a dispatcher's threads run."""

    def run(self) -> bool:
        """Work for one quantum; return whether to be queued again."""
        ...


@attrs.frozen
class DispatcherStatistics:
    """A dispatcher's threads at one moment: alive, of these waiting for tokens, of these abandoned."""

    size: int
    threads: int
    blocked: int
    abandoned: int
    runnable: int


class Dispatcher:
    """A pool of threads over one queue of runnables.

    As many threads as `size` are always free to run steps: for each that waits for another token, or that is
    abandoned in code that cannot be ended, a spare is started.

    Args:
        name: prefix of the names of the threads.
        size: threads that run steps at once.
    """

    def __init__(self, name: str, size: int) -> None:
        self.size = size
        self._name = name
        self._queue: SimpleQueue[Runnable | None] = SimpleQueue()  # None: a thread shall look whether to go
        self._lock = threading.Lock()
        self._threads: set[threading.Thread] = set()
        self._blocked = 0
        self._abandoned: set[threading.Thread] = set()
        self._started = 0
        self._closing = False
        self.submit = self._queue.put

    def open(self) -> None:
        """Start the threads."""
        with self._lock:
            self._fill()

    def close(self, deadline: float) -> list[str]:
        """Let the threads finish their quantum and go.

        Args:
            deadline: when to stop waiting for them, in seconds of `time.monotonic`.

        Returns:
            names of the threads that were still at work then; they are daemons, and go when their code returns.
        """
        with self._lock:
            self._closing = True
            threads = list(self._threads)
        for _ in threads:
            self._queue.put(None)
        for thread in threads:
            if thread is not threading.current_thread():
                thread.join(max(0.0, deadline - time.monotonic()))
        return sorted(thread.name for thread in threads if thread.is_alive())

    def disown(self) -> None:
        """Be closed in a forked child, which has none of the threads but the one that forked, if that is one."""
        self._lock = threading.Lock()
        self._closing = True
        while not self._queue.empty():
            self._queue.get_nowait()
        self._queue.put(None)

    def abandon(self, thread: threading.Thread) -> None:
        """Count a thread that cannot be ended as lost, and start another in its stead."""
        with self._lock:
            if thread in self._threads:
                self._abandoned.add(thread)
                self._fill()

    def step_waits(self) -> None:
        with self._lock:
            self._blocked += 1
            self._fill()

    def step_resumes(self) -> None:
        with self._lock:
            self._blocked -= 1

    def statistics(self) -> DispatcherStatistics:
        """Return the figures of this moment."""
        with self._lock:
            return DispatcherStatistics(
                size=self.size,
                threads=len(self._threads),
                blocked=self._blocked,
                abandoned=len(self._abandoned),
                runnable=self._queue.qsize(),
            )

    def _fill(self) -> None:
        """Start threads until enough are free; under the lock."""
        while not self._closing and self._free() < self.size:
            thread = threading.Thread(target=self._main, name=f"{self._name}-{self._started}", daemon=True)
            self._started += 1
            try:
                thread.start()
            except RuntimeError as error:  # there are too many, or the interpreter exits
                if not self._threads:
                    raise
                _logger.warning("dispatcher '%s' goes on with fewer threads: %s", self._name, error)
                return
            self._threads.add(thread)

    def _free(self) -> int:
        return len(self._threads) - self._blocked - len(self._abandoned)

    def _main(self) -> None:
        lend_this_thread(self)
        me = threading.current_thread()
        queue = self._queue
        while True:
            spare = self._free() > self.size
            try:
                runnable = queue.get(timeout=_SPARE_IDLE if spare else None)
            except Empty:
                runnable = None
            if runnable is None:
                if self._may_go(me):
                    return
                continue
            try:
                while runnable.run():
                    if not queue.empty():
                        queue.put(runnable)
                        break
            except BaseException:
                # A bug of the runtime, not of user code, whose exceptions end in its token.
                _logger.exception("the dispatcher could not run %r", runnable)
            del runnable  # an idle thread keeps nothing alive
            if me in self._abandoned and self._may_go(me):
                return

    def _may_go(self, me: threading.Thread) -> bool:
        with self._lock:
            if not (self._closing or me in self._abandoned or self._free() > self.size):
                return False
            self._threads.discard(me)
            self._abandoned.discard(me)
            return True
