"""The gates of this user on this host, and what is asked of each."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path
from typing import Any, Final, Literal

import attrs

from tokengate.admin._audit import Record
from tokengate.admin._feeds import Feeds, Reader
from tokengate.admin._link import Link, key_of
from tokengate.admin._principal import Principal
from tokengate.admin._problems import Problem
from tokengate.admin._snapshots import Snapshots
from tokengate.control._exceptions import ControlError
from tokengate.control.messages import Message, Stream, verb_of
from tokengate.control.transport._discovery import FoundGate, find_gates, socket_files

_LOOK: Final = 1.0  # seconds at least between two looks at the files of sockets
_VISIT: Final = 5.0  # seconds after which gates are asked whether they answer, if nothing has changed
_WAIT: Final = 0.05  # seconds that a list waits for gates of which it knows already
_KEPT: Final = 600.0  # seconds that a gate is listed which has gone


@attrs.frozen
class GateEntry:
    """A gate, as it is listed.

    Attributes:
        name: of its socket's file, which paths and queries have: `shop-18353-0`.
        gate: its own name.
        pid: of its process.
        state: `open`; `hung`: it does not answer; `gone`: it has closed or died, within the last ten minutes.
        since: when it was first seen in this state, in seconds since the epoch.
        refusal: why it refuses this daemon; else empty.
    """

    name: str
    gate: str
    pid: int
    state: Literal["open", "hung", "gone"] = "open"
    since: float = 0.0
    refusal: str = ""


@attrs.define
class _Known:
    """A gate, and the ways to it."""

    entry: GateEntry
    link: Link
    feeds: Feeds


class Gates:
    """The gates of this user on this host; for one loop of asyncio.

    Args:
        directory: of the control sockets; None takes the runtime directory.
        record: writes into the daemon's own audit log what reaches no gate; see `Record`.
    """

    def __init__(self, directory: Path | None = None, record: Record = lambda *_, **__: None) -> None:
        self._directory = directory
        self._record = record
        self._known: dict[str, _Known] = {}
        self._snapshots = Snapshots()
        self._files: frozenset[str] | None = None  # names of sockets, at the last look
        self._looked = self._visited = -math.inf
        self._visiting: asyncio.Task[None] | None = None
        self._last_here = time.monotonic()

    async def listed(self) -> tuple[GateEntry, ...]:
        """Return the gates, sorted by name; those that have gone in the last ten minutes, too.

        Raises:
            Problem: the directory of the sockets is open to other users (503).
        """
        await self._look()
        return tuple(sorted((one.entry for one in self._known.values()), key=lambda one: one.name))

    @property
    def idle(self) -> float:
        """Seconds since a gate was last here; 0 while there is one, as far as is known."""
        here = any(one.entry.state != "gone" for one in self._known.values())
        return 0.0 if here else time.monotonic() - self._last_here

    async def wait_idle(self, seconds: float) -> None:
        """Return when no gate has been here for so many seconds; look for gates meanwhile."""
        while True:
            with suppress(Problem):  # of the directory, which a list of the gates raises, too
                await self._look()
            if self.idle >= seconds:
                return
            await asyncio.sleep(min(_VISIT, seconds - self.idle))

    async def ask(self, gate: str, message: Message[Any], principal: Principal) -> bytes:
        """Send a message to a gate, and return its answer as JSON.

        Args:
            gate: its name, as in `GateEntry`.
            message: to send.
            principal: on whose behalf.

        Raises:
            Problem: no gate has this name (404), or it has gone, or does not answer, or has too much to do (503); the
                gate's own error; or the ceiling does not leave the principal the right (403).
        """
        self._check(message, principal)
        known = await self._gate(gate)
        with self._noticing():
            return await known.link.ask(message, principal)

    async def shared(self, gate: str, message: Message[Any], principal: Principal) -> bytes:
        """Return the answer to a message that looks, which pages with the same rights and message share.

        It is made at most once a second, and for at most a twentieth of the time. A caller that asks while it is made
        waits for it, and shares an error, which is not kept.

        Raises:
            Problem: as `ask`.
        """
        assert not message.changes
        self._check(message, principal)
        key = gate, key_of(message, principal)
        return await self._snapshots.get(key, lambda: self.ask(gate, message, principal))

    @asynccontextmanager
    async def follow(self, gate: str, stream: Stream, principal: Principal) -> AsyncGenerator[Reader]:
        """Open a stream of a gate: `async with gates.follow(...) as reader: async for item in reader`.

        Readers of equal streams share one.

        Raises:
            Problem: as `ask`; while it is read, too.
        """
        self._check(stream, principal)
        known = await self._gate(gate)
        with self._noticing():
            async with known.feeds.follow(stream, principal) as reader:
                yield reader

    async def close(self) -> None:
        """End all connections; what is under way fails."""
        await self._snapshots.close()
        if self._visiting is not None:
            await asyncio.gather(self._visiting, return_exceptions=True)
        for known in self._known.values():
            await known.feeds.close()
            await known.link.close()

    def _check(self, message: Message[Any], principal: Principal) -> None:
        """Refuse what the ceiling does not leave a principal; the gate decides the rest."""
        wanted = [message.needed]
        wanted += ["override"] * bool(getattr(message, "force", False))
        wanted += ["break_glass"] * bool(getattr(message, "break_glass", ""))
        for right in wanted:
            if not principal.may(right):
                verb, name, why = verb_of(type(message)), principal.name, f"no right '{right}'"
                self._record("refused", name, principal.owner, f"{why} for '{verb}'", request=principal.request)
                by, remedy = "the ceiling leaves", "see 'ceiling' in [admin] of the daemon's file"
                if name.startswith("api:"):
                    by = "the role of the API token, or the ceiling, leaves"
                    remedy = "a token with another role is made by 'tokengate admin token create NAME --role ROLE'"
                raise Problem(403, "Refused", f"'{verb}' is refused: {by} '{name}' no right '{right}'", remedy)

    @contextmanager
    def _noticing(self) -> Generator[None]:
        """Have the gates visited soon if one has gone, or does not answer."""
        try:
            yield
        except Problem as problem:
            if problem.name in ("Unreachable", "NoAnswer"):
                self._doubt()
            raise

    # Looking for gates

    def _doubt(self) -> None:
        self._visited = -math.inf

    async def _gate(self, name: str) -> _Known:
        for _ in range(2):  # it may have opened after a visit had begun
            if name not in self._known:
                await self._look(at_once=True)
        if name not in self._known:
            raise Problem(404, "UnknownGate", f"no gate '{name[:60]}' runs here", "see GET /api/v1/gates")
        return self._known[name]

    async def _look(self, *, at_once: bool = False) -> None:
        """Look whether sockets have come or gone, once a second; visit the gates if so, or if that is due."""
        now = asyncio.get_running_loop().time()
        if (at_once or now >= self._looked + _LOOK) and not self._is_visiting:
            self._looked = now
            try:
                files = frozenset(path.stem for path in socket_files(self._directory))
            except ControlError as error:
                raise Problem(503, "ControlError", str(error)) from None
            if files != self._files or now >= self._visited + _VISIT:
                self._files, self._visited = files, now
                self._visiting = asyncio.create_task(self._visit())
        if self._visiting is not None and self._is_visiting:
            new = at_once or self._files is None or not self._known.keys() >= self._files
            await asyncio.wait({self._visiting}, timeout=None if new else _WAIT)

    @property
    def _is_visiting(self) -> bool:
        return self._visiting is not None and not self._visiting.done()

    async def _visit(self) -> None:
        """Ask all gates whether they answer, in a thread; it takes a second at most."""
        try:
            found = {one.path.stem: one for one in await asyncio.to_thread(find_gates, self._directory)}
        except ControlError:
            return  # the next look says so
        if found:
            self._last_here = time.monotonic()
        for name, gate in found.items():
            if name not in self._known:
                link = Link(gate.path, self._doubt)
                self._known[name] = _Known(GateEntry(name, gate.name, gate.pid, "gone"), link, Feeds(link))
            self._note(self._known[name], gate)
        for name in self._known.keys() - found.keys():
            known = self._known[name]
            if known.entry.state != "gone":
                self._note(known, None)
            elif time.time() > known.entry.since + _KEPT:
                del self._known[name]
                await known.feeds.close()
                await known.link.close()

    def _note(self, known: _Known, found: FoundGate | None) -> None:
        """Note what is known of a gate now; None: it has gone."""
        before = known.entry
        state: Literal["open", "hung", "gone"] = "gone"
        if found is not None:
            state = "open" if found.answers or found.refusal else "hung"
        known.entry = attrs.evolve(
            before,
            gate=found.name if found is not None and found.answers else before.gate,
            state=state,
            since=before.since if state == before.state else time.time(),
            refusal=found.refusal if found is not None else "",
        )
