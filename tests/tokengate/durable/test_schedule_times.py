"""When a schedule is due, and what one look decides: against an oracle that counts through all minutes of a zone."""

from __future__ import annotations

import random
import zoneinfo
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import islice, pairwise, takewhile

import pytest
from tiers import IN_CI

from tokengate.durable._schedule_times import MOST, Times, check_cron, decide, instant_of, newest, stamp

BERLIN = "Europe/Berlin"
ZONES = sorted(zone for zone in zoneinfo.available_timezones() if not zone.startswith(("posix", "right")))
ODD = (
    BERLIN, "America/New_York", "America/St_Johns", "Australia/Lord_Howe", "Antarctica/Troll", "Africa/Casablanca",
    "America/Havana", "Asia/Beirut", "America/Santiago", "Pacific/Apia", "Asia/Kathmandu", "Pacific/Chatham",
)  # fmt: skip
NIGHTS = (
    "2026-03-27",
    "2026-10-23",
    "2026-10-02",
    "2026-04-03",
    "2026-03-06",
    "2026-10-30",
    "2026-09-04",
    "2011-12-28",
)


def at(text: str) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()


def texts(times: Times, start: float, number: int) -> list[str]:
    return [stamp(due) for due in islice(times.after(start, start), number)]


def until(times: Times, start: float, end: float) -> list[float]:
    return list(takewhile(lambda due: due <= end, times.after(start, start)))


def matches(cron: str, local: datetime) -> bool:
    """Tell whether a time of a wall clock matches, in the few forms that are drawn here."""
    minute, hour, day, month, weekday = cron.split()

    def one(field: str, value: int, first: int) -> bool:
        if field.startswith("*/"):
            return (value - first) % int(field[2:]) == 0
        return field == "*" or str(value) in field.split(",")

    days = [one(day, local.day, 1), one(weekday, local.isoweekday() % 7, 0)]
    is_day = all(days) if "*" in (day[0], weekday[0]) else any(days)
    return one(minute, local.minute, 0) and one(hour, local.hour, 0) and one(month, local.month, 1) and is_day


def oracle(cron: str, name: str, start: float, end: float) -> list[float]:
    """Return the due times after `start` and until `end`, by counting through the minutes."""
    zone = zoneinfo.ZoneInfo(name)
    minutes = [start + 60.0 * n for n in range(1, int((end - start) // 60) + 1)]
    shown = [datetime.fromtimestamp(minute, zone).replace(tzinfo=None, fold=0) for minute in minutes]
    if "*" in (cron[0], cron.split()[1][0]):  # real time
        return [minute for minute, local in zip(minutes, shown, strict=True) if matches(cron, local)]
    found: list[float] = []
    highest = datetime.fromtimestamp(start, zone).replace(tzinfo=None, fold=0)
    for minute, local in zip(minutes, shown, strict=True):
        passed = int((local - highest) / timedelta(minutes=1))  # more than 1: spring has skipped some
        if any(matches(cron, highest + timedelta(minutes=n)) for n in range(1, passed + 1)):
            found.append(minute)
        highest = max(highest, local)
    return found


def drawn(random: random.Random) -> str:
    def few(low: int, high: int) -> str:
        return ",".join(map(str, sorted(random.sample(range(low, high), random.randint(1, 3)))))

    minute = random.choice([few(0, 60), "*", "*/15", "*/7", "0"])
    hour = random.choice([few(0, 4), few(0, 24), "*", "*/2", "2"])
    day, month = random.choice(["*", "*", few(1, 29)]), random.choice(["*", "*", "3,10"])
    return f"{minute} {hour} {day} {month} {random.choice(['*', '*', few(0, 7)])}"


@pytest.mark.parametrize("round", range(100 if IN_CI else 5))
def test_due_times_are_those_of_an_oracle(seed: int, round: int) -> None:
    """Case 42: in each zone, over nights in which its clock is changed, from any second on, for drawn cron texts."""
    drawing = random.Random(f"{seed} {round}")
    zone = drawing.choice(ODD if drawing.random() < 0.7 else ZONES)
    cron = drawn(drawing)
    start = at(drawing.choice(NIGHTS)) + 60 * drawing.randrange(2_880)
    end = start + 86_400 * 2
    times = Times(cron=cron, timezone=zone)

    assert [stamp(due) for due in until(times, start, end)] == [stamp(due) for due in oracle(cron, zone, start, end)]
    begin = start + drawing.randrange(86_400) + 0.5
    assert until(times, begin, end) == [due for due in until(times, start, end) if due > begin]


def test_a_time_that_spring_skips_comes_right_after() -> None:
    """Case 42: 02:30 in Berlin comes at 03:00 of the night that has none, once, whatever else is skipped with it."""
    assert texts(Times(cron="30 2 * * *", timezone=BERLIN), at("2026-03-28T12:00"), 2) == [
        "2026-03-29T01:00:00Z", "2026-03-30T00:30:00Z",
    ]  # fmt: skip
    assert texts(Times(cron="0,30 2,3 * * *", timezone=BERLIN), at("2026-03-28T12:00"), 3) == [
        "2026-03-29T01:00:00Z", "2026-03-29T01:30:00Z", "2026-03-30T00:00:00Z",
    ]  # fmt: skip


def test_a_time_that_autumn_repeats_comes_once() -> None:
    """Case 42: also if it is looked at within the hour that comes again."""
    times = Times(cron="30 2 * * *", timezone=BERLIN)
    assert texts(times, at("2026-10-24T12:00"), 2) == ["2026-10-25T00:30:00Z", "2026-10-26T01:30:00Z"]
    assert texts(times, at("2026-10-25T01:10"), 1) == ["2026-10-26T01:30:00Z"]


def test_stars_go_by_real_time() -> None:
    """Case 42: `*/30 2 * * *` has no time in spring and four in autumn."""
    times = Times(cron="*/30 2 * * *", timezone=BERLIN)
    assert texts(times, at("2026-03-28T12:00"), 1) == ["2026-03-30T00:00:00Z"]
    assert len(until(times, at("2026-10-24T12:00"), at("2026-10-25T12:00"))) == 4


def test_half_hours_and_whole_days_are_skipped_alike() -> None:
    """Case 42: Lord Howe changes its clock by 30 minutes, and Samoa has left out a day."""
    howe = Times(cron="*/30 5 * * *", timezone="Australia/Lord_Howe")
    assert texts(howe, at("2026-10-03T12:00"), 2) == ["2026-10-03T18:00:00Z", "2026-10-03T18:30:00Z"]
    samoa = Times(cron="0 12 30 12 *", timezone="Pacific/Apia")
    assert texts(samoa, at("2011-12-29T00:00"), 1) == ["2011-12-30T10:00:00Z"]


def test_a_moment_in_a_gap_is_its_end_and_one_of_two_the_first() -> None:
    """As for cron; with another zone it is another moment."""
    zone = zoneinfo.ZoneInfo(BERLIN)
    assert stamp(instant_of(datetime(2026, 3, 29, 2, 30), zone)) == "2026-03-29T01:00:00Z"
    assert stamp(instant_of(datetime(2026, 10, 25, 2, 30), zone)) == "2026-10-25T00:30:00Z"
    assert stamp(instant_of(datetime(2026, 10, 25, 2, 30), UTC)) == "2026-10-25T02:30:00Z"


@pytest.mark.parametrize(
    "cron", ["", "* * * *", "* * * * * *", "61 * * * *", "* * 31 2 *", "a b c d e", None, 5, "0 0 30 2 *"]
)
def test_a_cron_text_that_cannot_work_is_refused(cron: object) -> None:
    """With what is wrong, and an example."""
    with pytest.raises(ValueError, match=r"'30 2 \* \* \*'"):
        check_cron(cron)


def test_few_times_are_looked_at_however_long_ago_the_last_one_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """The newest of 20 years of minutes are found without the others; those of `every` stay on its grid."""
    seen = 0
    after = Times.after

    def counted(times: Times, last: float, start: float) -> Iterator[float]:
        nonlocal seen
        for due in after(times, last, start):
            seen += 1
            yield due

    monkeypatch.setattr(Times, "after", counted)
    now, last = at("2026-11-30T10:00:30"), at("2006-11-30T00:00:07")
    for times, step in ((Times(cron="* * * * *"), 60), (Times(every=7), 7), (Times(cron="0 0 1 1 *"), 0)):
        found, coming = newest(times, last, now)
        assert coming is not None
        assert found[-1] <= now < coming
        assert len(found) == (MOST if step else 20)
        assert not step or [b - a for a, b in pairwise(found)] == [step] * (MOST - 1)
        assert times.every is None or (found[0] - last) % 7 == 0
    assert seen < 3_000


# What one look decides

EVERY = 60


def look(times: Times, last: float, now: float, *, missed: float = -1.0, running: bool = False) -> tuple[object, ...]:
    found = decide(times, "nightly", last, now, missed=missed, running=running)
    return found.begins, found.skipped, found.last, found.look


def test_what_is_due_begins_and_then_it_is_looked_at_again_when_the_next_one_is() -> None:
    """Nothing before it is due, nothing twice, and nothing while the clock is behind what was decided."""
    times = Times(every=EVERY)
    assert look(times, 600.0, 659.0) == ((), 0, 600.0, 660.0)
    assert look(times, 600.0, 660.0) == ((660.0,), 0, 660.0, 720.0)
    assert look(times, 660.0, 661.0) == ((), 0, 660.0, 720.0)
    assert look(times, 4_260.0, 660.0) == ((), 0, 4_260.0, 4_320.0)


@pytest.mark.parametrize(("catchup", "kept"), [("latest", 1), ("none", 0), ("all", MOST)])
def test_missed_firings_are_caught_up_as_the_schedule_says(catchup: str, kept: int) -> None:
    """Case 43: the latest, none, or the newest 100; what is due now and was not missed begins as well."""
    times = Times(every=EVERY, catchup=catchup, overlap="allow")  # type: ignore[arg-type]
    begins, skipped, last, again = look(times, 0.0, 60_030.0, missed=60_030.0)
    assert begins == tuple(60.0 * n for n in range(1_001 - kept, 1_001))
    assert (skipped, last, again) == (0, 60_000.0, 60_060.0)
    begins, *_ = look(times, 0.0, 60_030.0, missed=59_999.0)
    assert begins == (*(60.0 * n for n in range(1_000 - min(kept, MOST - 1), 1_000)), 60_000.0)


def test_overlap_leaves_out_keeps_one_waiting_or_lets_begin() -> None:
    """Case 43: `skip` counts what it leaves out; `queue` keeps the newest, undecided, and counts the others."""
    for overlap, expected in (
        ("skip", ((), 3, 180.0, 240.0)),
        ("queue", ((), 2, 120.0, 180.0)),
        ("allow", ((60.0, 120.0, 180.0), 0, 180.0, 240.0)),
    ):
        assert look(Times(every=EVERY, overlap=overlap), 0.0, 190.0, running=True) == expected  # type: ignore[arg-type]
    assert look(Times(every=EVERY, overlap="queue"), 120.0, 200.0) == ((180.0,), 0, 180.0, 240.0)
    assert look(Times(every=EVERY), 0.0, 190.0) == ((60.0,), 2, 180.0, 240.0)


@pytest.mark.parametrize("overlap", ["skip", "queue"])
def test_all_missed_firings_run_one_after_the_other(overlap: str) -> None:
    """Case 43: with `catchup="all"` none is left out since the one before runs; they begin when that has ended."""
    times = Times(every=EVERY, catchup="all", overlap=overlap)  # type: ignore[arg-type]
    assert look(times, 0.0, 190.0, missed=190.0) == ((60.0,), 0, 60.0, 120.0)
    assert look(times, 60.0, 191.0, missed=190.0, running=True) == ((), 0, 60.0, 120.0)
    assert look(times, 60.0, 192.0, missed=190.0) == ((120.0,), 0, 120.0, 180.0)
    assert look(times, 120.0, 193.0, missed=190.0) == ((180.0,), 0, 180.0, 240.0)


def test_jitter_moves_each_firing_by_the_same_time_at_each_look(seed: int) -> None:
    """Case 43: at most by so much, never beyond the next one, by name and due time; the key's due time stays."""
    drawing = random.Random(seed)
    moved = set()
    for _ in range(50):
        jitter, due = drawing.choice([10.0, 59.0, 600.0]), 60.0 * drawing.randrange(1, 10**6)
        times = Times(every=EVERY, jitter=jitter)
        begin = decide(times, "nightly", due - 60.0, due - 1.0, missed=-1.0, running=False).look
        assert due <= begin <= due + min(jitter, 60.0)
        assert look(times, due - 60.0, begin - 1e-3) == ((), 0, due - 60.0, begin)
        assert look(times, due - 60.0, begin)[0] == (due,)
        moved.add(begin - due)
    assert len(moved) > 40
    assert decide(times, "other", due - 60.0, due - 1.0, missed=-1.0, running=False).look != begin


def test_one_due_time_is_the_only_one() -> None:
    """A schedule with `at` fires once, and one that is new after that time never."""
    times = Times(at=600.0)
    assert look(times, 0.0, 599.0) == ((), 0, 0.0, 600.0)
    assert look(times, 0.0, 700.0, missed=700.0) == ((600.0,), 0, 600.0, float("inf"))
    assert look(times, 700.0, 701.0) == ((), 0, 700.0, float("inf"))


@pytest.mark.parametrize("round", range(500 if IN_CI else 20))
def test_however_it_is_looked_at_no_time_begins_twice_and_none_is_lost(seed: int, round: int) -> None:
    """Cases 43, 45: over drawn looks, jumps of the clock, and tokens that run: a due time begins, or has a reason."""
    drawing = random.Random(f"{seed} {round}")
    overlap, catchup = drawing.choice(["skip", "queue", "allow"]), drawing.choice(["latest", "none", "all"])
    times = Times(every=EVERY, overlap=overlap, catchup=catchup)  # type: ignore[arg-type]
    last, now, begun, skipped, caught = 0.0, 0.0, [], 0, 0
    for _ in range(200):
        jump = drawing.choice([1.0, 1.0, 30.0, 60.0, 3_600.0, -3_600.0])
        missed = now + jump if jump > 60.0 else -1.0
        now = max(0.0, now + jump)
        found = decide(times, "nightly", last, now, missed=missed, running=drawing.random() < 0.5)
        assert found.last >= last
        assert all(last < due <= now for due in found.begins)
        assert list(found.begins) == sorted(set(found.begins))
        assert overlap == "allow" or len(found.begins) <= 1
        begun += found.begins
        caught += int(missed > 0)
        skipped += found.skipped
        last = found.last
    assert len(begun) == len(set(begun))
    assert overlap != "allow" or skipped == 0
    decided = int(last // EVERY)
    if not caught:
        assert len(begun) + skipped == decided
    assert len(begun) + skipped <= decided
