"""Actions: the form of every verb, proposals before what ends or holds, and the outcomes of what was done."""

from __future__ import annotations

import asyncio
import itertools
from collections import Counter
from collections.abc import Sequence
from typing import Any, Final

import attrs
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from tokengate.admin._bodies import form_of
from tokengate.admin._forms import (
    Field,
    Given,
    arguments_of,
    arguments_of_command,
    fields_of,
    fields_of_command,
    lines_of,
)
from tokengate.admin._nouns import columns_of
from tokengate.admin._problems import Problem, as_problem
from tokengate.admin._shell import View, view_of, whole
from tokengate.authority._decide import WITH_REASON
from tokengate.control import messages as m
from tokengate.control._exceptions import BadRequest
from tokengate.control._validation import message_of
from tokengate.control.messages import ENVELOPE, ActorOutcome, Change, Message, OnTokens, Outcome, verb_of
from tokengate.control.messages._authority import proposing
from tokengate.control.registry._kinds import ALL_VERBS

TYPED: Final = 10
"""Targets of a proposal, beyond which their number must be typed."""

_LINKED: Final = 6  # tokens of a proposal that are shown with what they are
_NAMED: Final = 20  # outcomes that are shown one by one, those that were not done first
_NOT_DONE: Final = ("refused", "unknown", "ended", "changed", "awaiting", "abandoned")
_PLAIN: Final = (
    "would", "done", "terminated", "paused", "resumed", "reniced", "stepped", "limited", "retagged", "estimated",
)  # fmt: skip


def _verb(name: str) -> type[Change[Any]]:
    found = ALL_VERBS.get(name)
    if found is None or found.local or not issubclass(found, Change):
        raise Problem(404, "UnknownVerb", f"there is no verb '{name[:60]}' that changes something")
    return found


def asks_why(view: View, verb: type[Message[Any]]) -> bool:
    """Tell whether a gate asks a principal for a reason to do something."""
    return view.identity is not None and view.identity.granted and verb.right in WITH_REASON


def _is_first(verb: type[Change[Any]], select: str | tuple[int, ...]) -> bool:
    """Tell whether a verb is proposed before it is done: it ends something, or is about several tokens."""
    several = issubclass(verb, OnTokens) and verb is not m.Resume and (isinstance(select, str) or len(select) > 1)
    return "dry_run" in verb.takes and (verb.right == "terminate" or several)


async def _form(request: Request) -> Response:
    """Return the form of a verb; the query has values of its fields."""
    given = {name: request.query_params.getlist(name) for name in request.query_params}
    return await _shown(await view_of(request), _verb("".join(given.get("verb", ()))), given)


async def _shown(view: View, verb: type[Change[Any]], given: Given, problem: Problem | None = None) -> Response:
    error, title, text = problem.text if problem else "", verb_of(verb).replace("_", " "), lines_of(verb)
    fields, wrong = fields_of(verb, given, error)
    fields = [attrs.evolve(one, needed=one.needed or (one.name == "reason" and asks_why(view, verb))) for one in fields]
    ids = arguments_of(verb, given).get("select", ()) if issubclass(verb, OnTokens) else ()
    command = None
    if verb is m.Call:
        actor = await view.look(m.DescribeActor("".join(given.get("name", ()))))
        command = next((one for one in actor.commands if one.name == "".join(given.get("method", ()))), None)
        title = f"{command.name} of {actor.row.path}" if command else title
    if command is not None:
        fields = [one for one in fields if one.name in (*ENVELOPE, "wait")]
        fields[:0] = fields_of_command(command.parameters, given)
        text, wrong = [command.summary], error
    return view.render(
        "form.html", verb=verb_of(verb), text=text, title=title, command=command, wrong=wrong,
        first=_is_first(verb, ids), proposes="dry_run" in verb.takes,
        fields=[one for one in fields if not one.is_rare], more=[one for one in fields if one.is_rare],
        given={name: values[-1] for name, values in given.items()},
    )  # fmt: skip


async def _act(request: Request) -> Response:
    """Do what a form says; or make a proposal of it, and return that."""
    view, given = await _sent(request)
    verb = _verb("".join(given.get("verb", ())))
    try:
        arguments = arguments_of(verb, given) | (arguments_of_command(given) if verb is m.Call else {})
        message = message_of(verb, arguments)
        assert isinstance(message, Change)
        if not (message.dry_run or _is_first(verb, getattr(message, "select", ()))):
            return _outcomes(view, message, await view.ask(message))
        return await proposed(view, await view.ask(proposing(message)))
    except (Problem, BadRequest) as error:
        return await _shown(view, verb, given, as_problem(error))


async def _proposal(request: Request) -> Response:
    """Return a proposal as a dialog, as it is now."""
    view = await view_of(request)
    return await proposed(view, await view.ask(m.ShowProposal(number_of(view.query.get("number", "")))))


def number_of(text: str) -> int:
    """Return the number of a proposal.

    Raises:
        Problem: it is none.
    """
    if not whole(text):
        raise Problem(404, "UnknownProposal", f"there is no proposal '{text[:60]}'", "see the screen of proposals")
    return int(text)


async def proposed(
    view: View,
    details: m.ProposalDetails,
    given: Given | None = None,
    problem: Problem | None = None,
    drawer: bool = False,
) -> Response:
    """Return a proposal, with a form to apply it.

    Args:
        view: of its gate.
        details: all of it.
        given: what was typed into the form.
        problem: why it was not applied.
        drawer: whether it is in the drawer, and not in the dialog.
    """
    row, given = details.row, given or {}
    error = problem.text if problem else ""
    miscounted = error if problem and problem.name == "WrongNumber" else ""
    waits = row.state == "open" and row.needs == "approval"
    shown = {"reason", *(["force"] if row.needs == "force" else []), *(["break_glass"] if waits else [])}
    forced = row.needs == "force" and not details.guards.get("none")  # some of them may do without
    fields = [one for one in fields_of(m.Apply, given, error)[0] if one.name in shown]
    why = not row.reason and not waits and (forced or (row.verb in ALL_VERBS and asks_why(view, ALL_VERBS[row.verb])))
    fields = [attrs.evolve(one, needed=why if one.name == "reason" else True) for one in fields]
    if row.targets > TYPED:
        text, said = f"They are more than {TYPED}: type their number, {row.targets}.", "".join(given.get("typed", ()))
        fields.insert(0, Field("typed", "text", text, said, needed=True, hint=str(row.targets), error=miscounted))
    named = {one.token: one.operation for one in details.outcomes}
    ids = _first(details.tokens)
    asked = ids if row.state in ("open", "approved") else []
    found = await asyncio.gather(*(view.attempt(m.Describe(id)) for id in asked))
    live = {one.row.id: one.row for one in found if not isinstance(one, Problem)}
    first = [(id, live[id].operation if id in live else named.get(id, ""), live.get(id)) for id in ids]
    groups = Counter((one.outcome, "" if one.outcome == "would" else one.note) for one in details.outcomes)
    return view.render(
        "proposal.html", details=details, groups=groups.most_common(8), fields=fields, drawer=drawer, first=first,
        wrong="" if any(one.error for one in fields) else error, own=row.proposer == view.principal.name,
        ends=row.verb in ALL_VERBS and ALL_VERBS[row.verb].right == "terminate",
    )  # fmt: skip


def _first(ranges: str) -> list[int]:
    """Return the first ids of a text such as `3-7,12`."""
    ends = (list(map(int, one.split("-"))) for one in ranges.split(",")[:_LINKED] if one)
    ids = itertools.chain.from_iterable(range(one[0], one[-1] + 1) for one in ends)
    return list(itertools.islice(ids, _LINKED))


async def _apply(request: Request) -> Response:
    """Apply a proposal that the page has shown: the digest says which, and for many, their number was typed."""
    view, given = await _sent(request)
    number = number_of("".join(given.get("number", ())))
    details = await view.ask(m.ShowProposal(number))
    try:
        if details.row.digest != "".join(given.get("digest", ())):
            raise Problem(409, "Refused", f"proposal {number} is not the one that was shown", "look at it again")
        if details.row.targets > TYPED and "".join(given.get("typed", ())) != str(details.row.targets):
            raise Problem(422, "WrongNumber", f"their number is {details.row.targets}", "type it, if you mean all")
        message = message_of(m.Apply, {**arguments_of(m.Apply, given), "number": number})
        return _outcomes(view, message, await view.ask(message))
    except (Problem, BadRequest) as error:
        return await proposed(view, await view.ask(m.ShowProposal(number)), given, as_problem(error))


async def _sent(request: Request) -> tuple[View, dict[str, list[str]]]:
    """Return what a request is about, and the form that it brings; the gate stands in the query."""
    form = await form_of(request)
    return await view_of(request), form


def _outcomes(view: View, message: Message[Any], answer: Any) -> Response:
    """Return what came of an action: counts of words, what was not done, what waits for whom, or the answer itself."""
    many: Sequence[Outcome | ActorOutcome] = ()
    verb, about = verb_of(type(message)), _about(message)
    if isinstance(answer, m.Applied):
        many, verb, about = (*answer.outcomes, *answer.actors), answer.proposal.verb, f"proposal {about}"
    elif isinstance(answer, ActorOutcome):
        many = (answer,)
    elif isinstance(message, OnTokens):
        many = answer
    counts = Counter(one.outcome for one in many)
    told = [one for one in many if one.note or one.outcome not in _PLAIN]
    told.sort(key=lambda one: one.outcome)
    forced = isinstance(message, OnTokens) and any(one.outcome == "refused" and "use force" in one.note for one in many)
    nothing = "It matches no token." if not many and isinstance(message, OnTokens) else ""
    return view.render(
        "outcomes.html", verb=verb, about=about, counts=counts.most_common(),
        rows=[_said(one) for one in told[:_NAMED]], more=len(told) - _NAMED, nothing=nothing,
        tone="warn" if any(one.outcome in _NOT_DONE for one in many) or nothing else "good",
        waiting=[one.proposal for one in many if one.proposal is not None and one.outcome == "awaiting"],
        again={"select": about.replace(" ", "")} if forced else None,
        meanings=m.OUTCOMES, data=None if many or nothing or answer is None else _data(answer),
    )  # fmt: skip


def _said(one: Outcome | ActorOutcome) -> tuple[str, str, str]:
    target = one.actor if isinstance(one, ActorOutcome) else f"{one.token} {one.operation}"
    return target, one.outcome, one.note


def _data(answer: Any) -> Any:
    """Return an answer as names and values: rows as tables show them."""
    if isinstance(answer, tuple):
        return [_data(one) for one in answer[:_NAMED]]
    if not attrs.has(type(answer)):
        return answer
    values = [(one, getattr(answer, one.name)) for one in columns_of(type(answer), [answer])]
    return {one.title: value if isinstance(value, list) else one.text(value) for one, value in values}


def _about(message: Message[Any]) -> str:
    values = (getattr(message, name, None) for name in ("select", "name", "number"))
    found = next((value for value in values if value not in (None, "")), "")
    return ", ".join(map(str, found)) if isinstance(found, tuple) else str(found)


def routes() -> list[BaseRoute]:
    """Return the routes of actions."""
    return [
        Route("/ui/form", _form, methods=["GET"]),
        Route("/ui/proposal", _proposal, methods=["GET"]),
        Route("/ui/act", _act, methods=["POST"]),
        Route("/ui/apply", _apply, methods=["POST"]),
    ]
