"""The nouns of the journal."""

from __future__ import annotations

from typing import Annotated, ClassVar, Final, TypeAlias

import attrs
from msgspec import Meta

from tokengate.control.messages import Change, Listing, Message, OnOne
from tokengate.control.messages._bases import Target
from tokengate.control.registry._kinds import Facade, Kind, declare
from tokengate.control.registry._verbs import asks

_SPARSE: Final = {"sparse": True}
"""Marks a field that few rows have: a table in which none has it has no column for it."""


@attrs.frozen
class ScheduleRow:
    """A schedule.

    Attributes:
        name: of the schedule.
        operation: that it submits, `module:qualified name`.
        when: `30 2 * * * Europe/Berlin`, `every 60 s`, or `at 2026-11-28T02:30:00Z`.
        due: seconds since the epoch at which it submits next; None: never, or it is paused.
        last: seconds since the epoch, the due time up to which it has submitted; None: it has not.
        running: uid of its newest token, if that has not ended.
        paused: whether it is paused.
        skipped: firings that were left out since the one before had not ended.
        until: seconds since the epoch at which the pause ends; None: when it is resumed.
        by, reason: who has paused or resumed it last, and why.
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
    """List schedules, with the times of their firings."""

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


@attrs.frozen
class JournalRow:
    """The journal of a gate.

    Attributes:
        directory: where its files are.
        run: number of this opening, with which uids begin.
        open: tokens that have not ended.
        on_disk: of these, those that wait on disk only.
        parked: of these, those that cannot run here.
        dead: dead letters.
        wal_bytes: bytes of the log of the database.
        last_commit: its number.
        error: why nothing can be written, or accepted; empty: it can.
    """

    directory: str
    run: int
    open: int
    on_disk: int
    parked: int
    dead: int
    wal_bytes: int
    last_commit: int
    error: str = attrs.field(default="", metadata=_SPARSE)


@attrs.frozen
class Journals(Listing[JournalRow]):
    """Show the journal of a gate: its tokens and files.

    Raises:
        Refused: the caller may not see all tokens.
    """

    examples: ClassVar = ("journals", "journals --state-dir /var/lib/shop")
    select: Annotated[
        str, Meta(description="Its directory, or a pattern; empty for all.", extra={"metavar": "NAME"})
    ] = ""


@attrs.frozen
class JournalChecked:
    """What a look at all rows of a journal has found.

    Attributes:
        directory: of the journal.
        rows: that were looked at, of all tables.
        damaged: `TABLE: N rows` for each table with rows whose bits have changed on disk.
        problem: what SQLite says of the file; empty: it is whole.
    """

    directory: str
    rows: int
    damaged: tuple[str, ...] = ()
    problem: str = ""


@attrs.frozen
class CheckJournal(Message[JournalChecked]):
    """Look at each row, for bits that have changed on disk.

    Raises:
        Refused: the caller may not see all tokens.
        ControlError: it takes too long.
    """

    right: ClassVar[str] = "view"
    examples: ClassVar = ("journal check", "journal check --state-dir /var/lib/shop")


@attrs.frozen
class JournalSalvaged:
    """What a salvage has found.

    Attributes:
        kept: tokens in the new database.
        damaged: rows, of tokens and all else, that could be read, with other bits than were written; they are left out.
        commits: how many the old database had; 0 if that cannot be read.
        missing: how many of its last commits were not there.
        old: folder with the old files.
    """

    kept: int
    damaged: int
    commits: int
    missing: int
    old: str


@attrs.frozen
class SalvageJournal(Change[JournalSalvaged]):
    """Copy what is whole of a damaged journal.

    The copy takes its place, and the old files are kept. No gate may have it open: `--state-dir` names the directory.

    Raises:
        ControlError: a gate has it open.
        JournalDamaged: nothing can be read.
    """

    right: ClassVar[str] = "administer"
    takes: ClassVar[tuple[str, ...]] = ("reason",)
    examples: ClassVar = ("journal salvage --state-dir /var/lib/shop",)


@attrs.frozen
class DurableTokenRow:
    """A durable token on disk.

    Attributes:
        uid: run and id, the same in each later run.
        operation: `module:qualified name`, or `path:method` of an actor.
        path: of its place.
        key: what names the work; empty: nothing does.
        state: `delayed`, `queued`, `begun`, `parked` (it cannot run here), or how it has ended.
        due: when it is queued, in seconds since the epoch, if that is later; else None.
        attempts: that have begun, as far as that is on disk.
        recoveries: deaths of processes in which its code ran.
        accepted: when that was, in seconds since the epoch.
        ended: when that was, in seconds since the epoch; None until then.
        tags: its labels.
        error: class, and text where all may be shown to the caller; empty unless it has one.
        successor: uid of the token that was submitted in its place; empty: there is none.
    """

    uid: str
    operation: str
    path: str
    key: str
    state: str
    due: float | None
    attempts: int
    recoveries: int
    accepted: float
    ended: float | None
    tags: dict[str, str]
    error: str = attrs.field(default="", metadata=_SPARSE)
    successor: str = attrs.field(default="", metadata=_SPARSE)


_SELECTOR: Final = (
    "a selector with `uid`, `operation`, `actor`, `key`, `state`, `error`, `reason`, `priority`, `attempts`, "
    "`recoveries`, `age`, `finished`, and tags"
)
_Limit: TypeAlias = Annotated[
    int, Meta(description="Maximum number of rows.", ge=1, le=10_000, extra={"metavar": "N", "flag": "-n"})
]


@attrs.frozen
class DurableTokens(Listing[DurableTokenRow]):
    """List durable tokens on disk, the newest first.

    Raises:
        BadSelector: the selector cannot be read.
    """

    examples: ClassVar = ("durable-tokens", "durable-tokens state=parked", "durable-tokens 'operation=charge,age>1h'")
    select: Annotated[str, Meta(description=f"Which ones: a uid, or {_SELECTOR}; empty for all.")] = ""
    limit: _Limit = attrs.field(default=1_000, kw_only=True)


@attrs.frozen
class ForkDurableToken(OnOne[DurableTokenRow]):
    """Submit the work of a durable token again as a new one, from one of its steps on.

    The new token has what the steps before that one have returned, and does not call them again. A step that is not on
    disk, such as one that has failed, comes after all that are. The new token has no key, and the tag `fork`.

    Raises:
        BadRequest: there is no such token, or argument, or bits of it have changed on disk.
        Refused: the caller may not, or sets arguments and may not see them.
    """

    target: ClassVar[Target] = "places"  # the answer asks for that of its operation
    unrecorded: ClassVar = ("set",)
    examples: ClassVar = (
        "durable-token fork 17.4242 --from charge",
        "durable-token fork 17.4242 --from 'load 2' --set path=/data/b.csv --reason 'the file was cut short'",
    )
    from_: Annotated[
        str,
        Meta(
            description="The first step to call: a name, or with its count, `load 2`; within another one, `a 0 > b 1`.",
            extra={"metavar": "STEP"},
        ),
    ] = attrs.field(default="", kw_only=True)
    set: Annotated[
        dict[str, str],
        Meta(description="Another value of an argument, as JSON or text.", extra={"metavar": "ARGUMENT=VALUE"}),
    ] = attrs.field(factory=dict, kw_only=True)


@attrs.frozen
class DeadLetterRow:
    """A durable token that has ended without having done its work, and waits for an operator.

    Attributes:
        uid: of the token.
        operation: `module:qualified name`, or `path:method` of an actor.
        reason: `may_have_run`, `poison`, `corrupt`, why it was refused or had expired, or how it has ended.
        error: class, and text where all may be shown to the caller.
        ended: when that was, in seconds since the epoch.
        successor: uid of the token that was submitted in its place; empty: there is none.
        key: that names the work; empty: none.
    """

    uid: str
    operation: str
    reason: str
    error: str
    ended: float
    successor: str = ""
    key: str = ""


@attrs.frozen
class DeadLetters(Listing[DeadLetterRow]):
    """List dead letters, the newest first.

    Raises:
        BadSelector: the selector cannot be read.
    """

    examples: ClassVar = ("dead-letters", "dead-letters operation=charge,reason=may_have_run")
    select: Annotated[str, Meta(description=f"Which ones: a uid, or {_SELECTOR}; empty for all.")] = ""
    limit: _Limit = attrs.field(default=1_000, kw_only=True)


@attrs.frozen
class _OnDeadLetters(Change[tuple[DeadLetterRow, ...]]):
    target: ClassVar[Target] = "places"  # the answer asks for that of each operation
    select: Annotated[str, Meta(description=f"Which ones: a uid, or {_SELECTOR}; `*` for all.")]


@attrs.frozen
class RetryDeadLetter(_OnDeadLetters):
    """Submit the work of dead letters again.

    Each becomes a new token, which has the key of the old one.

    Returns:
        The dead letters, each with its successor.

    Raises:
        BadSelector: the selector cannot be read.
        BadRequest: it names no dead letter, or one whose bits have changed; or the rate cannot work.
    """

    examples: ClassVar = (
        "dead-letter retry 17.4242",
        "dead-letter retry 'operation=charge' --rate 100/s --reason 'the bank is back'",
    )
    rate: Annotated[
        str, Meta(description="How many at most in a time, such as `100/s` or `5/m`.", extra={"metavar": "RATE"})
    ] = attrs.field(default="", kw_only=True)


@attrs.frozen
class DiscardDeadLetter(_OnDeadLetters):
    """Forget dead letters, and free their keys.

    Raises:
        BadSelector: the selector cannot be read.
        BadRequest: it names no dead letter.
    """

    right: ClassVar[str] = "terminate"
    examples: ClassVar = ("dead-letter discard 17.4242 --reason 'was done by hand'",)


_PLUGIN: Final = "Journal(directory)"
_OFFLINE: Final = "tokengate.durable._offline"

JOURNAL: Final = declare(
    Kind("journal", JournalRow, Journals, (CheckJournal, SalvageJournal), plugin=_PLUGIN, offline=_OFFLINE)
)
DURABLE_TOKEN: Final = declare(
    Kind("durable-token", DurableTokenRow, DurableTokens, (ForkDurableToken,), plugin=_PLUGIN, offline=_OFFLINE)
)
DEAD_LETTER: Final = declare(
    Kind(
        "dead-letter",
        DeadLetterRow,
        DeadLetters,
        (RetryDeadLetter, DiscardDeadLetter),
        plugin=_PLUGIN,
        offline=_OFFLINE,
    )
)
SCHEDULE: Final = declare(
    Kind(
        "schedule",
        ScheduleRow,
        Schedules,
        (RunSchedule, PauseSchedule, ResumeSchedule),
        plugin=_PLUGIN,
        offline=_OFFLINE,
    )
)
KINDS: Final = (JOURNAL, DURABLE_TOKEN, DEAD_LETTER, SCHEDULE)


class ScheduleVerbs(Facade):
    """The verbs about schedules of a gate."""

    list = asks(Schedules)
    run = asks(RunSchedule)
    pause = asks(PauseSchedule)
    resume = asks(ResumeSchedule)


class DeadLetterVerbs(Facade):
    """The verbs about dead letters of a gate."""

    list = asks(DeadLetters)
    retry = asks(RetryDeadLetter)
    discard = asks(DiscardDeadLetter)


class JournalVerbs(Facade):
    """The verbs about the rows of a journal."""

    look = asks(Journals)
    check = asks(CheckJournal)
    tokens = asks(DurableTokens)
    fork = asks(ForkDurableToken)
