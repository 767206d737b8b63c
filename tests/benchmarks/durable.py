"""Measures durable tokens beside other queues on SQLite; takes the arguments of `run.py`, and prints its table.

    python tests/benchmarks/durable.py --mode free
    python tests/benchmarks/durable.py --rows huey --samples 3 --json

An operation is a call from its acceptance to its end, with up to 1,000 of them in flight, unless a row says otherwise.
The peers run in one thread, without the pauses in which their workers look for work: that is their best. By default,
huey does not sync what it writes; with fsync it promises what a journal does. litequeue and persist-queue keep no
results. The files are in the working directory: one on a disk, not in memory.
"""

from __future__ import annotations

import sys

import _rows
import run
from _rows import OURS, Row, times

OF_OURS = {OURS: "ours_durable.mapped"}

ROWS = (
    Row("durable, beside huey", 10_000, {**OF_OURS, "huey": "on_huey.in_flight"}, times(5, "huey")),
    Row(
        "durable, beside huey with fsync",
        1_000,
        {**OF_OURS, "huey, fsync": "on_huey.in_flight_fsync"},
        times(30, "huey, fsync"),
    ),
    Row(
        "durable, beside litequeue",
        10_000,
        {**OF_OURS, "litequeue": "on_queues.litequeue.in_flight"},
        times(5, "litequeue"),
    ),
    Row(
        "durable, beside persist-queue",
        2_000,
        {**OF_OURS, "persist-queue": "on_queues.persist_queue.in_flight"},
        times(30, "persist-queue"),
    ),
    Row("durable, beside DBOS on SQLite", 1_000, {**OF_OURS, "dbos": "on_dbos.in_flight"}, times(100, "dbos")),
    Row(
        "durable, one at a time (p50)",
        200,
        {OURS: "ours_durable.one_at_a_time", "huey, fsync": "on_huey.one_at_a_time_fsync"},
        times(1, "huey, fsync"),
    ),
    Row(
        "durable, not idempotent",
        10_000,
        {OURS: "ours_durable.mapped_not_idempotent", "idempotent": "ours_durable.mapped"},
        times(0.6, "idempotent"),
    ),
    Row(
        "durable, from asyncio tasks",
        10_000,
        {OURS: "ours_durable.in_tasks", "huey": "on_huey.in_flight"},
        times(5, "huey"),
    ),
)

if __name__ == "__main__":
    _rows.ROWS = run.ROWS = ROWS
    sys.exit(run.main())
