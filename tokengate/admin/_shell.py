"""The shell, which is the only document; and its fragments, each for a screen of a gate.

A file of screens adds its functions to `SCREENS`, `ROWS` and `DRAWERS`, by the name of the screen.
"""

from __future__ import annotations

import asyncio
import functools
import re
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final, Literal, TypeAlias, TypeVar
from urllib.parse import urlencode

import attrs
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Mount, Route
from starlette.staticfiles import StaticFiles

from tokengate.admin._gates import GateEntry
from tokengate.admin._guard import principal_of
from tokengate.admin._nouns import nouns
from tokengate.admin._principal import Principal
from tokengate.admin._problems import Problem, read_as
from tokengate.admin._site import site_of
from tokengate.admin._templates import HERE, clock, render
from tokengate.authority._decide import ROLES
from tokengate.control import messages as m
from tokengate.control.messages import Message, answer_of
from tokengate.control.registry._kinds import ALL_VERBS, kinds

A = TypeVar("A")

QUERY: Final = ("gate", "screen", "select", "sort", "offset", "open")
"""What the query of the document holds: all state of the page. A list that takes more has that, too: `since`."""


@attrs.frozen
class View:
    """What a fragment is of: a gate, as its principal sees it, and the query. Templates have it as `ctx`.

    Attributes:
        request: that is answered.
        principal: that asks.
        gates: of this user.
        entry: the gate; None: none is chosen.
        query: of the request.
        identity: what the principal may do in the gate; None if the gate does not answer.
        info: figures of the gate; None if it does not answer.
        health: of the gate; None if it does not answer.
        proposals: number of open ones.
        problem: why the gate does not answer; None if it does.
        missing: {plugin that the gate does not have: that, as text}.
    """

    request: Request
    principal: Principal
    gates: tuple[GateEntry, ...]
    entry: GateEntry | None
    query: Mapping[str, str]
    identity: m.Identity | None = None
    info: m.GateInfo | None = None
    health: m.HealthReport | None = None
    proposals: int = 0
    problem: Problem | None = None
    missing: Mapping[str, str] = attrs.field(factory=dict)

    @property
    def gate(self) -> str:
        """Name of the gate, as paths and queries have it; empty: none is chosen."""
        return "" if self.entry is None else self.entry.name

    @property
    def screen(self) -> str:
        """Name of the screen."""
        return self.query.get("screen", "") or ("tokens" if self.entry else "gates")

    async def look(self, message: Message[A]) -> A:
        """Return the answer of the gate to a message that looks, shared with other pages; at most a second old.

        Raises:
            Problem: the gate's error.
        """
        return self._read(message, await site_of(self.request).gates.shared(self.gate, message, self.principal))

    async def attempt(self, message: Message[A]) -> A | Problem:
        """Return the same of what not every gate or principal has; or the error, if the gate has answered with one."""
        try:
            return await self.look(message)
        except Problem as problem:
            if problem.status == 503:
                raise
            return problem

    async def ask(self, message: Message[A]) -> A:
        """Return the answer of the gate to any message, made now.

        Raises:
            Problem: the gate's error.
        """
        return self._read(message, await site_of(self.request).gates.ask(self.gate, message, self.principal))

    def _read(self, message: Message[A], answer: bytes) -> A:
        found: A = read_as(answer_of(type(message)), answer)
        return found

    def may(self, right: str) -> bool:
        """Whether the principal has a right anywhere in the gate."""
        return self.identity is not None and right in self.identity.rights

    def why_not(self, verb: str, guard: str = "none") -> str:
        """Return why a verb is greyed for the principal; empty: it is not.

        Args:
            verb: of the registry.
            guard: of the token or actor.
        """
        right = ALL_VERBS[verb].right
        if self.identity is None:
            return "the gate does not answer"
        if not self.may(right):
            return f"needs the right '{right}', which you do not have"
        return "its guard is 'never': no verb changes it" if guard == "never" else ""

    @functools.cached_property
    def _kept(self) -> frozenset[str]:
        """Names that links to the same screen keep: arguments of its list among them."""
        noun = nouns().get(self.screen)
        return frozenset((*QUERY, *(attrs.fields_dict(noun.rows) if noun else ())))

    def href(self, path: str = "/", **changes: object) -> str:
        """Return the address of this page with another query; None takes a name out of it.

        Another gate or screen begins with a query of its own.
        """
        kept = {"gate": self.gate, "screen": self.screen}
        if not changes.keys() & {"gate", "screen"}:
            kept |= {name: value for name, value in self.query.items() if name in self._kept}
        query = {**kept, **changes}
        return f"{path}?{urlencode({name: value for name, value in query.items() if value not in (None, '')})}"

    @property
    def role(self) -> str:
        """What the principal may do, in a word where there is one."""
        rights = frozenset(() if self.identity is None else self.identity.rights)
        return (
            next((name for name, role in ROLES.items() if role == rights), None)
            or ", ".join(sorted(rights))
            or "no rights"
        )

    @property
    def condition(self) -> str:
        """The health of the gate in a word: `ok`, `degraded`, `failed`, `hung`, `gone` or `unknown`."""
        if self.health is None:
            gone = self.entry is None or self.entry.state == "gone"
            return ("gone" if self.known else "unknown") if gone else "hung"
        worst = {part.status for part in self.health.parts}
        return next((status for status in ("failed", "degraded") if status in worst), "ok")

    @property
    def ailing(self) -> str:
        """What is wrong with the gate, a line for each part; may be empty."""
        parts = () if self.health is None else self.health.parts
        return "; ".join(f"{part.name}: {part.why or part.status}" for part in parts if part.status != "ok")

    @property
    def known(self) -> bool:
        """Whether the gate is one of those that are listed."""
        return self.entry in self.gates

    @property
    def successor(self) -> GateEntry | None:
        """The only open gate with the name of one that has gone: its program runs again."""
        if self.entry is None or self.entry.state != "gone":
            return None
        found = [one for one in self.gates if one.state == "open" and one.gate == self.entry.gate]
        return found[0] if len(found) == 1 else None

    @property
    def said(self) -> tuple[tuple[Literal["bad", "warn"], str], ...]:
        """What is to be known before what is shown, each with its tone; with `bad`, what is shown is old."""
        if self.entry is None:
            return ()
        name, now = self.entry.gate, clock(time.time())
        old = "" if self.request.url.path == "/ui/screen" else " What is shown is old."
        if not self.known:
            return (
                ("bad", f"No gate '{self.gate}' is known here (one that has gone is listed for ten minutes).{old}"),
            )
        if self.entry.state == "gone":
            return (("bad", f"{name} has gone at {clock(self.entry.since)}: it has closed or died.{old}"),)
        if self.problem is not None or self.entry.state == "hung":
            why = self.problem.detail if self.problem else f"{name} does not answer"
            return (("bad", f"{why} ({now}).{old}"),)
        if self.entry.refusal:
            return (("warn", self.entry.refusal),)
        if self.identity is not None and not self.identity.rights:
            return (("warn", f"No grant of {name} names you, so nothing is shown."),)
        frozen = self.identity is not None and self.identity.frozen
        return (("warn", "Frozen: whatever rules ask for is refused."),) if frozen else ()

    @property
    def tabs(self) -> tuple[tuple[str, str, str], ...]:
        """The screens: each its name, its title, and why it is greyed; the empty text if it is not."""
        known = [(noun.plural, noun.title, self.missing.get(noun.plugin, "")) for noun in nouns().values()]
        return (("overview", "Overview", ""), ("tokens", "Tokens", ""), ("actors", "Actors", ""), *known)

    def render(self, name: str, status: int = 200, **values: Any) -> Response:
        """Return a template as an answer; one that extends `frame.html` brings the head of the page up to date, too."""
        return render(self.request, name, status, ctx=self, **values)


Screen: TypeAlias = Callable[[Request, View], Awaitable[Response]]

SCREENS: Final[dict[str, Screen]] = {}
"""{screen: what answers `/ui/screen`}; a kind without one gets that of `*`."""

ROWS: Final[dict[str, Screen]] = {}
"""{screen: what answers `/ui/rows`, at each tick}; a kind without one gets that of `*`."""

DRAWERS: Final[dict[str, Screen]] = {}
"""{screen: what answers `/ui/drawer`, about `ctx.query["open"]`}; a kind without one gets that of `*`."""


async def view_of(request: Request) -> View:
    """Return what a request looks at: the gate of its query, or else the only one there is."""
    gates = await site_of(request).gates.listed()
    query, open = dict(request.query_params), [one for one in gates if one.state == "open"]
    name = query.get("gate", "")
    entry = next((one for one in gates if one.name == name), None)
    if name and entry is None:
        entry = GateEntry(name, re.sub(r"(-[0-9]+){2}$", "", name), 0, "gone")
    if not name and len(open) == 1 and query.get("screen") != "gates":
        (entry,) = open
    view = View(request, principal_of(request), gates, entry, query)
    if entry is None or entry.state != "open":
        return view
    try:
        identity, info, health, proposals, missing = await asyncio.gather(
            view.look(m.Whoami()), view.look(m.Info()), view.look(m.Health()), _proposals(view), _missing(view)
        )
    except Problem as problem:
        if problem.status == 503:
            return attrs.evolve(view, problem=problem)
        if problem.name == "Refused":
            return attrs.evolve(view, identity=await view.look(m.Whoami()))
        raise
    return attrs.evolve(view, identity=identity, info=info, health=health, proposals=proposals, missing=missing)


def whole(text: str) -> int:
    """Return a number of a query; 0 for what is none, or longer than any list."""
    return int(text) if text.isdecimal() and len(text) < 16 else 0


async def _proposals(view: View) -> int:
    return len(await view.look(m.Proposals("open")))


async def _missing(view: View) -> dict[str, str]:
    """Return the plugins that the gate does not have: their verbs are unknown there, whatever they are asked."""
    first = {kind.plugin: kind.rows for kind in reversed(kinds()) if kind.plugin}

    async def why(rows: type[Message[Any]]) -> str:
        try:
            await view.look(rows(select="?"))  # type: ignore[call-arg]  # of a listing
        except Problem as problem:
            return f"{problem.detail}; {problem.remedy}" if problem.name == "UnknownVerb" else ""
        return ""

    found = dict(zip(first, await asyncio.gather(*map(why, first.values())), strict=True))
    return {plugin: text for plugin, text in found.items() if text}


async def _fragment(request: Request, functions: Mapping[str, Screen], empty: str) -> Response:
    view = await view_of(request)
    if view.entry is None or view.identity is None:
        return view.render(empty)
    function = functions.get(view.screen) or (functions["*"] if view.screen in nouns() else None)
    if function is None or all(view.screen != name for name, _, _ in view.tabs):
        if functions is SCREENS:
            return view.render("gates.html")
        raise Problem(404, "UnknownScreen", f"there is no screen '{view.screen}'", "choose one of the tabs")
    try:
        return await function(request, view)
    except Problem as problem:
        if problem.status != 503:
            raise
        return attrs.evolve(view, problem=problem).render("frame.html")


async def _screen(request: Request) -> Response:
    return await _fragment(request, SCREENS, "gates.html")


async def _rows(request: Request) -> Response:
    return await _fragment(request, ROWS, "frame.html")


async def _drawer(request: Request) -> Response:
    return await _fragment(request, DRAWERS, "frame.html")


async def _shell(request: Request) -> Response:
    return render(request, "shell.html")


async def _whoami(request: Request) -> Response:
    principal = principal_of(request)
    return JSONResponse({"name": principal.name, "login": principal.login})


def routes() -> list[BaseRoute]:
    """Return the routes of the shell and of its fragments."""
    return [
        Route("/", _shell, methods=["GET"]),
        Route("/ui/whoami", _whoami, methods=["GET"]),
        Route("/ui/screen", _screen, methods=["GET"]),
        Route("/ui/rows", _rows, methods=["GET"]),
        Route("/ui/drawer", _drawer, methods=["GET"]),
        Mount("/static", StaticFiles(directory=HERE / "static"), name="static"),
    ]
