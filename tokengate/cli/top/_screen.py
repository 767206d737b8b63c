"""How `tokengate top` looks."""

from __future__ import annotations

from rich.console import Group, RenderableType
from rich.text import Text

from tokengate.cli.top._state import HELP, TopState
from tokengate.control.rendering._cells import duration, plain
from tokengate.control.rendering._tables import token_table

# Lines besides the rows: three above, the titles, an empty one, and one below.
_OTHER_LINES = 6


def screen(state: TopState, height: int) -> RenderableType:
    """Return what to show on so many lines."""
    rows = state.window(max(1, height - _OTHER_LINES - state.help))
    selected = None if state.selected is None else state.selected.id
    lines: list[RenderableType] = [*_header(state), token_table(rows, selected=selected), ""]
    if state.help:
        lines.append(plain(HELP, "dim"))
    return Group(*lines, _prompt(state))


def _header(state: TopState) -> tuple[Text, Text, Text]:
    info, page = state.info, state.page
    if info is None:
        return plain("asking the gate", "dim"), plain(""), plain("")
    tokens = ", ".join(f"{count:,} {name}" for name, count in info.tokens.items() if count) or "none"
    closing = "" if info.state == "open" else f" ({info.state})"
    silent = f" does not answer ({state.silence:.0f} s)" if state.late else ""
    abandoned = f", {len(info.abandoned)} abandoned" if info.abandoned else ""
    pool = info.processes
    processes = f"  processes {pool.workers}, {pool.busy} busy" if pool is not None else ""
    process = f"threads {info.threads}, {info.blocked} blocked{abandoned}{processes}  restarts {info.restarts:,}"
    if info.sight:
        process = f"you see {info.sight}"
    shown = f"{page.matching:,} of {page.live:,} live" if state.selector else f"{page.live:,} live"
    return (
        plain(
            f"{info.name}@{info.pid}{closing}{silent}  up {duration(info.uptime)}  {process}",
            "bold",
        ),
        plain(f"tokens {tokens}"),
        plain(f"{shown}, by {state.sort}" + (f", {state.selector}" if state.selector else ""), "dim"),
    )


def _prompt(state: TopState) -> Text:
    if state.mode == "filter":
        return plain(f"selector: {state.typed}_", "bold")
    if state.mode == "reason" and state.selected is not None:
        what = f"end token {state.selected.id} ({state.selected.operation}){' by force' if state.forces else ''}"
        why = state.note or "Enter does it, Esc does not"
        return plain(f"{what}; {why}; reason: {state.typed}_", "bold red")
    return plain(state.note, "yellow") if state.note else plain("h help  q quit", "dim")
