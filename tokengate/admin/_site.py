"""What the routes work with."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable

import attrs
from starlette.requests import Request

from tokengate.admin._audit import Record
from tokengate.admin._doors import Doors
from tokengate.admin._gates import Gates


@attrs.define
class Site:
    """What the routes work with; `request.app.state.site`.

    Attributes:
        gates: of this user.
        doors: sessions and API tokens.
        record: writes into the daemon's own audit log.
        host: the random name of this daemon: `tokengate-7f3a91c2.localhost`; the cookie has its first label as name.
        hosts: all names that a Host header may have, without ports.
        version: of TokenGate.
        rates: requests a second of one principal, and of all; more get 429.
        clock: seconds, of which the rates are.
        streams: {name of a principal: how many streams are open}.
    """

    gates: Gates
    doors: Doors
    record: Record
    host: str
    hosts: frozenset[str]
    version: str
    rates: tuple[float, float] = (50.0, 200.0)
    clock: Callable[[], float] = time.monotonic
    streams: Counter[str] = attrs.field(factory=Counter)

    @property
    def cookie(self) -> str:
        """Name of the session's cookie."""
        return self.host.partition(".")[0]


def site_of(request: Request) -> Site:
    """Return what the route of a request works with."""
    found: Site = request.app.state.site
    return found
