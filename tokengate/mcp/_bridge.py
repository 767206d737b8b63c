"""The bridge to gates: each call finds its gate anew, asks what the caller may do there, and sends a message."""

from __future__ import annotations

import itertools
import logging
import os
import threading
from collections import Counter
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from actors import TokenGateError
from tokengate.control import messages as m
from tokengate.control._exceptions import BadRequest, Refused
from tokengate.control.messages import Stream
from tokengate.control.messages._authority import proposing
from tokengate.control.registry._paths import MOST_ROWS, Route
from tokengate.control.stream._events import json_of
from tokengate.control.transport._client import ControlClient
from tokengate.control.transport._discovery import FoundGate, find_gate, find_gates, runtime_directory, socket_files
from tokengate.control.transport._protocol import OnBehalfOf
from tokengate.mcp._answers import builtins_of, newest, page, said
from tokengate.mcp._tools import CEILING, ROWS, Tool, declared, is_proposed, tools_of

_log: Final = logging.getLogger(__name__)

_SESSIONS: Final = "/run/user/{}"  # with the number of the user

_GATES: Final = declared(
    "gates",
    "List the gates that run here, and the rights that you have in each.",
    {"type": "object", "properties": {}, "additionalProperties": False},
)


def directory() -> Path:
    """Return the directory of the sockets, also if the environment has none of the variables that name it."""
    named = os.environ.get("TOKENGATE_RUNTIME_DIR") or os.environ.get("XDG_RUNTIME_DIR")
    of_user = Path(_SESSIONS.format(os.geteuid()))
    if not named and of_user.is_dir() and of_user.stat().st_uid == os.geteuid():
        place = of_user / "tokengate"
        if socket_files(place):
            return place
    return runtime_directory()


class Call:
    """A call under way, which can be given up from outside its thread."""

    def __init__(self) -> None:
        self._closes: list[Callable[[], None]] = []
        self._given_up = False

    def opened(self, close: Callable[[], None]) -> None:
        """Note what ends a connection, and by that the work of the gate."""
        self._closes.append(close)
        if self._given_up:
            close()

    def give_up(self) -> None:
        """Close all its connections, which wakes its thread; what is closed already stays so."""
        self._given_up = True
        for close in self._closes:
            close()


class Bridge:
    """Answers calls of tools by asking gates.

    Args:
        gate: the only one that is asked; None: all of this user.
        rights: those that are used at most.
    """

    def __init__(self, gate: str | None = None, rights: frozenset[str] = CEILING) -> None:
        self._gate = gate
        self._rights = rights & CEILING
        self._numbers = itertools.count(1)
        self._known: dict[Path, frozenset[str]] = {}  # {socket: rights}
        self._told: frozenset[str] | None = None  # the rights by which the client knows its tools; None: it knows none

    def changed(self) -> bool:
        """Return whether there are other tools than the client knows; once for each change."""
        changed = self._told not in (None, self._all)
        if changed:
            self._told = self._all
        return changed

    @property
    def _all(self) -> frozenset[str]:
        return frozenset().union(*self._known.values())

    def tools(self) -> list[dict[str, Any]]:
        """Return the tools that the gates which run now allow, as the protocol has them."""
        try:
            self._survey(Call())
        except TokenGateError as error:
            _log.warning("%s", error)  # a call says so, too
        self._told = self._all
        return [_GATES, *(tool.declared(self._gate is None) for tool in tools_of(self._told).values())]

    def call(self, name: str, given: Mapping[str, Any], call: Call) -> str:
        """Return the answer of a tool, as JSON.

        Raises:
            TokenGateError: why there is none, and what to do about it.
        """
        arguments = dict(given)
        if name == "gates":
            return said({"gates": self._survey(call)})
        named = arguments.pop("gate", None)
        if named is not None and (self._gate is not None or not isinstance(named, str)):
            raise BadRequest(f"gate is {named!r:.60}; give the name of a gate, or none if this server has one only")
        found = find_gate(self._gate or named, directory())
        with self._client(found, call) as client:
            tools = tools_of(self._rights_in(found, client))
            if name not in tools:
                may = ", ".join(["gates", *tools])
                raise Refused(f"there is no tool '{name[:60]}' for you in gate '{found.address}'; there are: {may}")
            self._check_names(tools[name], arguments)
            return _answer(client, tools[name], arguments, call)

    def _check_names(self, tool: Tool, given: Mapping[str, Any]) -> None:
        """Refuse names that the tool does not have, where no verb is chosen that says which it has."""
        if tool.choice and tool.choice not in given:
            known = tool.schema(self._gate is None)["properties"]
            for name in given.keys() - known.keys():
                names = ", ".join(known)
                raise BadRequest(f"there is no argument '{name[:60]}' in {tool.name}; its arguments are: {names}")

    def _survey(self, call: Call) -> list[dict[str, Any]]:
        """Return a row for each gate, and know the rights in those that are here now."""
        rows, known = [], {}
        for found in find_gates(directory()) if self._gate is None else [find_gate(self._gate, directory())]:
            row: dict[str, Any] = {"gate": found.address, "pid": found.pid}
            try:
                if not found.answers:
                    raise Refused(found.refusal or "it does not answer: its process may be stopped or overloaded")
                with self._client(found, call) as client:
                    known[found.path] = self._rights_in(found, client)
                row["rights"] = sorted(known[found.path])
            except TokenGateError as error:
                row["problem"] = str(error)
            rows.append(row)
        self._known = known
        return rows

    def _rights_in(self, found: FoundGate, client: ControlClient) -> frozenset[str]:
        rights = frozenset(client.ask(m.Whoami()).rights)
        self._known = {**self._known, found.path: rights}  # other threads read it
        return rights

    @contextmanager
    def _client(self, found: FoundGate, call: Call) -> Generator[ControlClient]:
        """Connect to a gate as this user, with the rights that are left, and a number for the record.

        A gate of another user takes a caller for no other one, so there all rights are left, or it refuses.
        """
        own, number = os.geteuid(), f"mcp:{os.getpid()}:{next(self._numbers)}"
        groups, rights = tuple({*os.getgroups(), os.getegid()}), tuple(sorted(self._rights))
        caller: OnBehalfOf | None = OnBehalfOf(f"uid:{own}", own, groups, rights, number)
        if own and self._rights == CEILING and _owner(found.path) not in (None, own):
            caller = None
        with ControlClient(found.path, on_behalf_of=caller) as client:
            call.opened(client.close)
            yield client


def _owner(path: Path) -> int | None:
    try:
        return path.stat().st_uid
    except OSError:  # the gate has gone, as connecting to it says
        return None


def _answer(client: ControlClient, tool: Tool, given: dict[str, Any], call: Call) -> str:
    route = tool.route(given.pop(tool.choice, None) if tool.choice else None)
    if route.shape == "stream":
        seconds, limit = _number(given, "seconds", 5, 60), int(_number(given, "limit", ROWS, MOST_ROWS))
        stream = tool.message(route, given)
        assert isinstance(stream, Stream)
        return _watched(client, stream, seconds, limit, call)
    if route.shape == "action":
        return _acted(client, tool, route, given)
    return _looked(client, tool, route, given)


def _number(given: dict[str, Any], name: str, default: int, most: int) -> float:
    value = given.pop(name, default)
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value <= most:
        raise BadRequest(f"{name} is {value!r:.60}; it must be a number from 0 to {most}")
    return value


def _looked(client: ControlClient, tool: Tool, route: Route, given: dict[str, Any]) -> str:
    limit, offset = int(_number(given, "limit", ROWS, MOST_ROWS)), int(_number(given, "offset", 0, 2**53))
    if route.shape == "list" and route.cut_by_gate:
        given |= {"limit": limit} | ({"offset": offset} if route.pages else {})
    answer = client.ask(tool.message(route, given))
    rows = getattr(answer, "rows", answer)
    if not isinstance(rows, tuple) or not (route.shape == "list" or isinstance(answer, tuple)):
        return said(builtins_of(answer))
    if not route.pages:
        return newest(builtins_of(rows))
    if isinstance(answer, tuple):
        return page(builtins_of(answer[offset : offset + limit]), offset, len(answer))
    return page(builtins_of(rows), offset, answer.matching)


def _watched(client: ControlClient, stream: Stream, seconds: float, limit: int, call: Call) -> str:
    with client.follow(stream) as events:
        call.opened(events.close)
        end = threading.Timer(seconds, events.close)
        end.start()
        try:
            return newest([builtins_of(json_of(event)) for event in itertools.islice(events, limit)])
        finally:
            end.cancel()


def _acted(client: ControlClient, tool: Tool, route: Route, given: dict[str, Any]) -> str:
    digest = given.pop("digest", "") if route.message is m.Apply else ""
    message = tool.message(route, given)
    if isinstance(message, m.Apply):
        shown = client.ask(m.ShowProposal(message.number)).row.digest
        if not isinstance(digest, str) or len(digest) < 8 or not shown.startswith(digest.lower()):
            raise Refused(f"proposal {message.number} has another digest; list proposals, and look at it again")
    if is_proposed(message):
        details = client.ask(proposing(message))
        return said({"proposed": _next(details.row), **builtins_of(details)})
    answer = client.ask(message)
    if isinstance(answer, m.Applied):
        outcomes: list[m.Outcome | m.ActorOutcome] = [*answer.outcomes, *answer.actors]
        return said({"counts": Counter(one.outcome for one in outcomes), **builtins_of(answer)})
    return said({"answer": builtins_of(answer)})


def _next(row: m.ProposalRow) -> str:
    """Return what follows a proposal."""
    if not row.number:
        return "nothing was done: there is nothing to do"
    act = f"apply with number={row.number}, digest='{row.digest[:8]}'"
    if row.needs == "approval":
        return f"nothing is done yet: another person must approve it, 'tokengate approve {row.number}'; then {act}"
    return f"nothing is done yet: {act} does it" + (", with force and a reason" if row.needs == "force" else "")
