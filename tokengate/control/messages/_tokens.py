"""The verbs for tokens."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Annotated, ClassVar, Final, Literal, TypeAlias

import attrs
from msgspec import Meta

from actors.lowlevel import AFFINITIES
from tokengate.control.messages._bases import Message, OnTokens, Seconds, Waiting
from tokengate.control.messages._limits import KEEP, amount
from tokengate.control.messages._stacks import TokenStack
from tokengate.control.messages._targets import id_of
from tokengate.control.messages._token_rows import TokenDescription, TokenPage

COLUMNS: Final = ("id", "age", "running", "priority", "operation", "actor", "state", "steps")
"""The columns by which tokens can be sorted."""

MAX_ROWS: Final = 10_000
"""Maximum number of rows of a list of tokens."""


@attrs.frozen
class Tokens(Message[TokenPage]):
    """List live tokens.

    Returns:
        A sequence of handles; its own verbs are for exactly the tokens in it.

    Raises:
        BadSelector: the selector cannot be read.
        BadRequest: there is no such column, or a number is out of its range.
    """

    right: ClassVar = "view"
    select: Annotated[
        str,
        Meta(description="Which tokens, such as `operation=resize,tenant=acme,state!=running`; empty for all."),
    ] = ""
    sort: Annotated[
        str,
        Meta(
            description=f"One of the columns {', '.join(COLUMNS)}; a `-` before it reverses the order.",
            extra={"choices": COLUMNS},
            extra_json_schema={"enum": [*COLUMNS, *(f"-{column}" for column in COLUMNS)]},
        ),
    ] = attrs.field(default="id", kw_only=True)
    limit: Annotated[int, Meta(description="Maximum number of rows.", ge=0, le=MAX_ROWS)] = attrs.field(
        default=100, kw_only=True
    )
    offset: Annotated[int, Meta(description="Rows to skip.", ge=0)] = attrs.field(default=0, kw_only=True)


@attrs.frozen
class Describe(Message[TokenDescription]):
    """Describe one token: arguments (as types and sizes), times, what it waits for, children, process, limits.

    Raises:
        UnknownToken: it has ended, or there never was one.
        BadRequest: the argument names no token.
    """

    right: ClassVar = "view"
    token: Annotated[int, Meta(description="Its id, a Token, or its handle.")] = attrs.field(converter=id_of)


@attrs.frozen
class Stack(Message[TokenStack]):
    """Return the stack of a token: where its code is.

    Raises:
        UnknownToken: it has ended, or there never was one.
        BadRequest: the argument names no token.
    """

    right: ClassVar = "view"
    token: Annotated[int, Meta(description="Its id, a Token, or its handle.")] = attrs.field(converter=id_of)


@attrs.frozen
class Pause(Waiting):
    """Pause tokens, queued or running, until they are resumed.

    A token that is not paused in time has the outcome `pause_requested` (in tables: pause requested), and is paused
    later.
    """

    examples: ClassVar = ("pause 42 43", "pause 'operation=resize,tenant=acme' --stop-clock", "pause '*' --dry-run")
    stop_clock: Annotated[bool, Meta(description="Do not count the pause for their time limits.")] = attrs.field(
        default=False, kw_only=True
    )


@attrs.frozen
class Resume(OnTokens):
    """Let paused tokens run on."""

    examples: ClassVar = ("resume 42", "resume '*'")


@attrs.frozen
class Step(Waiting):
    """Let paused tokens run some steps, and pause them again.

    A running token is paused first; if it is not paused in time, its outcome is `pause_requested`. A token that has not
    run its steps in time has the outcome `step_requested`, and runs on until then. (In tables: pause requested, step
    requested.)
    """

    examples: ClassVar = ("step 42", "step 42 -n 10")
    n: Annotated[int, Meta(description="Number of steps, at least 1.", ge=1, extra={"metavar": "N"})] = 1


Mode: TypeAlias = Literal["cancel", "interrupt", "kill"]


@attrs.frozen
class Terminate(Waiting):
    """End tokens.

    The outcome of a token that has not ended in time says what was requested, which is still pursued. The reason is the
    text of the token's error.
    """

    right: ClassVar = "terminate"
    command: ClassVar = "kill"
    examples: ClassVar = (
        "kill 42",
        "kill 'tenant=acme,running>60' -s kill --reason 'over quota'",
        "kill 'operation=resize' --dry-run",
    )
    mode: Annotated[
        Mode,
        Meta(
            description="`cancel` asks a token to end; `interrupt` also raises an error in its Python code; `kill` "
            "also leaves its code behind if that does not end. The last two kill the child process of a token at once.",
            extra={"flag": "-s"},
        ),
    ] = "interrupt"
    grace: Annotated[
        Seconds,
        Meta(
            description="Seconds until the mode `kill` leaves code behind that does not end; a child process gets "
            "none. The answer of this mode may take as long, even if the wait is shorter."
        ),
    ] = attrs.field(default=1.0, kw_only=True)


@attrs.frozen
class Renice(OnTokens):
    """Change the priority of tokens; higher runs first.

    A queued token goes behind the queued tokens of its new priority.
    """

    examples: ClassVar = ("renice 9 42", "renice -5 'tenant=acme,state=queued'")
    priority: Annotated[int, Meta(description="A whole number, which may be below zero.")]


def _tags(tags: Mapping[str, str] | None) -> dict[str, str]:
    return dict(tags) if isinstance(tags, Mapping) else tags or {}


def _names(names: Iterable[str]) -> tuple[str, ...]:
    return (names,) if isinstance(names, str) else tuple(names)


@attrs.frozen
class Retag(OnTokens):
    """Change tags of tokens."""

    examples: ClassVar = ("retag 42 --set tenant=acme --remove trial", "retag 'tenant=acme' --set plan=gold")
    set: Annotated[
        dict[str, str],
        Meta(description="A tag to set, or several, with their values.", extra={"metavar": "TAG=VALUE"}),
    ] = attrs.field(default=None, converter=_tags)
    remove: Annotated[
        tuple[str, ...],
        Meta(description="A tag to remove, or several.", extra={"metavar": "TAG"}),
    ] = attrs.field(default=(), converter=_names)


@attrs.frozen
class Reroute(OnTokens):
    """Move queued tokens to another affinity or actor, at once; for running ones it counts at their next attempt.

    Raises:
        BadSelector: the selector cannot be read.
        BadRequest: `select` names no token, or not exactly one of `affinity` and `actor` is given.
        UnknownActor: no actor has this name, or several have.
    """

    affinity: Annotated[
        str,
        Meta(
            description="`io`, `asyncio`, `cpu` or `process`, for tokens of operations. Either this or `actor`.",
            extra={"choices": AFFINITIES},
            extra_json_schema={"enum": ["", *AFFINITIES]},
        ),
    ] = attrs.field(default="", kw_only=True)
    actor: Annotated[str, Meta(description="The path of an actor that has the method that the token calls.")] = (
        attrs.field(default="", kw_only=True)
    )


@attrs.frozen
class Estimate(OnTokens):
    """Set how long tokens will run, and what they will use, at most.

    The value takes the place of the predicted p95, below which 95 of 100 such tokens stay, until they end; their p50 is
    at most that. Nothing is learned from it. It is a number, or text such as `10m` or `2GiB`; `none` undoes it. The
    gate needs the plugin `Predict`.

    Raises:
        BadSelector: the selector cannot be read.
        BadRequest: `select` names no token, neither `run` nor `memory` is given, or a value cannot work.
    """

    examples: ClassVar = (
        "estimate 42 run=10m memory=2GiB",
        "estimate 'operation=render,tenant=acme' run=5m",
        "estimate 42 run=none",
    )
    run: Annotated[float | str, Meta(description="Seconds, such as 30s, 5m or 1h.", extra={"metavar": "TIME"})] = (
        attrs.field(default=KEEP, converter=amount, kw_only=True)
    )
    memory: Annotated[
        float | str, Meta(description="Bytes of resident memory, such as 500MB or 2GiB.", extra={"metavar": "SIZE"})
    ] = attrs.field(default=KEEP, converter=amount, kw_only=True)
