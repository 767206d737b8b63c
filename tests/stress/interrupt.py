"""Pause, step, resume and end running code of many shapes, at random moments, for as long as you like.

    python tests/stress/interrupt.py --minutes 10 --seed 7

Each round runs one shape, or two tokens of the same code of which one is left alone, and does to it what chance says.
It fails if a token hangs, has a wrong result, takes a wrong number of steps, leaves its `finally` out, keeps its lock,
or if anything stays armed. Prints one JSON line for each shape, with the milliseconds it took to pause; exits 1 on any
failure.
"""

from __future__ import annotations

import argparse
import faulthandler
import json
import random
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Generator
from typing import Any

import trio

from actors import Reply, Token, TokenState, WaitTimeout
from actors.lowlevel import Hold, interrupt, monitor
from tokengate import Gate, checkpoint, token
from tokengate.errors import TokenTerminated

LIMIT = 30.0  # seconds after which a round hangs
AGAIN = 0.002  # seconds between two looks at where a thread is

PLAIN = monitor is not None  # whether plain code can be paused

lock = threading.Lock()
begun: Counter[int] = Counter()  # {round: how often its code was entered}
ended: Counter[int] = Counter()  # {round: how often its `finally` ran}


@token
def loop(number: int, n: int) -> int:
    begun[number] += 1
    i = 0
    try:
        while i < n:
            i += 1
            checkpoint()
    finally:
        ended[number] += 1
    return i


@token
def one_line(number: int, n: int) -> int:
    begun[number] += 1
    i = 0
    try:
        while i < n: i += 1  # fmt: skip  # noqa: E701
    finally:
        ended[number] += 1
    return i


@token
def recursion(number: int, n: int) -> int:
    def fibonacci(n: int) -> int:
        return n if n < 2 else fibonacci(n - 1) + fibonacci(n - 2)

    begun[number] += 1
    try:
        return fibonacci(n)
    finally:
        ended[number] += 1


@token
def sort(number: int, n: int) -> int:
    def key(value: int) -> int:
        turned = 0 - value
        return turned + 0

    begun[number] += 1
    try:
        return sorted(range(n), key=key)[0]
    finally:
        ended[number] += 1


@token
def json_loop(number: int, n: int) -> int:
    begun[number] += 1
    total = 0
    try:
        for i in range(n):
            total += len(json.loads(json.dumps({"a": [i] * 10})))
    finally:
        ended[number] += 1
    return total


def _deep(depth: int, n: int) -> int:
    if depth:
        return _deep(depth - 1, n)
    i = 0
    for _ in range(n):
        i += 1
    return i


@token
def deep(number: int, n: int) -> int:
    begun[number] += 1
    try:
        return _deep(50, n)
    finally:
        ended[number] += 1


@token
def locked(number: int, n: int) -> int:
    begun[number] += 1
    i = 0
    try:
        while i < n:
            with lock:
                i += 1
    finally:
        ended[number] += 1
    return i


@token
def generator(number: int, n: int) -> Generator[None, None, int]:
    begun[number] += 1
    i = 0
    try:
        while i < n:
            i += 1
            yield
    finally:
        ended[number] += 1
    return i


@token
async def coroutine(number: int, n: int) -> int:
    begun[number] += 1
    i = 0
    try:
        while i < n:
            i += 1
            await trio.lowlevel.checkpoint()
    finally:
        ended[number] += 1
    return i


# {operation: (size of a round, result, whether it pauses without help, whether its steps can be counted exactly)}
SHAPES: dict[Any, tuple[int, int, bool, bool]] = {
    loop: (120_000, 120_000, True, True),
    one_line: (400_000, 400_000, PLAIN, True),
    recursion: (25, 75_025, PLAIN, True),
    sort: (100_000, 99_999, PLAIN, True),
    json_loop: (1_500, 1_500, PLAIN, True),
    deep: (400_000, 400_000, PLAIN, True),
    locked: (150_000, 150_000, PLAIN, True),
    generator: (20_000, 20_000, True, False),  # a step goes from yield to yield, but one inside a step goes by lines
    coroutine: (2_000, 2_000, True, True),
}


class Failure(Exception):
    """A round went wrong."""


class Stress:
    """The rounds and what came of them.

    Args:
        chance: draws what is done.
    """

    def __init__(self, chance: random.Random) -> None:
        self.chance = chance
        self.counts: dict[str, Counter[str]] = {}
        self.seconds: dict[str, list[float]] = {}
        self.failures: list[str] = []
        self._numbers = iter(range(1, 2**62))

    def round(self, operation: Any) -> None:
        name = operation.__name__
        counts = self.counts.setdefault(name, Counter())
        size, result, pauses, _ = SHAPES[operation]
        number, other = next(self._numbers), next(self._numbers)
        begun[number] = 0
        target = operation.submit(number, size)
        bystander = operation.submit(other, size) if self.chance.random() < 0.3 else None
        act = self.chance.choice(["resume", "terminate", "pause and terminate"] if pauses else ["terminate"])
        counts["rounds"] += 1
        try:
            _until(lambda: begun[number] or target.done(), "it did not begin")
            time.sleep(self.chance.random() * 0.004)
            if act == "terminate":
                self._interrupt(target)
            else:
                self._pause(operation, target, counts)
                if act == "resume":
                    _resume(target)
                else:
                    _ask_to_end(target)
                    target._extras.hold.end()
            self._check(target, number, result, act, counts)
            if bystander is not None:
                _expect(bystander.result(LIMIT) == result, "a bystander has a wrong result")
                _expect(bystander._extras.hold is None, "a bystander is held")
                counts["bystanders"] += 1
            _expect(lock.acquire(timeout=LIMIT), "a lock was not released")
            lock.release()
            if monitor is not None:
                _until(lambda: not monitor.armed, "code stayed armed")
        except (Failure, WaitTimeout) as error:
            self.failures.append(f"{name}, {act}: {error} ({target.state}, {target.steps} steps)")
            counts["failed"] += 1
            print(json.dumps({"failure": self.failures[-1]}), flush=True)
            faulthandler.dump_traceback(all_threads=True)
            target.cancel()

    def _pause(self, operation: Any, target: Token[Any], counts: Counter[str]) -> None:
        hold = Hold.of(target)
        began = time.perf_counter()
        when: list[float] = []
        reached = hold.pause()
        reached.add_done_callback(lambda _reply: when.append(time.perf_counter()))
        target._place.drain.hold_changed(target)
        _reach(hold, reached)
        _until(lambda: when, "its callback was not called")
        if target.done():
            counts["missed"] += 1
            return
        counts["paused"] += 1
        self.seconds.setdefault(operation.__name__, []).append(when[0] - began)
        _expect(target.state is TokenState.PAUSED, "it is parked, and not paused")
        _expect(monitor is None or not monitor.armed, "code is armed while it is paused")
        steps = target.steps
        if self.chance.random() < 0.5:
            n = self.chance.randint(1, 20)
            reached = hold.step(n)
            target._place.drain.hold_changed(target)
            _until(reached.done, "its steps were not taken")
            if not target.done():
                counts["stepped"] += 1
                exactly = SHAPES[operation][3]
                _expect(not exactly or target.steps - steps == n, f"{target.steps - steps} steps instead of {n}")
                steps = target.steps
        time.sleep(0.001)
        _expect(target.done() or target.steps == steps, "it went on while it was paused")

    def _interrupt(self, target: Token[Any]) -> None:
        _ask_to_end(target)
        hold = Hold.of(target)
        ends = time.monotonic() + LIMIT
        while not target.done() and time.monotonic() < ends:
            interrupt(hold)
            _wait(target, AGAIN)

    def _check(self, target: Token[Any], number: int, result: int, act: str, counts: Counter[str]) -> None:
        error = target.exception(LIMIT)
        if target.state is TokenState.COMPLETED:
            _expect(target.result() == result, "it has a wrong result")
            counts["completed"] += 1
        else:
            _expect(isinstance(error, TokenTerminated), f"it ended with {error!r}")
            _expect(act != "resume", "it was not to be ended")
            counts["terminated"] += 1
        _expect(begun[number] == ended[number], "its finally did not run once")
        if monitor is not None and target._call is None:
            _expect(target._extras.hold is not None and not target._extras.hold.word, "it is held after its end")

    def report(self) -> None:
        python = ".".join(map(str, sys.version_info[:3]))
        for name, counts in self.counts.items():
            taken = sorted(self.seconds.get(name, [])) or [0.0]
            line = {"shape": name, "python": python, **counts}
            for what, share in (("p50", 0.5), ("p99", 0.99), ("max", 1.0)):
                line[f"{what}_ms"] = round(1000 * taken[min(len(taken) - 1, int(share * len(taken)))], 2)
            print(json.dumps(line), flush=True)
        print(json.dumps({"failures": self.failures}), flush=True)


def _expect(condition: Any, otherwise: str) -> None:
    if not condition:
        raise Failure(otherwise)


def _until(condition: Callable[[], Any], otherwise: str) -> None:
    ends = time.monotonic() + LIMIT
    while not condition():
        _expect(time.monotonic() < ends, otherwise)
        time.sleep(0.0002)


def _wait(reply: Reply[Any], seconds: float) -> None:
    try:
        reply.exception(seconds)
    except WaitTimeout:
        pass


def _reach(hold: Hold, reached: Reply[None]) -> None:
    ends = time.monotonic() + LIMIT
    while not reached.done():
        _expect(time.monotonic() < ends, "it was not paused")
        if monitor is not None:
            monitor.arm(hold)
        _wait(reached, AGAIN)


def _ask_to_end(target: Token[Any]) -> None:
    target._own_extras().cancel_requested = "stress"
    target._place.drain.cancel(target)


def _resume(target: Token[Any]) -> None:
    hold = Hold.of(target)
    hold.resume()
    if monitor is not None:
        monitor.disarm(hold)
    target._place.drain.hold_changed(target)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=1.0)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(2**32))
    options = parser.parse_args()
    print(json.dumps({"seed": options.seed, "minutes": options.minutes}), flush=True)
    stress = Stress(random.Random(options.seed))
    ends = time.monotonic() + 60 * options.minutes
    with Gate("stress"):
        while True:
            for operation in SHAPES:
                stress.round(operation)
            if time.monotonic() >= ends or len(stress.failures) >= 10:
                break
    stress.report()
    return 1 if stress.failures else 0


if __name__ == "__main__":
    sys.exit(main())
