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


HISTORY: Final = declare(
    Kind("history-record", Event, HistoryRecords, (ShowHistoryRecord,), plugin=_PLUGIN, derived=False)
)
