"""The screen of actors: the tree with mailboxes and restarts, and one actor or operation in the drawer."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Any, Final

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from tokengate.admin._problems import Problem
from tokengate.admin._shell import DRAWERS, ROWS, SCREENS, View, view_of, whole
from tokengate.control import messages as m

PAGE: Final = 200
"""Rows on a page."""

_SAMPLE: Final = 0.1  # seconds for which busy shares are observed


async def screen(request: Request, view: View) -> Response:
    """Return the tree, with the operations after it; or, sorted by a column, a list."""
    tree, rows = await asyncio.gather(view.look(m.Tree()), view.look(m.Actors(sample=_SAMPLE)))
    known, select, sort = {row.path: row for row in rows}, view.query.get("select", ""), view.query.get("sort", "")
    found = [(node, known.pop(node.path, None)) for node in tree]
    found += [(_node(row), row) for row in known.values()]
    found = [one for one in found if select.strip().lower() in f"{one[0].path} {one[0].kind} {_status(*one)}".lower()]
    if (key := _SORTS.get(sort.lstrip("-"))) is not None:
        found.sort(key=lambda one: key(*one), reverse=sort.startswith("-"))
    offset = whole(view.query.get("offset", ""))
    return view.render(
        "actors.html",
        nodes=[(node, row, _status(node, row)) for node, row in found[offset : offset + PAGE]],
        total=len(found),
        offset=offset,
        page=PAGE,
        sort=sort,
        part=request.url.path.endswith("/rows"),
    )


def _node(row: m.ActorRow) -> m.TreeRow:
    """Return an operation as a line of the tree."""
    name, restarts = row.path.rpartition("/")[2], max(0, row.starts - 1)
    return m.TreeRow(
        0, row.path, name, row.kind, row.status, "", restarts, "", row.depth, row.running, row.suspended
    )  # fmt: skip


def _status(node: m.TreeRow, row: m.ActorRow | None) -> str:
    return "suspended" if node.suspended else "draining" if row and row.draining else node.status


_SORTS: Final[Mapping[str, Callable[[m.TreeRow, m.ActorRow | None], Any]]] = {
    "path": lambda node, _: node.path,
    "status": _status,
    "queued": lambda node, _: node.queued,
    "busy": lambda _, row: row.busy_share or 0.0 if row else 0.0,
    "restarts": lambda node, _: node.restarts,
}


async def drawer(_request: Request, view: View) -> Response:
    """Return an actor or operation: why it was restarted, its children, commands and verbs."""
    name = view.query.get("open", "")
    try:
        actor = await view.look(m.DescribeActor(name))
        children = await view.look(m.WhichChildren(actor.row.path)) if actor.own_window else None
    except Problem as problem:
        if problem.status == 503:
            raise
        return view.render("actor_drawer.html", called=name, actor=None, wrong=problem)
    return view.render(
        "actor_drawer.html", actor=actor, children=children, commands=actor.commands,
        operation=actor.row.kind == "operation",
    )  # fmt: skip


async def _state(request: Request) -> Response:
    """Return the attributes of an actor's instance; values are read, and that is on record, only when asked for."""
    view = await view_of(request)
    name = view.query.get("name", "")
    try:
        return view.render("state.html", called=name, state=await view.look(m.GetState(name, wait=1.0)), wrong=None)
    except Problem as problem:
        return view.render("state.html", called=name, state=None, wrong=problem)


def routes() -> list[BaseRoute]:
    """Return the route of the state of actors."""
    return [Route("/ui/state", _state, methods=["GET"])]


SCREENS["actors"] = ROWS["actors"] = screen
DRAWERS["actors"] = drawer
