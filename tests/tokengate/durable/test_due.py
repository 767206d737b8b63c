"""Tokens that begin later: put off by their sender, by their code, between attempts, over the end of the process."""

from __future__ import annotations

import gc
import time
import weakref
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import durable_operations as operations
import journals
import pytest
from durable_operations import noted
from tiers import in_ci

from tokengate import Gate, TokenState
from tokengate.durable import Journal
from tokengate.errors import TokenTerminated

pytestmark = pytest.mark.usefixtures("programs")

Until = Callable[[Callable[[], bool]], None]

SUBMITS = """
import os, sys
from datetime import datetime, timedelta, UTC
import durable_operations as operations
from tokengate import Gate
from tokengate.durable import Journal
directory, ledger, code = sys.argv[1:]
with Gate("shop", plugins=[Journal(directory)], processes=1, control_socket=False) as gate:
    exec(code)
    os.kill(os.getpid(), 9)
"""

LATER = """
operations.again.submit_after(3600, ledger, 1)
operations.again.submit_at(datetime.now(UTC) + timedelta(hours=2), ledger, 2)
"""

UNTIL_NOTED = """
import threading
while len(operations.noted(ledger)) < 1 or not is_put_off(): threading.Event().wait(0.002)
"""


def killed(directory: Path, ledger: Path, code: str) -> None:
    with journals.start(SUBMITS, directory, ledger, code) as program:
        assert program.wait() == -9


def opened(directory: Path) -> Gate:
    return Gate("shop", plugins=[Journal(directory)], processes=1, control_socket=False)


def clocks(gate: Gate) -> journals.Clocks:
    return journals.Clocks(gate.plugin(Journal))


def states(directory: Path) -> list[int]:
    return [row["state"] for row in journals.rows(directory, "state")]


@in_ci
def test_a_call_that_was_put_off_begins_in_a_later_process_at_its_time(tmp_path: Path, until: Until) -> None:
    """By its delay or its moment, and not before."""
    directory, ledger = tmp_path / "journal", tmp_path / "ledger"
    killed(directory, ledger, LATER)
    assert states(directory) == [0, 0]

    with opened(directory) as gate:
        clock = clocks(gate)
        clock.go_on(3500)
        assert states(directory) == [0, 0]
        clock.go_on(200)
        until(lambda: states(directory) == [4, 0])
        clock.go_on(3600)
        until(lambda: states(directory) == [4, 4])

    assert noted(ledger) == ["run 1", "run 2"]


def test_a_delay_does_not_notice_that_the_wall_clock_is_set(tmp_path: Path, until: Until) -> None:
    """Case 45: a delay goes by the boot clock, a moment by the wall clock."""
    ledger = str(tmp_path / "ledger")
    with opened(tmp_path / "journal") as gate:
        clock = clocks(gate)
        after = operations.again.submit_after(3600, ledger, 1)
        at = operations.again.submit_at(datetime.now(UTC) + timedelta(hours=3), ledger, 2)
        clock.set_wall(4 * 3600)
        assert at.result(60) == 2
        clock.set_wall(-8 * 3600)
        assert after.state is TokenState.QUEUED
        clock.go_on(3700)
        assert after.result(60) == 1


@in_ci
@pytest.mark.parametrize("kind", ["cpu", "trio", "asyncio", "process"])
def test_snooze_is_no_attempt_and_takes_no_memory(tmp_path: Path, kind: str, until: Until) -> None:
    """Case 18: the token is queued on disk until its time, then its code begins anew, in its first attempt."""
    directory, ledger = tmp_path / "journal", tmp_path / "ledger"
    with opened(directory) as gate:
        clock = clocks(gate)
        held = weakref.ref(getattr(operations, f"snoozes_in_{kind}").submit(str(ledger)))

        def is_free() -> bool:
            gc.collect()
            return held() is None and states(directory) == [0]

        until(is_free)
        assert not gate._system.live
        clock.go_on(3700)
        until(lambda: len(noted(ledger)) == 2 and is_free())
        clock.go_on(3700)
        until(lambda: journals.all_have_ended(directory))

    assert noted(ledger) == ["attempt 1"] * 3
    assert journals.rows(directory, "state, result, attempts") == [{"state": 4, "result": b"3", "attempts": 1}]


@in_ci
@pytest.mark.parametrize("kind", ["cpu", "trio", "asyncio", "process"])
def test_the_token_that_its_sender_holds_ends_when_its_code_has_begun_anew(
    tmp_path: Path, kind: str, until: Until
) -> None:
    """It is queued meanwhile, and says until when."""
    ledger = tmp_path / "ledger"
    with opened(tmp_path / "journal") as gate:
        clock = clocks(gate)
        token: Any = getattr(operations, f"snoozes_in_{kind}").submit(str(ledger))
        seen = []
        for run in (1, 2):
            until(lambda: len(noted(ledger)) == run and states(tmp_path / "journal") == [0])  # noqa: B023
            seen.append((token.state, token.due_at - gate._system.clock() > 3000))
            clock.go_on(3700)

        assert token.result(60) == 3
        assert (token.attempt, seen) == (1, [(TokenState.QUEUED, True)] * 2)


def test_a_retry_outlives_the_process_with_its_count_and_time(tmp_path: Path, until: Until) -> None:
    """Case 27: the second attempt is made at its time by a later process, and the third one is the last."""
    directory, ledger = tmp_path / "journal", tmp_path / "ledger"
    waits = "import sqlite3, journals\nfrom pathlib import Path\n"
    waits += "operations.tried_each_hour.submit(ledger)\n"
    waits += "while [row['state'] for row in journals.rows(Path(directory))] != [0]: pass\n"
    killed(directory, ledger, waits)
    assert journals.rows(directory, "state, attempts") == [{"state": 0, "attempts": 2}]

    with opened(directory) as gate:
        clock = clocks(gate)
        clock.go_on(3500)
        assert noted(ledger) == ["attempt 1"]
        clock.go_on(200)
        until(lambda: journals.rows(directory, "state, attempts") == [{"state": 0, "attempts": 3}])
        clock.go_on(3700)
        until(lambda: journals.all_have_ended(directory))

    assert noted(ledger) == ["attempt 1", "attempt 2", "attempt 3"]
    assert journals.rows(directory, "state, attempts, error") == [{"state": 5, "attempts": 3, "error": "ValueError: 3"}]


@in_ci
def test_a_short_delay_between_two_attempts_outlives_the_process(tmp_path: Path, until: Until) -> None:
    """Case 27: it is waited for in memory, and its time is on disk."""
    directory, ledger = tmp_path / "journal", tmp_path / "ledger"
    waits = "import sqlite3, journals\nfrom pathlib import Path\n"
    waits += "operations.tried_each_half_minute.submit(ledger)\n"
    waits += "while [row['attempts'] for row in journals.rows(Path(directory))] != [2]: pass\n"
    killed(directory, ledger, waits)
    assert journals.rows(directory, "state, attempts") == [{"state": 1, "attempts": 2}]

    with opened(directory) as gate:
        clock = clocks(gate)
        assert states(directory) == [0]
        assert noted(ledger) == ["attempt 1"]
        clock.go_on(60)
        until(lambda: len(noted(ledger)) == 2)

    assert noted(ledger) == ["attempt 1", "attempt 2"]


@in_ci
def test_a_deadline_that_passes_meanwhile_ends_the_token_at_the_next_opening(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, until: Until
) -> None:
    """Case 27: it is expired, a dead letter, and its code does not begin; one whose deadline has not passed runs."""
    directory, ledger = tmp_path / "journal", tmp_path / "ledger"
    left = "operations.soon._place().suspend()\noperations.soon.submit(ledger)"
    killed(directory, ledger, left)
    killed(tmp_path / "other", ledger, left)

    with opened(tmp_path / "other"):
        until(lambda: states(tmp_path / "other") == [4])
    monkeypatch.setattr("tokengate.durable._journal.OpenJournal.wall", lambda _: time.time() + 601.0)
    with opened(directory):
        until(lambda: states(directory) == [7])

    assert noted(ledger) == ["attempt 1"]
    (row,) = journals.rows(directory)
    assert (row["dead"], row["error"][:13]) == (1, "TokenExpired:")


def test_a_token_that_is_put_off_can_be_cancelled(tmp_path: Path) -> None:
    """It ends, and is not offered at its time."""
    directory, ledger = tmp_path / "journal", str(tmp_path / "ledger")
    with opened(directory) as gate:
        clock = clocks(gate)
        token = operations.again.submit_after(3600, ledger, 1)
        assert token.cancel()
        with pytest.raises(TokenTerminated):
            token.result(60)
        clock.go_on(3700)
        assert states(directory) == [6]
    assert noted(ledger) == []
