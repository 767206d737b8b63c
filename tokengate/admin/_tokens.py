"""The screen of tokens, and the drawer of one."""

from __future__ import annotations

import asyncio
import time
from typing import Any, Final

import attrs
from starlette.requests import Request
from starlette.responses import Response

from tokengate.admin._problems import Problem
from tokengate.admin._shell import DRAWERS, ROWS, SCREENS, View
from tokengate.control import messages as m
from tokengate.control.messages import HELD

WINDOW: Final = 200
"""Rows of a table that are in the document; the rest is scroll height."""

STATES: Final = ("running", "queued", "paused", "held", "completed", "failed", "terminated", "expired", "rejected")
"""What is counted at the left."""


async def _values(view: View) -> dict[str, Any]:
    """Return the rows of a view: those of its query, or of those that are shown already (`only`)."""
    query = view.query
    select, sort = query.get("select", ""), query.get("sort") or "-age"
    offset = int(query["offset"]) if query.get("offset", "").isdecimal() else 0
    page = await view.look(m.Tokens(select, sort=sort, limit=WINDOW, offset=offset))
    if page.offset >= page.matching > 0:
        offset = max(0, page.matching - WINDOW)
        page = await view.look(m.Tokens(select, sort=sort, limit=WINDOW, offset=offset))
    rows: list[Any] = list(page.rows)
    new = 0
    at = time.time()
    if query.get("only"):
        known = {row.id: row for row in rows}
        rows = [known.get(int(id), int(id)) for id in query["only"].split(",")[:WINDOW] if id.isdecimal()]
        at = float(query.get("at") or at)
        newer = f"age<{time.time() - at:.0f}"
        new = (await view.look(m.Tokens(f"{select},{newer}" if select.strip("* ") else newer, limit=0))).matching
    return {"page": page, "rows": rows, "new": new, "at": at, "sort": sort, "offset": offset, "select": select}


async def _screen(request: Request, view: View) -> Response:
    return view.render("tokens.html", **await _values(view))


async def _rows(request: Request, view: View) -> Response:
    return view.render("token_rows.html", **await _values(view))


SCREENS["tokens"], ROWS["tokens"] = _screen, _rows
