"""The audit log: its records."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar

import attrs
from msgspec import Meta

from tokengate.control.messages._bases import Listing, Message
from tokengate.control.messages._streams import Stream


@attrs.frozen
class AuditRecordRow:
    """A record of the audit log, as it is listed.

    Attributes:
        seq: its number in the log.
        at: seconds since the epoch.
        kind: `intent` (before a verb acts), `outcome` (after it), `refused`, `read`, `proposal`, and others.
        principal: the caller; empty for what the log records of itself.
        owner: the user behind it, or None.
        via: the way in.
        verb: what was asked for; empty for what the log records of itself.
        target: ids of tokens, as text (`3-7,12`), or the path of an actor.
        outcome: of an outcome, how many targets have which: `3 terminated, 1 ended`.
        of: of an outcome, the number of its intent; else None.
        proposal: number of the proposal that it is about, or None.
        reason: why; with what was on fire, if the glass was broken.
    """

    seq: int
    at: float
    kind: str
    principal: str
    owner: int | None
    via: str
    verb: str
    target: str
    outcome: str
    of: int | None
    proposal: int | None
    reason: str


_SELECT = (
    "Which records, as a selector: `principal`, `kind`, `verb`, `via`, `actor`, `outcome`, `request`, `seq`, `token`, "
    "`owner`, `proposal`, `of`, `age`."
)


@attrs.frozen
class AuditRecords(Listing[AuditRecordRow]):
    """List the newest records of the audit log, the newest last. This is recorded, too.

    Raises:
        BadSelector: the selector cannot be read.
        ControlError: the gate has no audit log, or it cannot be read, or not soon enough.
        Refused: the right `audit` is missing, or holds for some tokens only.
    """

    right: ClassVar = "audit"
    select: Annotated[str, Meta(description=_SELECT)] = ""
    limit: Annotated[
        int, Meta(description="Maximum number of records.", ge=1, le=1_000, extra={"metavar": "N", "flag": "-n"})
    ] = 100


@attrs.frozen
class AuditRecord:
    """A record of the audit log.

    Attributes:
        row: as it is listed.
        fields: all that is recorded.
    """

    row: AuditRecordRow
    fields: dict[str, Any]


@attrs.frozen
class ShowAuditRecord(Message[AuditRecord]):
    """Show all of a record of the audit log. This is recorded, too.

    Raises:
        ControlError: there is no such record, or the log cannot be read.
        Refused: the right `audit` is missing, or holds for some tokens only.
    """

    right: ClassVar = "audit"
    examples: ClassVar = ("audit show 1207",)
    seq: Annotated[int, Meta(description="Its number, as `audit` lists it.", ge=1, extra={"metavar": "SEQ"})]


@attrs.frozen
class FollowAudit(Stream):
    """Follow the records of the audit log, from when they are on disk. This is recorded, too.

    Raises:
        BadSelector: the selector cannot be read.
        ControlError: the gate has no audit log.
        Refused: the right `audit` is missing, or holds for some tokens only.
    """

    right: ClassVar = "audit"
    select: Annotated[str, Meta(description=_SELECT)] = ""
