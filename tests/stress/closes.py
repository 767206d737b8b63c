"""Two and three signals at random distances, so that the later ones strike while a gate closes, or opens.

    python tests/stress/closes.py --gates 1000 --seed 7
    python tests/stress/closes.py --gates 200 --way trio          # `async with Gate()` in the main task
    python tests/stress/closes.py --gates 200 --way asyncio       # the same in asyncio
    python tests/stress/closes.py --gates 200 --way open          # signals from the moment the gate begins to open
    python tests/stress/closes.py --gates 20 --way exit           # programs that end after such a storm

Each gate holds queued and running tokens of all affinities, and the main thread sleeps in its block until the first
signal comes. Then the gate must be `closed` within its `shutdown` and 20 seconds, a second `close()` return the
report, the interrupt reach the caller, all tokens be done, and no thread, child process or descriptor be left. Prints
one JSON line, with where the signals struck the gates that failed; exits 1 if any did, and 3 on a hang.
"""

from __future__ import annotations

import argparse
import asyncio
import contextvars
import faulthandler
import gc
import json
import logging
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent / "support"))

import trio
from interrupts import HOMES, Place, eventually, in_thread

from actors.lowlevel import loop_here
from tokengate import AsyncioActor, CpuActor, Gate, IoActor, Token, checkpoint, current_token, token

SHUTDOWN = 5.0  # seconds that the gates have; no token needs them
MARGIN = 20.0  # seconds beyond, on a machine that is busy
HANG = 120.0  # seconds without progress after which the script ends


@token(affinity="io", concurrency=5, capacity=100_000)
async def sleep(seconds: float = 1e9) -> None:
    await trio.sleep(seconds)


@token(affinity="asyncio", concurrency=5, capacity=100_000)
async def sleep_in_asyncio() -> None:
    await asyncio.sleep(1e9)


@token(concurrency=2, capacity=100_000)
def spin(seconds: float) -> None:
    ends = time.monotonic() + seconds
    while time.monotonic() < ends:
        checkpoint()


@token(affinity="process", capacity=100_000)
def nap(seconds: float) -> None:
    import time

    time.sleep(seconds)


class Worker(CpuActor):
    def work(self, seconds: float) -> None:
        spin.__wrapped__(seconds)


class Sleeper(IoActor):
    async def sleep(self) -> None:
        await trio.sleep_forever()


class AsyncioSleeper(AsyncioActor):
    async def sleep(self) -> None:
        await asyncio.sleep(1e9)


class Signals:
    """Sends signals to the main thread, and notes where they strike.

    Args:
        chance: draws how many, when, and how they come.

    Attributes:
        places: where each has struck, in order.
        raised: how many raised.
        dropped: how many of these Python dropped, since they were raised in a callback of the garbage collector.
        inside: the code within which a signal raises; elsewhere it is ignored.
    """

    def __init__(self, chance: random.Random) -> None:
        self.places: list[str] = []
        self.raised = 0
        self.dropped = 0
        self.inside: CodeType | None = None
        self._chance = chance
        self._main = threading.get_ident()
        self._left: list[float] = []
        self._thread: threading.Thread | None = None
        self._timed = False
        self._armed = False

    def install(self) -> None:
        signal.signal(signal.SIGINT, self._strike)
        signal.signal(signal.SIGALRM, self._strike)

    def begin(self, first: float) -> list[float]:
        """Send two or three signals, the first after some seconds; return their distances."""
        chance = self._chance
        self.places, self.raised, self.dropped = [], 0, 0
        scale = chance.choice((0.0002, 0.001, 0.003, 0.01))
        distances = [chance.uniform(0, scale) for _ in range(chance.choice((1, 2)))]
        self._left = [first, *distances]
        self._armed = True
        self._timed = chance.random() < 0.4
        if self._timed:
            signal.setitimer(signal.ITIMER_REAL, max(self._left.pop(0), 1e-6))
        else:
            self._thread = threading.Thread(target=self._shoot, args=(list(self._left),), daemon=True)
            self._thread.start()
        return distances

    def end(self) -> None:
        """Let no signal raise any more."""
        while True:
            try:
                self._armed = False
                signal.setitimer(signal.ITIMER_REAL, 0)
                break
            except KeyboardInterrupt:
                pass
        if self._thread is not None:
            self._thread.join()
            self._thread = None

    def _shoot(self, delays: list[float]) -> None:
        for delay in delays:
            time.sleep(delay)
            signal.pthread_kill(self._main, signal.SIGINT)

    def _strike(self, _number: int, frame: FrameType | None) -> None:
        outer = frame
        while outer is not None and outer.f_code is not self.inside:
            outer = outer.f_back
        if not self._armed or outer is None:
            return
        self.note(frame)
        if self._timed and self._left:
            signal.setitimer(signal.ITIMER_REAL, max(self._left.pop(0), 1e-6))
        raise KeyboardInterrupt

    def note_dropped(self, dropped: Any) -> None:
        """Take note of an exception that Python drops; a `sys.unraisablehook`."""
        if isinstance(dropped.exc_value, KeyboardInterrupt):
            self.dropped += 1

    def note(self, frame: FrameType | None) -> None:
        """Note where a signal strikes."""
        self.raised += 1
        while frame is not None and not frame.f_code.co_filename.startswith(HOMES):
            frame = frame.f_back
        self.places.append("outside" if frame is None else str(Place.of(frame.f_code, frame.f_lineno)))


class Closes:
    """Opens gates, has them struck, and looks at what is left.

    Args:
        seed: of what is drawn.
        tokens: how many io tokens a gate holds, at most.
        processes: of how many gates one has child processes; 0 for none.
    """

    def __init__(self, seed: int, tokens: int = 400, processes: int = 25) -> None:
        self.chance = random.Random(seed)
        self.signals = Signals(self.chance)
        self.failures: list[dict[str, Any]] = []
        self.counts: Counter[str] = Counter()
        self.progress = time.monotonic()
        self.longest = 0.0
        self._tokens = tokens
        self._processes = processes
        self._sent: list[Token[Any]] = []

    def close(self, number: int) -> None:
        """Strike a gate that sleeps in its block, and then closes."""
        self._struck(number, self._sleep)

    def _sleep(self, gate: Gate, number: int, distances: list[float]) -> None:
        with gate:
            self._fill(gate, number)
            distances += self.signals.begin(self.chance.uniform(0.001, 0.004))
            time.sleep(1.0)

    def open(self, number: int) -> None:
        """Strike a gate while it opens, or soon after."""
        self._struck(number, self._open)

    def _open(self, gate: Gate, _number: int, distances: list[float]) -> None:
        distances += self.signals.begin(self.chance.uniform(0.0, 0.006))
        with gate:
            time.sleep(self.chance.uniform(0, 0.01))

    def _struck(self, number: int, act: Any) -> None:
        signals = self.signals
        signals.install()
        signals.inside = act.__code__
        before = _threads()
        gate = self._gate(number)
        caught: BaseException | None = None
        distances: list[float] = []
        try:
            act(gate, number, distances)
        except BaseException as error:
            caught = error
        signals.end()
        if gate.state == "open":  # struck before its block had begun
            self.counts["left open"] += 1
            in_thread(gate.close, SHUTDOWN + MARGIN)
        if gate.state == "new":
            self.counts["not begun"] += 1
            return
        told = {"distances_ms": [round(1000 * one, 3) for one in distances]}
        self._check(gate, number, caught, before, told, must_raise=signals.raised > signals.dropped)

    def trio(self, number: int) -> None:
        """Strike a gate of a trio program, where trio raises Ctrl-C in the main task."""
        self._struck_in_loop(number, trio.run, trio.sleep)

    def asyncio(self, number: int) -> None:
        """Strike a gate of an asyncio program, where the first Ctrl-C cancels the main task, and the second raises."""
        self._struck_in_loop(number, lambda program: asyncio.run(program()), asyncio.sleep)

    def _struck_in_loop(self, number: int, run: Callable[..., object], nap: Callable[[float], Awaitable[None]]) -> None:
        before = _threads()
        gate = self._gate(number)
        caught: BaseException | None = None
        distances = [self.chance.uniform(0, 0.006) for _ in range(self.chance.choice((1, 2)))]
        main = threading.get_ident()
        over = False
        loop: asyncio.AbstractEventLoop | None = None
        lock = threading.Lock()

        def shoot() -> None:
            for delay in [0.003, *distances]:
                time.sleep(delay)
                with lock:
                    if over:
                        return
                    signal.pthread_kill(main, signal.SIGINT)

        shooter = threading.Thread(target=shoot, daemon=True)

        async def program() -> None:
            nonlocal over, loop
            loop = None if trio.lowlevel.in_trio_task() else asyncio.get_running_loop()
            loops: Any = signal.getsignal(signal.SIGINT)

            def strike(number: int, frame: FrameType | None) -> None:
                outer = frame
                while outer is not None and outer.f_code is not run_program.__code__:
                    outer = outer.f_back
                if outer is not None:  # else the loop was interrupted to death, and this comes after it
                    self.signals.note(frame)
                    loops(number, frame)

            try:
                async with gate:
                    self._fill(gate, number)
                    signal.signal(signal.SIGINT, strike)
                    shooter.start()
                    await nap(1.0)
            finally:
                with lock:
                    over = True

        def run_program() -> None:
            run(program)

        signal.signal(signal.SIGINT, signal.default_int_handler)  # trio and asyncio replace this one, and no other
        self.signals.places, self.signals.raised = [], 0
        try:
            run_program()
        except BaseException as error:
            caught = error.with_traceback(None)  # it has the frames of the loop, and these the program's tasks
        if loop is not None:
            loop.close()  # `asyncio.run` may have been interrupted before it has done that
        gc.collect()
        shooter.join()
        signal.signal(signal.SIGINT, signal.default_int_handler)
        told = {"distances_ms": [round(1000 * one, 3) for one in distances]}
        self._check(gate, number, caught, before, told)

    def _gate(self, number: int) -> Gate:
        self.progress = time.monotonic()
        self._sent = []
        return Gate(f"gate-{number}", shutdown=SHUTDOWN, threads=2, processes=1, control_socket=False)

    def _fill(self, gate: Gate, number: int) -> None:
        sent = self._sent
        for _ in range(self.chance.choice((0, 10, self._tokens))):
            sent.append(self.chance.choice((sleep, sleep_in_asyncio)).submit())
        for _ in range(self.chance.randrange(4)):
            sent.append(spin.submit(0.02))
        if self._processes and number % self._processes == 0:
            sent.extend(nap.map([0.0, 0.01, 0.01, 5.0]))
        if self.chance.random() < 0.3 and not loop_here():
            worker = gate.spawn(Worker).proxy()
            sleeper = gate.spawn(self.chance.choice((Sleeper, AsyncioSleeper))).proxy()
            sent.extend((worker.work(0.01), worker.work(0.01), sleeper.sleep(), sleeper.sleep()))

    def _check(
        self,
        gate: Gate,
        number: int,
        caught: BaseException | None,
        before: Counter[str],
        told: dict[str, Any],
        *,
        must_raise: bool = True,
    ) -> None:
        wrong: list[str] = []
        began = time.monotonic()
        if not eventually(lambda: gate.state == "closed", SHUTDOWN + MARGIN):
            wrong.append(f"it is {gate.state}")
        self.longest = max(self.longest, time.monotonic() - began)
        if must_raise and not _is_interrupt(caught):
            wrong.append(f"the caller got {caught!r} instead of KeyboardInterrupt")
        if not must_raise and caught is not None:
            wrong.append(f"the caller got {caught!r} without a signal")
        report, raised = in_thread(gate.close, SHUTDOWN + MARGIN)
        if raised:
            wrong.append(f"a second close {raised}")
        elif report is None:
            wrong.append("a second close returned no report")
        elif report.abandoned:
            wrong.append(f"abandoned {report.abandoned}")
        if not wrong and not eventually(lambda: all(one.done() for one in self._sent), MARGIN):
            left = Counter(str(one.state) for one in self._sent if not one.done())
            wrong.append(f"tokens are left: {dict(left)}")
        if not wrong and not eventually(lambda: not _threads() - before, MARGIN):
            wrong.append(f"threads are left: {list(_threads() - before)}")
        if current_token() is not None:
            wrong.append(f"{current_token()!r} is still the current token")
        self.counts[f"{self.signals.raised} signals"] += 1
        if wrong:
            self.failures.append({"gate": number, "wrong": wrong, "struck": self.signals.places, **told})
            print(f"WRONG: {json.dumps(self.failures[-1])}", file=sys.stderr, flush=True)

    def exit(self, number: int) -> None:
        """Have a program end after a storm of interrupts, with its gate open or struck while it closes."""
        self.progress = time.monotonic()
        program = EXIT.format(seed=self.chance.randrange(2**32), tests=str(Path(__file__).parent.parent / "support"))
        began = time.monotonic()
        try:
            done = subprocess.run(
                [sys.executable, "-c", program], capture_output=True, text=True, timeout=90, check=False
            )
        except subprocess.TimeoutExpired as error:
            output = (error.stderr or b"").decode(errors="replace")[-600:]
            self.failures.append({"program": number, "wrong": ["it has not ended within 90 s"], "output": output})
        else:
            self.longest = max(self.longest, time.monotonic() - began)
            if done.returncode != 7:
                wrong = [f"its exit code is {done.returncode}, not 7"]
                self.failures.append({"program": number, "wrong": wrong, "output": done.stderr[-600:]})
        self.counts["programs"] += 1
        if self.failures and self.failures[-1].get("program") == number:
            print(f"WRONG: {json.dumps(self.failures[-1])}", file=sys.stderr, flush=True)


# A program that is interrupted at random moments and then ends; what it prints is not looked at.
EXIT = """
import faulthandler, logging, random, signal, sys, time
logging.disable(logging.CRITICAL)
faulthandler.dump_traceback_later(80, exit=False)
sys.unraisablehook = lambda *_: None
from tokengate import AsyncioActor, CpuActor, Gate, IoActor, token

chance = random.Random({seed})
@token(affinity="io", concurrency=2)
async def io(n):
    return n
@token(affinity="asyncio", concurrency=2)
async def aio(n):
    return n
@token(concurrency=2)
def cpu(n):
    return n
@token(affinity="process")
def process(n):
    return n
class Cpu(CpuActor):
    def add(self, n):
        return n
class Io(IoActor):
    async def add(self, n):
        return n
class Aio(AsyncioActor):
    async def add(self, n):
        return n

gate = Gate("exit", shutdown=1.0, processes=1, control_socket=False).open()
actors = [gate.spawn(Cpu).proxy(), gate.spawn(Io).proxy(), gate.spawn(Aio).proxy()]
process.submit(1).result(60)

def act():
    for _ in range(1000):
        one = chance.choice((io.submit, aio.submit, cpu.submit, process.submit, *(actor.add for actor in actors)))(1)
        if chance.random() < 0.3:
            one.result(0.5)
        if chance.random() < 0.3:
            cpu(1)

def strike(number, frame):
    raise KeyboardInterrupt

signal.signal(signal.SIGALRM, strike)
ends = time.monotonic() + 0.5
for _ in range(40):
    try:
        signal.setitimer(signal.ITIMER_REAL, chance.uniform(0.00005, 0.002))
        act()
    except KeyboardInterrupt:
        pass
    except Exception:
        pass
    try:
        signal.setitimer(signal.ITIMER_REAL, 0)
    except KeyboardInterrupt:
        pass
    if time.monotonic() > ends:
        break
way = chance.choice(("exit", "close", "struck"))
if way == "struck":
    try:
        signal.setitimer(signal.ITIMER_REAL, chance.uniform(0.0001, 0.004), 0.0015)
        gate.close()
    except KeyboardInterrupt:
        pass
    except Exception:
        pass
while True:
    try:
        signal.setitimer(signal.ITIMER_REAL, 0)
        break
    except KeyboardInterrupt:
        pass
if way == "close":
    try:
        gate.close()
    except Exception:
        pass
sys.exit(7)
"""


def _threads() -> Counter[str]:
    return Counter(
        thread.name
        for thread in threading.enumerate()
        if not thread.name.startswith(("Trio thread", "helper", "watchdog"))
    )


def _is_interrupt(error: BaseException | None) -> bool:
    if isinstance(error, BaseExceptionGroup):
        return error.subgroup(KeyboardInterrupt) is not None
    return isinstance(error, KeyboardInterrupt)


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--gates", type=int, default=1_000)
    parser.add_argument("--seconds", type=float, default=1e9, help="end earlier, after so long")
    parser.add_argument("--way", choices=("close", "open", "trio", "asyncio", "exit"), default="close")
    parser.add_argument("--tokens", type=int, default=400, help="io tokens of a gate, at most")
    parser.add_argument("--processes", type=int, default=25, help="of how many gates one has child processes; 0: none")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(2**32))
    options = parser.parse_args()
    logging.disable(logging.CRITICAL)
    faulthandler.enable()
    closes = Closes(options.seed, options.tokens, options.processes)
    sys.unraisablehook = closes.signals.note_dropped
    began = time.monotonic()

    def tell(gates: int, **more: Any) -> None:
        struck = Counter(place for failure in closes.failures for place in failure.get("struck", ()))
        print(
            json.dumps(
                {
                    "python": sys.version.split()[0],
                    "way": options.way,
                    "seed": options.seed,
                    "gates": gates,
                    "failed": len(closes.failures),
                    "wrong": Counter(one for failure in closes.failures for one in failure["wrong"]).most_common(10),
                    "struck": struck.most_common(15),
                    "longest": round(closes.longest, 2),
                    "counts": closes.counts,
                    "seconds": round(time.monotonic() - began, 1),
                    **more,
                }
            ),
            flush=True,
        )

    number = 0

    def watch() -> None:
        while time.monotonic() - closes.progress < HANG:
            time.sleep(0.5)
        faulthandler.dump_traceback(all_threads=True)
        tell(number, hang=True, struck_last=closes.signals.places)
        os._exit(3)

    threading.Thread(target=watch, name="watchdog", daemon=True).start()
    act = getattr(closes, options.way)
    for number in range(1, options.gates + 1):
        contextvars.Context().run(act, number)
        if time.monotonic() - began > options.seconds or len(closes.failures) >= 100:
            break
    tell(number, hang=False)
    return 1 if closes.failures else 0


if __name__ == "__main__":
    code = main()
    sys.stdout.flush()
    os._exit(code)
