"""The section `[control]`: which other users may reach the gate's socket."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import attrs

from tokengate.config._names import gid_of
from tokengate.config._report import Report


@attrs.frozen
class ControlRow:
    """`[control]`.

    Attributes:
        group: number of the group whose users may connect; None: no others.
    """

    group: int | None = None


def control(tables: Sequence[Mapping[str, Any]], report: Report) -> tuple[ControlRow, ...]:
    """Return the row of the section; it asks the system for the group, for at most 5 s."""
    return tuple(_row(table, report) for table in tables)


def _row(table: Mapping[str, Any], report: Report) -> ControlRow:
    for key in table.keys() - {"group"}:
        report.wrong(("control", key), table[key], "there is no such key; use group")
    given = table.get("group")
    if type(given) is int and given >= 0:
        return ControlRow(given)
    if isinstance(given, str):
        try:
            return ControlRow(gid_of(given))
        except LookupError as error:
            report.wrong(("control", "group"), given, str(error))
    elif given is not None:
        report.wrong(("control", "group"), given, "use the name of a group, or its number")
    return ControlRow()
