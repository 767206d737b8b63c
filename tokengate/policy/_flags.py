"""Flags: for which tokens the rules are left out, only counted, or hold."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any, Final, TypeAlias
from zlib import crc32

import attrs

from actors import TokenState
from actors.lowlevel import NO_EXTRAS, Place
from tokengate.policy._file import FlagRow

Matches: TypeAlias = Callable[[Any], bool]
"""A selector: whether it matches a token, or a `Call`."""

_PARTS: Final = 10_000  # of which a share is a multiple


@attrs.define(eq=False)
class Flag:
    """A flag of a gate.

    Attributes:
        row: as it was declared.
        matches: its selector.
        source: where it was declared.
        would: {rule: how often it would have refused, kept back, ended or repeated a token, had the flag enforced it}.
    """

    row: FlagRow
    matches: Matches
    source: str
    would: Counter[str] = attrs.field(factory=Counter)

    def includes(self, operation: str, key: str | int | None) -> bool:
        """Tell on which side a key is; always the same one for an operation."""
        if self.row.percent >= 100:
            return True
        return crc32(f"{operation}\0{key}".encode()) % _PARTS < self.row.percent * _PARTS / 100


@attrs.frozen
class Call:
    """A direct call that is no token yet, as selectors and keys see one."""

    operation: str
    _place: Place
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    priority: int
    tags: Mapping[str, str]
    created_at: float
    id: int = 0
    parent: int | None = None
    attempt: int = 1
    steps: int = 0
    started_at: None = None
    state: TokenState = TokenState.CREATED
    _extras: Any = NO_EXTRAS

    @property
    def actor(self) -> str:
        return self._place.path

    @property
    def affinity(self) -> str:
        return self._place.affinity
