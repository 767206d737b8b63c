"""The sections that a file may have."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, Generic, TypeVar

import attrs

from tokengate.config._report import Report
from tokengate.policy._file import FlagRow, PolicyRow, Tables, ThrottleRow, flags, policies, throttles

R = TypeVar("R")


@attrs.frozen
class Section(Generic[R]):
    """A section: the tables `[[name]]`, of which a room makes rows.

    Attributes:
        name: of its tables.
        parse: returns the rows of the tables of a file, which may have none; it adds errors to the report.
        single: whether a file has one table at most, `[name]`, whose keys have the path `(name, key)`.
    """

    name: str
    parse: Callable[[Tables, Report], tuple[R, ...]]
    single: bool = False


POLICIES: Final = Section[PolicyRow]("policy", policies)
THROTTLES: Final = Section[ThrottleRow]("throttle", throttles)
FLAGS: Final = Section[FlagRow]("flag", flags)

SECTIONS: Final[dict[str, Section[Any]]] = {}
"""{name: section}, of all rooms."""


def register(*sections: Section[Any]) -> None:
    """Add sections; a room does so when it is imported.

    Raises:
        ValueError: another one has the name.
    """
    for section in sections:
        if SECTIONS.setdefault(section.name, section) is not section:
            raise ValueError(f"there is a section '{section.name}' already; choose another name")


register(POLICIES, THROTTLES, FLAGS)
