"""Preemption: another attempt in the place of the one that runs."""

from __future__ import annotations

from typing import Annotated, ClassVar

import attrs
from msgspec import Meta

from tokengate.control.messages._bases import Waiting
from tokengate.control.messages._limits import KEEP, amount


@attrs.frozen
class Preempt(Waiting):
    """Have running tokens begin anew, once in the life of each.

    The attempt that runs is ended, and the token is queued for another one, with all that it has otherwise. Its
    operation, or the method of its actor, must be `idempotent`. That is no failure: no retry is used up, and no breaker
    counts it. A process ends with its token; other code ends where `terminate` would interrupt it, and until then the
    outcome is `preempt_requested`. (In tables: preempt requested.) Tokens that are queued stay so, or are moved as by
    `reroute`. The reason is part of the text of the attempt's error.

    Raises:
        BadSelector: the selector cannot be read.
        BadRequest: `select` names no token, or an argument has a value that cannot work.
        UnknownActor: no actor has this name, or several have.
    """

    examples: ClassVar = (
        "preempt 42",
        "preempt 42 to=process memory=2GiB",
        "preempt 'operation=render,running>10m' to=render/large",
    )
    to: Annotated[
        str,
        Meta(
            description="Where the next attempt is: `io`, `asyncio`, `cpu`, `process`, or the path of an actor; empty: "
            "where it was.",
            extra={"metavar": "PLACE"},
        ),
    ] = attrs.field(default="", kw_only=True)
    memory: Annotated[
        float | str,
        Meta(
            description="Limit of the next attempt, which is in a child process: bytes of resident memory, such as "
            "500MB or 2GiB; `none` lifts it.",
            extra={"metavar": "SIZE"},
        ),
    ] = attrs.field(default=KEEP, converter=amount, kw_only=True)
