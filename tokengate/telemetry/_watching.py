"""Looks each second at the places and the tokens that run: queues, samples, processor time, memory."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Any, Final

from actors import ActorSystem, Token
from actors.lowlevel import SYSTEM, ActorPlace, CpuDrain, Place, ProcessDrain, Worker
from supervisors import DynamicSupervisor, Supervisor
from tokengate.control.stream._record import Measured
from tokengate.telemetry._figures import Figures
from tokengate.telemetry._resident import Resident
from tokengate.telemetry._samples import LONG, Sample, Samples

_KEPT: Final = 1_000  # tokens whose samples are kept after they have ended
_SLOW: Final = 1e-4  # seconds; the processor time of operations is measured whose median run is longer
_PLACES_A_SECOND: Final = 2_000  # with more places, the looks are further apart
_READ_AFTER: Final = 0.005  # seconds between two readings of a process's memory for tokens that end there


class Watching:
    """Knows what the tokens of a gate use while they run.

    Args:
        system: of the gate.
        figures: of its operations and places.
        measured: {token id: what was measured of it}, of the collector.
        internal: whether places of the runtime itself count.

    Attributes:
        on_memory: called with each child process, its token and its bytes, as the token ends there.
    """

    def __init__(
        self, system: ActorSystem, figures: Figures, measured: dict[int, Measured], internal: bool = False
    ) -> None:
        self._system = system
        self._figures = figures
        self._measured = measured
        self._internal = internal
        self._samples: OrderedDict[int, Samples] = OrderedDict()
        self._lock = threading.Lock()
        self._due = 0.0
        self.on_memory: Callable[[Worker, Token[Any], int], object] | None = None
        self._ended: set[int] = set()  # tokens that had ended at the latest look, of those that are measured
        self._files: dict[Worker, Resident] = {}
        self._sizes: dict[Worker, tuple[float, int | None]] = {}  # {worker: (when it was read, bytes)}

    def start(self) -> None:
        """Have the outcomes of child processes told."""
        self._system.processes.on_outcome = self.outcome

    def stop(self) -> None:
        """Look no more, and close what is open."""
        self._system.processes.on_outcome = None
        with self._lock:
            files, self._files = self._files, {}
        for file in files.values():
            file.close()

    def samples(self, token: int) -> tuple[Sample, ...]:
        """Return the samples of a token, the oldest first; none if it took no second, or is long over."""
        with self._lock:
            found = self._samples.get(token)
            return () if found is None else tuple(found.points)

    # Measured by the threads of tokens

    def begin(self, token: Token[Any], /) -> None:
        """Note that code of a token is about to run on this thread."""
        found = self._measured.get(token.id)
        if found is None:
            found = self._measured[token.id] = Measured(0.0)
        found.thread, found.at = threading.get_ident(), time.thread_time()

    def end(self, token: Token[Any], /) -> None:
        """Note that it is over."""
        found = self._measured.get(token.id)
        if found is None:
            return
        if token.done():
            self._measured.pop(token.id, None)
        elif found.cpu is not None:
            found.cpu += time.thread_time() - found.at
            found.thread = 0

    def outcome(self, token: Token[Any], worker: Worker, number: int) -> None:
        """Note what a token has used whose child process has sent its outcome."""
        if token.done():
            return
        used = worker.cpu_used(number)
        memory = self._memory(worker)
        if used is None and memory is None:
            return
        found = self._measured.setdefault(token.id, Measured())
        found.cpu = used
        if memory is not None:
            found.note_memory(memory)
            if self.on_memory is not None:
                self.on_memory(worker, token, memory)

    def _memory(self, worker: Worker) -> int | None:
        now = time.monotonic()
        read_at, size = self._sizes.get(worker, (0.0, None))
        if now - read_at < _READ_AFTER and self.on_memory is None:
            return size
        file = self._files.get(worker)
        if file is None:
            with self._lock:
                for gone in [one for one in self._files if one.dead]:
                    self._files.pop(gone).close()
                    self._sizes.pop(gone, None)
                file = self._files[worker] = Resident(worker.pid)
        size = file.read()
        self._sizes[worker] = now, size
        return size

    # Each second, on the stream's thread

    def look(self, now: float) -> None:
        """Look at all places, if that is due."""
        if now < self._due:
            return
        places = self._system.places()
        self._due = now + max(1.0, len(places) / _PLACES_A_SECOND)
        seen: dict[str, list[Place]] = {}
        for place in places:
            if self._counts(place):
                name = place.actor_class.__name__ if isinstance(place, ActorPlace) else place.path
                seen.setdefault(label_of(self._system, place.path, name), []).append(place)
        self._forget_ended()
        running: list[Token[Any]] = []
        slow = self._slow()
        with self._figures.lock:
            for figures in self._figures.places.values():
                figures.queued = figures.running = figures.concurrency = 0
            for label, found in seen.items():
                figures = self._figures.place(label, now)
                for place in found:
                    at_work = place.drain.running() if place.mailbox.active else []
                    running += at_work
                    figures.queued += place.mailbox.size
                    figures.running += len(at_work)
                    figures.concurrency += place.mailbox.concurrency
                    if isinstance(place.drain, CpuDrain):
                        place.drain.meter = self if label in slow else None
        for token in running:
            started = token.started_at
            if started is not None and now - started >= LONG and not token.done():
                self._sample(token, now - started)

    def _forget_ended(self) -> None:
        """Drop what was measured just as its token ended, and so was not taken then; at the second look."""
        ended = {token for token in list(self._measured) if token not in self._system.live}
        for token in ended & self._ended:
            self._measured.pop(token, None)
        self._ended = ended

    def _counts(self, place: Place) -> bool:
        """Tell whether a place has figures: neither supervisors nor what belongs to the runtime has."""
        if self._internal:
            return True
        if isinstance(place, ActorPlace) and issubclass(place.actor_class, DynamicSupervisor | Supervisor):
            return False
        return not place.serves_operators and not place.path.startswith(SYSTEM)

    def _slow(self) -> set[str]:
        """Return the labels of places where the median run of an operation is worth a clock."""
        with self._figures.lock:
            return {
                label
                for operation in self._figures.operations.values()
                if (operation.window.quantile(0.5) or 0.0) > _SLOW
                for label in operation.cells
            }

    def _sample(self, token: Token[Any], age: float) -> None:
        drain = token._place.drain
        cpu, memory, steps = None, None, token.steps
        if isinstance(drain, ProcessDrain):
            steps = drain.steps_of(token)
            worker = drain.worker_of(token)
            if worker is not None:
                memory = self._memory(worker)
                cpu = worker.cpu_so_far()
        else:
            found = self._measured.get(token.id)
            cpu = None if found is None else found.cpu
        if memory is not None:
            self._measured.setdefault(token.id, Measured()).note_memory(memory)
        with self._lock:
            samples = self._samples.setdefault(token.id, Samples())
            self._samples.move_to_end(token.id)
            samples.add(Sample(age, cpu, memory, steps))
            while len(self._samples) > _KEPT:
                self._samples.popitem(last=False)


def label_of(system: ActorSystem, path: str, name: str) -> str:
    """Return what the figures of a place are called: its path, or the class if it is below a dynamic supervisor.

    Args:
        system: of the place.
        path: of the place, which may have gone.
        name: of its class, or of an operation of it.
    """
    above = path.rpartition("/")[0]
    while above:
        place = system.place_at(above)
        if isinstance(place, ActorPlace) and issubclass(place.actor_class, DynamicSupervisor):
            return name.rpartition(".")[0] or name
        if place is None and system.place_at(path) is None:
            return name.rpartition(".")[0] or name  # it has gone with what was above it
        above = above.rpartition("/")[0]
    return path
