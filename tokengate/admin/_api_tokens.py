"""API tokens: what scripts show in the place of a session; a file keeps their hashes."""

from __future__ import annotations

import fcntl
import hmac
import logging
import os
import pwd
import re
import secrets
import stat
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from typing import Final

import attrs
import msgspec

from tokengate.admin._principal import Principal
from tokengate.admin._problems import Problem
from tokengate.authority import _decide
from tokengate.authority._decide import ROLES
from tokengate.control.messages import RIGHTS

_logger = logging.getLogger("tokengate.admin")

_PREFIX: Final = "tgk_"
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_MOST: Final = 100  # of one owner
_LOOK_SECONDS: Final = 10.0  # between two looks at what has changed elsewhere
_PATIENCE: Final = 2.0  # seconds for a directory service, which may hang, to tell groups


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


class _Kept(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An API token, as the file has it; times in seconds since the epoch."""

    name: str
    owner: int
    role: str
    made: float
    expires: float | None
    digest: str

    def lives(self, now: float) -> bool:
        return self.expires is None or now < self.expires


def rights_of(role: str) -> frozenset[str]:
    """Return the rights of roles and rights, which have spaces between them.

    Raises:
        Problem: there is no such role or right.
    """
    for word in role.split():
        if word not in ROLES and word not in RIGHTS:
            text = f"there is no role or right '{word}'"
            raise Problem(422, "BadRequest", text, f"use {', '.join(ROLES)}; or {', '.join(RIGHTS)}")
    return _decide.rights_of(role.split())


def groups_of(uid: int) -> tuple[int, ...]:
    """Return the groups of a user; it may block as long as a directory service does."""
    try:
        user = pwd.getpwuid(uid)
        return tuple(sorted(os.getgrouplist(user.pw_name, user.pw_gid)))
    except (KeyError, OSError):
        return ()


class ApiTokens:
    """The API tokens of a daemon, in a file that others may change, too; from any thread.

    Args:
        path: of the file; its directory is made, with mode 0700, with the first token.
        clock: seconds since the epoch.
        groups_of: returns the groups of a user; it may block.

    Raises:
        Problem: the file is damaged, or open to others, or cannot be read.
    """

    def __init__(
        self,
        path: Path,
        clock: Callable[[], float] = time.time,
        groups_of: Callable[[int], tuple[int, ...]] = groups_of,
    ) -> None:
        self._path = path
        self._clock = clock
        self._groups_of = groups_of
        self._kept: list[_Kept] = []
        self._groups: dict[int, tuple[int, ...]] = {}  # {owner: as looked up last}
        self._used: dict[str, float] = {}  # {digest: when}
        self._lock = threading.Lock()
        self._starting = threading.Lock()
        self._looking: threading.Thread | None = None
        self._looked = clock()
        self.load()
        self._look(_PATIENCE)

    def find(self, token: str) -> Principal | None:
        """Return the principal of a token, and note that it was used; None: there is none, or it has expired."""
        now, digest = self._clock(), _digest(token)
        self._look_again(now)
        for one in self._kept:
            if hmac.compare_digest(one.digest, digest) and one.lives(now):
                self._used[digest] = now
                return self._principal(one)
        return None

    def principal(self, name: str) -> Principal | None:
        """Return the principal with a name, such as `api:ci`; None: there is no such token, or it has expired."""
        now = self._clock()
        self._look_again(now)
        found = (self._principal(one) for one in self._kept if f"api:{one.name}" == name and one.lives(now))
        return next(found, None)

    def rows(self) -> list[TokenRow]:
        """Return all tokens, by name."""
        now, used = self._clock(), self._used
        return [
            TokenRow(
                one.name,
                one.owner,
                one.role,
                now - one.made,
                None if one.expires is None else one.expires - now,
                now - used[one.digest] if one.digest in used else None,
            )
            for one in sorted(self._kept, key=lambda one: one.name)
        ]

    def create(self, name: str, owner: int, role: str = "", seconds: float | None = None) -> str:
        """Make a token and return it, which is the only time that it is known; it waits for the disk.

        Args:
            name: of it; that of one that has expired may be taken again.
            owner: uid of its user.
            role: roles and rights that it has at most; empty: all of its owner.
            seconds: until it expires; None: never.

        Raises:
            Problem: name, role or time are not possible, the name is taken, or the file cannot be written.
        """
        rights_of(role)
        if not _NAME.fullmatch(name):
            text = f"'{name[:64]}' is no name of an API token"
            raise Problem(422, "BadRequest", text, "take 1 to 64 letters, digits, '.', '_' and '-'")
        if seconds is not None and not 1 <= seconds < 1e10:
            raise Problem(422, "BadRequest", f"an API token cannot expire in {seconds:g} s", "take 1 s or more")
        token, now = _PREFIX + secrets.token_urlsafe(32), self._clock()
        made = _Kept(name, owner, role, now, None if seconds is None else now + seconds, _digest(token))
        with self._changing() as kept:
            if any(one.name == name and one.lives(now) for one in kept):
                raise Problem(409, "NameTaken", f"there is an API token '{name}'", "revoke it, or take another name")
            if sum(one.owner == owner for one in kept) >= _MOST:
                raise Problem(409, "TooManyTokens", f"uid {owner} has {_MOST} API tokens", "revoke some")
            kept[:] = [*_without(name, kept), made]
        self._look(_PATIENCE)
        return token

    def revoke(self, name: str) -> None:
        """End a token; it waits for the disk.

        Raises:
            Problem: there is none, or the file cannot be written.
        """
        with self._changing() as kept:
            left = _without(name, kept)
            if len(left) == len(kept):
                raise Problem(404, "UnknownToken", f"there is no API token '{name[:64]}'", "see the list")
            kept[:] = left

    def load(self) -> None:
        """Take what the file has; it waits for the disk.

        Raises:
            Problem: as the class.
        """
        with self._lock, self._errors():
            self._kept = self._read()

    def _principal(self, kept: _Kept) -> Principal:
        rights = rights_of(kept.role) if kept.role else None
        login = f"{kept.name}-{kept.digest[:8]}"  # one that is made anew is another: streams of the first one end
        return Principal(f"api:{kept.name}", kept.owner, self._groups.get(kept.owner, ()), rights, login)

    def _look_again(self, now: float) -> None:
        if now - self._looked >= _LOOK_SECONDS:
            self._looked = now
            self._look(0)

    def _look(self, seconds: float) -> None:
        """Look at the file and at the groups of owners, and wait for that a while."""
        with self._starting:
            if self._looking is None or not self._looking.is_alive():
                self._looking = threading.Thread(target=self._look_now, name="api-tokens", daemon=True)
                self._looking.start()
            looking = self._looking
        looking.join(seconds)

    def _look_now(self) -> None:
        try:
            self.load()
        except Problem as problem:
            _logger.error("API tokens stay as they were: %s; %s", problem.detail, problem.remedy)
        self._groups = {owner: self._groups_of(owner) for owner in {one.owner for one in self._kept}}

    # The file

    def _read(self) -> list[_Kept]:
        try:
            file = os.open(self._path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except FileNotFoundError:
            return []
        with open(file, "rb") as opened:
            found = os.fstat(file)
            if found.st_uid not in (os.geteuid(), 0) or stat.S_IMODE(found.st_mode) & 0o077:
                raise Problem(503, "Unsafe", f"'{self._path}' belongs or is open to others", "chmod 600, or remove it")
            try:
                kept = msgspec.json.decode(opened.read(), type=list[_Kept])
                for one in kept:
                    rights_of(one.role)
            except (msgspec.DecodeError, Problem):
                text = f"'{self._path}' does not have API tokens as this version writes them"
                raise Problem(503, "Damaged", text, "remove it, and make new ones") from None
        return kept

    @contextmanager
    def _changing(self) -> Iterator[list[_Kept]]:
        """Give what the file has, to be changed, and write it; threads and processes take turns."""
        place, name = self._path.parent, self._path.name
        with self._lock, self._errors():
            place.mkdir(mode=0o700, parents=True, exist_ok=True)
            folder = os.open(place, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                fcntl.flock(folder, fcntl.LOCK_EX)
                kept = self._read()
                yield kept
                flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
                with open(os.open(f"{name}.new", flags, 0o600, dir_fd=folder), "wb") as opened:
                    opened.write(msgspec.json.encode(kept))
                    opened.flush()
                    os.fsync(opened.fileno())
                os.rename(f"{name}.new", name, src_dir_fd=folder, dst_dir_fd=folder)
                self._kept = kept
                os.fsync(folder)
            finally:
                os.close(folder)

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            text = f"'{self._path}' cannot be used: {error.strerror or error}"
            raise Problem(503, "Unavailable", text, "see to its disk and its mode") from None


def _without(name: str, kept: list[_Kept]) -> list[_Kept]:
    return [one for one in kept if one.name != name]


def _digest(token: str) -> str:
    return sha256(token.encode("utf-8", "surrogatepass")).hexdigest()
