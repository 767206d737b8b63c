"""Answers for people to read: tables, trees and lines, in colour where there is any.

Names, tags and values come from users. So none of them is ever taken for markup, and characters that could move a
terminal's cursor are shown as escapes.
"""

from __future__ import annotations

import io
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Generic, TypeVar

import attrs
from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text
from rich.tree import Tree

from tokengate.control._discovery import FoundGate
from tokengate.control.messages import (
    ActorOutcome,
    ActorRow,
    ActorState,
    Argument,
    Attribute,
    ChildCountsRow,
    ChildRow,
    Frame,
    GateInfo,
    Outcome,
    StreamItem,
    ThrottleRow,
    TokenDescription,
    TokenPage,
    TokenRow,
    TokenStack,
    TreeRow,
)

Row = TypeVar("Row")

# Wider than any line; what is not for a terminal is never cut.
_UNBOUNDED = 100_000

_MINUTE, _HOUR, _DAY = 60, 3600, 86400

# How many ids of running tokens a cell shows.
_SOME = 3

_STYLES = {
    "created": "dim",
    "queued": "cyan",
    "running": "green",
    "paused": "yellow",
    "completed": "dim",
    "failed": "red",
    "terminated": "magenta",
    "expired": "red",
    "rejected": "red",
    "restarting": "yellow",
    "starting": "yellow",
    "stopping": "yellow",
    "closing": "yellow",
    "vacant": "red",
    "done": "green",
    "pending": "yellow",
    "refused": "red",
    "unknown": "red",
    "ended": "red",
    "abandoned": "red",
    "unchanged": "dim",
    "would": "cyan",
}
"""{state, status or outcome: how it looks}; other outcomes are green, those that are only requested yellow."""

_WHERE = {
    "thread": "runs on thread",
    "task": "is a trio task, which waits",
    "generator": "is between two steps",
    "nowhere": "has not begun",
}


def renderable(answer: object, *, wide: bool = False) -> RenderableType:
    """Return what rich can print for an answer of any message, with all columns if it is to be wide."""
    if isinstance(answer, (tuple, list)):
        if not answer:
            return Text("none", "dim")
        many = _MANY.get(type(answer[0]))
        if many is not None:
            return many(answer, wide)
        return Group(*(renderable(each, wide=wide) for each in answer))
    if type(answer) in _MANY:
        return _MANY[type(answer)]([answer], wide)
    one = _ONE.get(type(answer))
    if one is not None:
        return one(answer, wide)
    return _text(answer if isinstance(answer, str) else repr(answer))


def as_text(answer: object, width: int | None = None, *, wide: bool = False) -> str:
    """Return an answer as plain text: lines without colours, and not cut unless a width (in columns) is given."""
    out = io.StringIO()
    console = Console(file=out, width=width or _UNBOUNDED, color_system=None, force_terminal=False, highlight=False)
    console.print(renderable(answer, wide=wide))
    return "\n".join(line.rstrip() for line in out.getvalue().splitlines())


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


def state_of(row: TokenRow) -> str:
    """Return a token's state, and who holds it in what way, if somebody does."""
    return row.state if row.held in ("", row.state) else f"{row.state} ({row.held.replace('_', ' ')})"


def token_table(rows: Sequence[TokenRow], *, wide: bool = False, selected: int | None = None) -> Table:
    """Return a table of tokens, one line for each; the row of the one with the selected id stands out."""
    return _table(_TOKENS, rows, wide, lambda row: "reverse" if row.id == selected else "")


# --- What tables are made of -----------------------------------------------------------------------------------------


@attrs.frozen
class Column(Generic[Row]):
    """A column of a table.

    Attributes:
        title: what stands above it.
        cell: what a row has in it, in words.
        style: how that looks.
        right: whether it is aligned to the right, as numbers are.
        shrinks: whether it may be cut short on a narrow terminal.
        wide: whether it is left out unless all columns are wanted.
    """

    title: str
    cell: Callable[[Row], object]
    style: Callable[[Row], str] = lambda _row: ""
    right: bool = False
    shrinks: bool = False
    wide: bool = False


def _table(
    columns: Iterable[Column[Row]], rows: Iterable[Row], wide: bool, style: Callable[[Row], str] = lambda _row: ""
) -> Table:
    shown = [column for column in columns if wide or not column.wide]
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for column in shown:
        # A column shrinks only if it may wrap; its cells are cut instead, so that a row stays one line.
        table.add_column(column.title, justify="right" if column.right else "left", no_wrap=not column.shrinks)
    for row in rows:
        table.add_row(*(_text(column.cell(row), column.style(row)) for column in shown), style=style(row))
    return table


def _pairs(pairs: Iterable[tuple[str, object]]) -> Table:
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in pairs:
        table.add_row(name, value if isinstance(value, Text) else _text(value, cut=False))
    return table


def _text(value: object, style: str = "", *, cut: bool = True) -> Text:
    """Return text that is shown as it is, in one line unless it may be folded instead of cut."""
    shown = "".join(char if char.isprintable() else ascii(char)[1:-1] for char in str(value))
    return Text(shown, style, no_wrap=True, overflow="ellipsis") if cut else Text(shown, style)


def _style(word: str) -> str:
    return _STYLES.get(word, "yellow" if word.endswith("_requested") else "green")


def _tags(tags: dict[str, str]) -> str:
    return ",".join(f"{name}={value}" for name, value in tags.items())


def _ids(ids: Sequence[int]) -> str:
    more = f" +{len(ids) - _SOME}" if len(ids) > _SOME else ""
    return " ".join(f"#{id}" for id in ids[:_SOME]) + more


def _share(share: float | None) -> str:
    return "-" if share is None else f"{share:.0%}"


def _bytes(size: int | None) -> str:
    if size is None:
        return "-"
    value, units = float(size), ["B", "kB", "MB", "GB"]
    while value >= 1000 and len(units) > 1:
        value, units = value / 1000, units[1:]
    return f"{size} B" if units[0] == "B" else f"{value:.1f} {units[0]}"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:,g}"


def _yes(flag: bool) -> str:
    return "yes" if flag else "no"


def _with(word: str, **flags: bool) -> str:
    said = ", ".join(name for name, flag in flags.items() if flag)
    return f"{word} ({said})" if said else word


# --- Tables, by what a row is ----------------------------------------------------------------------------------------

_TOKENS: tuple[Column[TokenRow], ...] = (
    Column("ID", lambda row: row.id, right=True),
    Column("STATE", state_of, lambda row: "yellow" if row.held else _style(row.state)),
    Column("OPERATION", lambda row: row.operation, shrinks=True),
    Column("ACTOR", lambda row: row.actor, shrinks=True),
    Column("AFFINITY", lambda row: row.affinity, wide=True),
    Column("PRI", lambda row: row.priority, right=True),
    Column("AGE", lambda row: duration(row.age), right=True),
    Column("RUNNING", lambda row: duration(row.running), right=True),
    Column("PARENT", lambda row: "-" if row.parent is None else row.parent, right=True, wide=True),
    Column("ATTEMPT", lambda row: row.attempt, right=True, wide=True),
    Column("STEPS", lambda row: row.steps, right=True, wide=True),
    Column("TAGS", lambda row: _tags(row.tags), shrinks=True),
)

_OUTCOMES: tuple[Column[Outcome], ...] = (
    Column("ID", lambda row: row.token, right=True),
    Column("OPERATION", lambda row: row.operation or "-", shrinks=True),
    Column(
        "OUTCOME",
        lambda row: "would be affected" if row.outcome == "would" else row.outcome.replace("_", " "),
        lambda row: _style(row.outcome),
    ),
    Column("NOTE", lambda row: row.note, shrinks=True),
)

_ACTORS: tuple[Column[ActorRow], ...] = (
    Column("ACTOR", lambda row: row.path, shrinks=True),
    Column("KIND", lambda row: row.kind, shrinks=True),
    Column("AFFINITY", lambda row: row.affinity, wide=True),
    Column(
        "STATUS",
        lambda row: _with(row.status, suspended=row.suspended, draining=row.draining),
        lambda row: "yellow" if row.suspended or row.draining else _style(row.status),
    ),
    Column("QUEUED", lambda row: row.depth, right=True),
    Column("CAPACITY", lambda row: row.capacity, right=True, wide=True),
    Column("RUNNING", lambda row: _ids(row.running)),
    Column("RESTARTS", lambda row: max(row.starts - 1, 0), right=True),
    Column("HANDLED", lambda row: row.handled, right=True),
)

_BUSY: Column[ActorRow] = Column("BUSY", lambda row: _share(row.busy_share), right=True)

_STATISTICS: tuple[Column[ActorRow], ...] = (
    Column("ACTOR", lambda row: row.path, shrinks=True),
    Column("FOR", lambda row: duration(row.statistics and row.statistics.seconds), right=True),
    Column("HANDLED", lambda row: row.statistics and row.statistics.handled, right=True),
    Column("FAILED", lambda row: row.statistics and row.statistics.failed, right=True),
    Column("WAITED", lambda row: duration(row.statistics and row.statistics.waited), right=True),
    Column("TOOK", lambda row: duration(row.statistics and row.statistics.took), right=True),
    Column("LONGEST", lambda row: duration(row.statistics and row.statistics.longest), right=True),
    Column("BUSY", lambda row: _share(row.statistics and row.statistics.busy_share), right=True),
)

_THROTTLES: tuple[Column[ThrottleRow], ...] = (
    Column("SELECTOR", lambda row: row.selector, shrinks=True),
    Column("PER SECOND", lambda row: _number(row.rate), right=True),
    Column("AT ONCE", lambda row: _number(row.concurrency), right=True),
    Column("RUNNING", lambda row: row.running, right=True),
    Column("WAITING", lambda row: row.waiting, right=True),
)

_CHILDREN: tuple[Column[ChildRow], ...] = (
    Column("ID", lambda row: row.id, shrinks=True),
    Column("STATUS", lambda row: row.status, lambda row: _style(row.status)),
    Column("RESTART", lambda row: _with(row.restart, significant=row.significant)),
    Column("RESTARTS", lambda row: row.restarts, right=True),
    Column("IS", lambda row: "supervisor" if row.supervisor else "worker"),
    Column("PATH", lambda row: row.path, shrinks=True),
)

_ATTRIBUTES: tuple[Column[Attribute | Argument], ...] = (
    Column("NAME", lambda row: row.name),
    Column("TYPE", lambda row: row.type),
    Column("SIZE", lambda row: _number(row.size), right=True),
    Column(
        "VALUE",
        lambda row: "(redacted)" if isinstance(row, Argument) and row.redacted else row.value or "",
        shrinks=True,
    ),
)

_GATES: tuple[Column[FoundGate], ...] = (
    Column("NAME", lambda row: row.name, shrinks=True),
    Column("PID", lambda row: row.pid, right=True),
    Column("ANSWERS", lambda row: _yes(row.answers), lambda row: "green" if row.answers else "red"),
    Column("SOCKET", lambda row: row.path, shrinks=True),
)


def _page(page: TokenPage, wide: bool) -> RenderableType:
    if not page.rows:
        return Text(f"no tokens here; {page.matching:,} match, {page.live:,} are live", "dim")
    table = token_table(page.rows, wide=wide)
    if len(page.rows) == page.matching:
        return table
    last = page.offset + len(page.rows)
    return Group(table, Text(f"{page.offset + 1:,} to {last:,} of {page.matching:,}; {page.live:,} are live", "dim"))


def _actors(rows: Sequence[ActorRow], wide: bool) -> RenderableType:
    sampled = any(row.busy_share is not None for row in rows)
    table = _table((*_ACTORS, _BUSY) if sampled else _ACTORS, rows, wide)
    counted = [row for row in rows if row.statistics is not None]
    return Group(table, "", _table(_STATISTICS, counted, wide)) if counted else table


def _tree(rows: Sequence[TreeRow], _wide: bool) -> RenderableType:
    root = Tree(_node(rows[0]), guide_style="dim")
    above = [(rows[0].depth, root)]  # the way from the root to the last row
    for row in rows[1:]:
        while len(above) > 1 and above[-1][0] >= row.depth:
            above.pop()
        above.append((row.depth, above[-1][1].add(_node(row))))
    return root


def _node(row: TreeRow) -> Text:
    parts = [_text(row.id, "bold"), _text(row.kind, "dim")]
    if row.strategy:
        parts.append(_text(row.strategy, "dim"))
    if row.status != "running":
        parts.append(_text(row.status, _style(row.status)))
    if row.suspended:
        parts.append(_text("suspended", "yellow"))
    if row.restart not in ("", "permanent"):
        parts.append(_text(row.restart, "dim"))
    if row.restarts:
        parts.append(_text(f"restarts={row.restarts}", "yellow"))
    if row.queued:
        parts.append(_text(f"queued={row.queued}", "cyan"))
    if row.running:
        parts.append(_text(f"running {_ids(row.running)}", "green"))
    return Text("  ").join(parts)


# --- Answers that are one thing --------------------------------------------------------------------------------------


def _info(info: GateInfo, _wide: bool) -> RenderableType:
    return _pairs(
        [
            ("gate", f"{info.name} ({info.state})"),
            ("process", f"{info.pid}, Python {info.python}, TokenGate {info.version}"),
            ("uptime", duration(info.uptime)),
            ("tokens", ", ".join(f"{count:,} {state}" for state, count in info.tokens.items() if count) or "none"),
            ("actors", f"{info.actors:,}; {info.restarts:,} restarts"),
            ("threads", f"{info.threads}, of which {info.blocked} wait, are paused or block"),
            ("abandoned", ", ".join(info.abandoned) or "none"),
            ("pauses code", "also while it runs" if info.pauses_running_code else "between its steps only"),
        ]
    )


def _description(token: TokenDescription, _wide: bool) -> RenderableType:
    row = token.row
    pairs: list[tuple[str, object]] = [
        ("token", row.id),
        ("operation", row.operation),
        ("state", _text(state_of(row), "yellow" if row.held else _style(row.state))),
        ("actor", f"{row.actor} ({row.affinity})"),
        ("priority", row.priority),
        ("tags", _tags(row.tags) or "none"),
        ("parent", "none" if row.parent is None else f"#{row.parent}"),
        ("children", " ".join(f"#{id}" for id in token.children) or "none"),
        ("attempt", f"{row.attempt}; {row.steps} steps have begun"),
        ("age", duration(row.age)),
    ]
    if token.queued_at is not None and token.started_at is not None:
        pairs.append(("was queued", f"for {duration(token.started_at - token.queued_at)}"))
    if row.running is not None:
        pairs.append(("running", f"for {duration(row.running)}"))
    if token.paused_for:
        pairs.append(
            ("paused", f"for {duration(token.paused_for)}; {duration(token.stopped_clock)} do not count for its limits")
        )
    if token.waits_for:
        pairs.append(("waits for", ", ".join(token.waits_for)))
    if token.thread is not None:
        share = "" if token.cpu_share is None else f", which computes for {_share(token.cpu_share)} of the time"
        pairs.append(("thread", token.thread + share))
    if token.memory is not None:
        pairs.append(("memory", _bytes(token.memory)))
    if not token.controllable:
        pairs.append(("control", "none: it is the runtime's own"))
    elif token.protected:
        pairs.append(("control", "protected: to pause or end it takes --force"))
    pairs += [(f"policy {name}", value) for name, value in token.policy.items()]
    arguments = _table(_ATTRIBUTES, token.arguments, False) if token.arguments else Text("no arguments", "dim")
    return Group(_pairs(pairs), "", arguments)


def _stack(stack: TokenStack, _wide: bool) -> RenderableType:
    where = f"{_WHERE[stack.where]} {stack.thread or ''}".rstrip()
    lines = [_text(f"#{stack.token} {stack.operation} {where}", "bold")]
    for frame in stack.frames:
        lines.extend(_frame(frame))
    return Group(*lines)


def _frame(frame: Frame) -> Iterable[Text]:
    yield _text(f"  {frame.file}:{frame.line} in {frame.function}", "dim", cut=False)
    if frame.source:
        yield _text(f"    {frame.source}", cut=False)


def _actor_outcome(outcome: ActorOutcome, _wide: bool) -> RenderableType:
    parts = [_text(f"{outcome.actor}:", cut=False), _text(outcome.outcome, _style(outcome.outcome), cut=False)]
    if outcome.note:
        parts.append(_text(f"({outcome.note})", "dim", cut=False))
    return Text(" ").join(parts)


def _state(state: ActorState, _wide: bool) -> RenderableType:
    title = _text(f"{state.actor} ({state.kind})", "bold", cut=False)
    if not state.attributes:
        return Group(title, Text("no attributes", "dim"))
    return Group(title, _table(_ATTRIBUTES, state.attributes, False))


def _counts(counts: ChildCountsRow, _wide: bool) -> RenderableType:
    return _text(
        f"{counts.specs} children: {counts.supervisors} supervisors, {counts.workers} workers; "
        f"{counts.active} active, {counts.restarting} restarting",
        cut=False,
    )


def _item(item: StreamItem, _wide: bool) -> RenderableType:
    clock = time.strftime("%H:%M:%S", time.localtime(item.at)) + f".{int(item.at % 1 * 1000):03}"
    line = Text("  ").join([_text(clock, "dim", cut=False), _text(item.kind, "cyan", cut=False)])
    line.append("  ").append_text(_text(item.text, cut=False))
    if item.lost:
        return Group(Text(f"({item.lost:,} items were left out here: this listener is too slow)", "red"), line)
    return line


def _list(columns: Sequence[Column[Any]]) -> Callable[[Sequence[Any], bool], RenderableType]:
    return lambda rows, wide: _table(columns, rows, wide)


_MANY: dict[type[Any], Callable[[Sequence[Any], bool], RenderableType]] = {
    ActorRow: _actors,
    TreeRow: _tree,
    TokenRow: _list(_TOKENS),
    Outcome: _list(_OUTCOMES),
    ThrottleRow: _list(_THROTTLES),
    ChildRow: _list(_CHILDREN),
    FoundGate: _list(_GATES),
}
"""{class of a row: what is made of a list of them}."""

_ONE: dict[type[Any], Callable[[Any, bool], RenderableType]] = {
    TokenPage: _page,
    TokenDescription: _description,
    TokenStack: _stack,
    ActorOutcome: _actor_outcome,
    ActorState: _state,
    ChildCountsRow: _counts,
    GateInfo: _info,
    StreamItem: _item,
}
"""{class of an answer: what is made of it}."""
