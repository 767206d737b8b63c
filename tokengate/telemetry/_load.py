"""Figures of the process: garbage collection, lag of loops and of a thread, saturation, pressure."""

from __future__ import annotations

import contextlib
import gc
import threading
import time
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from actors import ActorSystem
from actors.lowlevel import memory
from tokengate.telemetry._resident import Resident
from tokengate.telemetry._sketch import Sketch

SLEEP: Final = 0.05
"""Seconds between two looks of the thread."""

_LOOKS: Final = 200  # those of the last 10 s
_LOOPS: Final = 10  # looks between two calls of each loop

_PRESSURE: Final = Path("/proc/pressure")


class Load:
    """Looks each 50 ms at what is busy, on a thread of its own; how late it comes is the lag of a thread.

    Args:
        system: of the gate.

    Attributes:
        lag: seconds by which the thread came late at each look.
        pauses: seconds of each garbage collection.
        loops: {name of a loop: seconds until it made its latest call}; while it has not, those since it was asked.
    """

    def __init__(self, system: ActorSystem) -> None:
        self.lag = Sketch()
        self.pauses = Sketch()
        self.loops: dict[str, float] = {}
        self._system = system
        self._asked: dict[str, float] = {}  # {name of a loop: when a call was asked for that it has not made}
        self._used: dict[str, tuple[float, float]] = {}  # {name of a loop: (time, processor time) at its latest call}
        self._busy: deque[tuple[float, float, float]] = deque(maxlen=_LOOKS)  # cpu, process, io: 0.0 to 1.0
        self._io_busy = 0.0
        self._memory: int | None = None
        self._collecting_since = 0.0
        self._resident = Resident("self")
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"{system.name}-load", daemon=True)

    def start(self) -> None:
        """Begin to look."""
        gc.callbacks.append(self._collected)
        self._thread.start()

    def stop(self) -> None:
        """Look no more."""
        self._is_over.set()
        with contextlib.suppress(ValueError):
            gc.callbacks.remove(self._collected)
        if threading.current_thread() is not self._thread:
            self._thread.join()
        self._resident.close()

    # What is asked

    @property
    def saturation(self) -> dict[str, float]:
        """{resource: the share of the last 10 s in which all of it was busy}; of `memory`: used, of what is allowed."""
        looks = list(self._busy)
        found = {}
        for at, name in enumerate(("cpu", "process", "io")):
            if name != "process" or self._system.processes.statistics() is not None:
                found[name] = sum(look[at] for look in looks) / max(len(looks), 1)
        used = self.resident
        if used is not None:
            self._memory = self._memory or memory().amount
            found["memory"] = used / self._memory
        return found

    @property
    def resident(self) -> int | None:
        """Bytes of the process that are resident; None where that is unknown."""
        return self._resident.read()

    @staticmethod
    def pressure() -> dict[str, float]:
        """Return {cpu, io, memory: share of the last 10 s in which something waited for it}, if Linux says it."""
        found = {}
        for name in ("cpu", "io", "memory"):
            with contextlib.suppress(OSError, ValueError, IndexError):
                line = (_PRESSURE / name).read_text().splitlines()[0]
                found[name] = float(line.partition("avg10=")[2].split()[0]) / 100
        return found

    @property
    def threads(self) -> int:
        """Threads of the process that Python knows."""
        return threading.active_count()

    # The thread

    def _run(self) -> None:
        due, looks = time.monotonic() + SLEEP, 0
        while not self._is_over.wait(max(0.0, due - time.monotonic())):
            now = time.monotonic()
            self.lag.add(max(0.0, now - due))
            due = now + SLEEP
            looks += 1
            for name, asked in list(self._asked.items()):
                self.loops[name] = max(self.loops.get(name, 0.0), now - asked)
            if looks % _LOOPS == 0:
                self._ask_loops(now)
            self._busy.append((self._cpu(), self._processes(), self._io_busy))

    def _cpu(self) -> float:
        dispatcher = self._system.dispatcher
        figures = dispatcher.statistics()
        busy = sum(thread.busy for thread in dispatcher.threads())
        return float(busy - figures.blocked >= figures.size)

    def _processes(self) -> float:
        figures = self._system.processes.statistics()
        return float(figures is not None and figures.busy >= self._system.processes.pool.size)

    def _ask_loops(self, now: float) -> None:
        for name, host in self._hosts():
            if name in self._asked:
                self._io_busy = 1.0 if name == "io" else self._io_busy
            else:
                self._asked[name] = now
                host.call_soon(_Answer(self, name))

    def _hosts(self) -> Iterator[tuple[str, Any]]:
        own = self._system.asyncio_hosts.own
        for name, host in (("system", self._system.system_host), ("io", self._system.io_host), ("asyncio", own)):
            if host.ident is not None:
                yield name, host

    def answered(self, name: str) -> None:
        """Note that a loop makes its call; on its thread."""
        now, used = time.monotonic(), time.thread_time()
        asked = self._asked.pop(name, now)
        self.loops[name] = now - asked
        at, before = self._used.get(name, (now, used))
        self._used[name] = now, used
        if name == "io" and now > at:
            self._io_busy = min(1.0, (used - before) / (now - at))

    def _collected(self, phase: str, _info: object) -> None:
        if phase == "start":
            self._collecting_since = time.perf_counter()
        elif self._collecting_since:
            self.pauses.add(time.perf_counter() - self._collecting_since)


class _Answer:
    """The call that a loop makes."""

    def __init__(self, load: Load, name: str) -> None:
        self._load = load
        self._name = name

    def __call__(self) -> None:
        self._load.answered(self._name)
