"""The screen of tokens, the drawer of one, and the completion of filters."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from actors import TokenState
from tokengate.admin._problems import Problem
from tokengate.admin._shell import DRAWERS, ROWS, SCREENS, View, view_of, whole
from tokengate.control import messages as m
from tokengate.control._exceptions import BadSelector
from tokengate.control.inspection._selector import FIELDS, PREDICTED, parse, quoted
from tokengate.control.messages import HELD, TokenRow
from tokengate.history._kinds import ShowHistoryRecord
from tokengate.telemetry._kinds import Operations

WINDOW: Final = 200
"""Rows of the list that are in the document; the rest is scroll height."""

_LIVE: Final = ("running", "queued", "paused")
_ENDED: Final = ("completed", "failed", "terminated", "expired", "rejected")
_ON_HOLD: Final = 'held!=""'

_VERBS: Final = (
    ("pause", "Pause"),
    ("resume", "Resume"),
    ("step", "Step"),
    ("renice", "Renice"),
    ("retag", "Retag"),
    ("reroute", "Reroute"),
    ("limit", "Limit"),
    ("retry", "Retry"),
    ("terminate", "End…"),
)
"""The verbs below the list, and those of a token; each with its label."""


async def _list(view: View, *, first: bool = False) -> dict[str, Any]:
    """Return the values of a list: the rows of a view's query, or those that are shown already (`only`), as they stay.

    A row of `only` that is not in the list any more is its id.

    Args:
        view: of the list.
        first: whether it is wanted at once, so that what takes another look at all tokens is left out.
    """
    query, now = view.query, time.time()
    select, sort = query.get("select", ""), query.get("sort") or "-age"
    offset = whole(query.get("offset", ""))
    page, held, figures = await asyncio.gather(
        view.look(m.Tokens(select, sort=sort, limit=WINDOW, offset=offset)),
        _nothing() if first else view.look(m.Tokens(_ON_HOLD, limit=0)),
        view.attempt(Operations()),
    )
    if offset >= page.matching > 0:  # it has become shorter
        offset = max(0, page.matching - WINDOW)
        page = await view.look(m.Tokens(select, sort=sort, limit=WINDOW, offset=offset))
    rows: list[TokenRow | int] = list(page.rows)
    new, at = 0, now
    if query.get("only"):
        known = {str(row.id): row for row in page.rows}
        rows = [known.get(id, whole(id)) for id in query["only"].split(",")[:WINDOW] if whole(id)]
        at = _time(query.get("at", ""), now)
        newer = f"age<{int((now - at) * 10) / 10}"
        new = (
            await view.look(m.Tokens(newer if select.strip() in ("", "*") else f"{select},{newer}", limit=0))
        ).matching
    return {
        "page": page,
        "rows": rows,
        "new": new,
        "at": at,
        "sort": sort,
        "offset": offset,
        "select": select,
        "states": list(_states(view, select, None if held is None else held.matching)),
        "expected": {} if isinstance(figures, Problem) else {row.name: row for row in figures},
        "verbs": _VERBS,
    }


def _time(text: str, now: float) -> float:
    """Return a time of a query, which is none of the future; now for what is none."""
    return min(now, float(text)) if re.fullmatch(r"[0-9]{1,12}(\.[0-9]{1,12})?", text) else now


def _states(view: View, select: str, held: int | None) -> Iterator[tuple[str, int | None, str, bool]]:
    """Yield what is counted: a state, its number, the address that filters by it or empty, and whether it does now."""
    counts = {} if view.info is None else view.info.tokens
    for name in _LIVE:
        there, text = _toggled(select, "state", "=", name)
        yield name, counts.get(name, 0), view.href(select=text, offset=None), there
    there, text = _toggled(select, "held", "!=", "")
    yield "held", held, view.href(select=text, offset=None), there
    history = any(name == "history-records" and not why for name, _, why in view.tabs)
    for name in _ENDED:
        past = view.href(screen="history-records", select=f"state={name}") if history else ""
        yield name, counts.get(name, 0), past, False


def _toggled(select: str, name: str, op: str, value: str) -> tuple[bool, str]:
    """Return whether a selector has a term; and it without that, or with it in the place of others of a state."""
    try:
        parts = parse(select).parts
    except BadSelector:
        parts = ()
    there = any((one.name, one.op, one.value, one.is_tag) == (name, op, value, False) for one in parts)
    left = [
        (one.is_tag, one.name, one.op, one.value) for one in parts if one.is_tag or one.name not in ("state", "held")
    ]
    if not there:
        left.append((False, name, op, value))
    return there, ",".join(f"{f'tag.{quoted(n)}' if tag else n}{o}{_written(v)}" for tag, n, o, v in left)


def _written(value: str) -> str:
    return value if re.fullmatch(r"[\w*./:-]+", value) else quoted(value)


async def _nothing() -> None:
    return None


async def _screen(_request: Request, view: View) -> Response:
    return view.render("tokens.html", **await _list(view, first=True))


async def _rows(_request: Request, view: View) -> Response:
    return view.render("token_rows.html", **await _list(view))


# --- The drawer -------------------------------------------------------------------------------------------------------


async def _drawer(_request: Request, view: View) -> Response:
    name = view.query.get("open", "")
    if not whole(name):
        raise Problem(422, "BadRequest", f"'{name[:60]}' is no id of a token", "ids are whole numbers")
    id, past, ended = int(name), "", ""
    described = stack = None
    try:
        described, stack = await asyncio.gather(view.look(m.Describe(id)), view.look(m.Stack(id)))
    except Problem as problem:
        if problem.status != 404:
            raise
        ended = problem.detail
    figures, records = await asyncio.gather(view.attempt(Operations()), view.attempt(ShowHistoryRecord(name)))
    if isinstance(figures, Problem):
        figures = ()
    if isinstance(records, Problem):
        none = "this gate keeps no history; open it with plugins=[History(directory)]"
        past, records = none if records.name == "UnknownVerb" else records.text, ()
    operation = described.row.operation if described else ""
    return view.render(
        "token_drawer.html",
        id=id,
        token=described,
        stack=stack,
        ended=ended,
        records=records,
        no_records=past,
        times=list(_timeline(described)) if described else [],
        figures=next((one for one in figures if one.name == operation), None),
        verbs=_VERBS,
    )


def _timeline(token: m.TokenDescription) -> Iterator[tuple[str, float | None, float, str]]:
    """Yield what has happened to a token: what, when (since the epoch), seconds after the event before, more."""
    made = time.time() - token.row.age
    before = token.created_at
    for what, at in (("made", token.created_at), ("queued", token.queued_at), ("started", token.started_at)):
        if at is not None:
            more = f"attempt {token.row.attempt}" if what == "started" and token.row.attempt > 1 else ""
            yield what, made + at - token.created_at, max(0.0, at - before), more
            before = at
    for attempt in token.attempts:
        yield "attempt", None, 0.0, attempt


# --- Completion -------------------------------------------------------------------------------------------------------

_OPS: Final[Mapping[str, tuple[str, ...]]] = {
    **dict.fromkeys(FIELDS, ("=", "!=")),
    **dict.fromkeys(("id", "priority", "parent", "attempt", "steps"), ("=", ">", "<", "!=")),
    **dict.fromkeys(("age", "running"), (">", "<")),
    **dict.fromkeys((name for name in PREDICTED if name not in ("retry_loop", "leak")), (">", "<")),
}
_CHOICES: Final[Mapping[str, Sequence[str]]] = {
    "state": tuple(str(state) for state in TokenState),
    "held": HELD,
    "affinity": ("io", "asyncio", "cpu", "process"),
    "age": ("1s", "10s", "30s", "1m", "5m", "1h"),
    "running": ("1s", "10s", "30s", "1m", "5m", "1h"),
    "retry_loop": ("yes",),
    "leak": ("suspected", "confirmed"),
}


async def _complete(request: Request) -> Response:
    view = await view_of(request)
    text = view.query.get("text", "")[:4096]
    start, word = _last_term(text)
    found = re.fullmatch(r"([^=!<>\s]+)\s*(!=|>=|<=|=|>|<)\s*[\"']?(.*)", word)
    tokens = await view.look(m.Tokens(sort="-id", limit=WINDOW))
    tags = {_tag(name) for row in tokens.rows for name in row.tags}
    options: list[str] = []
    if found is None:
        names = [*_OPS, *sorted(tags)]
        options = [f"{name}{op}" for name in names if name.startswith(word) for op in _OPS.get(name, ("=", "!="))]
    else:
        name, op, value = found.groups()
        known = _CHOICES.get(name) or await _live(view, name.removeprefix("tag."), tokens.rows)
        options = [f"{name}{op}{_written(one)}" for one in known if one.startswith(value) and one != value]
    return view.render("completions.html", options=[(start + one, one) for one in options[:12]])


async def _live(view: View, name: str, rows: Sequence[TokenRow]) -> list[str]:
    """Return values that a field or tag has in the gate now."""
    if name in ("operation", "actor"):
        places = await view.look(m.Actors())
        operations = [one.path.rpartition("/")[2] for one in places if one.kind == "operation"]
        return (
            sorted({row.operation for row in rows} | {*operations})
            if name == "operation"
            else [one.path for one in places]
        )
    if name in FIELDS:
        return [str(row.id) for row in rows] if name == "id" else []
    return sorted({row.tags[name] for row in rows if name in row.tags})


def _tag(name: str) -> str:
    """Return the name of a tag as a selector has it."""
    if name in FIELDS or name.startswith("tag.") or not re.fullmatch(r"[\w.:/-]+", name):
        return f"tag.{quoted(name)}"
    return name


def _last_term(text: str) -> tuple[str, str]:
    """Return what stands before the last term of a selector, and that term, which may be incomplete."""
    quote, start = "", 0
    for at, char in enumerate(text):
        if quote:
            quote = "" if char == quote else quote
        elif char in "'\"":
            quote = char
        elif char == ",":
            start = at + 1
    return text[:start], text[start:].strip()


SCREENS["tokens"], ROWS["tokens"], DRAWERS["tokens"] = _screen, _rows, _drawer


def routes() -> list[BaseRoute]:
    """Return the route of the completion; the others are in the registers of the shell."""
    return [Route("/ui/complete", _complete, methods=["GET"])]
