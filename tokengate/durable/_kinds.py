"""The nouns of the journal."""

from __future__ import annotations

from typing import Annotated, ClassVar, Final

import attrs
from msgspec import Meta

from tokengate.control.messages import Listing, OnOne
from tokengate.control.messages._bases import Target
from tokengate.control.registry._kinds import Facade, Kind, declare
from tokengate.control.registry._verbs import asks

_SPARSE: Final = {"sparse": True}
"""Marks a field that few rows have: a table in which none has it has no column for it."""


@attrs.frozen
class ScheduleRow:
    """A schedule. Times are seconds since the epoch.

    Attributes:
        name: of the schedule.
        operation: that it submits, `module:qualified name`.
        when: `30 2 * * * Europe/Berlin`, `every 60 s`, or `at 2026-11-28T02:30:00Z`.
        due: when it submits next; None: never, or it is paused.
        last: the due time up to which it has submitted; None: it has not.
        running: uids of its tokens that have not ended.
        paused: whether it is paused.
        skipped: firings that were left out since the one before had not ended.
        until: when a pause ends; None: when it is resumed.
        by: who has paused or resumed it last.
        reason: why.
    """

    name: str
    operation: str
    when: str
    due: float | None = None
    last: float | None = None
    running: str = ""
    paused: bool = False
    skipped: int = 0
    until: float | None = attrs.field(default=None, metadata=_SPARSE)
    by: str = attrs.field(default="", metadata=_SPARSE)
    reason: str = attrs.field(default="", metadata=_SPARSE)


@attrs.frozen
class Schedules(Listing[ScheduleRow]):
    """List schedules: what they submit, when, and what has become of it."""

    examples: ClassVar = ("schedules", "schedules 'night*'")
    select: Annotated[
        str, Meta(description="Name of a schedule, or a pattern; empty for all.", extra={"metavar": "NAME"})
    ] = ""


@attrs.frozen
class _OnSchedule(OnOne[ScheduleRow]):
    target: ClassVar[Target] = "places"  # the answer asks for that of its operation


@attrs.frozen
class RunSchedule(_OnSchedule):
    """Submit by a schedule now, as if it were due, also while it is paused.

    Raises:
        BadRequest: there is no such schedule, or its overlap does not allow another token now.
    """

    examples: ClassVar = ("schedule run nightly",)


@attrs.frozen
class PauseSchedule(_OnSchedule):
    """Submit nothing by a schedule until it is resumed, also when the gate opens again.

    Its `catchup` says what becomes of the firings that it misses.

    Raises:
        BadRequest: there is no such schedule, or the time cannot work.
    """

    examples: ClassVar = ("schedule pause nightly", "schedule pause nightly --until 2h --reason 'moving the disks'")
    until: Annotated[
        float | str | None,
        Meta(description="Seconds, or `30s`, `5m`, `1h`, after which it resumes by itself.", extra={"metavar": "TIME"}),
    ] = attrs.field(default=None, kw_only=True)


@attrs.frozen
class ResumeSchedule(_OnSchedule):
    """Submit by a schedule again.

    Raises:
        BadRequest: there is no such schedule, or it is not paused.
    """

    examples: ClassVar = ("schedule resume nightly",)


SCHEDULE: Final = declare(
    Kind("schedule", ScheduleRow, Schedules, (RunSchedule, PauseSchedule, ResumeSchedule), plugin="Journal(directory)")
)


class ScheduleVerbs(Facade):
    """The verbs about schedules of a gate."""

    list = asks(Schedules)
    run = asks(RunSchedule)
    pause = asks(PauseSchedule)
    resume = asks(ResumeSchedule)
