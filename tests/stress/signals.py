"""Interrupt the main thread by signals at random moments while it uses the runtime, and go on, as a REPL does.

    python tests/stress/signals.py --interrupts 10000 --seed 7 --seconds 300
    python tests/stress/signals.py --affinity io,direct

Signals come from an interval timer and from another thread, alone and in bursts of two and three; their handlers raise
`KeyboardInterrupt`, an `Exception` and a `BaseException`. The main thread sends, waits, cancels and calls at random. A
ledger outside of the runtime has each token that was given out and each execution. After every few interrupts, with
the signals off, all tokens given out must end and each kind of call must be served. At the end the gate closes in time
and leaves nothing behind. Prints one JSON line; exits 1 on any failure and 3 on a hang, with the stacks of all threads.
"""

from __future__ import annotations

import argparse
import asyncio
import concurrent.futures
import contextlib
import contextvars
import faulthandler
import itertools
import json
import logging
import os
import random
import signal
import sys
import tempfile
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent / "support"))

import psutil
from interrupts import HOMES, TERMINAL, Place, eventually, in_thread

from actors.tokens._token import _current
from tokengate import AsyncioActor, CpuActor, Gate, IoActor, ProcessActor, Token, TokenState, current_token, token
from tokengate.errors import MailboxFull, TokenRejected

PATIENCE = 30.0  # seconds in which tokens must end
SERVED = 20.0  # seconds in which a fresh call must be served
LEAST = 20  # interrupts in the runtime, however long they take
HANG = 120.0  # seconds without progress after which the script ends

AFFINITIES = (
    "io",
    "asyncio",
    "cpu",
    "process",
    "actor-cpu",
    "actor-io",
    "actor-asyncio",
    "actor-process",
    "direct",
    "executor",
)


class Alarm(TimeoutError):
    """What programs raise from SIGALRM to bound the time of a call."""


class Abort(BaseException):
    """An exception of a program that is no `Exception`."""


INTERRUPTS = (KeyboardInterrupt, Alarm, Abort)

# ----------------------------------------------------------------------------------------------------------------------
# What runs; each notes its number
# ----------------------------------------------------------------------------------------------------------------------

ran: list[int] = []
ORDERED = ("actor-cpu", "actor-io", "actor-asyncio", "narrow", "dropping", "pinned")
in_order: dict[str, list[int]] = {name: [] for name in ORDERED}


@token(concurrency=20)
async def io(number: int) -> int:
    ran.append(number)
    return number


@token(concurrency=2)
async def io_slow(number: int) -> int:
    import trio

    ran.append(number)
    await trio.sleep(0.0005)
    return number


@token(affinity="asyncio", concurrency=20)
async def aio(number: int) -> int:
    ran.append(number)
    return number


@token(affinity="asyncio", concurrency=2)
async def aio_slow(number: int) -> int:
    ran.append(number)
    await asyncio.sleep(0.0005)
    return number


@token(affinity="asyncio", concurrency=1, capacity=2)
async def aio_narrow(number: int) -> int:
    ran.append(number)
    return number


@token(concurrency=2)
def cpu(number: int) -> int:
    ran.append(number)
    return number


@token(concurrency=1)
def steps(number: int) -> Any:
    ran.append(number)
    yield
    return number


@token(concurrency=1, capacity=2)
def narrow(number: int) -> int:
    ran.append(number)
    return number


@token(concurrency=1, capacity=2)
async def io_narrow(number: int) -> int:
    ran.append(number)
    return number


@token(concurrency=1, capacity=2, overflow="drop_oldest")
def dropping(number: int) -> int:
    ran.append(number)
    return number


@token(concurrency=1)
def direct(number: int) -> int:
    ran.append(number)
    return number


@token(concurrency=1)
def nested(number: int, inner: int) -> int:
    ran.append(number)
    return int(direct(inner))


@token(affinity="process", concurrency=2)
def process(ledger: str, number: int) -> int:
    import os

    descriptor = os.open(ledger, os.O_WRONLY | os.O_APPEND)
    os.write(descriptor, f"{number} process\n".encode())
    os.close(descriptor)
    return number


class Cpu(CpuActor):
    name = "actor-cpu"

    def note(self, number: int) -> int:
        ran.append(number)
        in_order[self.name].append(number)
        return number

    def on_receive(self, message: Any) -> Any:
        return self.note(message)


class Narrow(Cpu):
    name = "narrow"
    capacity = 2


class Dropping(Cpu):
    name = "dropping"
    capacity = 2
    overflow = "drop_oldest"


class Pinned(Cpu):
    name = "pinned"
    dispatcher = "pinned"


class Io(IoActor):
    name = "actor-io"

    async def note(self, number: int) -> int:
        ran.append(number)
        in_order[self.name].append(number)
        return number

    async def on_receive(self, message: Any) -> Any:
        return await self.note(message)


class Asyncio(AsyncioActor):
    name = "actor-asyncio"
    note, on_receive = Io.note, Io.on_receive


def _process_actor() -> type[ProcessActor]:
    class Process(ProcessActor):
        def note(self, ledger: str, number: int) -> int:
            import os

            descriptor = os.open(ledger, os.O_WRONLY | os.O_APPEND)
            os.write(descriptor, f"{number} actor-process\n".encode())
            os.close(descriptor)
            return number

    return Process


ProcessNotes = _process_actor()

# ----------------------------------------------------------------------------------------------------------------------
# Signals
# ----------------------------------------------------------------------------------------------------------------------


class Signals:
    """Interrupts the main thread once it is told to, and notes where that was.

    Args:
        chance: draws the moments.
        harmless: whether the handlers raise nothing.

    Attributes:
        raised: exceptions that were raised.
        places: where the latest ones struck.
        outside: how many struck outside of the runtime's code and of what it calls.
        inside: the code within which a signal raises; it is tried again a little later elsewhere.
    """

    def __init__(self, chance: random.Random, *, harmless: bool = False) -> None:
        self.raised = 0
        self._harmless = harmless
        self.outside = 0
        self.places: deque[Place] = deque(maxlen=400)
        self._chance = chance
        self._armed = False
        self._burst = 0
        self.inside: CodeType | None = None
        self._errors: list[type[BaseException]] = []
        self._main = threading.get_ident()
        self._delays: deque[float] = deque()
        self._wanted = threading.Semaphore(0)
        self._fired = threading.Event()
        self._fired.set()
        signal.signal(signal.SIGALRM, self._strike)
        signal.signal(signal.SIGINT, self._strike)
        threading.Thread(target=self._shoot, name="shooter", daemon=True).start()

    def arm(self) -> None:
        """Draw when the next signal comes, and whether more follow it closely."""
        chance = self._chance
        self._burst = chance.choice((1, 1, 1, 2, 3))
        self._errors = [chance.choice((KeyboardInterrupt, KeyboardInterrupt, Alarm, Abort)) for _ in range(self._burst)]
        self._armed = True
        self._send(chance.uniform(0.00005, 0.002))

    @property
    def over(self) -> bool:
        """Whether no more signals of this burst come."""
        return self._burst <= 0

    def disarm(self) -> None:
        """Let no signal raise any more."""
        while True:
            try:
                self._armed = False
                signal.setitimer(signal.ITIMER_REAL, 0)
                return
            except INTERRUPTS:
                pass

    def _send(self, delay: float) -> None:
        if self._chance.random() < 0.7:
            signal.setitimer(signal.ITIMER_REAL, delay)
        else:
            self._delays.append(delay)
            self._wanted.release()

    def _shoot(self) -> None:
        while True:
            self._wanted.acquire()
            time.sleep(self._delays.popleft())
            signal.pthread_kill(self._main, signal.SIGINT)

    def _strike(self, number: int, frame: FrameType | None) -> None:
        if not self._armed or self._burst <= 0:
            return
        outer = frame
        while outer is not None and outer.f_code is not self.inside:
            outer = outer.f_back
        if outer is None:
            signal.setitimer(signal.ITIMER_REAL, 0.00002)
            return
        self._burst -= 1
        self.raised += 1
        while frame is not None and not frame.f_code.co_filename.startswith(HOMES):
            frame = frame.f_back
        if frame is None:
            self.outside += 1
        else:
            self.places.append(Place.of(frame.f_code, frame.f_lineno))
        error = self._errors[self._burst]
        if self._burst:
            self._send(self._chance.choice((0.00001, 0.00005, 0.0002, 0.001)))
        if self._harmless:
            return
        raise KeyboardInterrupt if number == signal.SIGINT else error


# ----------------------------------------------------------------------------------------------------------------------
# The storm
# ----------------------------------------------------------------------------------------------------------------------


class Storm:
    """A gate, what the main thread does with it, and the ledger.

    Args:
        seed: of what is drawn.
        affinities: what is used of the runtime.
    """

    def __init__(self, seed: int, affinities: Iterable[str]) -> None:
        self.chance = random.Random(seed)
        self.failures: list[str] = []
        self.counts: Counter[str] = Counter()
        self.sent: list[tuple[int, str, Token[Any]]] = []  # what was given out since the latest look
        self.completed: list[int] = []  # numbers of calls that were told to have completed
        self.numbers = iter(range(1, 2**62))
        self.progress = time.monotonic()
        descriptor, self.ledger = tempfile.mkstemp(prefix="signals-")
        os.close(descriptor)
        self.gate = Gate("storm", threads=2, processes=2, shutdown=5.0, control_socket=False)
        self._kinds = set(affinities)
        self._lost: set[int] = set()  # ids of tokens that have not ended in time

    def open(self) -> None:
        gate = self.gate.open()
        kinds = self._kinds
        self.actors: dict[str, Any] = {}
        for kind, classes in (
            ("actor-cpu", (Cpu, Narrow, Dropping, Pinned)),
            ("actor-io", (Io,)),
            ("actor-asyncio", (Asyncio,)),
        ):
            for cls in classes if kind in kinds else ():
                self.actors[getattr(cls, "name", kind)] = gate.spawn(cls)
        if "actor-process" in kinds:
            self.actors["actor-process"] = gate.spawn(ProcessNotes)
        self.executor = gate.executor(concurrency=2) if "executor" in kinds else None
        acts: dict[str, list[tuple[str, Callable[[], Any]]]] = {
            "io": [
                ("io", lambda: self.submit("io", io)),
                ("io_slow", lambda: self.submit("io_slow", io_slow)),
                ("io_narrow", lambda: self.submit("io_narrow", io_narrow)),
            ],
            "asyncio": [
                ("aio", lambda: self.submit("aio", aio)),
                ("aio_slow", lambda: self.submit("aio_slow", aio_slow)),
                ("aio_narrow", lambda: self.submit("aio_narrow", aio_narrow)),
            ],
            "cpu": [
                ("cpu", lambda: self.submit("cpu", cpu)),
                ("steps", lambda: self.submit("steps", steps)),
                ("narrow", lambda: self.submit("narrow", narrow)),
                ("dropping", lambda: self.submit("dropping", dropping)),
            ],
            "process": [("process", lambda: self.submit("process", process, self.ledger))],
            "direct": [("direct", self.call), ("nested", self.call_nested), ("steps", lambda: steps(self.number()))],
            "executor": [("executor", self.execute)],
        }
        self.acts = [act for kind in AFFINITIES if kind in kinds for act in acts.get(kind, ())]
        self.acts += [(f"actor {name}", self._caller(name)) for name in self.actors]
        self.acts += [(f"tell {name}", self._teller(name)) for name in self.actors if name != "actor-process"]
        self._deaf: set[str] = set()

    # What the main thread does; interrupted anywhere

    def number(self) -> int:
        return next(self.numbers)

    def submit(self, name: str, operation: Any, *arguments: Any) -> None:
        draw = self.chance.random()
        if draw < 0.15:
            operation = operation.with_options(priority=self.chance.choice((-1, 1, 5)))
        if draw > 0.93 and not arguments:
            numbers = [self.number() for _ in range(3)]
            self.sent.extend(zip(numbers, [name] * 3, operation.map(numbers), strict=True))
            return
        number = self.number()
        self._use(name, number, operation.submit(*arguments, number))

    def _use(self, name: str, number: int, one: Token[Any]) -> None:
        self.sent.append((number, name, one))
        draw = self.chance.random()
        if draw < 0.35:
            self._result(one, number, SERVED)
        elif draw < 0.45:
            self._result(one, number, self.chance.choice((0.0, 0.00005, 0.0005)))
        elif draw < 0.6:
            one.cancel()
        elif draw < 0.7:
            one.add_done_callback(lambda done: None)

    def _result(self, one: Any, number: int, seconds: float) -> None:
        try:
            assert one.result(seconds) == number
        except INTERRUPTS:
            raise
        except TimeoutError:  # it may take longer, or its own code was interrupted
            self.counts["timeouts"] += 1
        except (TokenRejected, MailboxFull):  # a newcomer of the lowest priority, too, is refused by a full mailbox
            self.counts["rejected"] += 1

    def call(self) -> None:
        assert direct(number := self.number()) == number

    def call_nested(self) -> None:
        assert nested(self.number(), inner := self.number()) == inner

    def execute(self) -> None:
        assert self.executor is not None
        number = self.number()
        future: Any = self.executor.submit(cpu.__wrapped__, number)
        self.sent.append((number, "executor", future.token))
        draw = self.chance.random()
        if draw < 0.4:
            self._result(future, number, SERVED)
        elif draw < 0.5:
            future.cancel()

    def _caller(self, name: str) -> Callable[[], None]:
        arguments = (self.ledger,) if name == "actor-process" else ()

        def call() -> None:
            number = self.number()
            self._use(name, number, self.actors[name].proxy().note(*arguments, number))

        return call

    def _teller(self, name: str) -> Callable[[], None]:
        def tell() -> None:
            if self.chance.random() < 0.5:
                self.actors[name].tell(self.number())
            else:
                with contextlib.suppress(TokenRejected, MailboxFull):
                    self.actors[name].ask(self.number(), timeout=SERVED)

        return tell

    def act(self, act: Callable[[], Any]) -> None:
        """Do one thing; here, and nowhere else, signals raise."""
        act()

    def round(self, signals: Signals) -> None:
        """Do this and that until a burst of signals is over."""
        signals.inside = self.act.__code__
        signals.arm()
        while not signals.over:
            name, act = self.chance.choice(self.acts)
            self.counts[name] += 1
            try:
                self.act(act)
            except INTERRUPTS:
                self.counts["caught"] += 1
            except concurrent.futures.CancelledError:
                pass
            except Exception as error:
                self._wrong(f"{name} raised {type(error).__name__}: {error}", signals.places)
                if len(self.failures) > 50:
                    signals.disarm()
                    return
        signals.disarm()

    # What must hold; with the signals off

    def look(self, signals: Signals) -> None:
        """See that what was given out ends, and that each kind of call is served."""
        self.progress = time.monotonic()
        struck = list(signals.places)
        signals.places.clear()
        sent, self.sent = self.sent, []
        late = len(self.failures)
        if not eventually(lambda: all(one.done() for _, _, one in sent), PATIENCE if not self._deaf else 0.5):
            left = Counter(f"{name} {one.state}" for _, name, one in sent if not one.done())
            self._wrong(f"tokens given out do not end: {dict(left)}", struck)
            self._lost.update(one.id for _, _, one in sent if not one.done())
        self.completed += [number for number, _, one in sent if one.state is TokenState.COMPLETED]
        for _, name, one in sent:
            self.counts[f"{one.state}"] += 1
            if one.state is TokenState.FAILED and not isinstance(one.exception(0), INTERRUPTS):
                self._wrong(f"a token of {name} failed: {one.exception(0)!r}", struck)
        if current_token() is not None:
            self._wrong(f"{current_token()!r} is still the current token of the main thread", struck)
            _current.set(None)
        self._serve(struck)
        if len(self.failures) == late and not self._deaf:
            self._statistics(struck)
        self.progress = time.monotonic()

    def _statistics(self, struck: Iterable[Place]) -> None:
        def unended() -> int:
            counts = self.gate.statistics().tokens
            return sum(count for state, count in counts.items() if state not in TERMINAL) - len(self._lost)

        if not eventually(lambda: unended() <= 0, PATIENCE):
            live = [
                one
                for one in list(self.gate._system.live.values())
                if one.id not in self._lost and not one.serves_operators
            ]
            left = Counter(f"{one.operation} of '{one.actor}' {one.state}" for one in live)
            self._wrong(f"the statistics have {unended()} tokens that do not end: {dict(left)}", struck)
            self._lost.update(one.id for one in live)

    def _serve(self, struck: Iterable[Place]) -> None:
        calls: dict[str, Callable[[], Any]] = {}
        kinds = self._kinds
        for kind, operations in (
            ("io", (io, io_slow, io_narrow)),
            ("asyncio", (aio, aio_slow, aio_narrow)),
            ("cpu", (cpu, steps, narrow, dropping)),
            ("direct", (direct, nested)),
        ):
            for one in operations if kind in kinds else ():
                if one is nested:
                    calls["nested"] = lambda: nested(self.number(), self.number())
                elif one is direct:
                    calls["direct"] = lambda: direct(self.number())
                else:
                    calls[one._name] = lambda one=one: one.submit(self.number()).result(SERVED)
        if "process" in kinds:
            calls["process"] = lambda: process.submit(self.ledger, self.number()).result(SERVED)
        for name, ref in self.actors.items():
            arguments = (self.ledger,) if name == "actor-process" else ()
            calls[f"actor {name}"] = lambda ref=ref, arguments=arguments: (
                ref.proxy().note(*arguments, self.number()).result(SERVED)
            )
        if self.executor is not None:
            executor = self.executor
            calls["executor"] = lambda: executor.submit(cpu.__wrapped__, self.number()).result(SERVED)
        calls["control"] = self.gate.control.actors
        names = [name for name in calls if name not in self._deaf]
        done: list[str] = []

        def serve(name: str) -> None:
            calls[name]()
            done.append(name)

        for name in names:
            wrong = in_thread(lambda name=name: serve(name), SERVED + 1)[1]
            if wrong:
                self._deaf.add(name)
                self._wrong(f"{name} is not served any more after {self.counts['caught']} interrupts: {wrong}", struck)
                self.acts = [
                    act for act in self.acts if act[0] not in (name, name.replace("actor ", "tell "))
                ] or self.acts

    def close(self, before: Any) -> None:
        """Close the gate, and see that nothing is left and nothing ran twice."""
        self.progress = time.monotonic()
        began = time.monotonic()
        try:
            report = contextvars.Context().run(self.gate.close)
        except Exception as error:
            self._wrong(f"close raised {type(error).__name__}: {error}")
            return
        took = time.monotonic() - began
        if took > self.gate.shutdown + SERVED:
            self._wrong(f"close took {took:.1f} s")
        if self.gate.state != "closed" or report.abandoned:
            faulthandler.dump_traceback(all_threads=True)
            self._wrong(f"the gate is {self.gate.state}, abandoned {report.abandoned}")
        if left := [one for one in self.gate.statistics().tokens.items() if one[0] not in TERMINAL and one[1]]:
            self._wrong(f"after the end tokens are left: {left}")
        if not eventually(lambda: before == Resources(), PATIENCE):
            self._wrong(f"before the storm: {before}; after it: {Resources()}")
        lines = [line.split() for line in Path(self.ledger).read_text().splitlines()]
        os.unlink(self.ledger)
        executions = Counter(ran)
        executions.update(int(number) for number, _ in lines)
        in_order["actor-process"] = [int(number) for number, name in lines if name == "actor-process"]
        doubled = [number for number, times in executions.items() if times > 1]
        if doubled:
            self._wrong(f"{len(doubled)} calls ran more than once: {doubled[:5]}")
        skipped = [number for number in self.completed if not executions[number]]
        if skipped:
            self._wrong(f"{len(skipped)} calls were told to have completed and never ran: {skipped[:5]}")
        for name, numbers in in_order.items():
            turned = [pair for pair in itertools.pairwise(numbers) if pair[0] > pair[1]]
            if turned:
                self._wrong(f"{len(turned)} messages to {name} were handled out of order: {turned[:3]}")
        self.counts["executions"] = sum(executions.values())

    def _wrong(self, what: str, struck: Iterable[Place] = ()) -> None:
        where = "; ".join(dict.fromkeys(map(str, list(struck)[-6:])))
        self.failures.append(f"{what} [struck: {where}]" if where else what)
        print(f"WRONG: {self.failures[-1]}", file=sys.stderr, flush=True)


class Resources:
    """Threads, child processes and descriptors of this process."""

    def __init__(self) -> None:
        process = psutil.Process()
        self.threads = sorted(thread.name for thread in threading.enumerate() if thread.name != "helper")
        self.children = len(process.children())
        self.files = process.num_fds()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Resources) and vars(self) == vars(other)

    def __hash__(self) -> int:
        return 0

    def __repr__(self) -> str:
        return f"{len(self.threads)} threads {self.threads}, {self.children} children, {self.files} descriptors"


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--interrupts", type=int, default=10_000)
    parser.add_argument("--seconds", type=float, default=300.0, help="end earlier, after so long")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(2**32))
    parser.add_argument("--affinity", default=",".join(AFFINITIES), help="what is used, separated by commas")
    parser.add_argument(
        "--harmless", action="store_true", help="raise nothing, to see that the tool finds nothing then"
    )
    parser.add_argument("--every", type=int, default=20, help="interrupts from one look to the next")
    options = parser.parse_args()
    affinities = options.affinity.split(",")
    if unknown := set(affinities) - set(AFFINITIES):
        parser.error(f"unknown affinities {sorted(unknown)}; there are {', '.join(AFFINITIES)}")
    logging.getLogger("tokengate").addHandler(logging.NullHandler())  # errors that are raised on purpose
    logging.getLogger("tokengate").propagate = False
    faulthandler.enable()
    storm = Storm(options.seed, affinities)
    signals = Signals(storm.chance, harmless=options.harmless)
    result: dict[str, Any] = {"python": sys.version.split()[0], "seed": options.seed, "affinities": affinities}
    began = time.monotonic()

    def tell(**more: Any) -> None:
        counts = {name: count for name, count in sorted(storm.counts.items()) if name != "caught"}
        result.update(
            interrupts=signals.raised,
            in_runtime=signals.raised - signals.outside,
            swallowed=signals.raised - storm.counts["caught"],
            seconds=round(time.monotonic() - began, 1),
            counts=counts,
            failures=storm.failures[:40],
            **more,
        )
        print(json.dumps(result), flush=True)

    def watch() -> None:
        while time.monotonic() - storm.progress < HANG:
            time.sleep(0.5)
        faulthandler.dump_traceback(all_threads=True)
        tell(hang=True)
        os._exit(3)

    threading.Thread(target=watch, name="watchdog", daemon=True).start()
    before = Resources()
    storm.open()
    looked = 0
    while signals.raised < options.interrupts and (
        time.monotonic() - began < options.seconds or signals.raised - signals.outside < LEAST
    ):
        storm.round(signals)
        if signals.raised - looked >= options.every:
            looked = signals.raised
            storm.look(signals)
            if len(storm.failures) > 50 or len(storm._deaf) > 6:
                break
    storm.look(signals)
    storm.close(before)
    tell(hang=False)
    return 1 if storm.failures else 0


if __name__ == "__main__":
    code = main()
    sys.stdout.flush()
    os._exit(code)
