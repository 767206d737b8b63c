"""Rows of tokens as selectors, grants and lists see them."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Collection, Iterator, Mapping
from functools import cached_property
from typing import Any, Final

import attrs
import msgspec

from tokengate.control._admission import Admission
from tokengate.control._uids import number_of, parts_of, text_of, uid_in
from tokengate.control.inspection._selector import Fields, Selector, parse
from tokengate.control.stream._record import NO_MORE, Record
from tokengate.durable import _states as states
from tokengate.durable._checksums import WHOLE
from tokengate.durable._keys import RECOVERY_REASONS
from tokengate.durable._kinds import DeadLetterRow, DurableTokenRow
from tokengate.policy._policies import PlaceName

_COLUMNS: Final = (
    "uid", "operation", "path", "key", "priority", "tags_text", "due", "state", "attempts", "recoveries", "accepted",
    "ended", "error", "reason", "successor", "whole",
)  # fmt: skip
_SELECT: Final = f"SELECT {', '.join(_COLUMNS[:-1]).replace('tags_text', 'tags')}"


@attrs.define(slots=False)
class Listed:
    """A row of tokens; what is not in it is None.

    Attributes:
        whole: whether it has the bits that were written; True of a list of all tokens, which does not look.
    """

    uid: int
    operation: str
    path: str
    key: str | None
    priority: int
    tags_text: str | None
    due: float | None
    state: int
    attempts: int
    recoveries: int
    accepted: float
    ended: float | None
    error: str | None
    reason: str | None
    successor: int | None
    whole: bool

    @cached_property
    def tags(self) -> dict[str, str]:
        """Its labels."""
        return msgspec.json.decode(self.tags_text or "{}", type=dict[str, str])

    @property
    def place(self) -> PlaceName:
        """Where it runs, as grants name it; its affinity is not on disk."""
        of_operation, _, name = self.path.rpartition("operations/")
        return PlaceName(name.partition("@")[0] if of_operation == "" != name else "", self.path, "")

    def error_shown(self, texts: bool) -> str:
        """Return the class of its error; with its text if that may be shown, or is ours."""
        text = self.error or ""
        return text if texts or self.reason in RECOVERY_REASONS else text.partition(":")[0]

    def token_row(self, texts: bool = False) -> DurableTokenRow:
        """Return it as `durable-tokens` lists it; with the text of its error if that may be shown."""
        return DurableTokenRow(
            text_of(self.uid), self.operation, self.path, self.key or "", states.NAMES[self.state], self.due,
            self.attempts, self.recoveries, self.accepted, self.ended, self.tags,
            error=self.error_shown(texts), successor=self._successor,
        )  # fmt: skip

    def dead_row(self, texts: bool = False) -> DeadLetterRow:
        """Return it as `dead-letters` lists it."""
        reason = self.reason or states.NAMES[self.state]
        ended = self.accepted if self.ended is None else self.ended
        error = self.error_shown(texts)
        return DeadLetterRow(
            text_of(self.uid), self.operation, reason, error, ended, self._successor, key=self.key or ""
        )

    @property
    def _successor(self) -> str:
        return "" if self.successor is None else text_of(self.successor)


_TEXTS: Final[Mapping[str, Callable[[Any, float], Any]]] = {
    "uid": lambda row, _now: text_of(row.uid),
    "operation": lambda row, _now: (row.operation, row.place.operation),
    "actor": lambda row, _now: row.path,
    "key": lambda row, _now: row.key,
    "state": lambda row, _now: states.NAMES[row.state],
    "error": lambda row, _now: (row.error or "").partition(":")[0] or None,
    "reason": lambda row, _now: row.reason or states.NAMES[row.state],
}
FIELDS: Final = Fields(
    _TEXTS,
    {
        "priority": lambda row, _now: row.priority,
        "attempts": lambda row, _now: row.attempts,
        "recoveries": lambda row, _now: row.recoveries,
    },
    {
        "age": lambda row, now: now - row.accepted,
        "finished": lambda row, now: None if row.ended is None else now - row.ended,
    },
    many=("operation",),
    has_tags=True,
    choices={"state": states.NAMES},
    instead={"id": "uid", "attempt": "attempts", "held": "state", "running": "age", "affinity": "operation"},
)
"""What a selector can ask of a row."""


def chosen(select: str) -> Selector:
    """Return a selector of rows; a uid alone is one, too.

    Raises:
        BadSelector: it cannot be read.
    """
    try:
        return parse(f"uid={text_of(number_of(select.strip()))}", FIELDS)
    except ValueError:
        return parse(select, FIELDS)


def listed(
    db: sqlite3.Connection,
    select: Selector,
    now: float,
    here: Admission | None,
    parked: Collection[int] = (),
    *,
    dead: bool = False,
) -> Iterator[Listed]:
    """Yield the rows that a selector matches, the newest first.

    Args:
        db: a connection.
        select: made by `chosen`.
        now: wall time.
        here: what the caller may see; None: all.
        parked: uids of rows that cannot run here.
        dead: whether only dead letters are wanted.
    """
    wanted, values = ["dead IS NOT NULL" if dead else "TRUE"], list[Any]()
    for part in select.parts:
        if part.name == "uid" and not part.is_tag and part.is_exact:
            number = uid_in(part.value)
            wanted.append("uid = ?")
            values.append(-1 if number is None else number)
        elif part.name == "state" and not part.is_tag:
            fitting = {state for state, name in enumerate(states.NAMES) if part.fits(name)}
            some = fitting if min(fitting, default=states.COMPLETED) >= states.COMPLETED else {*range(4), *fitting}
            wanted.append(f"state IN ({', '.join(map(str, some))})")
    bits = WHOLE if dead or values else "TRUE"  # which takes a while for many rows, and few ask for it
    rows = db.execute(f"{_SELECT}, {bits} FROM tokens WHERE {' AND '.join(wanted)} ORDER BY uid DESC", values)
    for row in rows:
        one = Listed(*row)
        if one.uid in parked and one.state < states.COMPLETED:
            one.state = states.PARKED
        if select.matches(one, now) and (here is None or here.sees_record(_record(one))):  # type: ignore[arg-type]
            yield one


def _record(row: Listed) -> Record:
    """Return what selectors of grants read of a row."""
    place, name = row.place, states.NAMES[row.state]
    operation = place.operation or row.operation
    ended = row.accepted if row.ended is None else row.ended
    return Record(
        0, "", parts_of(row.uid)[1], operation, row.path, "", None, row.priority, row.tags, 0, row.attempts, name,
        row.accepted, row.accepted, None, ended, "", 1, NO_MORE, "",
    )  # fmt: skip
