"""The screen of actors: the tree with mailboxes and restarts, and one actor or operation in the drawer."""

from __future__ import annotations

import asyncio
from typing import Final

import attrs
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from tokengate.admin._nouns import sort_key
from tokengate.admin._problems import Problem
from tokengate.admin._shell import DRAWERS, ROWS, SCREENS, View, view_of
from tokengate.control import messages as m

PAGE: Final = 200
"""Rows on a page."""

_SAMPLE: Final = 0.1  # seconds for which busy shares are observed


@attrs.frozen
class Node:
    """A line of the tree.

    Attributes:
        path: of the actor or operation.
        id: its last part.
        level: how far it is indented.
        kind, affinity, status: of the actor.
        strategy: of a supervisor; else empty.
        queued: number of tokens in its mailbox.
        capacity: of the mailbox.
        running: ids of tokens.
        busy: share of the time, from 0 to 1; None if it is not known.
        restarts: since it was first started.
        last_end: of an instance, or None.
        window: of a supervisor, or None.
    """

    path: str
    id: str
    level: int
    kind: str
    affinity: str
    status: str
    strategy: str
    queued: int
    capacity: int
    running: tuple[int, ...]
    busy: float | None
    restarts: int
    last_end: m.EndRow | None = None
    window: m.WindowRow | None = None


def nodes_of(tree: tuple[m.TreeRow, ...], rows: tuple[m.ActorRow, ...]) -> list[Node]:
    """Return the lines of the tree, and those of the operations after it."""
    known = {row.path: row for row in rows}
    found = []
    for one in tree:
        row = known.pop(one.path, None)
        found.append(
            Node(
                one.path, one.id, one.depth, one.kind, row.affinity if row else "", _status(one.status, row),
                one.strategy, one.queued, row.capacity if row else 0, one.running, row.busy_share if row else None,
                one.restarts, one.last_end, one.window,
            )
        )  # fmt: skip
    for row in known.values():
        found.append(
            Node(
                row.path, row.path.rpartition("/")[2], 0, row.kind, row.affinity, _status(row.status, row), "",
                row.depth, row.capacity, row.running, row.busy_share, max(0, row.starts - 1),
            )
        )  # fmt: skip
    return found


def _status(status: str, row: m.ActorRow | None) -> str:
    return "suspended" if row and row.suspended else "draining" if row and row.draining else status


async def screen(request: Request, view: View) -> Response:
    """Return the tree, or, sorted by a column, a list."""
    tree, rows = await asyncio.gather(view.look(m.Tree()), view.look(m.Actors(sample=_SAMPLE)))
    nodes, select, sort = nodes_of(tree, rows), view.query.get("select", "").strip(), view.query.get("sort", "")
    nodes = [one for one in nodes if select.lower() in f"{one.path} {one.kind} {one.status}".lower()]
    if sort.lstrip("-") in attrs.fields_dict(Node):
        nodes.sort(key=sort_key(sort.lstrip("-")), reverse=sort.startswith("-"))
    offset = int(view.query.get("offset", "")) if view.query.get("offset", "").isdigit() else 0
    return view.render(
        "actors.html", nodes=nodes[offset : offset + PAGE], total=len(nodes), offset=offset, page=PAGE, sort=sort,
        part=request.url.path.endswith("/rows"),
    )  # fmt: skip


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
        "actor_drawer.html", actor=actor, children=children, commands=getattr(actor, "commands", ()),
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
