"""Limits: what a token may use of its child process."""

from __future__ import annotations

import enum
from typing import Final

import attrs

from tokengate.control.messages._bases import OnTokens

NO_LIMIT: Final = "none"
"""What stands for no limit where one could be."""


class Keep(enum.Enum):
    """Stands for a limit that stays as it is, where None would lift it."""

    KEEP = "keep"

    def __repr__(self) -> str:
        return "KEEP"


KEEP: Final = Keep.KEEP


@attrs.frozen(kw_only=True)
class Limit(OnTokens):
    """Set what tokens may use of their child processes, queued or running; what uses more already is ended for it.

    Each limit is a number (bytes, or seconds), or text such as `2GiB` or `5m`; `none` lifts it, and None leaves it as
    it is. See `actors.Limits` for what they mean.

    Attributes:
        memory: bytes of resident memory.
        address_space: bytes of address space.
        cpu_time: seconds of processor time, from the token's beginning.
        wall_time: seconds from the token's beginning.
    """

    memory: float | str | None = None
    address_space: float | str | None = None
    cpu_time: float | str | None = None
    wall_time: float | str | None = None
