"""What storms on processes share: what they draw, what they look at, and how they see that nothing is left over."""

from __future__ import annotations

import os
import random
import sys
import threading
import time
import uuid
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil

from tokengate import ChildSpec, Gate, Token, TokenState
from tokengate.types import ProcessPool

PATIENCE = 30.0  # seconds after which something hangs
MARK = "TOKENGATE_STORM"  # the variable by which processes of a storm are found


class Storm:
    """A run: what it draws from, what it writes to, and what it found wrong.

    Args:
        name: of the storm.
        seed: of what it draws.
        directory: for its files.
    """

    def __init__(self, name: str, seed: int, directory: str) -> None:
        self.name = name
        self.seed = seed
        self.chance = random.Random(seed)
        self.failures: list[str] = []
        self.report: dict[str, Any] = {"storm": name, "python": sys.version.split()[0], "seed": seed}
        self._directory = Path(directory)
        self.ledger = self.new_ledger()

    def new_ledger(self) -> str:
        path = self._directory / f"ledger-{uuid.uuid4().hex}"
        path.touch()
        return str(path)

    def expect(self, condition: Any, otherwise: str) -> None:
        """Note what is wrong, if the condition is not true."""
        if not condition:
            self.failures.append(otherwise)
            print(f"{self.name}: WRONG: {otherwise}", file=sys.stderr, flush=True)

    def progress(self, done: int, of: int) -> None:
        if sys.stderr.isatty() or done % max(1, of // 10) == 0:
            print(f"{self.name}: {done} of {of}, {len(self.failures)} wrong", file=sys.stderr, flush=True)


class Ledger:
    """What has run, as the tokens wrote it down themselves.

    Attributes:
        begun: {number: pids in which it has begun}.
        ended: {number: pids in which it came to its end}.
    """

    def __init__(self, path: str) -> None:
        self.begun: defaultdict[int, list[int]] = defaultdict(list)
        self.ended: defaultdict[int, list[int]] = defaultdict(list)
        for line in Path(path).read_text().splitlines():
            what, number, pid = line.split()
            (self.begun if what == "begun" else self.ended)[int(number)].append(int(pid))


class Outcomes:
    """How tokens ended, as their callbacks tell; any number of them, without keeping them."""

    def __init__(self) -> None:
        self.states: dict[int, TokenState] = {}
        self.errors: dict[int, BaseException] = {}
        self.told: Counter[int] = Counter()  # {number: how often its end was told}
        self.born: dict[int, float] = {}  # {pid: when its first result was there}
        self.wrong: list[str] = []
        self.live: dict[int, Token[Any]] = {}  # {number: token that has not ended}
        self._lock = threading.Lock()
        self._room = threading.Semaphore(2_000)

    def submit(self, operation: Any, ledger: str, number: int, *arguments: Any, right: Callable[[Any], bool]) -> bool:
        """Submit a token, when there is room for one more in flight; tell whether there was any, in time."""
        if not self._room.acquire(timeout=PATIENCE):
            return False
        submit = getattr(operation, "submit", operation)  # an operation, or a method of a proxy
        self.live[number] = one = submit(ledger, number, *arguments)
        one.add_done_callback(lambda done: self._note(done, number, right))
        return True

    def _note(self, done: Token[Any], number: int, right: Callable[[Any], bool]) -> None:
        now = time.perf_counter()
        with self._lock:
            self.told[number] += 1
            self.states[number] = done.state
            error = done.exception(0)
            if error is not None:
                self.errors[number] = error
            elif not right(value := done.result(0)):
                self.wrong.append(f"token number {number} has the result {value!r:.80}")
            elif isinstance(value, tuple):
                self.born.setdefault(value[1], now)
        self.live.pop(number, None)
        self._room.release()

    def born_after(self, known: set[int]) -> list[tuple[int, float]]:
        """Return the pids that have had results since then, and when each had its first one."""
        with self._lock:
            return [(pid, when) for pid, when in self.born.items() if pid not in known]

    def wait(self, number: int) -> bool:
        """Wait until so many have ended; tell whether they did, before something seems to hang."""
        at, ends = -1, 0.0
        while len(self.states) < number:
            if len(self.states) != at:
                at, ends = len(self.states), time.monotonic() + PATIENCE
            if time.monotonic() > ends:
                return False
            time.sleep(0.001)
        return True


def marked(mark: str) -> dict[int, psutil.Process]:
    """Return the living processes of a storm, without this one."""
    found = {}
    for process in psutil.process_iter():
        try:
            if process.pid != os.getpid() and process.environ().get(MARK) == mark:
                found[process.pid] = process
        except (psutil.Error, OSError):
            continue  # it has gone, is a zombie, or is somebody else's
    return found


@contextmanager
def marking() -> Iterator[str]:
    """Have all processes that are started in a block carry a mark, and return it."""
    before = os.environ.get(MARK)
    os.environ[MARK] = mark = uuid.uuid4().hex
    try:
        yield mark
    finally:
        os.environ.pop(MARK)
        if before is not None:
            os.environ[MARK] = before


def zombies() -> set[int]:
    """Return the children of this process that nobody has waited for."""
    found = set()
    for child in psutil.Process().children(recursive=True):
        try:
            if child.status() == psutil.STATUS_ZOMBIE:
                found.add(child.pid)
        except psutil.NoSuchProcess:
            continue
    return found


def own() -> dict[str, int]:
    """Return what this process holds."""
    return {"descriptors": psutil.Process().num_fds(), "threads": threading.active_count()}


def open_files() -> Counter[str]:
    """Return what this process has open, and how often."""
    names: list[str] = []
    for descriptor in Path("/proc/self/fd").iterdir():
        try:
            names.append(os.readlink(descriptor))
        except OSError:
            continue  # that of the folder itself
    return Counter(names)


def server_descriptors() -> int:
    """Return how many descriptors the children of this process hold: the fork server's."""
    return sum(child.num_fds() for child in psutil.Process().children())


def until(condition: Callable[[], Any], seconds: float = PATIENCE, look: float = 0.002) -> bool:
    ends = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > ends:
            return False
        time.sleep(look)
    return True


@contextmanager
def gate_of(storm: Storm, *, children: Sequence[ChildSpec] = (), intensity: int = 3, **pool: Any) -> Iterator[Gate]:
    """Open a gate, and see at its end that nothing is left of it."""
    with marking() as mark:
        before, files = own(), open_files()
        processes = ProcessPool(**pool)
        with Gate("storm", children=children, intensity=intensity, processes=processes, control_socket=False) as gate:
            yield gate
        after: dict[str, int] = {}

        def as_before() -> bool:
            after.update(own())
            return all(after[what] <= before[what] for what in before)

        until(as_before)
        for what, number in before.items():
            storm.expect(after[what] <= number, f"{what}: {number} before the gate, {after[what]} after it")
        if after["descriptors"] > before["descriptors"]:
            storm.expect(False, f"these are open now: {sorted((open_files() - files).elements())}")
        until(lambda: not marked(mark))
        storm.expect(not (left := marked(mark)), f"processes outlive the gate: {sorted(left)}")
        storm.expect(not (left := zombies()), f"zombies outlive the gate: {sorted(left)}")


def workers(gate: Gate) -> list[int]:
    return list(gate._system.statistics().processes.pids)


def spread(seconds: list[float]) -> dict[str, float]:
    ordered = sorted(seconds) or [0.0]
    share = {"median": 0.5, "p90": 0.9, "p99": 0.99, "max": 1.0}
    return {name: round(1000 * ordered[round(part * (len(ordered) - 1))], 2) for name, part in share.items()}


def check_states(storm: Storm, gate: Gate, outcomes: Outcomes, submitted: int) -> None:
    """See that each token has one end, which was told once."""
    twice = [number for number, times in outcomes.told.items() if times != 1]
    storm.expect(not twice, f"the end of some tokens was told more than once: {twice[:10]}")
    storm.expect(not outcomes.wrong, f"{len(outcomes.wrong)} wrong results: {outcomes.wrong[:3]}")
    states = Counter(outcomes.states.values())
    counted = {state: number for state, number in gate.statistics().tokens.items() if number}
    storm.expect(dict(states) == counted, f"states as told: {dict(states)}; as counted by the gate: {counted}")
    storm.expect(sum(states.values()) == submitted, f"{submitted} were submitted, {sum(states.values())} have ended")
    storm.report["states"] = {str(state): number for state, number in states.items()}
