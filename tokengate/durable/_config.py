"""The sections `[journal]` and `[[schedule]]` of `tokengate.toml`."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Final

import attrs

from actors import NotDurable
from tokengate._exceptions import BadPolicy
from tokengate.config._lines import KeyPath
from tokengate.config._report import Report
from tokengate.config._sections import Section, register
from tokengate.durable._schedule import Schedule, seconds_of
from tokengate.policy._file import Tables


@attrs.frozen
class JournalSettings:
    """`[journal]`: parameters of `Journal` that win over those of the code; None: those hold."""

    directory: Path | None = None
    retention: float | None = None
    aliases: Mapping[str, str] | None = None


@attrs.frozen
class ScheduleEntry:
    """A `[[schedule]]`, and the line where it begins."""

    line: int
    schedule: Schedule


def _path(value: Any) -> Path | None:
    return Path(value) if isinstance(value, str) and value.startswith("/") and "\0" not in value else None


def _seconds(value: Any) -> float | None:
    try:
        return seconds_of(value)
    except ValueError:
        return None


def are_names(names: Iterable[object]) -> bool:
    """Tell whether all are names on disk, such as `shop:charge`."""
    return all(isinstance(name, str) and name.count(":") == 1 for name in names)


def _aliases(value: Any) -> Mapping[str, str] | None:
    return value if isinstance(value, dict) and are_names((*value, *value.values())) else None


_KEYS: Final[Mapping[str, tuple[Callable[[Any], Any], str]]] = {
    "directory": (_path, "use the whole path of a directory, such as '/var/lib/shop'"),
    "retention": (_seconds, "use a number of seconds, or text such as '7d'"),
    "aliases": (_aliases, "use a table of names: 'shop.old:charge' = 'shop:charge'"),
}
_PARAMETERS: Final = tuple(inspect.signature(Schedule).parameters)


def _journal(tables: Tables, report: Report) -> tuple[JournalSettings, ...]:
    for table in tables:
        _check_keys(("journal",), table, _KEYS, report)
        values: dict[str, Any] = {key: _KEYS[key][0](table[key]) for key in _KEYS.keys() & table.keys()}
        for key in [key for key, value in values.items() if value is None]:
            report.wrong(("journal", key), table[key], _KEYS[key][1])
        return (JournalSettings(**values),)
    return ()


def _schedules(tables: Tables, report: Report) -> tuple[ScheduleEntry, ...]:
    found: dict[str, ScheduleEntry] = {}
    for number, table in enumerate(tables):
        path = ("schedule", number)
        if not _check_keys(path, table, _PARAMETERS, report):
            continue
        if not isinstance(table.get("args", []), list) or not isinstance(table.get("kwargs", {}), dict):
            report.wrong((*path, "args"), table.get("args"), "use a list for args, and a table for kwargs")
            continue
        try:
            one = ScheduleEntry(report.line(path), Schedule(**{"name": None, "operation": None, **table}))
        except BadPolicy as error:
            report.wrong((*path, error.field), error.value, error.remedy)
        except NotDurable as error:
            report.wrong((*path, "operation"), table["operation"], str(error))
        else:
            if found.setdefault(one.schedule.name, one) is not one:
                report.wrong((*path, "name"), one.schedule.name, "another schedule has it; use a different one")
    return tuple(found.values())


def _check_keys(path: KeyPath, table: Mapping[str, Any], known: Iterable[str], report: Report) -> bool:
    unknown = [key for key in table if key not in known]
    for key in unknown:
        report.wrong((*path, key), table[key], f"there is no such key; use one of {', '.join(known)}")
    return not unknown


JOURNAL: Final = Section[JournalSettings]("journal", _journal, single=True)
SCHEDULES: Final = Section[ScheduleEntry]("schedule", _schedules)

register(JOURNAL, SCHEDULES)
