"""Who is let in: by codes of one use, sessions, and API tokens; and how often others may try."""

from __future__ import annotations

import asyncio
import hmac
import math
import secrets
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from hashlib import sha256
from typing import Final, NoReturn, TypeVar

import attrs

from tokengate.admin._api_tokens import ApiTokens, Kept
from tokengate.admin._principal import Principal
from tokengate.admin._problems import Problem
from tokengate.admin._site import Record

_T = TypeVar("_T")

CODE_SECONDS: Final = 60.0
IDLE_SECONDS: Final = 15 * 60.0
SESSION_SECONDS: Final = 8 * 3600.0

_CODES, _SESSIONS = 8, 8  # of one user; the oldest ends for one more
_TRIES, _ALL_TRIES, _MINUTE = 10, 60, 60.0  # that fail: of a peer, of all, in these seconds
_FOLD_SECONDS: Final = 10.0  # in which those of a peer are one record
_LOOK_SECONDS: Final = 10.0  # between two looks at what other daemons have changed
_CLOCK: Final = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)  # Linux stops the second one while it sleeps


def now() -> float:
    """Return seconds of a clock that nobody sets, and that goes on while the machine sleeps."""
    return time.clock_gettime(_CLOCK)


@attrs.frozen
class SessionEntry:
    """A session, as lists show it.

    Attributes:
        id: public.
        principal, owner: of it.
        age, idle: seconds since the login, and since it was used.
    """

    id: str
    principal: str
    owner: int
    age: float
    idle: float


@attrs.define
class _Code:
    digest: bytes
    owner: int
    groups: tuple[int, ...]
    made: float


@attrs.define
class _Session:
    digest: bytes
    principal: Principal
    made: float
    used: float


@attrs.define
class _Fold:
    until: float
    more: int = 0


class Doors:
    """The sessions, codes and API tokens of a daemon; its methods are called on its loop.

    Args:
        record: writes into the daemon's audit log.
        tokens: the API tokens, which have been loaded.
        ceiling: rights that no one exceeds; None: there is no ceiling.
        clock: seconds; only differences count.
    """

    def __init__(
        self,
        record: Record,
        tokens: ApiTokens,
        ceiling: frozenset[str] | None = None,
        clock: Callable[[], float] = now,
    ) -> None:
        self._record = record
        self._tokens = tokens
        self._ceiling = ceiling
        self._clock = clock
        self._codes: list[_Code] = []  # by age, as the sessions
        self._sessions: list[_Session] = []
        self._failures: list[tuple[float, str]] = []  # (when, peer) of those within a minute that were not limited
        self._folds: dict[str, _Fold] = {}  # {peer: failures after the recorded one}

    def code(self, owner: int, groups: Iterable[int]) -> str:
        """Return a code with which a user may log in once, within a minute.

        Args:
            owner: uid of the user, as the kernel says.
            groups: of the user, as the kernel says.
        """
        self._codes = _room(self._live_codes(), _CODES, lambda one: one.owner == owner)
        code = secrets.token_urlsafe(32)
        self._codes.append(_Code(_digest(code), owner, tuple(groups), self._clock()))
        return code

    def redeem(self, code: str, peer: str) -> tuple[str, Principal] | None:
        """Return the cookie's value and the principal of a new session for a code, which it uses up."""
        self._codes = self._live_codes()
        digest, found = _digest(code), None
        for one in self._codes:
            if hmac.compare_digest(one.digest, digest):
                found = one
        if found is None:
            return None
        self._codes.remove(found)
        value, at, id = secrets.token_urlsafe(32), self._clock(), f"s-{secrets.token_hex(4)}"
        principal = Principal(f"uid:{found.owner}", found.owner, found.groups, self._ceiling, id)
        others = _room(self._live(), _SESSIONS, lambda one: one.principal.name == principal.name)
        self._sessions = [*others, _Session(_digest(value), principal, at, at)]
        self._record("login", principal.name, principal.owner, session=id, peer=peer)
        return value, principal

    def session(self, cookie: str, used: bool = True) -> Principal | None:
        """Return the principal of a session by its cookie's value; None: there is none.

        Args:
            cookie: its value.
            used: whether a person acts, so that the session is not idle; what a page asks by itself is no use.
        """
        digest, found = _digest(cookie), None
        for one in self._live():
            if hmac.compare_digest(one.digest, digest):
                found = one
        if found is not None and used:
            found.used = self._clock()
        return found.principal if found else None

    def bearer(self, token: str) -> Principal | None:
        """Return the principal of an API token; None: there is none, or it has expired."""
        found = self._tokens.find(token)
        return self._lowered(found) if found else None

    def failed(self, what: str, peer: str) -> Problem:
        """Count and record that a code or an API token was wrong, and return the problem to raise: 401, or 429.

        A right one is let in however many have failed: all local clients share an address.
        """
        at = self._clock()
        self._fold(what, peer, at)
        self._failures = [one for one in self._failures if at - one[0] < _MINUTE]
        of_peer = [when for when, who in self._failures if who == peer]
        if len(of_peer) >= _TRIES or len(self._failures) >= _ALL_TRIES:
            oldest = of_peer[0] if len(of_peer) >= _TRIES else self._failures[0][0]
            headers = {"Retry-After": str(math.ceil(oldest + _MINUTE - at))}
            return Problem(429, "TooManyFailures", f"too many a {what} were wrong", "try again in a minute", headers)
        self._failures.append((at, peer))
        remedy = "run 'tokengate admin login' again" if what == "code" else "run 'tokengate admin token create'"
        headers = {"WWW-Authenticate": "Bearer"}
        return Problem(401, "NoPrincipal", f"this {what} is wrong, was used, or has expired", remedy, headers)

    def end(self, login: str, owner: int) -> bool:
        """End a session by its public id, of this owner; return whether there was one."""
        found = [one for one in self._live() if (one.principal.login, one.principal.owner) == (login, owner)]
        for one in found:
            self._sessions.remove(one)
            self._record("logout", one.principal.name, owner, session=login)
        return bool(found)

    def lives(self, principal: Principal) -> bool:
        """Tell whether the session or API token of a principal still holds; streams ask once a second."""
        tokens = map(self._lowered, self._tokens.principals(principal.name))
        return principal in tokens or any(one.principal == principal for one in self._live())

    def sessions(self, owner: int | None = None) -> tuple[SessionEntry, ...]:
        """Return the sessions of an owner, or all, the oldest first."""
        at = self._clock()
        return tuple(
            SessionEntry(who.login, who.name, who.owner, at - one.made, at - one.used)
            for one in self._live()
            if owner in (None, (who := one.principal).owner)
        )

    def api_tokens(self, owner: int | None = None) -> tuple[Kept, ...]:
        """Return the API tokens of an owner, or all, by name, without what they are."""
        return self._tokens.listed(owner)

    async def create_token(self, name: str, owner: int, role: Sequence[str] = (), seconds: float | None = None) -> str:
        """Make an API token, and return it; see `ApiTokens.create`.

        Raises:
            Problem: as that.
        """
        token = await asyncio.to_thread(self._tokens.create, name, owner, role, seconds)
        self._record("token_created", f"uid:{owner}", owner, token=name, role=" ".join(role), seconds=seconds)
        return token

    async def revoke_token(self, name: str, owner: int, of_others: bool = False) -> None:
        """End an API token of a user, or of any.

        Raises:
            Problem: there is none, or the file cannot be written.
        """
        await asyncio.to_thread(self._tokens.revoke, name, None if of_others else owner)
        self._record("token_revoked", f"uid:{owner}", owner, token=name)

    async def keep(self) -> NoReturn:
        """Record what was folded, and look at what other daemons have changed, until it is cancelled."""
        looking = threading.Thread(target=self._tokens.refresh, name="api-tokens", daemon=True)
        looking.start()
        while True:
            await asyncio.sleep(_LOOK_SECONDS)
            self.sweep()
            if not looking.is_alive():  # a disk, or a directory service, may hang
                looking = threading.Thread(target=self._tokens.refresh, name="api-tokens", daemon=True)
                looking.start()

    def sweep(self) -> None:
        """Record what was folded, and forget what has ended."""
        self._sessions, self._codes, at = self._live(), self._live_codes(), self._clock()
        for peer in [peer for peer, fold in self._folds.items() if fold.until <= at]:
            if more := self._folds.pop(peer).more:
                self._record("login_failed", "", None, "folded", peer=peer, times=more)

    def _fold(self, what: str, peer: str, at: float) -> None:
        fold = self._folds.get(peer)
        if fold is not None and at < fold.until:
            fold.more += 1
            return
        self.sweep()
        self._folds[peer] = _Fold(at + _FOLD_SECONDS)
        self._record("login_failed", "", None, f"wrong {what}", peer=peer)

    def _lowered(self, principal: Principal) -> Principal:
        if self._ceiling is None:
            return principal
        rights = self._ceiling if principal.rights is None else principal.rights & self._ceiling
        return attrs.evolve(principal, rights=rights)

    def _live_codes(self) -> list[_Code]:
        at = self._clock()
        return [one for one in self._codes if at - one.made < CODE_SECONDS]

    def _live(self) -> list[_Session]:
        """Return the sessions that have not ended, and forget the others."""
        at = self._clock()
        self._sessions = [
            one for one in self._sessions if at - one.used < IDLE_SECONDS and at - one.made < SESSION_SECONDS
        ]
        return self._sessions


def _room(those: list[_T], most: int, alike: Callable[[_T], bool]) -> list[_T]:
    """Return those that are left, by age, if of some that are alike there must be room for one more."""
    ended = [one for one in those if alike(one)][: 1 - most]
    return [one for one in those if one not in ended]


def _digest(secret: str) -> bytes:
    return sha256(secret.encode("utf-8", "surrogatepass")).digest()
