"""Figures of operations and places, from records that the tests make themselves."""

from __future__ import annotations

import math
import random
from collections.abc import Iterable
from types import SimpleNamespace
from typing import Any

import pytest

from tokengate.control.stream._collector import Tally
from tokengate.control.stream._record import FINISHED, RETRIED, Batch, More
from tokengate.telemetry._figures import GONE, PLACES, Figures
from tokengate.telemetry._thinning import Thinning


def raw(
    operation: str = "resize",
    place: str = "",
    *,
    ended: float = 100.0,
    wait: float = 0.5,
    run: float | None = 0.25,
    state: str = "completed",
    weight: int = 1,
    kind: str = FINISHED,
    more: More | None = None,
) -> tuple[Any, ...]:
    """Return a record as the collector makes it, in the order of `Raw`."""
    started = None if run is None else ended - run
    queued = (ended if started is None else started) - wait
    return (
        1, 1, operation, place or operation, "cpu", None, 0, None, 0, 1, state, queued, queued, started, ended, 0,
        weight, kind, more,
    )  # fmt: skip


class Kept:
    """The figures of a gate that the test plays."""

    def __init__(self, **options: Any) -> None:
        self.tallies: dict[str, Tally] = {}
        collector: Any = SimpleNamespace(tallies=self.tallies)
        self.figures = Figures(collector, lambda path, _name: path, **options)

    def take(self, *records: tuple[Any, ...]) -> None:
        for record in records:
            tally = self.tallies.setdefault(record[2], Tally())
            if record[17] == FINISHED:
                next(tally.ends[record[10]])
        self.figures.take(Batch(records, "run"))


def test_a_record_is_counted_in_the_sketches_of_its_operation() -> None:
    """Those that were thinned out are counted by the weight of the one that was kept."""
    kept = Kept()

    kept.take(raw(wait=0.5, run=0.25, weight=3), raw(wait=4.0, run=None, state="expired"))

    wait, run = kept.figures.operations["resize"].spread()
    assert (wait.count, wait.total) == (4, pytest.approx(5.5))
    assert (run.count, run.total) == (3, pytest.approx(0.75))


def test_pauses_by_operators_are_no_part_of_wait_and_run() -> None:
    """Case 2: `kept` while it was queued, `parked` while it ran."""
    kept = Kept()

    kept.take(raw(wait=3.0, run=2.0, more=More(kept=1.0, parked=0.5)))

    wait, run = kept.figures.operations["resize"].spread()
    assert wait.total == pytest.approx(2.0)
    assert run.total == pytest.approx(1.5)


def test_moments_that_are_no_ends_are_not_counted() -> None:
    """A feed may ask that the stream has them."""
    kept = Kept()

    kept.take(raw(), raw(kind="token.started"), raw(kind="token.paused"), raw(kind=RETRIED))

    assert kept.figures.operations["resize"].spread()[0].count == 2


def test_a_second_has_a_point() -> None:
    """Rate and failures are exact counts; the quantiles are those of this second only."""
    kept = Kept()
    kept.figures.tick(100.0)
    kept.take(*(raw(run=1.0) for _ in range(10)), raw(state="failed", run=1.0))
    kept.figures.tick(101.0)
    kept.take(raw(run=64.0))
    kept.figures.tick(102.0)

    first, second = kept.figures.operations["resize"].fine.points(0, 1_000.0)
    assert (first.at, first.rate, first.failures) == (1_100.0, 11.0, 1.0)
    assert first.run_p50 == pytest.approx(1.0, rel=0.022)
    assert (second.rate, second.failures) == (1.0, 0.0)
    assert second.run_p95 == pytest.approx(64.0, rel=0.022)


def test_a_thread_that_comes_late_spreads_what_it_finds() -> None:
    """Over the seconds in which it was not there."""
    kept = Kept()
    kept.figures.tick(100.0)
    kept.take(*(raw() for _ in range(8)))
    kept.figures.tick(104.0)

    assert [point.rate for point in kept.figures.operations["resize"].fine.points(0, 0.0)] == [2.0] * 4


def test_series_reach_two_minutes_back_by_seconds_and_half_an_hour_by_tens() -> None:
    """Older points are overwritten."""
    kept = Kept()
    for second in range(4_000):
        kept.take(raw())
        kept.figures.tick(float(second))

    operation = kept.figures.operations["resize"]
    fine, coarse = operation.fine.points(0, 0.0), operation.coarse.points(0, 0.0)
    assert (len(fine), fine[-1].at) == (120, 3_998.0)
    assert (len(coarse), coarse[-1].at) == (180, 3_980.0)
    assert all(point.rate == pytest.approx(1.0) for point in [*fine[1:], *coarse[1:]])


def test_the_slow_attempts_of_an_operation_are_above_its_p95() -> None:
    """They are never thinned out."""
    kept = Kept()
    kept.figures.tick(100.0)
    kept.take(*(raw(run=0.001) for _ in range(95)), *(raw(run=1.0) for _ in range(5)))
    kept.figures.tick(101.0)

    assert kept.tallies["resize"].slow == pytest.approx(0.001, rel=0.045)


def test_operations_and_places_are_bounded(seed: int) -> None:
    """Case 17: what comes beyond the bound is counted together, and nothing is lost."""
    chance = random.Random(seed)
    kept = Kept()
    names = [f"worker-{number}" for number in range(10_000)]
    chance.shuffle(names)

    for name in names:
        kept.take(raw("Worker.work", name))
    kept.figures.tick(101.0)

    assert len(kept.figures.places) <= PLACES + 1
    assert sum(place.wait.count for place in kept.figures.places.values()) == 0  # it was the first second
    kept.figures.tick(102.0)
    assert sum(place.wait.count for place in kept.figures.places.values()) == 10_000


def test_a_place_that_has_gone_stays_for_five_minutes() -> None:
    """Then its figures go, but not those of its operation."""
    kept = Kept()
    kept.figures.tick(100.0)
    kept.take(raw("Worker.work", "worker-1"), raw("Worker.work", "worker-2"))
    kept.figures.tick(100.0 + GONE)
    kept.figures.place("worker-2", 100.0 + GONE)
    before = set(kept.figures.places)
    kept.figures.tick(110.0 + GONE)

    assert before == {"worker-1", "worker-2"}
    assert set(kept.figures.places) == {"worker-2"}
    assert kept.figures.operations["Worker.work"].wait.count == 2


def test_a_tag_has_fifty_values() -> None:
    """And `_other`."""
    kept = Kept(tags=("tenant",))

    for number in range(80):
        record = list(raw())
        record[7] = {"tenant": f"t{number}"}
        kept.take(tuple(record))

    assert len({value for _, _, value in kept.figures.tagged}) == 51
    assert kept.figures.tagged["resize", "completed", "_other"] == 30


class Offered:
    """A collector whose tokens the test plays: `rate` ordinary records a second, of which thinning keeps some."""

    def __init__(self) -> None:
        self.every = 1
        self.thins = False
        self.made = 0
        self.tallies = {"resize": Tally()}
        self.weights = 0

    def offer(self, number: int) -> None:
        tally = self.tallies["resize"]
        for _ in range(number):
            if self.every > 1:
                looked_at = next(tally.ordinary) + 1
                if looked_at % self.every:
                    continue
                self.weights += looked_at - tally.kept
                tally.kept = looked_at
            else:
                self.weights += 1
            self.made += 1


def thinned(offered: Iterable[int], most: int) -> tuple[Offered, list[int]]:
    collector = Offered()
    thinning = Thinning(collector, most)  # type: ignore[arg-type]
    every = []
    for number, records in enumerate(offered):
        collector.offer(records)
        thinning.look(number * 0.1)
        every.append(collector.every)
    return collector, every


def test_a_flood_is_thinned_to_the_rate_that_is_allowed() -> None:
    """Case 25: within 0.1 s, and the weights agree with what was offered within 1 percent."""
    collector, every = thinned([30_000] * 100, 10_000)

    made = collector.made
    collector.offer(30_000)
    assert every[2:] == [every[2]] * 98
    assert (collector.made - made) * 10 <= 10_000 * 1.25
    assert collector.weights == pytest.approx(30_000 * 101, rel=0.01)


def test_all_records_are_kept_again_after_a_flood() -> None:
    """Within seconds."""
    _, every = thinned([30_000] * 20 + [100] * 20, 10_000)

    assert max(every) > 20
    assert every[-1] == 1


def test_a_load_below_the_limit_is_not_thinned() -> None:
    """Every record has the weight 1."""
    assert set(thinned([900] * 50, 10_000)[1]) == {1}


def test_the_gate_has_a_series_of_all_its_operations(seed: int) -> None:
    """Rates are sums, exact; the spread is that of all attempts; with what is known of the process at each second."""
    chance = random.Random(seed)
    kept = Kept()
    looks = iter(range(10**6))
    kept.figures.whole.look = lambda seconds: (float(next(looks)), 0.5 / seconds, None, 0.25, None, 1.0)
    kept.figures.tick(100.0)
    ended: dict[int, int] = {}
    for second in range(101, 140):
        runs = [chance.choice((0.001, 0.1, 4.0)) for _ in range(chance.randrange(1, 60))]
        kept.take(*(raw(chance.choice(("resize", "charge")), run=run) for run in runs))
        ended[second - 1] = len(runs)
        kept.figures.tick(float(second))
    fine = dict(kept.figures.whole.fine.values(0))

    assert {at: values[0] for at, values in fine.items()} == {100: pytest.approx(ended[100]), **ended}
    assert all(values[1] == 0.0 for values in fine.values())
    assert [values[5:] for values in fine.values()] == [(at, 0.5, None, 0.25, None, 1.0) for at in range(len(fine))]
    assert fine[138][3] == pytest.approx(sorted(runs)[math.ceil(0.95 * len(runs)) - 1], rel=0.045)
    coarse = dict(kept.figures.whole.coarse.values(0))
    assert coarse[110][0] == pytest.approx(sum(ended[at] for at in range(110, 120)) / 10)
    assert coarse[110][5] == fine[119][5]
