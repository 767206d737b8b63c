"""The gates of this user on this host, and a connection to each."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Literal

import attrs

from tokengate.admin._feeds import Reader
from tokengate.admin._link import Link
from tokengate.admin._principal import Principal
from tokengate.admin._problems import Problem
from tokengate.control.messages import Message, Stream
from tokengate.control.transport._discovery import find_gates


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


class Gates:
    """The gates of this user on this host.

    Args:
        directory: of the control sockets; None takes the runtime directory.
    """

    def __init__(self, directory: Path | None = None) -> None:
        self._directory = directory
        self._links: dict[str, Link] = {}

    async def listed(self) -> tuple[GateEntry, ...]:
        """Return the gates, sorted by name; those that have gone in the last ten minutes, too."""
        found = await asyncio.to_thread(find_gates, self._directory)
        for one in found:
            self._links.setdefault(one.path.stem, Link(one.path))
        return tuple(
            GateEntry(one.path.stem, one.name, one.pid, "open" if one.answers else "hung", 0.0, one.refusal)
            for one in found
        )

    async def ask(self, gate: str, message: Message[Any], principal: Principal) -> bytes:
        """Send a message to a gate, and return its answer as JSON.

        Args:
            gate: its name, as in `GateEntry`.
            message: to send.
            principal: on whose behalf.

        Raises:
            Problem: no gate has this name (404), or it has gone, or does not answer (503); the gate's own error; or
                the ceiling does not leave the principal the right (403).
        """
        return await (await self._link(gate)).ask(message, principal)

    async def shared(self, gate: str, message: Message[Any], principal: Principal) -> bytes:
        """Return the answer to a message that looks, which pages with the same rights and message share.

        It is at most a second old, and making it takes at most a twentieth of the time.

        Raises:
            Problem: as `ask`.
        """
        return await self.ask(gate, message, principal)

    @asynccontextmanager
    async def follow(self, gate: str, stream: Stream, principal: Principal) -> AsyncGenerator[Reader]:
        """Open a stream of a gate: `async with gates.follow(...) as reader: async for item in reader`.

        Raises:
            Problem: as `ask`; while it is read, too.
        """
        link = await self._link(gate)
        async with link.follow(stream, principal) as items:
            yield _Every(items)

    async def close(self) -> None:
        """End all connections."""
        for link in self._links.values():
            await link.close()

    async def _link(self, gate: str) -> Link:
        if gate not in self._links:
            await self.listed()
        if gate not in self._links:
            raise Problem(404, "UnknownGate", f"no gate '{gate}' runs here", "see GET /api/v1/gates")
        return self._links[gate]


class _Every(Reader):
    """A reader that gets every item."""

    def __init__(self, items: AsyncIterator[bytes]) -> None:
        super().__init__()
        self._source = items

    async def __anext__(self) -> bytes:
        return await anext(self._source)
