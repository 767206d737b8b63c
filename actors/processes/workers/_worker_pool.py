"""Which child process works for whom: how many there are, who waits for one, and what replaces one that has died."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Iterable
from typing import Any, Final, Protocol

import attrs
import psutil

from actors.processes.workers._worker import Worker

# Seconds between two looks at the memory of a worker that is to be retired when it has grown.
_MEMORY_SECONDS: Final = 0.1

# Workers that may be made beyond the pool's size for those whose tokens are paused, or wait for others.
_MOST_LENT: Final = 64


def _positive(_config: ProcessPool, attribute: attrs.Attribute[Any], value: Any) -> None:
    least = 0 if attribute.name == "spares" else 1
    if value is not None and (not isinstance(value, int) or isinstance(value, bool) or value < least):
        raise ValueError(f"{attribute.name} of ProcessPool is {value!r}; it must be an int of at least {least}")


def _seconds(_config: ProcessPool, attribute: attrs.Attribute[Any], value: Any) -> None:
    if not isinstance(value, int | float) or isinstance(value, bool) or value < 0:
        raise ValueError(f"{attribute.name} of ProcessPool is {value!r}; it must be seconds of at least 0")


@attrs.frozen
class ProcessPool:
    """How many child processes a gate keeps.

    Attributes:
        size: how many run tokens of operations at once; None takes the number of cores. Actors have one each beside
            these.
        spares: how many wait, warm, to take the place of one that dies, or to be an actor's.
        max_tokens: tokens after which a process is replaced by a new one; None keeps it.
        max_memory_growth: bytes by which its resident memory may grow before it is replaced, when it is idle; None
            keeps it.
        idle_after: seconds after which a process that has nothing to do is ended, down to the spares.
    """

    size: int | None = attrs.field(default=None, validator=_positive)
    spares: int = attrs.field(default=1, validator=_positive)
    max_tokens: int | None = attrs.field(default=None, validator=_positive)
    max_memory_growth: int | None = attrs.field(default=None, validator=_positive)
    idle_after: float = attrs.field(default=60.0, validator=_seconds)


@attrs.frozen
class ProcessStatistics:
    """The child processes of a gate at one moment.

    Attributes:
        workers: those that live.
        busy: of these, those that run tokens of operations, or are an actor's.
        spares: of these, those that wait for work.
        started: how many were made since the gate was opened.
        died: how many have died that were not to.
        pids: of those that live.
    """

    workers: int
    busy: int
    spares: int
    started: int
    died: int
    pids: tuple[int, ...]


class Holder(Protocol):
    """Who has a worker, or waits for one: a drainer of an operation's tokens, or an actor."""

    worker: Worker | None

    @property
    def own(self) -> bool:
        """Whether he is to have one for himself, beside those of the pool."""
        ...

    def assigned(self, worker: Worker, /) -> None:
        """Take a worker that was waited for; on the host's thread."""

    def settle_call(self, worker: Worker, waits: Any, frame: Any, descriptor: int | None, /) -> None:
        """Settle a call as the worker says."""

    def fail_call(self, worker: Worker, waits: Any, error: BaseException, /) -> None:
        """End a call whose answer cannot be taken."""

    def go_on(self, worker: Worker, /) -> None:
        """Send the worker more, if it shall have more."""

    def take_back(self, not_started: Iterable[Any], /) -> None:
        """Take calls back that the worker has not begun."""

    def no_worker(self, why: str, /) -> None:
        """Fail what was to run in a worker: none can be made, and the line for one is empty then."""

    def worker_lost(self, worker: Worker, begun: list[Any], not_started: list[Any], /) -> None:
        """Settle what a worker has left behind that is dead."""


class WorkerPool:
    """The books: who has which worker. Any thread may ask; nothing here waits.

    Args:
        config: how many there are to be.
        size: how many run tokens of operations at once.
    """

    def __init__(self, config: ProcessPool, size: int) -> None:
        self.config = config
        self.size = size
        self.workers: set[Worker] = set()  # those that live, or are being made
        self._lock = threading.Lock()
        self._idle: deque[Worker] = deque()
        self._waiting: deque[Holder] = deque()
        self._starting = 0
        self._busy = 0  # workers that run tokens of operations
        self._owned = 0  # workers that are actors'
        self._lent = 0  # of the busy ones, those whose token is paused, or waits
        self._started = 0
        self._died = 0
        self._looked: dict[Worker, float] = {}

    def acquire(self, holder: Holder) -> Worker | None:
        """Return a worker; None when there is none now: then the holder waits in line for one."""
        with self._lock:
            if self._idle and not self._waiting and self._may_have(holder):
                return self._taken(holder)
            self._waiting.append(holder)
            return None

    def next_assignment(self) -> tuple[Holder, Worker] | None:
        """Return who waits for a worker, and may have the one that is there; take both off the books."""
        with self._lock:
            if not self._idle:
                return None
            for number, holder in enumerate(self._waiting):
                if self._may_have(holder):
                    del self._waiting[number]
                    return holder, self._taken(holder)
            return None

    def forget(self, holder: Holder) -> bool:
        """Take a holder out of the line; tell whether it was there."""
        with self._lock:
            if holder not in self._waiting:
                return False
            self._waiting.remove(holder)
            return True

    def take_waiting(self) -> list[Holder]:
        """Take all holders out of the line, and return them."""
        with self._lock:
            waiting = list(self._waiting)
            self._waiting.clear()
            return waiting

    def may_come_free(self) -> bool:
        """Tell whether a worker of the pool is at work that others may have afterwards.

        One whose token is paused, or waits, is none: what it waits for may be a worker.
        """
        with self._lock:
            return any(
                worker.is_ready and not (worker.own or worker.doomed or worker.dead or worker.lent)
                for worker in self.workers
            )

    @property
    def has_waiting(self) -> bool:
        """Whether somebody is in line for a worker of the pool."""
        return bool(self._waiting)

    def release(self, worker: Worker) -> bool:
        """Take back a worker that has nothing to do; tell whether it is kept."""
        keep = not worker.doomed and not worker.own and not self._is_worn(worker)
        with self._lock:
            if worker.holder is None:  # it has died meanwhile
                return True
            self._note_free(worker)
            if keep:
                worker.ready_at = time.monotonic()
                self._idle.append(worker)
        return keep

    def confirm(self, holder: Holder, worker: Worker) -> bool:
        """Let a holder have a worker that he was given; tell whether he still may: it may have died meanwhile."""
        with self._lock:
            if worker.holder is not holder:
                return False
            holder.worker = worker
            return True

    def gone(self, worker: Worker, *, died: bool) -> Holder | None:
        """Strike a worker that is dead, so that nobody gets it any more; return who had it."""
        with self._lock:
            holder: Holder | None = worker.holder
            self.workers.discard(worker)
            self._looked.pop(worker, None)
            self._died += died
            if worker in self._idle:
                self._idle.remove(worker)
            elif holder is not None:
                self._note_free(worker)
            return holder

    def missing(self) -> int:
        """Return how many workers are to be made; they count as being made from now on."""
        with self._lock:
            own = sum(holder.own for holder in self._waiting)
            shared = min(len(self._waiting) - own, max(0, self._room()))
            count = max(0, own + shared + self.config.spares - len(self._idle) - self._starting)
            self._starting += count
            return count

    def making(self, worker: Worker) -> None:
        """Enter a worker that is being made."""
        with self._lock:
            self.workers.add(worker)

    def made(self, worker: Worker) -> None:
        """Take note that a worker is there."""
        with self._lock:
            self._starting -= 1
            self._started += 1
            worker.ready_at = time.monotonic()
            self._idle.append(worker)

    def not_made(self, worker: Worker) -> None:
        """Strike a worker that could not be made."""
        with self._lock:
            self._starting -= 1
            self.workers.discard(worker)

    def forget_start(self) -> None:
        """Strike one that was to be made, and could not even be begun."""
        with self._lock:
            self._starting -= 1

    def given(self, holder: Holder) -> Worker | None:
        """Return the worker that a holder was given and may not know of; else see that he stands in line."""
        with self._lock:
            for worker in self.workers:
                if worker.holder is holder:
                    return worker
            if holder not in self._waiting:
                self._waiting.append(holder)
            return None

    def superfluous(self) -> list[Worker]:
        """Return workers that have had nothing to do for so long that they are to end; they are off the books."""
        limit = time.monotonic() - self.config.idle_after
        with self._lock:
            over: list[Worker] = []
            while len(self._idle) > self.config.spares and not self._waiting and self._idle[0].ready_at < limit:
                over.append(self._idle.popleft())
            return over

    @property
    def is_short(self) -> bool:
        """Whether fewer workers are idle, or being made, than there are to be spares."""
        return len(self._idle) + self._starting < self.config.spares

    @property
    def has_superfluous(self) -> bool:
        """Whether more workers are idle than there are to be spares."""
        return len(self._idle) > self.config.spares

    def lend(self, by: int) -> None:
        """Let one more worker be at work while the token of one is paused, or waits (1), or no longer (-1)."""
        with self._lock:
            self._lent += by

    def statistics(self) -> ProcessStatistics:
        """Return the figures of this moment."""
        with self._lock:
            pids = tuple(sorted(worker.pid for worker in self.workers if worker.pid and not worker.dead))
            return ProcessStatistics(
                len(pids), self._busy + self._owned, len(self._idle), self._started, self._died, pids
            )

    # Under the lock

    def _room(self) -> int:
        return self.size + min(self._lent, _MOST_LENT) - self._busy

    def _may_have(self, holder: Holder) -> bool:
        return holder.own or self._room() > 0

    def _taken(self, holder: Holder) -> Worker:
        worker = self._idle.pop()  # the one that was at work last
        worker.own = holder.own
        worker.holder = holder
        if holder.own:
            self._owned += 1
        else:
            self._busy += 1
        return worker

    def _note_free(self, worker: Worker) -> None:
        worker.holder = None
        if worker.own:
            self._owned -= 1
        else:
            self._busy -= 1

    # Without it

    def _is_worn(self, worker: Worker) -> bool:
        config = self.config
        if config.max_tokens is not None and worker.handled >= config.max_tokens:
            return True
        if config.max_memory_growth is None:
            return False
        now = time.monotonic()
        if now - self._looked.get(worker, 0.0) < _MEMORY_SECONDS:
            return False
        self._looked[worker] = now
        try:
            memory = psutil.Process(worker.pid).memory_info().rss
        except psutil.Error:
            return True
        worker.memory_at_start = worker.memory_at_start or memory
        return memory - worker.memory_at_start > config.max_memory_growth
