"""The sections that a file may have."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final, Generic, TypeVar

import attrs

from tokengate.config._control import ControlRow, control
from tokengate.config._report import Report
from tokengate.policy._file import FlagRow, PolicyRow, Tables, ThrottleRow, flags, policies, throttles

R = TypeVar("R")


@attrs.frozen
class Section(Generic[R]):
    """A section: the tables `[[name]]`, of which a room makes rows.

    Attributes:
        name: of its tables.
        parse: returns the rows of the tables of a file, which may have none; it adds errors to the report.
        single: whether there is one table at most, `[name]`; the path of its values is `("name", "key")`.
        guarded: whether a file with it must belong to this user or root, and be writable by no one else.
    """

    name: str
    parse: Callable[[Tables, Report], tuple[R, ...]]
    single: bool = False
    guarded: bool = False


POLICIES: Final = Section[PolicyRow]("policy", policies)
THROTTLES: Final = Section[ThrottleRow]("throttle", throttles)
FLAGS: Final = Section[FlagRow]("flag", flags)
CONTROL: Final = Section[ControlRow]("control", control, single=True)

SECTIONS: Final[dict[str, Section[Any]]] = {}
"""{name: section}, of all rooms."""

PLUGINS: Final[Mapping[str, str]] = {"admin": "Admin", "journal": "Journal", "rule": "Predict", "schedule": "Journal"}
"""{section: class of the plugin without which a gate refuses it}; its room may not be imported."""


def register(*sections: Section[Any]) -> None:
    """Add sections; a room does so when it is imported.

    Raises:
        ValueError: another one has the name.
    """
    for section in sections:
        if SECTIONS.setdefault(section.name, section) is not section:
            raise ValueError(f"there is a section '{section.name}' already; choose another name")


register(POLICIES, THROTTLES, FLAGS, CONTROL)
