"""Health: the parts of a gate, and what is wrong with them. Nothing is measured while nobody asks."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import Final, Literal, TypeAlias, TypeVar

import attrs
import trio

from actors.lowlevel import LoopHost, Place, thread_frames, tokens_of
from tokengate.control import messages as m
from tokengate.control._admission import Admission, restricted
from tokengate.control._ports import ControlledGate
from tokengate.control._safe_text import class_name, plain
from tokengate.control.inspection._policies import breakers_of
from tokengate.control.inspection._turns import in_turns
from tokengate.control.registry._plugin import Plugin

T = TypeVar("T")

Status: TypeAlias = Literal["ok", "degraded", "failed"]

_LAG: Final = 0.1  # seconds after which a loop lags; the answer waits no longer for one
_LOOKS: Final = 4  # in that time; they are counted, since the whole process may be stopped meanwhile
_BLOCKED: Final = 5.0  # seconds after which a loop counts as blocked
_SAME: Final = 1.0  # seconds by which a time may differ from what it was at the question before
_AT_ONCE: Final = 250  # places, or breakers, that are looked at in one turn
_MOST: Final = 100  # mailboxes, and breakers, that a report names, those that have failed first
_RANK: Final[Sequence[Status]] = ("ok", "degraded", "failed")

_logger = logging.getLogger("tokengate.control")


class HealthVerb:
    """Tells the health of a gate.

    Args:
        gate: the gate.
        of_door: returns the parts of what decides about messages, such as its log.
        plugins: of the gate.
    """

    def __init__(
        self, gate: ControlledGate, of_door: Callable[[], Iterable[m.HealthPart]], plugins: Sequence[Plugin]
    ) -> None:
        self._gate = gate
        self._system = gate._open_system
        self._of_door = of_door
        self._plugins = plugins
        self._calls: dict[LoopHost, _Call] = {}  # the latest one of each loop that runs
        self._known: _Statuses | None = None  # as of the latest question

    async def health(self, _message: m.Health) -> m.HealthReport:
        look = _Look(self._known, restricted())
        calls = self._call_loops()
        places = await self._look_at_places(look)
        await _heard(calls)
        own, io, *others = calls
        look.add(own.part("system loop"))
        look.add(_intake(self._gate.state))
        look.add(io.part("io loop") if io.is_known else m.HealthPart("io loop", "failed", None, "it has ended"))
        if of_asyncio := [call.part("asyncio loop") for call in others if call.is_known]:
            look.add(max(of_asyncio, key=_rank))  # of several loops, the worst one
        for group in places:
            look.add(group.whole)
            look.parts += group.named
        for part in self._of_door():
            look.add(part)
        for plugin in self._plugins:
            self._look_at_plugin(look, plugin)
        self._known = look.statuses
        return m.HealthReport(self._system.name, True, look.worst != "failed", tuple(look.parts))

    def _call_loops(self) -> list[_Call]:
        """Call the system loop, the io loop, and those of asyncio; but not one that has not heard the last call yet."""
        system, before = self._system, self._calls
        hosts: list[LoopHost] = [host for host in system.asyncio_hosts.all() if host.runs]
        self._calls = {}
        for host in (system.system_host, system.io_host, *hosts):
            call = before.get(host)
            if call is None or call.heard_at is not None:
                call = _Call(host)
                host.later(partial(call.hear, system.system_host.later))
            self._calls[host] = call
        return list(self._calls.values())

    async def _look_at_places(self, look: _Look) -> tuple[_Group, _Group]:
        """Find the mailboxes and breakers that are not ok."""
        boxes, breakers = _Group(look, "mailboxes", "more than half full"), _Group(look, "breakers", "open")
        async for some in in_turns(_pieces(self._system.places())):
            for place in some:
                box = place.mailbox
                if 2 * (depth := box.size) > box.capacity:
                    rejects = depth >= box.capacity and box.overflow == "reject"
                    why = f"{depth:,} of {box.capacity:,} tokens{', and rejects others' if rejects else ''}"
                    boxes.add(place, f"mailbox {plain(place.path)}", "failed" if rejects else "degraded", why)
                if (governor := breakers_of(place)) is None:
                    continue
                with governor.lock:
                    states = governor.states("breaker")
                async for pairs in in_turns(_pieces(states)):
                    now = governor.clock()
                    for key, state in pairs:
                        if state.state == "open" and now < state.until:
                            name = f"breaker {plain(place.path)}{'' if key is None else f' of {plain(str(key))}'}"
                            since = None if state.opened is None else look.now - (now - state.opened)
                            breakers.add(place, name, "degraded", "open", since)
        return boxes, breakers

    def _look_at_plugin(self, look: _Look, plugin: Plugin) -> None:
        name = type(plugin).__name__
        try:
            parts = tuple(plugin.health(self._gate))
            for one in parts:
                if type(one) is not m.HealthPart:
                    raise TypeError(f"health of {name} has a {class_name(type(one))} in the place of a HealthPart")
        except Exception as error:
            parts = (m.HealthPart(name, "failed", None, f"its health raised {class_name(type(error))}"),)
            if look.was(f"{name}: {name}") != "failed":  # else it was logged before
                _logger.exception("health of plugin %s of gate '%s' cannot be told", name, self._gate.name)
        look.add_of_plugin(name, parts)


_Statuses: TypeAlias = dict[str, tuple[Status, float | None]]
"""{name of a part: its status, and since when}; of places, those parts only that are not ok."""


class _Look:
    """The answer to one question.

    Args:
        known: the statuses at the question before; None: this is the first one.
        here: what the caller may see; None: everything.

    Attributes:
        now: UTC seconds.
        parts: that the caller may see.
        statuses: of all parts.
        worst: of these.
    """

    def __init__(self, known: Mapping[str, tuple[Status, float | None]] | None, here: Admission | None) -> None:
        self._known = known
        self.here = here
        self.now = time.time()
        self.parts: list[m.HealthPart] = []
        self.statuses: _Statuses = {}
        self.worst: Status = "ok"

    def was(self, name: str) -> Status | None:
        """Return the status of a part at the question before."""
        return self._known[name][0] if self._known and name in self._known else None

    def since(self, name: str, status: Status, known: float | None) -> float | None:
        """Note the status of a part, and return since when it has it, if it is not known from elsewhere."""
        was, before = (self._known or {}).get(name, ("ok", None))
        since = known
        if was == status and (known is None or (before is not None and abs(known - before) < _SAME)):
            since = before  # clocks are read again each time
        elif known is None and self._known is not None:
            since = self.now
        self.statuses[name] = status, since
        if _RANK.index(status) > _RANK.index(self.worst):
            self.worst = status
        return since

    def add(self, part: m.HealthPart) -> None:
        """Add a part of the whole gate; a caller that may not see everything is not told why, which may have names."""
        since = self.since(part.name, part.status, part.since)
        self.parts.append(attrs.evolve(part, since=since, why=part.why if self.here is None else ""))

    def add_of_plugin(self, plugin: str, parts: Sequence[m.HealthPart]) -> None:
        """Add the parts of a plugin; for a caller that may not see everything one, as their names may be of others."""
        shown = [
            attrs.evolve(
                one, name=plain(one.name), why=plain(one.why),
                since=self.since(f"{plugin}: {one.name}", one.status, one.since),
            )
            for one in parts
        ]  # fmt: skip
        if self.here is not None and shown:
            shown = [m.HealthPart(plugin, max(shown, key=_rank).status)]
        self.parts += shown


class _Group:
    """Mailboxes, or breakers, of which some are not ok.

    Attributes:
        named: the parts of those that the caller may see, the first ones.
    """

    def __init__(self, look: _Look, name: str, what: str) -> None:
        self._look, self._name, self._what = look, name, what
        self._number = 0
        self._worst: Status = "ok"
        self._named: dict[Status, list[m.HealthPart]] = {"failed": [], "degraded": []}

    def add(self, place: Place, name: str, status: Status, why: str, known: float | None = None) -> None:
        since, here = self._look.since(name, status, known), self._look.here
        self._number += 1
        if _RANK.index(status) > _RANK.index(self._worst):
            self._worst = status
        some = self._named[status]
        if len(some) < _MOST and (here is None or here.sees_place(place)):
            some.append(m.HealthPart(name, status, since, why))

    @property
    def whole(self) -> m.HealthPart:
        """The part for all of them."""
        return m.HealthPart(self._name, self._worst, None, f"{self._number:,} {self._what}" if self._number else "")

    @property
    def named(self) -> list[m.HealthPart]:
        return (self._named["failed"] + self._named["degraded"])[:_MOST]


class _Call:
    """A call of a loop.

    Attributes:
        heard_at: when the loop made it, in seconds of `time.monotonic`; None: it has not yet.
        heard: set on the system loop after that.
    """

    def __init__(self, host: LoopHost) -> None:
        self._host = host
        self._at = time.monotonic()
        self.heard_at: float | None = None
        self.heard = trio.Event()

    def hear(self, on_system_loop: Callable[[Callable[[], object]], object]) -> None:
        self.heard_at = time.monotonic()
        on_system_loop(self.heard.set)

    @property
    def is_known(self) -> bool:
        """Whether the loop has made it, or may do so."""
        return self.heard_at is not None or self._host.runs

    def part(self, name: str) -> m.HealthPart:
        """Return the health of the loop."""
        if self.heard_at is not None:
            lag = self.heard_at - self._at
            return m.HealthPart(name, "degraded", None, f"lags by {lag:.1f} s") if lag > _LAG else m.HealthPart(name)
        now = time.monotonic()
        seconds = now - min(self._at, self._host.busy_since() or now)
        running = tokens_of(thread_frames().get(self._host.ident or 0))
        by = "".join(f"; token {one.id} ({plain(one.operation)} of '{plain(one.actor)}') runs" for one in running[:1])
        if seconds < _BLOCKED:
            return m.HealthPart(name, "degraded", time.time() - seconds, f"lags by {seconds:.1f} s{by}")
        return m.HealthPart(name, "failed", time.time() - seconds + _BLOCKED, f"blocked for {seconds:.1f} s{by}")


async def _heard(calls: Iterable[_Call]) -> None:
    """Wait until all loops have heard their calls, if they do so in time."""
    for _ in range(_LOOKS):
        with trio.move_on_after(_LAG / _LOOKS) as scope:
            for call in calls:
                await call.heard.wait()
        if not scope.cancelled_caught:
            return


def _intake(state: str) -> m.HealthPart:
    is_open = state == "open"
    return m.HealthPart("intake") if is_open else m.HealthPart("intake", "failed", None, f"the gate is {state}")


def _rank(part: m.HealthPart) -> int:
    return _RANK.index(part.status)


def _pieces(found: Sequence[T]) -> Iterator[Sequence[T]]:
    """Yield the pieces of a list that are for one turn each."""
    return (found[start : start + _AT_ONCE] for start in range(0, len(found), _AT_ONCE))
