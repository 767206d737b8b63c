"""Generated screens: the rows of every noun that has no screen of its own, and one of them in the drawer."""

from __future__ import annotations

from typing import Any, Final

import attrs
import msgspec
from starlette.requests import Request
from starlette.responses import Response

from tokengate.admin._actions import number_of, proposed
from tokengate.admin._forms import arguments_of, fields_of, lines_of
from tokengate.admin._nouns import Noun, columns_of, nouns, sort_key
from tokengate.admin._problems import Problem, as_problem
from tokengate.admin._shell import DRAWERS, ROWS, SCREENS, View, whole
from tokengate.control import messages as m
from tokengate.control._exceptions import BadRequest
from tokengate.control._validation import message_of
from tokengate.control.messages import verb_of

PAGE: Final = 100
"""Rows on a page."""


async def _listed(view: View, noun: Noun) -> tuple[Any, ...]:
    """Return the rows of a noun, sorted; of what has happened, the latest first."""
    rows: tuple[Any, ...] = await view.look(message_of(noun.rows, arguments_of(noun.rows, _given(view))))
    sort, fields = view.query.get("sort", ""), attrs.fields_dict(noun.row)
    if sort.lstrip("-") in fields:
        return tuple(sorted(rows, key=sort_key(sort.lstrip("-")), reverse=sort.startswith("-")))
    return rows[::-1] if "at" in fields else rows


def _given(view: View) -> dict[str, list[str]]:
    """Return the arguments of the list that the query has."""
    return {"limit": [str(PAGE)], **{name: [value] for name, value in view.query.items()}}


async def screen(request: Request, view: View) -> Response:
    """Return the table of a noun: its filter, its actions, and a page of rows."""
    noun, problem = nouns()[view.screen], None
    rows: tuple[Any, ...] = ()
    try:
        rows = await _listed(view, noun)
    except (Problem, BadRequest) as error:
        problem = as_problem(error)
        if problem.status == 503:
            raise
    filters, _ = fields_of(noun.rows, _given(view))
    offset = whole(view.query.get("offset", ""))
    shown = rows[offset : offset + PAGE]
    # A look at what is on record is on record itself, and the past does not change.
    is_live = noun.rows.right == "view" and "at" not in attrs.fields_dict(noun.row)
    return view.render(
        "kind.html", noun=noun, columns=columns_of(noun.row, rows), filters=filters, wrong=problem,
        rows=[(noun.key_of(one), _fields(one)) for one in shown], total=len(rows), offset=offset, page=PAGE,
        sort=view.query.get("sort", ""), part=request.url.path.endswith("/rows"), text=lines_of(noun.rows)[0],
        actions=[(word, verb_of(verb)) for word, verb in noun.actions.items()], live=is_live,
    )  # fmt: skip


async def drawer(_request: Request, view: View) -> Response:
    """Return all of one row, what the views of its noun show of it, and a button for each action."""
    noun, key = nouns()[view.screen], view.query.get("open", "")
    if view.screen == "proposals":
        return await proposed(view, await view.look(m.ShowProposal(number_of(key))), drawer=True)
    rows = [one for one in await _listed(view, noun) if noun.key_of(one) == key]
    if not rows:
        return view.render("kind_drawer.html", row=None)
    shown = []
    for word, verb in noun.views.items():
        given = {name: [value] for name, value in noun.given(verb, rows[0]).items()}
        try:
            answer = msgspec.to_builtins(await view.look(message_of(verb, arguments_of(verb, given))))
            shown.append((word, answer.get("fields", answer) if isinstance(answer, dict) else answer, ""))
        except (Problem, BadRequest) as problem:
            shown.append((word, {}, str(problem)))
    return view.render(
        "kind_drawer.html", row=_fields(rows[0]), columns=columns_of(noun.row, rows[:1]), shown=shown,
        actions=[(word, verb_of(verb), noun.given(verb, rows[0])) for word, verb in noun.actions.items()],
    )  # fmt: skip


def _fields(row: Any) -> dict[str, Any]:
    return {field.name: getattr(row, field.name) for field in attrs.fields(type(row))}


SCREENS["*"] = ROWS["*"] = screen
DRAWERS["*"] = drawer
