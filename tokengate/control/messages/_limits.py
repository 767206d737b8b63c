"""Limits: what a token may use of its child process."""

from __future__ import annotations

import enum
from typing import Final

import attrs

from tokengate.control.messages._bases import OnTokens

NO_LIMIT: Final = "none"
"""The value that lifts a limit."""


class Keep(enum.Enum):
    """The value of a limit that stays as it is, where None lifts it."""

    KEEP = "keep"

    def __repr__(self) -> str:
        return "KEEP"


KEEP: Final = Keep.KEEP


@attrs.frozen(kw_only=True)
class Limit(OnTokens):
    """Limit what tokens may use in their child processes, queued or running; a token that uses more already is ended.

    Each limit is a number (bytes or seconds), or text such as `2GiB` or `5m`; `none` lifts it, and None leaves it as it
    is. See `actors.Limits`.

    Attributes:
        memory: bytes of resident memory.
        address_space: bytes of address space.
        cpu_time: seconds of processor time from the token's start.
        wall_time: seconds from the token's start.
    """

    memory: float | str | None = None
    address_space: float | str | None = None
    cpu_time: float | str | None = None
    wall_time: float | str | None = None
