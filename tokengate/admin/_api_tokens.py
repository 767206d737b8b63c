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
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from typing import Final

import msgspec

from tokengate.admin._principal import Principal
from tokengate.admin._problems import Problem
from tokengate.authority._grants import ROLES
from tokengate.control.messages import RIGHTS

PREFIX: Final = "tgk_"

_logger = logging.getLogger("tokengate.admin")

_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_FILE: Final = "api-tokens.json"
_MOST: Final = 100  # of one owner


class Kept(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An API token, as the file has it and lists show it.

    Attributes:
        name: unique in the file; the principal is `api:NAME`.
        owner: uid of its user.
        role: roles and rights that it may use at most; empty: all of its owner.
        made, expires: in seconds since the epoch; it may never expire.
        used: when it was last used, since the daemon was started.
        digest: SHA-256 of the token, hexadecimal; lists leave it out.
    """

    name: str
    owner: int
    made: float
    role: tuple[str, ...] = ()
    expires: float | None = None
    used: float | None = None
    digest: str = ""

    def lives(self, now: float) -> bool:
        """Tell whether it has not expired."""
        return self.expires is None or now < self.expires


def rights_of(words: Iterable[str]) -> frozenset[str]:
    """Return the rights of roles and rights.

    Raises:
        Problem: there is no such role or right.
    """
    found: frozenset[str] = frozenset()
    for word in words:
        if word not in ROLES and word not in RIGHTS:
            text = f"there is no role or right '{word}'"
            raise Problem(422, "BadRequest", text, f"roles are {', '.join(ROLES)}; rights are {', '.join(RIGHTS)}")
        found |= ROLES.get(word, frozenset({word}))
    return found


def groups_of(uid: int) -> tuple[int, ...]:
    """Return the groups of a user; it may block as long as a directory service does."""
    try:
        user = pwd.getpwuid(uid)
        return tuple(sorted(os.getgrouplist(user.pw_name, user.pw_gid)))
    except (KeyError, OSError):
        return ()


class ApiTokens:
    """The API tokens of a daemon, in a file that daemons may share. What blocks says so.

    Args:
        directory: of the file; it is made, with mode 0700, with the first token.
        clock: seconds since the epoch.
        groups_of: returns the groups of a user; it may block.
    """

    def __init__(
        self,
        directory: Path,
        clock: Callable[[], float] = time.time,
        groups_of: Callable[[int], tuple[int, ...]] = groups_of,
    ) -> None:
        self._directory = directory
        self._clock = clock
        self._groups_of = groups_of
        self._kept: tuple[Kept, ...] = ()
        self._groups: dict[int, tuple[int, ...]] = {}
        self._used: dict[str, float] = {}  # {digest: when}

    def find(self, token: str) -> Principal | None:
        """Return the principal of a token, and note that it was used; None: there is none, or it has expired."""
        if not token.startswith(PREFIX):
            return None
        now, digest = self._clock(), _digest(token)
        for one in self._kept:
            if hmac.compare_digest(one.digest, digest) and one.lives(now):
                self._used[digest] = now
                return self._principal(one)
        return None

    def principals(self, name: str) -> list[Principal]:
        """Return the principal with a name, such as `api:ci`, if there is one whose token has not expired."""
        now = self._clock()
        return [self._principal(one) for one in self._kept if f"api:{one.name}" == name and one.lives(now)]

    def listed(self, owner: int | None = None) -> tuple[Kept, ...]:
        """Return the tokens of an owner, or all, by name; those that have expired, too."""
        found = sorted((one for one in self._kept if owner in (None, one.owner)), key=lambda one: one.name)
        return tuple(msgspec.structs.replace(one, used=self._used.get(one.digest), digest="") for one in found)

    def create(self, name: str, owner: int, role: Sequence[str] = (), seconds: float | None = None) -> str:
        """Make a token and return it, which is the only time that it is known; it blocks.

        Args:
            name: of it; that of one that has expired may be taken again.
            owner: uid of its user.
            role: roles and rights that it may use at most; empty: all of its owner.
            seconds: until it expires; None: never.

        Raises:
            Problem: name, role or time are not possible, the name is taken, or the file cannot be written.
        """
        rights_of(role)
        if not _NAME.fullmatch(name):
            text = f"'{name[:64]}' is no name of an API token"
            raise Problem(422, "BadRequest", text, "take at most 64 letters, digits, '.', '_' and '-'")
        if seconds is not None and not 1 <= seconds < 1e10:
            raise Problem(422, "BadRequest", f"an API token cannot expire in {seconds:g} s", "take 1 s or more")
        token, now = PREFIX + secrets.token_urlsafe(32), self._clock()
        expires = None if seconds is None else now + seconds
        made = Kept(name, owner, now, tuple(role), expires, None, _digest(token))
        with self._changing() as kept:
            taken = next((one for one in kept if one.name == name), None)
            if taken is not None and taken.lives(now):
                raise Problem(409, "NameTaken", f"there is an API token '{name}'", "revoke it, or take another name")
            if sum(one.owner == owner for one in kept) >= _MOST:
                raise Problem(409, "TooManyTokens", f"uid {owner} has {_MOST} API tokens", "revoke some")
            kept[:] = [one for one in kept if one is not taken] + [made]
        return token

    def revoke(self, name: str, owner: int | None = None) -> None:
        """End a token of an owner, or of any; it blocks.

        Raises:
            Problem: there is none, or the file cannot be written.
        """
        with self._changing() as kept:
            left = [one for one in kept if one.name != name or owner not in (None, one.owner)]
            if len(left) == len(kept):
                raise Problem(404, "UnknownToken", f"there is no API token '{name[:64]}'", "see the list")
            kept[:] = left

    def load(self) -> None:
        """Read the file, and look up the groups of owners; it blocks.

        Raises:
            Problem: the file is damaged, or open to others.
        """
        try:
            self._take(self._read())
        except OSError as error:
            raise self._problem(error) from None

    def refresh(self) -> None:
        """As `load`, but what was read last stays if the file cannot be read, which is logged."""
        try:
            self.load()
        except Problem as problem:
            _logger.error("API tokens stay as they were: %s; %s", problem.detail, problem.remedy)

    def _principal(self, kept: Kept) -> Principal:
        rights = rights_of(kept.role) if kept.role else None
        return Principal(f"api:{kept.name}", kept.owner, self._groups.get(kept.owner, ()), rights, kept.name)

    def _take(self, kept: Iterable[Kept]) -> None:
        found = tuple(kept)
        self._groups = {owner: self._groups_of(owner) for owner in {one.owner for one in found}}
        self._kept = found
        digests = {one.digest for one in found}
        self._used = {digest: when for digest, when in self._used.items() if digest in digests}

    def _read(self) -> list[Kept]:
        try:
            file = os.open(self._directory / _FILE, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except FileNotFoundError:
            return []
        with open(file, "rb") as opened:
            found = os.fstat(file)
            if found.st_uid not in (os.geteuid(), 0) or stat.S_IMODE(found.st_mode) & 0o077:
                raise Problem(503, "Unsafe", f"'{self._directory / _FILE}' is open to others, or theirs", "chmod 600")
            try:
                kept = msgspec.json.decode(opened.read(), type=list[Kept])
                for one in kept:
                    rights_of(one.role)
            except (msgspec.DecodeError, Problem):
                text = f"'{self._directory / _FILE}' has no API tokens that can be read"
                raise Problem(503, "Damaged", text, "remove it, and make new API tokens") from None
        return kept

    @contextmanager
    def _changing(self) -> Iterator[list[Kept]]:
        """Give what the file has, to be changed, and write it at the end; daemons and threads take turns."""
        try:
            self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            folder = os.open(self._directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                fcntl.flock(folder, fcntl.LOCK_EX)
                kept = self._read()
                yield kept
                fresh = f"{_FILE}.new"
                flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
                with open(os.open(fresh, flags, 0o600, dir_fd=folder), "wb") as opened:
                    opened.write(msgspec.json.encode(kept))
                    opened.flush()
                    os.fsync(opened.fileno())
                os.rename(fresh, _FILE, src_dir_fd=folder, dst_dir_fd=folder)
                os.fsync(folder)
                self._take(kept)
            finally:
                os.close(folder)
        except OSError as error:
            raise self._problem(error) from None

    def _problem(self, error: OSError) -> Problem:
        text = f"'{self._directory / _FILE}' cannot be used: {error.strerror or error}"
        return Problem(503, "Unavailable", text, "see to its disk and its mode")


def _digest(token: str) -> str:
    return sha256(token.encode("utf-8", "surrogatepass")).hexdigest()
