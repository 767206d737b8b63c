"""The noun of history: the records of the past."""

from __future__ import annotations

from typing import Annotated, ClassVar, Final

import attrs
from msgspec import Meta

from tokengate.control.messages import Event, Listing, Message
from tokengate.control.registry._kinds import Kind, declare

_PLUGIN: Final = "History(directory)"
_WHEN: Final = "How long ago (`90s`, `2h`, `7d`), or a date and time (`2026-11-30T08:00`)"


@attrs.frozen
class HistoryRecords(Listing[Event]):
    """List the newest records of history, in order of time, with what is missing between them (`telemetry.lost`).

    Without a selector, and with a term about `kind`, what else has happened is among them.

    Raises:
        BadSelector: the selector cannot be read.
        BadRequest: a time cannot be read.
    """

    select: Annotated[
        str,
        Meta(
            description="Which records, as a selector of tokens; also by `run`, `wait`, `held`, `cpu`, `memory`, "
            "`finished`, `error`, `reason`, `key`, `kind`, `gate_run`."
        ),
    ] = ""
    since: Annotated[str, Meta(description=f"{_WHEN}, from which on; empty: all.", extra={"metavar": "TIME"})] = ""
    until: Annotated[str, Meta(description=f"{_WHEN}, until which; empty: now.", extra={"metavar": "TIME"})] = ""
    limit: Annotated[
        int, Meta(description="Maximum number of records.", ge=1, le=10_000, extra={"metavar": "N", "flag": "-n"})
    ] = 1_000


@attrs.frozen
class ShowHistoryRecord(Message[tuple[Event, ...]]):
    """Show one token: its attempts, samples and events, in order of time, and what is missing beside them.

    Raises:
        BadRequest: nothing is known of it.
    """

    right: ClassVar[str] = "view"
    name: Annotated[str, Meta(description="Its uid, such as `7f3a91c2.4242`; or its id, which may be of several runs.")]


@attrs.frozen
class LogLine:
    """A log line of a token.

    Attributes:
        at: seconds since the epoch.
        level, logger: of the line.
        token: its id.
        actor: path of the actor or operation.
        where: file and line of the code.
        error: class of the error that was logged; empty: none was.
        text: the line; None unless the operation or actor shows everything.
    """

    at: float
    level: str
    logger: str
    token: int
    actor: str
    where: str
    error: str = ""
    text: str | None = None


@attrs.frozen
class ShowTokenLog(Message[tuple[LogLine, ...]]):
    """Show the latest log lines of one token, as far as they are in memory.

    Raises:
        Refused: the caller may not see the arguments of all tokens.
    """

    right: ClassVar[str] = "arguments"
    token: Annotated[int, Meta(description="Its id.")]


@attrs.frozen
class Opening:
    """What a gate was opened with.

    Attributes:
        gate_run: the opening.
        versions: {what: its version}.
        configuration: a line for each value of its file, without those with names of secrets.
    """

    gate_run: str
    versions: dict[str, str]
    configuration: tuple[str, ...] = ()


@attrs.frozen
class ShowOpening(Message[Opening]):
    """Show what this gate was opened with.

    Raises:
        BadRequest: history does not know the opening.
        Refused: the caller may not see all tokens.
    """

    right: ClassVar[str] = "view"
    gate_run: Annotated[str, Meta(description="An earlier opening; empty: this one.")] = ""


HISTORY: Final = declare(
    Kind(
        "history-record",
        Event,
        HistoryRecords,
        (ShowHistoryRecord, ShowTokenLog, ShowOpening),
        plugin=_PLUGIN,
        derived=False,
    )
)
