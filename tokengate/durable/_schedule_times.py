"""When a schedule is due, and what one look at it decides: pure functions. Times are seconds since the epoch."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, tzinfo
from functools import cached_property
from hashlib import blake2b
from itertools import count
from typing import Final, Literal, TypeAlias
from zoneinfo import ZoneInfo

import attrs

Catchup: TypeAlias = Literal["latest", "none", "all"]
Overlap: TypeAlias = Literal["skip", "queue", "allow"]

MOST: Final = 100
"""Firings that are caught up, at most: the newest."""

_DAY: Final = 86_400


@attrs.frozen
class Times:
    """When a schedule fires, as the parameters of `Schedule` say; one of `cron`, `every` and `at` is given.

    Raises:
        ValueError: the zone is unknown, or the cron text cannot work.
    """

    cron: str | None = None
    every: int | None = None
    at: float | None = None
    timezone: str = "UTC"
    catchup: Catchup = "latest"
    overlap: Overlap = "skip"
    jitter: float = 0.0

    @cached_property
    def zone(self) -> tzinfo:
        return UTC if self.timezone == "UTC" else ZoneInfo(self.timezone)

    def after(self, last: float, start: float) -> Iterator[float]:
        """Yield the due times after `start`, in order; those of `every` count from `last`, which is not later."""
        if self.every is not None:
            yield from (last + self.every * n for n in count(math.floor((start - last) / self.every) + 1))
        elif self.at is not None:
            yield from [self.at] if self.at > start else []
        elif self.cron is not None:
            minute, hour = self.cron.split()[:2]
            is_wild = minute.startswith("*") or hour.startswith("*")
            following = _by_real_time if is_wild else _by_wall_clock
            while (found := following(self.cron, self.zone, start)) is not None:
                yield (start := found)

    def __str__(self) -> str:
        if self.at is not None:
            return f"at {stamp(self.at)}"
        return f"every {self.every} s" if self.cron is None else f"{self.cron} {self.timezone}"


@attrs.frozen
class Decision:
    """What one look at a schedule decides.

    Attributes:
        begins: due times of the firings that become tokens.
        skipped: firings that are left out since the one before has not ended.
        last: the due time up to which all is decided.
        look: when to look again; infinite: never.
    """

    begins: tuple[float, ...]
    skipped: int
    last: float
    look: float


def decide(times: Times, name: str, last: float, now: float, *, missed: float, running: bool) -> Decision:
    """Decide about the firings that are due.

    Args:
        times: when it fires.
        name: of the schedule.
        last: the due time up to which all is decided.
        now: the time.
        missed: firings due until then were missed: the gate was closed, the schedule paused, or the clock set.
        running: whether the firing before has not ended.
    """
    due, coming = newest(times, last, now)
    following = look = math.inf if coming is None else coming
    if times.jitter and coming is not None:
        look += _jitter(times, name, coming, next(times.after(last, coming), math.inf))
    if times.jitter and due and (late := due[-1] + _jitter(times, name, due[-1], following)) > now:
        look = late
        due.pop()
    owed = [one for one in due if one <= missed]
    kept = {"latest": owed[-1:], "none": [], "all": owed}[times.catchup]
    left = [*kept, *due[len(owed) :]]
    ends = due[-1] if due else last
    if times.overlap == "allow":
        return Decision(tuple(left), 0, ends, look)
    begins, left = ([], left) if running else (left[:1], left[1:])
    waits = left if times.catchup == "all" and left and left[0] <= missed else left[-1:] * (times.overlap == "queue")
    if waits:  # looked at again each second, until the one before has ended
        ends, look = next((one for one in reversed(due) if one < waits[0]), last), waits[0]
    return Decision(tuple(begins), len(left) - len(waits), ends, look)


def newest(times: Times, last: float, now: float) -> tuple[list[float], float | None]:
    """Return the newest due times after `last` and until `now`, at most 100, in order; and the one after these.

    However long ago `last` is, few times are looked at: those of a time before `now`, which is made longer until it has
    enough of them.
    """
    span = 60.0 * MOST
    while True:
        start = max(last, now - span)
        found: list[float] = []
        coming: float | None = None
        for coming in times.after(last, start):
            if coming > now:
                break
            found.append(coming)
        else:
            coming = None
        if len(found) >= MOST or start == last:
            return found[-MOST:], coming
        span *= 16


def stamp(due: float) -> str:
    """Return a due time as text, in UTC: `2026-11-28T02:30:00Z`."""
    return datetime.fromtimestamp(due, UTC).isoformat().replace("+00:00", "Z")


def instant_of(local: datetime, zone: tzinfo) -> float:
    """Return the time of a wall clock's time without a zone: the first of two, or the end of the gap that it is in."""
    first = local.replace(tzinfo=zone, fold=0).timestamp()
    if datetime.fromtimestamp(first, zone).replace(tzinfo=None) == local:
        return first
    before = math.floor(local.replace(tzinfo=zone, fold=1).timestamp())
    return _change(zone, before, math.ceil(first), _offset(zone, before)) or first


def check_cron(cron: object) -> str:
    """Return a cron text with single spaces.

    Raises:
        ValueError: it cannot work; the message says why.
    """
    from cronsim import CronSimError  # here and below, since few gates have such schedules

    fields = cron.split() if isinstance(cron, str) else []
    try:
        if len(fields) == 5 and next(_matches(" ".join(fields), datetime(2000, 1, 1)), None):
            return " ".join(fields)
        why = "no day ever matches" if len(fields) == 5 else "it has not five fields"
    except CronSimError as error:
        why = str(error)
    raise ValueError(f"{why}; write minute, hour, day, month and day of the week, such as '30 2 * * *'")


def _jitter(times: Times, name: str, due: float, following: float) -> float:
    """Return by how much a firing comes after its due time; the same at each look."""
    digest = blake2b(f"{name}@{stamp(due)}".encode(), digest_size=8).digest()
    return min(times.jitter, following - due) * int.from_bytes(digest) / 2**64


# The library knows which times of a wall clock match; here is what they are in a zone whose clock is changed.


def _by_wall_clock(cron: str, zone: tzinfo, after: float) -> float | None:
    """Return the next time; one that spring skips comes right after the gap, one that autumn repeats comes once."""
    local = datetime.fromtimestamp(after, zone).replace(tzinfo=None, fold=0)
    return next((due for found in _matches(cron, local) if (due := instant_of(found, zone)) > after), None)


def _by_real_time(cron: str, zone: tzinfo, after: float) -> float | None:
    """Return the next time; hours that spring skips have none, those that autumn repeats have theirs twice."""
    shown = since = math.floor(after)  # the clock is read on from `shown`, with the offset that holds from `since` on
    while True:
        offset = _offset(zone, since)
        found = next(_matches(cron, datetime.fromtimestamp(shown, UTC).replace(tzinfo=None) + offset), None)
        if found is None:
            return None
        due = (found - offset).replace(tzinfo=UTC).timestamp()
        change = _change(zone, since, math.ceil(due), offset)
        if change is None:
            return due
        shown, since = change - 1, change  # so that the time of the change itself may match


def _matches(cron: str, local: datetime) -> Iterator[datetime]:
    """Return the times after one that a wall clock shows which is never changed."""
    from cronsim import CronSim

    return CronSim(cron, local)


def _offset(zone: tzinfo, at: float) -> timedelta:
    return datetime.fromtimestamp(at, zone).utcoffset() or timedelta()


def _change(zone: tzinfo, low: int, high: int, offset: timedelta) -> int | None:
    """Return the first second after `low`, until `high`, whose offset is another one; None: there is none.

    Each day is looked at once: no zone has changed twice within one.
    """
    for start in range(low, high, _DAY):
        end = min(start + _DAY, high)
        if _offset(zone, end) != offset:
            return start + bisect_left(range(start, end), True, key=lambda at: _offset(zone, at) != offset)
    return None
