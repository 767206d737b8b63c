"""Throttles: how fast, and how many at once, tokens may begin."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

import attrs
from msgspec import Meta

from tokengate.control.messages._bases import Change, Message, Target


@attrs.frozen
class ThrottleRow:
    """A throttle, or what one of its keys uses of it.

    Attributes:
        selector: which tokens it is for.
        rate: tokens that may begin per second; None for no limit.
        concurrency: tokens that may run at once; None for no limit.
        running: number of tokens that it has let begin and that have not ended; those that wait for others left out.
        waiting: number of tokens that it holds back now.
        burst: tokens that may begin at once after a rest.
        slow: seconds above which a token is slow, for an adaptive concurrency.
        by: the tag or parameter of which each value has its own limit; None if there is one for all.
        over: what happens to tokens that could not begin at once.
        source: who says so: `code`, `operator`, or the file.
        key: the value of `by` that the row is about; None for all of them together.
        refused: number of tokens that it has refused.
        limit: tokens that may run at once now, as an adaptive one has learned.
        no_key: tokens without the key, which it does not hold.
    """

    selector: str
    rate: float | None
    concurrency: int | Literal["adaptive"] | None
    running: int
    waiting: int
    burst: int | None = None
    slow: float | None = None
    by: str | None = None
    over: str = "wait"
    source: str = "operator"
    key: str | int | None = None
    refused: int = 0
    limit: float | None = None
    no_key: int = 0


@attrs.frozen
class SetThrottle(Change[ThrottleRow]):
    """Limit how many tokens begin per second, or run at once, until `lift`.

    A second throttle with the same selector replaces the first.

    Raises:
        BadSelector: the selector cannot be read.
        BadRequest: no limit is given, or it is out of its range.
    """

    target: ClassVar[Target] = "throttle"
    verb_name: ClassVar = "throttle"
    examples: ClassVar = (
        "throttle operation=fetch --rate 10",
        "throttle operation=pay --concurrency 2 --key tenant",
    )
    select: Annotated[str, Meta(description="Which tokens: a selector; `*` for all.")]
    rate: Annotated[
        Annotated[float, Meta(gt=0)] | str | None,
        Meta(description="Tokens that may begin per second, or `100/s`, `5/m`; `suspend` holds an actor altogether."),
    ] = attrs.field(default=None, kw_only=True)
    concurrency: Annotated[
        Annotated[int, Meta(ge=1)] | Literal["adaptive"] | None,
        Meta(description="Tokens that may run at once; `adaptive`: as many as the durations allow."),
    ] = attrs.field(default=None, kw_only=True)
    burst: Annotated[
        Annotated[int, Meta(ge=1)] | None, Meta(description="Tokens that may begin at once after a rest.")
    ] = attrs.field(default=None, kw_only=True)
    slow: Annotated[
        Annotated[float, Meta(gt=0)] | None,
        Meta(description="Seconds above which a token is slow; `adaptive` needs it."),
    ] = attrs.field(default=None, kw_only=True)
    key: Annotated[str | None, Meta(description="A tag or parameter, each value of which has its own limit.")] = (
        attrs.field(default=None, kw_only=True)
    )
    over: Annotated[
        Literal["wait", "reject", "lower", "warn"],
        Meta(description="What happens to tokens that could not begin at once."),
    ] = attrs.field(default="wait", kw_only=True)


@attrs.frozen
class ResetThrottle(Change[tuple[ThrottleRow, ...]]):
    """Forget what a throttle has learned and counted, and when tokens began; those that run count on.

    Raises:
        BadSelector: the name cannot be read.
        BadRequest: there is no such throttle.
    """

    target: ClassVar[Target] = "throttle"
    examples: ClassVar = ("throttle reset operation=fetch",)
    select: Annotated[str, Meta(description="Its selector, as `throttles` lists it.")]


@attrs.frozen
class Lift(Change[tuple[ThrottleRow, ...]]):
    """End the throttle of a selector, or all throttles (`*`), and return those that were ended.

    Raises:
        BadSelector: the selector cannot be read.
    """

    target: ClassVar[Target] = "throttle"
    select: Annotated[str, Meta(description="The selector of the throttle; `*` for all throttles.")]


@attrs.frozen
class Throttles(Message[tuple[ThrottleRow, ...]]):
    """List the throttles, with a row for each key."""

    right: ClassVar = "view"
    examples: ClassVar = ("throttles", "throttles --json")
