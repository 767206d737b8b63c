"""Limits: what a token may use of its child process."""

from __future__ import annotations

from typing import Annotated, ClassVar, Final

import attrs
from msgspec import Meta

from tokengate.control.messages._bases import OnTokens

NO_LIMIT: Final = "none"
"""The value that lifts a limit."""

KEEP: Final = "keep"
"""The value of a limit that stays as it is."""


def amount(value: float | str | None) -> float | str:
    """Return the value of an amount, for which None is `none`."""
    return NO_LIMIT if value is None else value


@attrs.frozen
class Limit(OnTokens):
    """Limit what tokens may use in their child processes.

    They may be queued or running; a token that uses more already is ended. A limit is a number, or text such as `2GiB`,
    `500MB`, `30s` or `5m`; `none` lifts it. Limits that are not given stay as they are. `force` also lowers limits of
    guarded tokens, which may end them.

    Raises:
        BadSelector: the selector cannot be read.
        BadRequest: `select` names no token, no limit is given, or one has a value that cannot work.
    """

    examples: ClassVar = (
        "limit 42 --memory 2GiB --cpu-time 10",
        "limit 'operation=render' --wall-time 5m",
        "limit 42 --memory none",
    )
    memory: Annotated[
        float | str,
        Meta(description="Bytes of resident memory, such as 500MB or 2GiB.", extra={"metavar": "SIZE"}),
    ] = attrs.field(default=KEEP, converter=amount, kw_only=True)
    address_space: Annotated[float | str, Meta(description="Bytes of address space.", extra={"metavar": "SIZE"})] = (
        attrs.field(default=KEEP, converter=amount, kw_only=True)
    )
    cpu_time: Annotated[
        float | str,
        Meta(
            description="Seconds of processor time from the token's start, such as 30s, 5m or 1h.",
            extra={"metavar": "TIME"},
        ),
    ] = attrs.field(default=KEEP, converter=amount, kw_only=True)
    wall_time: Annotated[
        float | str, Meta(description="Seconds from the token's start.", extra={"metavar": "TIME"})
    ] = attrs.field(default=KEEP, converter=amount, kw_only=True)
