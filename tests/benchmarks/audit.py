"""The audit log: how long an intent takes, alone and beside busy threads, how many there are a second, verification.

Prints one JSON line for each figure: what was measured, what is wanted, and whether that is met.

    python tests/benchmarks/audit.py [--number 2000] [--directory DIR]

* `intent`: from the call to its return, which is after the sync; one at a time, each with its outcome. `saturated`:
  beside two threads that spin, at the interval of switches of an open gate.
* `throughput`: intents a second of 64 callers at once.
* `record`: processor time and bytes of one; all but write and sync.
* `verification`: records in a second of the processor, of a log that is whole; `naming`: of one in which each third
  record is changed.
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import attrs
import trio

from tokengate.audit import AuditLog, Entry, verify
from tokengate.audit._chain import End
from tokengate.audit._check import check, problems_of
from tokengate.audit._record import encode

INTERVAL = 0.0005  # seconds; of an open gate


@attrs.frozen
class Client:
    principal: str = "uid:1000"
    owner: int | None = 1000
    via: str = "socket"
    peer: int | None = 4711


def intent(number: int) -> Entry:
    return Entry(
        kind="intent",
        caller=Client(),
        request=f"{number:x}",
        verb="terminate",
        args={"wait": 10.0},
        selector="tenant=acme, operation=resize",
        targets=(number, number + 1, number + 5),
        reason="does not end since the storage was moved",
    )


def outcome(seq: int) -> Entry:
    return Entry(kind="outcome", caller=Client(), of=seq, outcome={"terminated": 2, "ended": 1})


def percentile(values: list[float], percent: float) -> float:
    return sorted(values)[int(percent / 100 * (len(values) - 1))]


@contextmanager
def spinning(threads: int) -> Iterator[None]:
    over = threading.Event()

    def spin() -> None:
        while not over.is_set():
            pass

    before = sys.getswitchinterval()
    sys.setswitchinterval(INTERVAL)
    workers = [threading.Thread(target=spin) for _ in range(threads)]
    for worker in workers:
        worker.start()
    yield
    over.set()
    for worker in workers:
        worker.join()
    sys.setswitchinterval(before)


async def one_at_a_time(log: AuditLog, number: int) -> list[float]:
    """Return the milliseconds of each intent."""
    times = []
    for one in range(number):
        began = time.perf_counter()
        seq = await log.intend(intent(one))
        times.append((time.perf_counter() - began) * 1e3)
        log.add(outcome(seq))
    return times


async def at_once(log: AuditLog, number: int, callers: int = 64) -> float:
    """Return the intents a second."""

    async def call() -> None:
        for one in range(number // callers):
            log.add(outcome(await log.intend(intent(one))))

    began = time.perf_counter()
    async with trio.open_nursery() as nursery:
        for _ in range(callers):
            nursery.start_soon(call)
    return number // callers * callers / (time.perf_counter() - began)


def chain(entries: list[Entry]) -> tuple[End, list[bytes]]:
    first = end = End.first()
    lines = []
    for entry in entries:
        line, end = end.add(encode(entry, time.time(), time.monotonic()), end.seq)
        lines.append(line)
    return first, lines


def rate(first: End, lines: list[bytes], damaged: int) -> float:
    """Return the records that are checked in a second of the processor."""
    text, number = b"".join(lines), len(lines)
    began = time.process_time()
    problems = problems_of(check([("segment", text)], first, number + 1), number + 1)
    seconds = time.process_time() - began
    assert bool(problems) is bool(damaged)
    return number / seconds


def tell(what: str, value: float, wanted: float, *, at_most: bool = True) -> None:
    met = value <= wanted if at_most else value >= wanted
    version = platform.python_version()
    print(
        json.dumps({"what": what, "value": round(value, 3), "wanted": wanted, "met": met, "python": version}),
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--number", type=int, default=2_000)
    parser.add_argument("--directory", type=Path, help="on the disk to measure; default: a temporary one")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.directory) as folder:
        log = AuditLog(Path(folder) / "audit", "benchmark", strict=True)
        alone = trio.run(one_at_a_time, log, options.number)
        tell("intent p50, ms", percentile(alone, 50), 1.0)
        tell("intent p99, ms", percentile(alone, 99), 20.0)
        with spinning(2):
            saturated = trio.run(one_at_a_time, log, max(20, options.number // 10))
        tell("intent p99 saturated, ms", percentile(saturated, 99), 60.0)
        tell("throughput, intents/s", trio.run(at_once, log, 5 * options.number), 2_000, at_most=False)
        log.close(60.0)
        assert not verify(Path(folder) / "audit").problems
    entries = list(map(intent, range(10 * options.number)))
    times = []
    for _ in range(3):
        began = time.process_time()
        first, lines = chain(entries)
        times.append((time.process_time() - began) * 1e6 / len(lines))
    tell("record, us", min(times), 20.0)
    tell("record, bytes", sum(map(len, lines)) / len(lines), 600)
    tell("verification, records/s", max(rate(first, lines, 0) for _ in range(3)), 100_000, at_most=False)
    lines[::3] = [line.replace(b"storage", b"storagd") for line in lines[::3]]
    tell("naming, records/s", max(rate(first, lines, 1) for _ in range(3)), 30_000, at_most=False)


if __name__ == "__main__":
    main()
