"""Overload: what is answered in time when callers ask for more than a backend can do, with a policy and without.

The backend has ten slots and takes 10 ms for an answer: 1,000 answers a second. Its callers wait for a second. They
ask for 1, 2, 4 and 8 times as much for four seconds, and for 0.7 times as much from then on. Prints one JSON line for
each experiment, each in a fresh process: what was measured, what is wanted, and whether that is met.

    python tests/benchmarks/overload.py [--rows TEXT ...] [--seconds 4] [--after 6] [--slower 1]

* `on_time`: the answers that came within the second of their callers in the second half of the overload, as a share of
  the backend's capacity; `by_half_second` is its course over both times.
* `whole_after`: the seconds from the end of the overload until at least 95 % of those who ask are answered in time for
  good; null if that does not come.
* `capacity`: what the backend does here for callers who ask again at once, before the overload, as a share of 1,000 a
  second; `cpu`: the processors that this process got.

The figures are those of an idle machine. On one that does other work, `--slower 5` makes all times five times as long,
so the same experiment needs a fifth of a processor; times in the figures are scaled back, but those of deadlines, which
are late by what the machine and the interpreter do.
"""

from __future__ import annotations

import argparse
import json
import math
import platform
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, Final, TypeAlias

import attrs
import trio

from tokengate import Gate, Policy, Retry, Throttle, Token, TokenState, as_completed, token

SLOTS: Final = 10
LATER: Final = 0.7  # the load after the overload, in capacities
WHOLE: Final = 0.95  # of those who ask
BIN: Final = 0.5  # seconds

Figures: TypeAlias = dict[str, Any]


def operation(function: Callable[..., Any], **options: Any) -> Any:
    """Return an operation with room for all who ask, so that none of them waits before the backend's queue."""
    return token(capacity=200_000, **options)(function)


@attrs.frozen
class Backend:
    """The backend, and how long what is asked of it.

    Attributes:
        overload: seconds of the overload.
        later: seconds of the lower load after it.
        slower: how many times as long everything takes; times of figures are divided by it.
        slots: what it does at once.
    """

    overload: float
    later: float
    slower: float
    slots: trio.Semaphore = attrs.field(factory=lambda: trio.Semaphore(SLOTS))

    @property
    def service(self) -> float:
        """Seconds of an answer."""
        return 0.01 * self.slower

    @property
    def capacity(self) -> float:
        """Answers in a second."""
        return SLOTS / self.service

    @property
    def patience(self) -> float:
        """Seconds for which a caller waits."""
        return self.slower

    async def answer(self, _number: int) -> None:
        async with self.slots:
            await trio.sleep(self.service)

    async def answer_or_refuse(self, number: int) -> None:
        if self.slots.statistics().tasks_waiting >= 2 * SLOTS:
            raise Busy
        await self.answer(number)

    def policy(self) -> Policy:
        """Return the policy of the experiments: a deadline, and beside it a concurrency that adapts."""
        return Policy(deadline=self.patience, throttle=Throttle(concurrency="adaptive", slow=5 * self.service))

    def is_on_time(self, one: Token[Any]) -> bool:
        return one.state is TokenState.COMPLETED and seconds_of(one) <= self.patience

    def share(self, tokens: Sequence[Token[Any]], begin: float, end: float) -> float:
        """Return the answers in time from one time of the clock to another, as a share of the capacity."""
        number = sum(begin <= (one.finished_at or 0.0) < end for one in tokens if self.is_on_time(one))
        return round(number / self.capacity / (end - begin), 3)

    def milliseconds(self, values: Sequence[float], percent: float) -> float:
        """Return a percentile of seconds, scaled back."""
        return round(percentile(values, percent) * 1000 / self.slower, 2)

    def measured(self) -> float:
        """Return what it does when each slot has callers who ask again at once, as a share of the capacity."""
        ask = operation(self.answer).submit
        done, began = 0, time.perf_counter()
        while (passed := time.perf_counter() - began) < min(self.patience, self.overload):
            done += sum(1 for _ in as_completed([ask(0) for _ in range(10 * SLOTS)]))
        return round(done / self.capacity / passed, 3)


class Busy(ConnectionError):
    """The backend has too many callers."""


def offer(submit: Callable[[int], Token[Any]], rate: float, seconds: float) -> list[Token[Any]]:
    """Call at an even rate, however many are answered, and return the tokens."""
    tokens: list[Token[Any]] = []
    began = time.perf_counter()
    while (passed := time.perf_counter() - began) < seconds:
        while len(tokens) < passed * rate:
            tokens.append(submit(len(tokens)))
        time.sleep(0.002)
    return tokens


def percentile(values: Sequence[float], percent: float) -> float:
    return sorted(values or [0.0])[int(percent / 100 * (len(values) - 1))]


def seconds_of(one: Token[Any]) -> float:
    """Return the seconds from call to end."""
    return (one.finished_at or math.inf) - one.created_at


# The experiments


def load(times: float, policy: Callable[[Backend], Policy] | None, backend: Backend) -> Figures:
    """Ask for so many times the capacity."""
    submit = operation(backend.answer, policy=None if policy is None else policy(backend)).submit
    capacity = backend.measured()
    during = offer(submit, times * backend.capacity, backend.overload)
    later = offer(submit, LATER * backend.capacity, backend.later)
    time.sleep(backend.patience)
    began, end, stop = during[0].created_at, later[0].created_at, later[-1].created_at
    last_bad = max(ends_of_bad_times(backend, later), default=end)
    width = BIN * backend.slower
    return {
        "capacity": capacity,
        "asked": round(len(during) / backend.overload / backend.capacity, 2),
        "on_time": backend.share(during, (began + end) / 2, end),
        "whole_after": round((last_bad - end) / backend.slower, 2) if last_bad < stop else None,
        "p99_ms": backend.milliseconds([seconds_of(one) for one in during if backend.is_on_time(one)], 99),
        "ends": Counter(str(one.state) for one in during),
        "by_half_second": [
            backend.share([*during, *later], began + width * number, began + width * (number + 1))
            for number in range(round((stop - began) / width))
        ],
    }


def ends_of_bad_times(backend: Backend, tokens: Sequence[Token[Any]]) -> list[float]:
    """Return the ends of the quarters of a second in which too few of those who asked were answered in time."""
    quarters: dict[int, list[bool]] = {}
    began, width = tokens[0].created_at, backend.slower / 4
    for one in tokens:
        quarters.setdefault(int((one.created_at - began) / width), []).append(backend.is_on_time(one))
    return [began + (number + 1) * width for number, good in quarters.items() if sum(good) < WHOLE * len(good)]


def light(backend: Backend) -> Figures:
    """Ask for 0.7 of the capacity only."""
    tokens = offer(
        operation(backend.answer, policy=backend.policy()).submit, LATER * backend.capacity, backend.overload
    )
    time.sleep(backend.patience)
    return {"refused": sum(not backend.is_on_time(one) for one in tokens)}


def priority(backend: Backend) -> Figures:
    """Ask for twice the capacity, 30 % of it with a high priority."""
    low = operation(backend.answer, policy=backend.policy())
    high = low.with_options(priority=1)
    capacity = backend.measured()
    tokens = offer(
        lambda number: (high if number % 10 < 3 else low).submit(number), 2 * backend.capacity, backend.overload
    )
    time.sleep(backend.patience)
    began, end = tokens[0].created_at, tokens[-1].created_at
    middle = (began + end) / 2
    highs, lows = ([one for one in tokens if one.priority == number] for number in (1, 0))
    late = [one for one in highs if one.created_at >= middle]
    rest = max(0.001, capacity - backend.share(highs, middle, end))
    return {
        "capacity": capacity,
        "high": round(sum(map(backend.is_on_time, late)) / len(late), 4),
        "low_of_the_rest": round(backend.share(lows, middle, end) / rest, 3),
    }


def retries(by_policy: bool, backend: Backend) -> Figures:
    """Ask for twice the capacity of a backend that refuses what it cannot do soon, with two retries each."""

    async def ask_three_times(number: int) -> int:
        for attempt in (1, 2):
            try:
                await backend.answer_or_refuse(number)
            except Busy:
                await trio.sleep(backend.service)
            else:
                return attempt
        await backend.answer_or_refuse(number)
        return 3

    retry = Policy(deadline=backend.patience, retry=Retry(on=(Busy,), attempts=3, wait=2 * backend.service))
    tried = operation(backend.answer_or_refuse, policy=retry) if by_policy else operation(ask_three_times)
    tokens = offer(tried.submit, 2 * backend.capacity, backend.overload)
    attempts = 0
    for one in tokens:
        error = one.exception(60)
        attempts += one.attempt if by_policy else 3 if error is not None else one.result()
    return {"attempts": round(attempts / len(tokens), 3)}


def tenants(fair: bool, backend: Backend) -> Figures:
    """Ask one slot of 1 ms for twice what it does; nine tenths by one tenant, the rest by 999 others."""

    async def serve(tenant: int) -> None:
        await trio.sleep(0.001 * backend.slower)

    served = operation(serve, concurrency=1, policy=Policy(fair="tenant") if fair else None)
    began = time.perf_counter()
    for one in served.map([0] * 200):
        one.result()
    service = (time.perf_counter() - began) / 200
    tokens = offer(lambda n: served.submit(0 if n % 10 else 1 + n // 10 % 999), 2 / service, backend.overload)
    end = tokens[-1].created_at  # those that still wait then have waited as long as there was time for
    waits = [(one.started_at or max(end, one.created_at)) - one.created_at for one in tokens[::10]]
    return {
        "service_ms": round(service * 1000 / backend.slower, 2),
        "p50_ms": backend.milliseconds(waits, 50),
        "p99_ms": backend.milliseconds(waits, 99),
    }


def rate(backend: Backend) -> Figures:
    """Ask for ten times a rate of 100/s with a burst of 20."""
    noted: list[float] = []  # times after the beginnings, in their order

    async def note(_number: int) -> None:
        noted.append(time.monotonic())

    per_second, burst = 100 / backend.slower, 20
    policy = Policy(throttle=Throttle(rate=per_second, burst=burst))
    tokens = offer(operation(note, policy=policy).submit, 10 * per_second, backend.overload)
    allowed = burst + per_second * (time.monotonic() - tokens[0].created_at)
    last_times = list(noted)
    first_times = sorted(one.started_at for one in tokens if one.started_at is not None)[: len(last_times)]
    # In each time at most the burst may begin, and what the rate adds meanwhile. A token begins after its `started_at`,
    # and before its code notes the time.
    beyond = max(
        last - first + 1 - burst - per_second * (last_times[last] - first_times[first])
        for last in range(len(last_times))
        for first in range(last + 1)
    )
    return {"of_allowed": round(len(last_times) / allowed, 4), "most_beyond": round(beyond, 2)}


SLEEPS: Final = """
import sys, time
late, end = [], time.perf_counter() + float(sys.argv[1])
while (began := time.perf_counter()) < end:
    time.sleep(0.01)
    late.append(time.perf_counter() - began - 0.01)
print(sorted(late)[int(0.99 * (len(late) - 1))])
"""


def lateness(spinning: int, backend: Backend) -> Figures:
    """Tell how late deadlines act of tokens that run, and of queued ones, beside threads that spin.

    `machine_p99_ms` is how late a sleep of another process ends meanwhile.
    """
    over = threading.Event()

    def spin() -> None:
        while not over.is_set():
            pass

    async def sleep(_number: int) -> None:
        await trio.sleep_forever()

    limit = 0.2
    running = operation(sleep, policy=Policy(deadline=limit))
    queued = operation(sleep, policy=Policy(deadline=limit), concurrency=1)
    queued.with_options(policy=Policy(deadline=math.inf)).submit(0)
    spinner = token(concurrency=2)(spin)
    for _ in range(spinning):
        spinner.submit()
    sleeps = subprocess.Popen([sys.executable, "-c", SLEEPS, str(backend.overload)], stdout=subprocess.PIPE, text=True)
    tokens = offer(
        lambda number: (queued if number % 2 else running).submit(number), 200 / backend.slower, backend.overload
    )
    for one in tokens:
        one.exception(60)
    over.set()
    figures = {"machine_p99_ms": round(float(sleeps.communicate()[0]) * 1000, 2)}
    for name, those in (("running", tokens[::2]), ("queued", tokens[1::2])):
        late = [seconds_of(one) - limit for one in those]
        figures.update({f"{name}_p{n}_ms": round(percentile(late, n) * 1000, 2) for n in (50, 99)})
    return figures


@attrs.frozen
class Row:
    """One experiment.

    Attributes:
        measure: what measures it.
        least: {figure: what it is at least}.
        most: {figure: what it is at most}.
    """

    measure: Callable[[Backend], Figures]
    least: Mapping[str, float] = attrs.field(factory=dict)
    most: Mapping[str, float] = attrs.field(factory=dict)

    def is_met_by(self, figures: Figures) -> bool:
        """Tell whether all figures are as wanted; one that is None is not."""
        return all(figures[name] is not None and figures[name] >= bound for name, bound in self.least.items()) and all(
            figures[name] is not None and figures[name] <= bound for name, bound in self.most.items()
        )


def deadline_only(backend: Backend) -> Policy:
    return Policy(deadline=backend.patience)


def rows() -> dict[str, Row]:
    """Return {name: row}."""
    found = {}
    for times in (1, 2, 4, 8):
        found[f"load {times}, policy"] = Row(
            partial(load, times, Backend.policy), {"on_time": 0.75}, {"whole_after": 1.0}
        )
        found[f"load {times}, deadline only"] = Row(partial(load, times, deadline_only))
        found[f"load {times}, none"] = Row(partial(load, times, None))
    return found | {
        "light load, policy": Row(light, most={"refused": 0}),
        "priority": Row(priority, {"high": 0.99, "low_of_the_rest": 0.75}),
        "retries, policy": Row(partial(retries, True), most={"attempts": 1.15}),
        "retries, by the code": Row(partial(retries, False)),
        "tenants, fair": Row(partial(tenants, True), most={"p99_ms": 10}),
        "tenants, in order": Row(partial(tenants, False)),
        "rate": Row(rate, {"of_allowed": 0.99}, {"most_beyond": 0}),
        "late deadlines, idle": Row(partial(lateness, 0), most={"running_p99_ms": 5, "queued_p99_ms": 5}),
        "late deadlines, two threads spin": Row(partial(lateness, 2), most={"running_p99_ms": 50, "queued_p99_ms": 50}),
    }


def measure(name: str, row: Row, backend: Backend) -> None:
    """Measure one row in this process, and print its line."""
    with Gate("overload", shutdown=0.5, control_socket=False) as gate:
        cpu, wall = time.process_time(), time.perf_counter()
        figures = row.measure(backend)
        cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
        gate.hurry()
    line = {"workload": name, "python": platform.python_version(), "slower": backend.slower, **figures}
    line["cpu"] = round(cpu / wall, 2)
    if row.least or row.most:
        line.update(target={**row.least, **row.most}, met=row.is_met_by(figures))
    print(json.dumps(line), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--rows", nargs="+", default=[""], metavar="TEXT", help="only those whose name has one of these"
    )
    parser.add_argument("--seconds", type=float, default=4.0, help="of the overload (default: 4)")
    parser.add_argument("--after", type=float, default=6.0, help="seconds of the lower load after it (default: 6)")
    parser.add_argument(
        "--slower", type=float, default=1.0, help="so many times as slow; for a busy machine (default: 1)"
    )
    parser.add_argument("--here", action="store_true", help="in this process, not each row in a fresh one")
    options = parser.parse_args()
    for name, row in rows().items():
        if not any(text in name for text in options.rows):
            continue
        if options.here:
            slower = options.slower
            measure(name, row, Backend(options.seconds * slower, options.after * slower, slower))
        else:
            command = [sys.executable, __file__, "--here", "--rows", name, "--slower", str(options.slower)]
            subprocess.run([*command, "--seconds", str(options.seconds), "--after", str(options.after)], check=True)


if __name__ == "__main__":
    main()
