"""Who is let in: by codes of one use, sessions, and API tokens; and how often others may try."""

from __future__ import annotations

import hmac
import math
import secrets
import time
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Final, Protocol, TypeVar

import attrs

from tokengate.admin._api_tokens import ApiTokens, TokenRow
from tokengate.admin._audit import Record
from tokengate.admin._principal import Principal
from tokengate.admin._problems import Problem

_CODE_SECONDS, _IDLE_SECONDS, _SESSION_SECONDS = 60.0, 15 * 60.0, 8 * 3600.0
_CODES, _SESSIONS = 8, 8  # of one user; the oldest ends for one more
_TRIES, _ALL_TRIES, _MINUTE = 10, 60, 60.0  # that fail: of a peer, of all, in these seconds
_CLOCK: Final = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)  # the second one may stop while Linux sleeps


class _Kept(Protocol):
    digest: bytes
    principal: Principal


_T = TypeVar("_T", bound=_Kept)


@attrs.define(eq=False)
class _Code:
    digest: bytes = attrs.field(repr=False)
    principal: Principal
    made: float


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


@attrs.define(eq=False)
class _Session:
    digest: bytes = attrs.field(repr=False)
    principal: Principal
    made: float
    used: float


class Doors:
    """The codes, sessions and API tokens of a daemon. Its methods are called on its loop, those of API tokens anywhere.

    A session ends by logout, 15 minutes without use, 8 hours after its login, or as the oldest of more than eight of
    its user. It is used when a person acts: streams and what a page asks by itself do not keep it.

    Args:
        record: writes into the daemon's audit log.
        tokens: path of the file of API tokens.
        ceiling: rights that no one exceeds; None: there is no ceiling.
        clock: seconds; only differences count.

    Raises:
        Problem: the API tokens cannot be read.
    """

    def __init__(
        self,
        record: Record,
        tokens: Path,
        ceiling: frozenset[str] | None = None,
        clock: Callable[[], float] = lambda: time.clock_gettime(_CLOCK),
    ) -> None:
        self._record = record
        self._ceiling = ceiling
        self._clock = clock
        self._api_tokens = ApiTokens(tokens)
        self._codes: list[_Code] = []  # by age, as the sessions
        self._sessions: list[_Session] = []
        self._failures: list[tuple[float, str]] = []  # (when, peer) of those within a minute that were not limited

    def code(self, user: Principal) -> str:
        """Return a code with which a user, as the kernel names it, may log in once, within a minute."""
        code = secrets.token_urlsafe(32)
        self._codes = [*_room(self._live_codes(), _CODES, user), _Code(_digest(code), user, self._clock())]
        return code

    def waits(self, code: str) -> bool:
        """Tell whether a code was not used yet, and can be."""
        return _found(code, self._live_codes()) is not None

    def redeem(self, code: str, peer: str) -> tuple[str, Principal] | None:
        """Return the cookie's value and the principal of a new session for a code, which it uses up."""
        found = _found(code, self._live_codes())
        if found is None:
            return None
        self._codes.remove(found)
        value, now = secrets.token_urlsafe(32), self._clock()
        principal = self._lowered(attrs.evolve(found.principal, login=f"s-{secrets.token_hex(4)}"))
        self._sessions = [
            *_room(self._live(), _SESSIONS, principal),
            _Session(_digest(value), principal, now, now),
        ]
        self._record("login", principal.name, principal.owner, session=principal.login, peer=peer)
        return value, principal

    def session(self, cookie: str, used: bool = True) -> Principal | None:
        """Return the principal of a session by its cookie's value; None: there is none.

        Args:
            cookie: its value.
            used: whether a person acts, so that the session is not idle; what a page asks by itself is no use.
        """
        found = _found(cookie, self._live())
        if found is None:
            return None
        if used:
            found.used = self._clock()
        return found.principal

    def bearer(self, token: str) -> Principal | None:
        """Return the principal of an API token; None: there is none, or it has expired."""
        found = self._api_tokens.find(token)
        return self._lowered(found) if found else None

    def failed(self, what: str, peer: str) -> Problem:
        """Count and record that a code or an API token was wrong, and return the problem to raise: 401, or 429.

        A right one is let in however many have failed: all local clients have one address, and would bar each other.
        """
        now = self._clock()
        self._record("login_failed", "", None, f"wrong {what}", peer=peer)
        self._failures = [one for one in self._failures if now - one[0] < _MINUTE]
        of_peer = [when for when, who in self._failures if who == peer]
        if len(of_peer) >= _TRIES or len(self._failures) >= _ALL_TRIES:
            oldest = of_peer[0] if len(of_peer) >= _TRIES else self._failures[0][0]
            headers = {"Retry-After": str(math.ceil(oldest + _MINUTE - now))}
            return Problem(429, "TooManyFailures", f"this {what} is wrong, as were many others", "wait", headers)
        self._failures.append((now, peer))
        remedy = "run 'tokengate admin login'" if what == "code" else "run 'tokengate admin token create'"
        text = f"this {what} is wrong, was ended, or has expired"
        return Problem(401, "NoPrincipal", text, remedy, {"WWW-Authenticate": "Bearer"})

    def end(self, login: str, owner: int) -> bool:
        """End a session by its public id, of this owner; return whether there was one."""
        live = self._live()
        self._sessions = [one for one in live if (one.principal.login, one.principal.owner) != (login, owner)]
        return len(self._sessions) < len(live)

    def lives(self, principal: Principal) -> bool:
        """Tell whether the session or API token of a principal still holds; streams ask once a second."""
        token = self._api_tokens.principal(principal.name)
        if token is not None:
            return self._lowered(token) == principal
        return any(one.principal == principal for one in self._live())

    def sessions(self) -> list[SessionRow]:
        """Return all sessions, the oldest first."""
        now = self._clock()
        return [
            SessionRow(one.principal.login, one.principal.owner, now - one.made, now - one.used) for one in self._live()
        ]

    def tokens(self) -> list[TokenRow]:
        """Return all API tokens, by name, those that have expired, too."""
        return self._api_tokens.rows()

    def create_token(self, user: Principal, name: str, role: str | None = None, seconds: float | None = None) -> str:
        """Make an API token of a user, and return it; see `ApiTokens.create`, also about errors."""
        return self._api_tokens.create(name, user.owner, role or "", seconds)

    def revoke_token(self, name: str) -> None:
        """End an API token; see `ApiTokens.revoke`, also about errors."""
        self._api_tokens.revoke(name)

    def _lowered(self, principal: Principal) -> Principal:
        """Return a principal with at most the rights of the ceiling."""
        if self._ceiling is None:
            return principal
        rights = self._ceiling if principal.rights is None else principal.rights & self._ceiling
        return attrs.evolve(principal, rights=rights)

    def _live_codes(self) -> list[_Code]:
        now = self._clock()
        self._codes = [one for one in self._codes if now - one.made < _CODE_SECONDS]
        return self._codes

    def _live(self) -> list[_Session]:
        now = self._clock()
        self._sessions = [
            one for one in self._sessions if now - one.used < _IDLE_SECONDS and now - one.made < _SESSION_SECONDS
        ]
        return self._sessions


def _digest(secret: str) -> bytes:
    return sha256(secret.encode("utf-8", "surrogatepass")).digest()


def _found(secret: str, those: list[_T]) -> _T | None:
    """Return the one of a secret; all are compared, each in the same time."""
    digest = _digest(secret)
    return next(iter([one for one in those if hmac.compare_digest(one.digest, digest)]), None)


def _room(those: list[_T], most: int, user: Principal) -> list[_T]:
    """Return those that are left if a user is to have room for one more; the oldest of the user end."""
    ended = [one for one in those if one.principal.owner == user.owner][: 1 - most]
    return [one for one in those if one not in ended]
