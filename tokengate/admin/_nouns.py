"""Nouns with a generated table: which verbs they have, and how the fields of their rows are shown."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, Literal, TypeAlias, get_type_hints

import attrs

from tokengate.admin._forms import leaves_of
from tokengate.admin._templates import clock, count
from tokengate.control import messages as m
from tokengate.control.messages import Change, Message
from tokengate.control.registry._kinds import kinds
from tokengate.control.rendering._cells import SHARES, duration, percent, size, tags_in_words, yes_or_no

CellKind: TypeAlias = Literal[
    "text", "number", "time", "duration", "size", "share", "flag", "tags", "list", "token", "actor"
]
Verbs: TypeAlias = Mapping[str, type[Message[Any]]]

_FEW: Final = 16  # fields: of more, those without a value in any row are left out
_TIMES: Final = ("at", "made", "expires", "due", "since")
_SIZES: Final = ("memory", "memory_end", "bytes")
_BARE: Final = ("rate", "percent", "limit", "reserved", "spent", "left")  # numbers that are neither times nor sizes


@attrs.frozen
class Noun:
    """A noun with a generated table.

    Attributes:
        plural: its name in URLs: `audit-records`.
        row: class of a row; its field `uid`, or else the first one, is the name of what it is about.
        rows: the message that lists them.
        actions: {word: message that changes one of them, or makes one}.
        views: {word: message that shows more of one}.
        plugin: how to make the one that a gate needs for it; empty: none.
    """

    plural: str
    row: type[Any]
    rows: type[Message[Any]]
    actions: Verbs
    views: Verbs = attrs.field(factory=dict)
    plugin: str = ""

    @property
    def title(self) -> str:
        """Its name on a tab: `Audit records`."""
        return self.plural.replace("-", " ").capitalize()

    def name_of(self, row: Any) -> str:
        """Return the name of what a row is about."""
        return str(getattr(row, "uid", None) or getattr(row, attrs.fields(self.row)[0].name))

    def key_of(self, row: Any) -> str:
        """Return what a row is found by again: its name, its key, and what verbs that set nothing ask for as well."""
        verbs = [verb for word, verb in (*self.actions.items(), *self.views.items()) if word not in ("set", "throttle")]
        asked = {field.name for verb in verbs for field in attrs.fields(verb)} - {*m.ENVELOPE, "name", "select"}
        if not self.actions and not self.views:
            asked.add("target")
        name, more = self.name_of(row), _said(row, {"seq", "key"} | asked)
        return " · ".join([name, *(value for value in more.values() if value != name)])

    def given(self, verb: type[Message[Any]], row: Any) -> dict[str, str]:
        """Return the arguments of a verb that a row says: those of its own names, and the one that must be given."""
        found = _said(row, {field.name for field in attrs.fields(verb)} - {*m.ENVELOPE})
        needed = [field.name for field in attrs.fields(verb) if field.default is attrs.NOTHING]
        return found if not needed or needed[0] in found else {needed[0]: self.name_of(row), **found}


def _said(row: Any, names: set[str]) -> dict[str, str]:
    values = ((field.name, getattr(row, field.name)) for field in attrs.fields(type(row)) if field.name in names)
    return {name: str(value) for name, value in values if type(value) in (str, int, float) and value != ""}


def nouns() -> dict[str, Noun]:
    """Return {plural: noun} of all that have a generated table."""
    throttle = {"throttle": m.SetThrottle, "reset": m.ResetThrottle, "lift": m.Lift}
    found = {"throttles": Noun("throttles", m.ThrottleRow, m.Throttles, throttle)}
    for kind in kinds():
        verbs = {kind.action(verb).replace("-", " "): verb for verb in kind.verbs}
        actions = {word: verb for word, verb in verbs.items() if issubclass(verb, Change)}
        views = {word: verb for word, verb in verbs.items() if word not in actions}
        found[kind.plural] = Noun(kind.plural, kind.row, kind.rows, actions, views, kind.plugin)
    return found


_SHOWN: Final[Mapping[str, Callable[[Any], str]]] = {
    "time": clock,
    "duration": duration,
    "size": size,
    "share": percent,
    "number": count,
    "flag": yes_or_no,
    "tags": tags_in_words,
    "list": lambda values: ", ".join(map(str, values)),
}


@attrs.frozen
class Column:
    """A column of a generated table, or a field of a row in the drawer.

    Attributes:
        name: of the field.
        kind: how its values are shown.
    """

    name: str
    kind: CellKind

    @property
    def title(self) -> str:
        """Its heading."""
        return self.name.replace("_", " ")

    @property
    def is_number(self) -> bool:
        """Whether its cells are aligned to the right."""
        return self.kind in ("number", "duration", "size", "share")

    def text(self, value: Any) -> str:
        """Return a value as text; of several lines, the first one."""
        if value is None or value == "" or (isinstance(value, tuple | dict) and not value):
            return "-"
        show = _SHOWN.get(self.kind)
        if show is None or (self.kind == "number" and isinstance(value, str)):
            return str(value).partition("\n")[0]
        return show(value)


def columns_of(row: type[Any], rows: Sequence[Any]) -> list[Column]:
    """Return the columns of rows; a field of many, and one that is marked `sparse`, has one only if a row has a value.

    Args:
        row: their class.
        rows: all that are shown.
    """
    hints, fields = get_type_hints(row), attrs.fields(row)
    return [
        Column(field.name, _kind_of(field.name, leaves_of(hints[field.name]), row.__doc__ or ""))
        for field in fields
        if ("sparse" not in field.metadata and len(fields) <= _FEW)
        or any(getattr(one, field.name) not in (None, "", 0, (), {}, field.default) for one in rows)
    ]


def _kind_of(name: str, types: set[Any], text: str) -> CellKind:
    """Return how the values of a field are shown: by its type, its name, and what the class says of it."""
    if name in SHARES:
        return "share"
    line = re.search(rf"^ +(?:\w+, )*{name}(?:, \w+)*: (.*)", text, re.M)
    said = line[1] if line else ""
    if types & {int, float} and str not in types:
        if name in _TIMES or "since the epoch" in said:
            return "time"
        if name in _SIZES or said.startswith("bytes"):
            return "size"
        if name in ("token", "parent"):
            return "token"
        if name == "owner":  # a number that is a name
            return "text"
        return "duration" if float in types and (name not in _BARE or said.startswith("seconds")) else "number"
    if name == "actor":
        return "actor"
    return "flag" if bool in types else "tags" if dict in types else "list" if tuple in types else "text"


def sort_key(column: str) -> Callable[[Any], tuple[int, Any]]:
    """Return the key by which rows are sorted: numbers before texts, what is unknown at the end."""

    def key(row: Any) -> tuple[int, Any]:
        value = getattr(row, column)
        return (2, "") if value is None else (0, value) if isinstance(value, int | float) else (1, str(value))

    return key
