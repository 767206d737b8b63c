"""What history keeps: rows, exact counts, what is missing."""

from __future__ import annotations

import contextlib
import itertools
import math
import random
import sqlite3
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from memory import MIB, resident
from tiers import in_ci

from tokengate import Gate, Policy, Retry, token
from tokengate.errors import BadRequest
from tokengate.history import History
from tokengate.history import _writer as writer
from tokengate.telemetry import Telemetry
from tokengate.telemetry._samples import Sample

Opened = Callable[..., tuple[Gate, History]]
Until = Callable[[Callable[[], bool]], None]


@token
def work(x: int) -> int:
    return x


@token
def fail(x: int) -> int:
    raise ValueError(x)


@token(policy=Policy(retry=Retry(ValueError, wait=0.0)))
def flaky(x: int, left: list[int]) -> int:
    if left.pop():
        raise ValueError(x)
    return x


@token
def hold(event: threading.Event) -> None:
    event.wait()


def files(directory: Path) -> list[Path]:
    return sorted((directory / "history").glob("*.db"))


def counted(history: History, **options: Any) -> dict[tuple[str, str], int]:
    """What history has counted, by operation and state."""
    rows = history.operations(**options)
    states = ("completed", "failed", "terminated", "expired", "rejected", "retried")
    return {(row.name, state): n for row in rows for state in states if (n := getattr(row, state))}


def test_a_gate_without_the_plugin_has_no_file_and_no_thread(tmp_path: Path) -> None:
    """Case 1: a plugin that is not opened does nothing."""
    History(tmp_path)
    with Gate("plain"):
        work.submit(1).result(30)

        assert not [one for one in threading.enumerate() if "history" in one.name]
        assert list(tmp_path.iterdir()) == []


def test_each_attempt_leaves_a_row_with_its_fields(opened: Opened, until: Until) -> None:
    """Cases 2 and 6: attempts, times that add up, errors, keys; the form is that of `watch`."""
    _gate, history = opened()
    assert flaky.with_options(tags={"tenant": "acme"}, priority=3).submit(7, [0, 1]).result(30) == 7
    until(lambda: len(history.records("operation=flaky")) == 2)
    first, last = history.records("operation=flaky,tenant=acme")

    assert [(one.kind, one.attempt, one.state, one.error) for one in (first, last)] == [
        ("token.retried", 1, "queued", "ValueError"),
        ("token.finished", 2, "completed", None),
    ]
    assert first.uid == last.uid == f"{first.gate_run}.{first.token}"
    assert first.key
    assert (last.tags, last.priority, last.affinity, last.weight) == ({"tenant": "acme"}, 3, "cpu", 1)
    assert last.worker is not None
    assert last.worker.startswith("shop-cpu")
    for one in (first, last):
        assert one.wait is not None
        assert one.run is not None
        assert min(one.wait, one.run) >= 0
        assert one.age is not None
        assert one.age >= one.wait + one.run - 1e-5
    for shown in (history.show(str(last.uid)), history.show(last.token or 0)):
        assert [one for one in shown if one.kind in (first.kind, last.kind)] == [first, last]


def test_counts_are_exact_over_a_restart(opened: Opened, tmp_path: Path, seed: int) -> None:
    """Case 29: they are those of a ledger outside, whatever has a row; weights of rows add up to them."""
    dice, ledger = random.Random(seed), Counter[tuple[str, str]]()
    for name in ("one", "two"):
        gate, _ = opened(name, rows_per_second=50)
        tokens = []
        for number in range(dice.randrange(200, 600)):
            operation = fail if dice.random() < 0.1 else work
            tokens.append(operation.submit(number))
            ledger[operation.__name__, "failed" if operation is fail else "completed"] += 1
        for one in tokens:
            one.exception(30)
        gate.close()
    history = History(tmp_path)
    rows = history.records(limit=10_000)
    weights = Counter[tuple[str, str]]()
    for row in rows:
        if row.kind == "token.finished":
            weights[row.operation or "", row.state or ""] += row.weight or 0

    assert counted(history) == ledger
    assert weights == ledger
    assert sum(row.state == "failed" for row in rows) == ledger["fail", "failed"]
    assert len(files(tmp_path)) == 2
    assert not any(row.estimated or row.missing for row in history.operations())


def test_the_rate_is_that_of_the_time_in_which_the_gate_was_open(
    opened: Opened, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However much later it is asked for."""
    gate, _ = opened()
    for one in work.map(range(120)):
        one.result(30)
    gate.close()
    [early] = History(tmp_path).operations()
    now = time.time()
    monkeypatch.setattr("tokengate.history._reader.time.time", lambda: now + 36_000.0)
    [late] = History(tmp_path).operations("12h")

    assert early.rate == late.rate
    assert early.rate is not None
    assert early.rate > 1.0  # over ten hours it would be 0.003


def test_minutes_follow_each_other_without_overlap(
    opened: Opened, tmp_path: Path, until: Until, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A count is in one minute only, also if a minute passes within the tokens."""
    gate, history = opened()
    minutes = itertools.count(10**8)
    writing: Any = history._writer
    monkeypatch.setattr(writing, "_minute_of", lambda _now: next(minutes))
    monkeypatch.setattr(writer, "_CUT", 0.0)
    for made in (75, 150, 225, 300):
        for number in range(75):
            work.submit(number).result(30)
        until(lambda made=made: counted(history).get(("work", "completed")) == made)  # type: ignore[misc]
    gate.close()
    rows = []
    for path in files(tmp_path):
        with contextlib.closing(sqlite3.connect(path)) as db:
            rows += db.execute("SELECT minute, n, sampled FROM minutes WHERE op = 'work'").fetchall()

    assert len({minute for minute, _, _ in rows}) == len(rows) > 1
    assert (sum(n for _, n, _ in rows), sum(sampled for _, _, sampled in rows)) == (300, 300)
    assert not any(one.estimated for one in History(tmp_path).operations())


def test_rows_of_ordinary_attempts_stay_below_the_bound(opened: Opened, tmp_path: Path) -> None:
    """Case 25: each j-th has a row with the weight of those since the last; each failure has one."""
    gate, _ = opened(rows_per_second=100)
    tokens = [work.submit(number) for number in range(3_000)] + [fail.submit(number) for number in range(150)]
    for one in tokens:
        one.exception(30)
    gate.close()
    history = History(tmp_path)
    rows = history.records("kind=token.finished", limit=10_000)
    ordinary = [row for row in rows if row.operation == "work"]
    seconds = max(row.at for row in rows) - min(row.at for row in rows)

    assert len(ordinary) <= 100 * (seconds + 2)
    assert sum(row.weight or 0 for row in ordinary) == 3_000
    assert sum(row.operation == "fail" for row in rows) == 150


def test_what_is_lost_is_a_gap_and_nothing_else_is(
    opened: Opened, tmp_path: Path, until: Until, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Case 3: rows and gaps add up to what was made; counts are exact."""
    monkeypatch.setattr("tokengate.control.stream._queued.LONGEST", 100)
    gate, history = opened(rows_per_second=100_000)
    gate.plugin(Telemetry)._thinning._most = 10**9
    writing: Any = history._writer
    with writing._arrived:  # so that nothing is taken from the queue
        lock, writing._taking = threading.Lock(), None
    lock.acquire()
    read = writing._read
    monkeypatch.setattr(writing, "_read", lambda items, now: (lock.acquire(), lock.release(), read(items, now)))
    for number in range(2_000):
        work.submit(number)
    work.submit(0).result(30)
    until(lambda: writing.lost > 0)
    lock.release()
    gate.close()
    found = History(tmp_path).records(limit=10_000)
    gaps = [one for one in found if one.kind == "telemetry.lost" and one.details and "why" in one.details]
    missing = sum(int((one.details or {})["lost"]) for one in gaps)
    rows = sum(one.weight or 0 for one in found if one.kind == "token.finished")
    others = sum(one.kind != "token.finished" for one in found) - len(gaps)

    assert gaps
    assert "the queue of history was full" in gaps[0].text
    assert rows + others + missing == gate._stream.collector.made  # type: ignore[union-attr]
    assert counted(History(tmp_path))["work", "completed"] == 2_001
    assert all(row.missing for row in History(tmp_path).operations())


def test_two_histories_in_one_directory_are_read_together(opened: Opened, until: Until) -> None:
    """Case 26: each gate writes files of its own; any of them reads all."""
    one, history = opened("one")
    two, other = opened("two")
    with one.entered():
        work.submit(1).result(30)
    with two.entered():
        work.submit(2).result(30)
    until(lambda: len(history.records("operation=work")) == 2)

    assert {row.gate for row in other.records("operation=work")} == {"one", "two"}
    assert len({row.gate_run for row in other.records("operation=work")}) == 2


def test_samples_of_a_long_token_are_kept(opened: Opened, until: Until, monkeypatch: pytest.MonkeyPatch) -> None:
    """They are in `show`, in order of time, before the end of the attempt."""
    monkeypatch.setattr(writer, "LONG", 0.0)
    _gate, history = opened()
    writing: Any = history._writer
    monkeypatch.setattr(writing, "_samples_of", lambda _token: (Sample(-2.0, 0.5, None, 1), Sample(-1.0, 1.5, 4096, 2)))
    made = work.submit(1)
    made.result(30)
    until(lambda: bool(history.records("operation=work")))
    first, second, end = history.show(made.id)

    assert [one.kind for one in (first, second, end)] == ["token.sampled", "token.sampled", "token.finished"]
    assert (first.cpu, first.memory, first.steps) == (0.5, None, 1)
    assert (second.cpu, second.memory, second.uid) == (1.5, 4096, end.uid)


def test_a_token_that_is_unknown_is_an_error(opened: Opened) -> None:
    """It names the token; so does what is no id."""
    _gate, history = opened()
    with pytest.raises(BadRequest, match="knows no token 4242"):
        history.show(4242)
    with pytest.raises(BadRequest, match=r"knows no token 9999999\.1"):  # a number that SQLite would not take
        history.show("9999999.1")
    with pytest.raises(BadRequest, match="'x' is no token"):
        history.show("x")
    with pytest.raises(BadRequest, match="'soon' is no time"):
        history.records(since="soon")


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"retention": 0}, "retention of History is 0"),
        ({"retention": "soon"}, "'soon' is not a time"),
        ({"max_bytes": "1KiB"}, "max_bytes of History is 1024"),
        ({"rows_per_second": -1}, "rows_per_second of History is -1"),
        ({"rows_per_second": math.inf}, "rows_per_second of History is inf"),
        ({"retention": None}, "retention of History is None"),
        ({"retention": True}, "retention of History is True"),
        ({"max_bytes": math.nan}, "max_bytes of History is nan"),
        ({"max_bytes": math.inf}, "max_bytes of History is inf"),
        ({"directory": ""}, "directory of History is ''"),
        ({"directory": None}, "directory of History is None"),
    ],
)
def test_an_argument_that_cannot_work_is_an_error(tmp_path: Path, options: dict[str, Any], text: str) -> None:
    """It names the argument and its value."""
    with pytest.raises(ValueError, match=text):
        History(**{"directory": tmp_path, **options})


@pytest.mark.parametrize(
    "options",
    [
        {"limit": 0}, {"limit": -1}, {"limit": True}, {"limit": "5"}, {"since": math.nan}, {"since": []},
        {"until": "0001-01-01"}, {"since": "-5s"},
    ],
)  # fmt: skip
def test_a_question_that_cannot_work_is_an_error(tmp_path: Path, options: dict[str, Any]) -> None:
    """Of every way in."""
    with pytest.raises(BadRequest, match=r"is no time|limit is"):
        History(tmp_path).records(**options)


@pytest.mark.parametrize("since", [math.inf, 1e300, "99999999999999999999d"])
def test_a_time_that_is_long_ago_is_one(opened: Opened, until: Until, since: Any) -> None:
    """SQLite has no numbers of that size."""
    _, history = opened()
    work.submit(1).result(30)
    until(lambda: len(history.records("operation=work", since=since)) == 1)
    assert [row.completed for row in history.operations(since=since)] in ([], [1])


def test_what_a_clock_that_was_ahead_has_dated_later_is_there(opened: Opened) -> None:
    """Case 29: counts are exact, and a token is found, whatever the clock has done."""
    gate, history = opened()
    stream: Any = gate._stream
    stream._offset += 2 * 86_400
    made = work.submit(1)
    made.result(30)
    gate.close()

    assert counted(history) == {("work", "completed"): 1}
    assert [one.token for one in history.records("operation=work")] == [made.id]
    assert [one.token for one in history.show(made.id)] == [made.id]


def test_no_value_of_a_token_stops_history(opened: Opened, until: Until) -> None:
    """Priorities are any numbers; texts may have lone surrogates, which no file of UTF-8 can have."""
    gate, history = opened()
    odd = work.with_options(priority=2**70, tags={"a\ud800": "b\udfff"})
    odd.submit(1).result(30)
    gate._stream.collector.put("test.odd", "text \ud800", actor="a\ud800", details={"b\ud800": "c\ud800"})  # type: ignore[union-attr]
    work.submit(2).result(30)

    until(lambda: len(history.records("operation=work")) == 2)
    until(lambda: len(history.records("kind=test.odd")) == 1)
    first, _ = history.records("operation=work")
    assert (first.priority, first.tags) == (2**63 - 1, {r"a\ud800": r"b\udfff"})
    assert history.health(gate)[0].status == "ok"


def test_health_is_degraded_by_loss_and_never_failed(opened: Opened) -> None:
    """History is best effort."""
    gate, history = opened()
    parts = {part.name: part.status for part in history.health(gate)}
    writing: Any = history._writer
    writing.lose(3)
    (part,) = history.health(gate)

    assert parts == {"history": "ok"}
    assert (part.status, part.why) == ("degraded", "3 records were lost")


@in_ci
def test_a_flood_is_counted_exactly_and_each_failure_has_a_row(opened: Opened, tmp_path: Path) -> None:
    """Case 25: also while ordinary records are thinned at their source; what is estimated says so."""
    gate, _ = opened(rows_per_second=500)
    gate.plugin(Telemetry)._thinning._most = 500
    tokens = []
    for number in range(60_000):
        tokens.append((fail if number % 500 == 0 else work).submit(number))
        if len(tokens) == 1_000:
            for one in tokens:
                one.exception(30)
            tokens.clear()
    gate.close()
    history = History(tmp_path)
    rows = history.records("kind=token.finished", limit=60_000)
    weights = sum(row.weight or 0 for row in rows if row.operation == "work")
    figures = {row.name: row for row in history.operations()}

    assert counted(history) == {("work", "completed"): 59_880, ("fail", "failed"): 120}
    assert sum(row.operation == "fail" for row in rows) == 120
    assert abs(weights - 59_880) < 0.03 * 59_880
    assert figures["work"].estimated
    assert not figures["fail"].estimated


@in_ci
def test_memory_stays_flat(opened: Opened) -> None:
    """Case 29: history keeps nothing of what it has written."""
    opened()

    def flood(number: int) -> None:
        for first in range(0, number, 1_000):
            for one in [work.submit(first + index) for index in range(1_000)]:
                one.result(30)

    flood(20_000)
    before = resident()
    flood(60_000)

    assert resident() - before < 12 * MIB
