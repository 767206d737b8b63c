"""Throttles: how fast, and how many at once, tokens may begin."""

from __future__ import annotations

from typing import Annotated, ClassVar

import attrs
from msgspec import Meta

from tokengate.control.messages._bases import Message


@attrs.frozen
class ThrottleRow:
    """A throttle.

    Attributes:
        selector: which tokens it is for.
        rate: tokens that may begin per second; None for no limit.
        concurrency: tokens that may run at once; None for no limit.
        running: number of tokens that it has let begin and that have not ended.
        waiting: number of tokens that it holds back now.
    """

    selector: str
    rate: float | None
    concurrency: int | None
    running: int
    waiting: int


@attrs.frozen
class SetThrottle(Message[ThrottleRow]):
    """Limit how many tokens begin per second, or run at once, until `lift`.

    A second throttle with the same selector replaces the first.

    Raises:
        BadSelector: the selector cannot be read.
        BadRequest: no limit is given, or it is out of its range.
    """

    right: ClassVar = "operate"
    verb: ClassVar = "throttle"
    examples: ClassVar = ("throttle operation=fetch --rate 10", "throttle tenant=acme --concurrency 2")
    select: Annotated[str, Meta(description="Which tokens: a selector; `*` for all.")]
    rate: Annotated[
        Annotated[float, Meta(gt=0)] | None,
        Meta(description="Tokens that may begin per second; `suspend` holds an actor altogether."),
    ] = attrs.field(default=None, kw_only=True)
    concurrency: Annotated[Annotated[int, Meta(ge=1)] | None, Meta(description="Tokens that may run at once.")] = (
        attrs.field(default=None, kw_only=True)
    )


@attrs.frozen
class Lift(Message[tuple[ThrottleRow, ...]]):
    """End the throttle of a selector, or all throttles (`*`), and return those that were ended.

    Raises:
        BadSelector: the selector cannot be read.
    """

    right: ClassVar = "operate"
    select: Annotated[str, Meta(description="The selector of the throttle; `*` for all throttles.")]


@attrs.frozen
class Throttles(Message[tuple[ThrottleRow, ...]]):
    """List the throttles."""

    right: ClassVar = "view"
