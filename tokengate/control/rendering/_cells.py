"""Columns and cells of tables, and numbers as text.

Names, tags and values come from users. So they are never interpreted as markup, and control characters, which could
move a terminal's cursor, are escaped.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Generic, TypeVar

import attrs
from rich.console import Console, ConsoleOptions, RenderResult
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from tokengate.control._safe_text import printable

Row = TypeVar("Row")

_MINUTE, _HOUR, _DAY = 60, 3600, 86400

SHARES = ("coverage", "thirds", "predicted", "cut_short", "worst", "succeeded")
"""Fields of rows that are shares of 1, or several of them, and are shown in percent."""

# Columns; wider than any line, so that nothing is cut.
UNBOUNDED = 100_000

# Characters of a text that must have room.
_READABLE = 16

# Ids of running tokens that a cell shows.
_SOME = 3

_WORDS = {
    "cyan": "queued would open proposed",
    "dim": "created completed unchanged observed",
    "green": "running done approved applied",
    "magenta": "terminated killed",
    "red": "failed expired denied changed rejected vacant refused unknown ended abandoned",
    "yellow": "degraded paused restarting starting stopping closing pending awaiting",
}
"""{style: states, statuses and outcomes}; others are green, or yellow if they end in `_requested`."""

_STYLES = {word: style for style, words in _WORDS.items() for word in words.split()}


def duration(seconds: float | None) -> str:
    """Return a time in at most two units: `250ms`, `3.2s`, `4m10s`, `3h05m`, `2d04h`; `-` for None."""
    if seconds is None:
        return "-"
    if seconds < 0.9995:
        return f"{max(seconds, 0) * 1000:.0f}ms"
    if seconds < 59.95:
        return f"{seconds:.1f}s"
    whole = round(seconds)
    if whole < _HOUR:
        return f"{whole // _MINUTE}m{whole % _MINUTE:02}s"
    if whole < _DAY:
        return f"{whole // _HOUR}h{whole % _HOUR // _MINUTE:02}m"
    return f"{whole // _DAY}d{whole % _DAY // _HOUR:02}h"


@attrs.frozen
class Column(Generic[Row]):
    """A column of a table.

    Attributes:
        title: its title.
        cell: returns the text of a row's cell; a `Tail` if its end matters most.
        style: returns the style of a row's cell.
        right: whether it is aligned to the right, as numbers are.
        shrinks: whether it may be cut on a narrow terminal.
        wide: whether it is only shown in wide tables.
        spare: whether it is left out where a `Fitted` table has no room.
    """

    title: str
    cell: Callable[[Row], object]
    style: Callable[[Row], str] = lambda _row: ""
    right: bool = False
    shrinks: bool = False
    wide: bool = False
    spare: bool = False


class Tail:
    """A path in a cell: if it does not fit, its beginning is left out, which many paths share."""

    def __init__(self, path: str) -> None:
        self._text = plain(path)

    def __rich_measure__(self, console: Console, options: ConsoleOptions) -> Measurement:
        return Measurement.get(console, options, self._text)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:  # rich's names
        text = self._text
        while text.cell_len > options.max_width > 0:
            text = Text("…") + text[2 if text is not self._text else 1 :]
        yield text


def table_of(
    columns: Iterable[Column[Row]], rows: Iterable[Row], wide: bool, style: Callable[[Row], str] = lambda _row: ""
) -> Table:
    """Return a table without borders, with a line for each row; a wide one has all columns."""
    shown = [column for column in columns if wide or not column.wide]
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for column in shown:
        # rich shrinks a column only if it may wrap; the cells are cut, so that a row stays one line.
        table.add_column(column.title, justify="right" if column.right else "left", no_wrap=not column.shrinks)
    for row in rows:
        cells = ((column.cell(row), column.style(row)) for column in shown)
        table.add_row(
            *(cell if isinstance(cell, Tail) else plain(cell, look) for cell, look in cells), style=style(row)
        )
    return table


@attrs.frozen
class Fitted(Generic[Row]):
    """A table that leaves out spare columns, the last ones first, where texts would be cut to less than 16 characters.

    Attributes:
        columns: all that it may have.
        rows: of the table.
        wide: whether it has all columns.
    """

    columns: Sequence[Column[Row]]
    rows: Sequence[Row]
    wide: bool

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:  # rich's names
        columns = list(self.columns)
        spare = [column for column in columns if column.spare]
        while _least(table := table_of(columns, self.rows, self.wide), console) > options.max_width and spare:
            columns.remove(spare.pop())
        yield table


def _least(table: Table, console: Console) -> int:
    """Return the width of a table whose texts are cut as far as they can still be read."""
    for column in table.columns:
        column.max_width = None if column.no_wrap else _READABLE
    width = Measurement.get(console, console.options.update(width=UNBOUNDED), table).maximum
    for column in table.columns:
        column.max_width = None
    return width


def pairs_of(pairs: Iterable[tuple[str, object]]) -> Table:
    """Return names and values, one below the other."""
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in pairs:
        table.add_row(name, value if isinstance(value, Text) else plain(value, cut=False))
    return table


def plain(value: object, style: str = "", *, cut: bool = True) -> Text:
    """Return text without markup; it is cut at the width of its cell, or folded."""
    shown = printable(str(value))
    return Text(shown, style, no_wrap=True, overflow="ellipsis") if cut else Text(shown, style)


def style_of(word: str) -> str:
    """Return the style of a state, status or outcome."""
    return _STYLES.get(word, "yellow" if word.endswith("_requested") else "green")


def tags_in_words(tags: dict[str, str]) -> str:
    """Return tags in the form of a selector."""
    return ",".join(f"{name}={value}" for name, value in tags.items())


def factors_in_words(factors: dict[str, float]) -> str:
    """Return what makes a token run longer than usual: `bytes x3.1, tenant=acme x1.2`."""
    return ", ".join(f"{name} x{factor:.2g}" for name, factor in factors.items())


def features_in_words(features: dict[str, float]) -> str:
    """Return finite numbers with their names: `bytes 123,456, depth 2`."""
    return ", ".join(
        f"{name} {number(int(value) if value == int(value) else value)}" for name, value in features.items()
    )


def ids_in_words(ids: Sequence[int]) -> str:
    """Return the first few of some ids."""
    more = f" +{len(ids) - _SOME}" if len(ids) > _SOME else ""
    return " ".join(f"#{id}" for id in ids[:_SOME]) + more


def share(part: float | None) -> str:
    """Return a share of 1 in percent."""
    return "-" if part is None else f"{part:.0%}"


def percent(shares: float | Sequence[float] | None) -> str:
    """Return a share of 1, or several, in percent, to a tenth; `-` for None."""
    if isinstance(shares, Sequence):
        return ", ".join(map(percent, shares)) or "-"
    return "-" if shares is None else f"{shares:.1%}"


def size(count: int | None) -> str:
    """Return a number of bytes; `-` for None."""
    if count is None:
        return "-"
    value, units = float(count), ["B", "kB", "MB", "GB"]
    while value >= 1000 and len(units) > 1:
        value, units = value / 1000, units[1:]
    return f"{count} B" if units[0] == "B" else f"{value:.1f} {units[0]}"


def number(value: float | None) -> str:
    """Return a number with commas; `-` for None."""
    if value is None:
        return "-"
    return f"{value:,}" if isinstance(value, int) else f"{value:g}"


def yes_or_no(flag: bool) -> str:
    """Return `yes` or `no`."""
    return "yes" if flag else "no"


def with_flags(word: str, **flags: bool) -> str:
    """Return a text, and after it the names of the flags that are set."""
    said = ", ".join(name for name, flag in flags.items() if flag)
    return f"{word} ({said})" if said else word
