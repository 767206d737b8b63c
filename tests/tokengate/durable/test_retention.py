"""Rows that have ended are removed after a while, by the time that has passed, however the clock was set."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import journals
import pytest
from durable_operations import add, fails
from tiers import in_ci

from tokengate import Gate
from tokengate.durable import Journal
from tokengate.durable._retention import Retention, remove

DAY = 86_400.0


class Times:
    """A clock that passes, a wall clock that is set, and a writer that removes nothing."""

    def __init__(self) -> None:
        self.passed = 1_000.0
        self.set_by = 1_800_000_000.0
        self.removed_before: list[float] = []

    def boot_clock(self) -> float:
        return self.passed

    def wall(self) -> float:
        return self.passed + self.set_by

    def call(self, _function: Any) -> Any:
        raise AssertionError("it is too early to remove something")


def test_what_has_ended_lately_is_kept_however_the_clock_is_set(seed: int) -> None:
    """A drawn history of ends and of clocks set: nothing is removed within the retention, all is some time after it."""
    draw, times = random.Random(seed), Times()
    retention = Retention(times, DAY)
    ends: list[tuple[float, float]] = []  # (when, what the wall clock showed)
    for _ in range(2_000):
        times.passed += draw.uniform(0, 600)
        if draw.random() < 0.01:
            times.set_by += draw.choice((-3_600, 3_600, -30 * DAY, 30 * DAY, 3))
        ends.append((times.passed, times.wall()))
        before = retention.before()
        assert not [when for when, wall in ends if wall < before and times.passed - when < DAY]
    for _ in range(200):
        times.passed += DAY / 50
        before = retention.before()
    assert all(wall < before for _, wall in ends if wall < times.wall() - 2 * DAY)


def test_nothing_is_removed_in_the_first_ten_minutes() -> None:
    """So that relays find their keys; what is older than the retention when the journal opens is kept, too."""
    times = Times()
    retention = Retention(times, 0.0)
    times.passed += 599
    retention.look()
    times.passed += 2
    with pytest.raises(AssertionError, match="too early"):
        retention.look()


def test_ended_rows_are_removed_in_small_steps_and_free_their_keys(tmp_path: Path) -> None:
    """Case 20: `retention`; dead letters and what is open stay, recorded steps of removed rows go."""
    journal = Journal(tmp_path / "journal")
    with Gate("shop", plugins=[journal], control_socket=False) as gate:
        inside: Any = journal._journal
        first = add.with_options(key="k").submit(1, 2)
        for _ in range(5):
            add.submit(1, 2).result(10)
        dead = fails.submit("no")
        dead.exception(10)
        gate.control.suspend("operations/add")
        left = add.submit(3, 4)
        far = inside.wall() + 1
        inside.call(lambda db: db.execute("INSERT INTO steps(uid, name, nth) SELECT uid, 's', 0 FROM tokens")).result(9)

        assert [inside.call(lambda db: remove(db, far, 4)).result(10) for _ in range(3)] == [4, 2, 0]

        kept = [row["uid"] for row in journals.rows(tmp_path / "journal")]
        assert kept == [dead.record.number, left.record.number]  # type: ignore[attr-defined]
        with inside.reading() as db:
            assert [uid for (uid,) in db.execute("SELECT uid FROM steps ORDER BY uid")] == kept
        with pytest.raises(LookupError, match="was removed after its retention"):
            journal.attach(first.uid)
        gate.control.unsuspend("operations/add")
        again = add.with_options(key="k").submit(5, 6)
        assert (again.result(10), again.uid == first.uid) == (11, False)


@in_ci
def test_removal_goes_on_until_nothing_is_left(tmp_path: Path) -> None:
    """One look removes all that is old, a step after the other."""
    journal = Journal(tmp_path / "journal")
    with Gate("shop", plugins=[journal], control_socket=False):
        inside: Any = journal._journal
        for token in [add.submit(1, number) for number in range(501)]:
            token.result(30)
        times = Times()
        times.call = inside.call  # type: ignore[method-assign]
        retention = Retention(times, 0.0)
        times.passed += 601
        retention.look()
        inside.call(lambda _: None).result(10)
        while inside.call(lambda db: db.execute("SELECT count(*) FROM tokens").fetchone()[0]).result(10):
            pass
