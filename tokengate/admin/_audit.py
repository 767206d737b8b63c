"""The daemon's own audit log: logins, API tokens, refusals; best effort."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final, Protocol

import attrs

from tokengate.audit import AuditLog, Entry

_FOLDED: Final = ("login_failed", "refused")


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
class _Caller:
    principal: str
    owner: int | None
    via: str
    peer: int | None


class AuditTrail:
    """Writes records of the daemon, see `Record`; `tokengate audit verify DIRECTORY` checks them.

    Args:
        directory: of the log, made with the first record.
    """

    def __init__(self, directory: Path) -> None:
        self._log = AuditLog(directory, "admin", strict=False)

    def __call__(self, kind: str, principal: str, owner: int | None, why: str = "", **fields: Any) -> None:
        """Record something; never blocks. Failures that follow soon on one of the same principal are counted."""
        via, peer = fields.pop("via", "http"), fields.pop("pid", None)
        entry = Entry(kind=kind, caller=_Caller(principal, owner, via, peer), reason=why, args=fields)
        (self._log.refused if kind in _FOLDED else self._log.add)(entry)

    def close(self) -> None:
        """Write what is left; blocks for two seconds at most."""
        self._log.close()
