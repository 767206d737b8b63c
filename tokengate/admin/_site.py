"""What the routes work with."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import attrs

from tokengate.admin._gates import Gates
from tokengate.admin._principal import Principal
from tokengate.admin._problems import Problem


class Record(Protocol):
    """Writes into the daemon's own audit log."""

    def __call__(self, kind: str, principal: str, owner: int | None, why: str = "", **fields: Any) -> None:
        """Record a login, a refusal, an API token made or revoked; must not block.

        Args:
            kind: `login`, `logout`, `login_failed`, `token_created`, `token_revoked`, `refused`.
            principal: of the person or script.
            owner: its uid; None if unknown.
            why: of a failure.
            fields: further ones; no secrets.
        """
        ...


@attrs.frozen
class SessionRow:
    """A session of a browser.

    Attributes:
        name: its public id.
        owner: uid of its user.
        age: seconds since its login.
        idle: seconds since its last use.
    """

    name: str
    owner: int
    age: float
    idle: float


@attrs.frozen
class TokenRow:
    """An API token.

    Attributes:
        name: its name; the principal is `api:NAME`.
        owner: uid of its user.
        role: roles and rights, with spaces between them, that it has at most; empty: all of its owner.
        age: seconds since it was made.
        expires: seconds until it ends, below 0 if it has; None: it does not.
        idle: seconds since its last use; None: there was none since the daemon was started.
    """

    name: str
    owner: int
    role: str
    age: float
    expires: float | None
    idle: float | None


class Doors(Protocol):
    """Tells who sends a request; by sessions, and by API tokens."""

    def session(self, cookie: str, used: bool = True) -> Principal | None:
        """Return the principal of a session by its cookie's value; None: there is none.

        Args:
            cookie: its value.
            used: whether a person acts, so that the session is not idle; what a page asks by itself is no use.
        """
        ...

    def bearer(self, token: str) -> Principal | None:
        """Return the principal of an API token; None: there is none, or it has expired."""
        ...

    def redeem(self, code: str, peer: str) -> tuple[str, Principal] | None:
        """Return the cookie's value and the principal of a new session for a code of `tokengate admin login`, once."""
        ...

    def failed(self, what: str, peer: str) -> Problem:
        """Count and record that a code or an API token was wrong, and return the problem to raise: 401, or 429.

        Args:
            what: `code` or `API token`.
            peer: address of the client.
        """
        ...

    def end(self, login: str, owner: int) -> bool:
        """End a session by its public id, of this owner; return whether there was one."""
        ...

    def lives(self, principal: Principal) -> bool:
        """Tell whether the session or API token of a principal still holds; streams ask once a second."""
        ...

    def sessions(self) -> Sequence[SessionRow]:
        """Return all sessions, the oldest first."""
        ...

    def tokens(self) -> Sequence[TokenRow]:
        """Return all API tokens, by name, those that have expired, too."""
        ...


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
    extra: Mapping[str, Any] = attrs.field(factory=dict)
    streams: Counter[str] = attrs.field(factory=Counter)

    @property
    def cookie(self) -> str:
        """Name of the session's cookie."""
        return self.host.partition(".")[0]
