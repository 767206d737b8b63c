"""The pool of child processes: which holder has which worker, and how many are missing."""

from __future__ import annotations

import math
import threading
import time
from collections import deque
from collections.abc import Iterable
from typing import Any, Final, Protocol

import attrs
import psutil

from actors._exceptions import DeadlockError
from actors.processes.workers._worker import Worker

# Seconds between two measurements of the memory of a worker, with `max_memory_growth`.
_MEMORY_SECONDS: Final = 0.1

# Maximum number of workers beyond the pool's size, in place of those with a token that waits, or is paused.
MAX_WAITING = 500


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
        size: number of processes that run tokens of operations; None takes the number of cores. Each process actor has
            one more.
        spares: number of idle processes that are kept ready, to replace one that dies or to become an actor's.
        max_tokens: number of tokens after which a process is replaced; None for no limit.
        max_memory_growth: bytes by which the resident memory of a process may grow before it is replaced, when it is
            idle; None for no limit.
        idle_after: seconds after which an idle process is ended, if there are more than the spares.
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
        workers: number of processes.
        busy: of these, those that run tokens of operations, or are an actor's.
        spares: of these, those that are idle.
        started: number of processes started since the gate was opened.
        died: number of processes that died unexpectedly.
        pids: of the processes.
    """

    workers: int
    busy: int
    spares: int
    started: int
    died: int
    pids: tuple[int, ...]


class Holder(Protocol):
    """What has a worker, or waits for one: a slot of an operation, or the drain of an actor."""

    worker: Worker | None

    @property
    def place(self) -> Any:
        """The place whose tokens the worker runs."""
        ...

    @property
    def own(self) -> bool:
        """Whether its worker is for it alone, and does not count in the pool's size."""
        ...

    def assigned(self, worker: Worker, /) -> None:
        """Take the worker that it has waited for."""

    def settle_call(self, worker: Worker, waits: Any, frame: Any, descriptor: int | None, /) -> None:
        """Settle a call with the outcome that the worker has sent."""

    def fail_call(self, worker: Worker, waits: Any, error: BaseException, /) -> None:
        """End a call: its outcome cannot be read."""

    def go_on(self, worker: Worker, /) -> None:
        """Send the worker more calls, if it is to have more."""

    def take_back(self, not_started: Iterable[Any], /) -> None:
        """Take back calls that the worker has not started."""

    def no_worker(self, why: str, /) -> None:
        """Fail what was to run in a worker, since none can be started; it waits in line no longer."""

    def worker_lost(self, worker: Worker, begun: list[Any], not_started: list[Any], /) -> None:
        """Settle the calls that a dead worker leaves behind: those that had begun, and those not started."""


class WorkerPool:
    """Keeps account of workers and holders; it starts and ends none. Any thread may call it, nothing blocks.

    Args:
        config: how many workers there are to be.
        size: number of workers that run tokens of operations at once.
    """

    def __init__(self, config: ProcessPool, size: int) -> None:
        self.config = config
        self.size = size
        self.workers: set[Worker] = set()  # that live, or are being started
        self._lock = threading.Lock()
        self._idle: deque[Worker] = deque()
        self._waiting: deque[Holder] = deque()
        self._starting = 0
        self._busy = 0  # workers that run tokens of operations
        self._owned = 0  # workers of actors
        self._lent = 0  # busy workers with a token that is paused, or waits
        self._started = 0
        self._died = 0
        self._measured: dict[Worker, float] = {}  # {worker: when its memory was measured}

    def acquire(self, holder: Holder) -> Worker | None:
        """Return a worker for a holder; if none is free, put the holder in line, and return None."""
        with self._lock:
            return self._acquire(holder)

    def acquire_once(self, holder: Holder) -> Worker | None:
        """Do as `acquire` does; a holder that has a worker gets that one, and one that is in line stays where it is."""
        with self._lock:
            assigned = next((worker for worker in self.workers if worker.holder is holder), None)
            if assigned is not None or holder in self._waiting:
                return assigned
            return self._acquire(holder)

    def next_assignment(self) -> tuple[Holder, Worker] | None:
        """Assign an idle worker to the first holder in line that may have one; return both, or None."""
        with self._lock:
            if not self._idle:
                return None
            for number, holder in enumerate(self._waiting):
                if self._may_have(holder):
                    del self._waiting[number]
                    return holder, self._taken(holder)
            return None

    def forget(self, holder: Holder) -> bool:
        """Take a holder out of the line; tell whether it was in there."""
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
        """Tell whether a worker of the pool is busy that others may have afterwards.

        A worker with a token that is paused or waits does not count: the token may wait for what needs a worker.
        """
        with self._lock:
            return any(
                worker.is_ready and not (worker.own or worker.doomed or worker.dead or worker.lent)
                for worker in self.workers
            )

    @property
    def has_waiting(self) -> bool:
        """Whether a holder is in line for a worker."""
        return bool(self._waiting)

    def release(self, worker: Worker) -> bool:
        """Take back an idle worker; return False if it is to be retired."""
        keep = not worker.doomed and not worker.own and not self._is_worn(worker)
        with self._lock:
            if worker.holder is None:  # it has died meanwhile
                return True
            self._note_free(worker)
            keep = keep and not worker.is_to_go
            if keep:
                worker.ready_at = time.monotonic()
                self._idle.append(worker)
        return keep

    def confirm(self, holder: Holder, worker: Worker) -> bool:
        """Set the worker of a holder to the assigned one; return False if that has died meanwhile."""
        with self._lock:
            if worker.holder is not holder:
                return False
            holder.worker = worker
            return True

    def gone(self, worker: Worker, *, died: bool) -> Holder | None:
        """Remove a dead worker; return its holder."""
        with self._lock:
            holder: Holder | None = worker.holder
            self.workers.discard(worker)
            self._measured.pop(worker, None)
            self._died += died
            if worker in self._idle:
                self._idle.remove(worker)
            elif holder is not None:
                self._note_free(worker)
            return holder

    def missing(self) -> int:
        """Return how many workers are to be started; they count as being started from now on."""
        with self._lock:
            own = sum(holder.own for holder in self._waiting)
            shared = min(len(self._waiting) - own, max(0, self._room()))
            count = max(0, own + shared + self.config.spares - len(self._idle) - self._starting)
            self._starting += count
            return count

    def making(self, worker: Worker) -> None:
        """Enter a worker that is being started."""
        with self._lock:
            self.workers.add(worker)

    def made(self, worker: Worker) -> None:
        """Enter a worker that has started as idle."""
        with self._lock:
            self._starting -= 1
            self._started += 1
            worker.ready_at = time.monotonic()
            self._idle.append(worker)

    def not_made(self, worker: Worker) -> None:
        """Remove a worker that could not be started."""
        with self._lock:
            self._starting -= 1
            self.workers.discard(worker)

    def forget_start(self) -> None:
        """Count one worker less as being started, which was not entered yet."""
        with self._lock:
            self._starting -= 1

    def superfluous(self) -> list[Worker]:
        """Remove the workers that have been idle for too long from the idle ones, and return them."""
        limit = time.monotonic() - self.config.idle_after
        with self._lock:
            over: list[Worker] = []
            while len(self._idle) > self.config.spares and not self._waiting and self._idle[0].ready_at < limit:
                over.append(self._idle.popleft())
            return over

    def used(self) -> list[Worker]:
        """Return the idle workers that have run tokens."""
        with self._lock:
            idle = tuple(self._idle)
        return [worker for worker in idle if worker.handled]

    def replace(self, workers: Iterable[Worker]) -> list[Worker]:
        """Have workers of the pool be given no further token; return those that are idle, which are to be retired."""
        with self._lock:
            return self._replace(workers)

    @property
    def is_short(self) -> bool:
        """Whether fewer workers are idle, or being started, than there are to be spares."""
        return len(self._idle) + self._starting < self.config.spares

    @property
    def has_superfluous(self) -> bool:
        """Whether more workers are idle than there are to be spares."""
        return len(self._idle) > self.config.spares

    def lend(self, *, paused: bool = False) -> None:
        """Let one more worker be busy, while the token of another one waits or is paused.

        Raises:
            DeadlockError: it waits, and the limit is reached: for what it waits for there may be no worker.
        """
        with self._lock:
            if self._lent >= MAX_WAITING and not paused:
                raise DeadlockError(
                    f"{MAX_WAITING:,} process tokens wait for others or are paused, each in a process of its own, "
                    "which is the limit; nest less deeply, or in cpu or io operations, which take less memory"
                )
            self._lent += 1

    def end_lend(self) -> None:
        """Undo one `lend`."""
        with self._lock:
            self._lent -= 1

    def statistics(self) -> ProcessStatistics:
        """Return the figures of this moment."""
        with self._lock:
            pids = tuple(sorted(worker.pid for worker in self.workers if worker.pid and not worker.dead))
            return ProcessStatistics(
                len(pids), self._busy + self._owned, len(self._idle), self._started, self._died, pids
            )

    # Under the lock

    def _acquire(self, holder: Holder) -> Worker | None:
        if self._idle and not self._waiting and self._may_have(holder):
            return self._taken(holder)
        self._waiting.append(holder)
        return None

    def _replace(self, workers: Iterable[Worker]) -> list[Worker]:
        idle: list[Worker] = []
        for worker in workers:
            worker.is_to_go = True
            if worker in self._idle:
                self._idle.remove(worker)
                idle.append(worker)
        return idle

    def _room(self) -> int:
        return self.size + min(self._lent, MAX_WAITING) - self._busy

    def _may_have(self, holder: Holder) -> bool:
        return holder.own or self._room() > 0

    def _taken(self, holder: Holder) -> Worker:
        worker = self._idle.pop()  # the one that was busy last
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

    # Without the lock

    def tokens_left(self, worker: Worker) -> float:
        """Return how many more tokens a worker may run, those that it was sent included; inf: any number."""
        if worker.is_to_go:
            return 0
        most = self.config.max_tokens
        return math.inf if most is None else most - worker.handled

    def _is_worn(self, worker: Worker) -> bool:
        config = self.config
        if self.tokens_left(worker) < 1:
            return True
        if config.max_memory_growth is None:
            return False
        now = time.monotonic()
        if now - self._measured.get(worker, 0.0) < _MEMORY_SECONDS:
            return False
        self._measured[worker] = now
        try:
            memory = psutil.Process(worker.pid).memory_info().rss
        except psutil.Error:
            return True
        worker.memory_at_start = worker.memory_at_start or memory
        return memory - worker.memory_at_start > config.max_memory_growth
