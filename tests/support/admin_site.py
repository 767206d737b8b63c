"""The application of the admin daemon in a thread of the test, with sessions that the test chooses."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, cast

import attrs
import httpx
import uvicorn
from callers import OWN

from tokengate.admin._app import application
from tokengate.admin._connection import server_config
from tokengate.admin._doors import Doors
from tokengate.admin._gates import Gates
from tokengate.admin._principal import Principal
from tokengate.admin._problems import Problem
from tokengate.admin._site import Site

HOST: Final = "tokengate-0badcafe.localhost"


@attrs.define
class OpenDoors:
    """Doors with the sessions and API tokens that the test has put there.

    Attributes:
        sessions: {value of a cookie: principal}.
        tokens: {API token: principal}.
        codes: {code: principal}.
    """

    sessions: dict[str, Principal] = attrs.field(factory=dict)
    tokens: dict[str, Principal] = attrs.field(factory=dict)
    codes: dict[str, Principal] = attrs.field(factory=dict)

    def session(self, cookie: str, used: bool = True) -> Principal | None:
        return self.sessions.get(cookie)

    def bearer(self, token: str) -> Principal | None:
        return self.tokens.get(token)

    def redeem(self, code: str, peer: str) -> tuple[str, Principal] | None:
        found = self.codes.pop(code, None)
        if found is None:
            return None
        self.sessions[code] = found
        return code, found

    def failed(self, what: str, peer: str) -> Problem:
        return Problem(401, "NoPrincipal", f"this {what} lets nobody in")

    def end(self, login: str, owner: int) -> bool:
        found = [value for value, one in self.sessions.items() if one.login == login and one.owner == owner]
        for value in found:
            del self.sessions[value]
        return bool(found)

    def lives(self, principal: Principal) -> bool:
        return principal in self.sessions.values() or principal in self.tokens.values()


@attrs.define
class Served:
    """A served application.

    Attributes:
        site: its site.
        doors: of the site, if the test has brought none.
        records: what was recorded, each `(kind, principal, why)`.
        port: of the loopback interface.
    """

    site: Site
    doors: OpenDoors
    records: list[tuple[str, str, str]]
    port: int

    def client(self, cookie: str = "own", **options: Any) -> httpx.Client:
        """Return a client with the cookie of a session; `own` is one of this user."""
        headers = {"host": f"{HOST}:{self.port}", "sec-fetch-site": "same-origin", **options.pop("headers", {})}
        cookies = {self.site.cookie: cookie} if cookie else {}
        return httpx.Client(
            base_url=f"http://127.0.0.1:{self.port}", headers=headers, cookies=cookies, timeout=30, **options
        )

    @property
    def url(self) -> str:
        """What a browser opens."""
        return f"http://{HOST}:{self.port}"


@contextmanager
def served(directory: Path | None = None, doors: Doors | None = None, port: int = 0, **fields: Any) -> Iterator[Served]:
    """Serve the application on the loopback interface, until the block ends.

    Args:
        directory: of the control sockets; None takes the runtime directory.
        doors: of the site; None takes open ones.
        port: to serve at; 0 takes a free one.
        fields: further ones of the site. Without `rates`, requests are not limited.
    """
    fields.setdefault("rates", (1e9, 1e9))
    opened = OpenDoors({"own": Principal(f"uid:{OWN}", OWN, login="s1")})
    records: list[tuple[str, str, str]] = []

    def record(kind: str, principal: str, owner: int | None, why: str = "", **_fields: Any) -> None:
        records.append((kind, principal, why))

    made = socket.create_server(("127.0.0.1", port))
    hosts = frozenset({HOST, "127.0.0.1", "localhost"})
    started, loops = threading.Event(), []

    async def serve() -> None:
        site = Site(Gates(directory, record), doors or cast("Doors", opened), record, HOST, hosts, "test", **fields)
        server = uvicorn.Server(server_config(application(site)))
        server.install_signal_handlers = lambda: None  # type: ignore[method-assign]
        loops.append((server, site))
        started.set()
        await server.serve(sockets=[made])
        await site.gates.close()

    thread = threading.Thread(target=lambda: asyncio.run(serve()), name="admin")
    thread.start()
    started.wait(30)
    ((server, site),) = loops
    try:
        yield Served(site, opened, records, made.getsockname()[1])
    finally:
        server.should_exit = True
        thread.join(30)
        made.close()
