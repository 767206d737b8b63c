"""Throttles: how fast, and how many at once, tokens may begin."""

from __future__ import annotations

from typing import Any, ClassVar

import attrs

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
class Throttle(Message):
    """Limit how many tokens begin per second, or run at once, until `lift`.

    A second throttle with the same selector replaces the first.

    Attributes:
        selector: which tokens; `*` for all.
        rate: tokens that may begin per second; above 0.
        concurrency: tokens that may run at once; at least 1.
    """

    answer: ClassVar[Any] = ThrottleRow
    selector: str
    rate: float | None = None
    concurrency: int | None = None


@attrs.frozen
class Lift(Message):
    """End the throttle of a selector, or all throttles (`*`); the answer lists those that were ended."""

    answer: ClassVar[Any] = tuple[ThrottleRow, ...]
    selector: str


@attrs.frozen
class Throttles(Message):
    """List the throttles."""

    answer: ClassVar[Any] = tuple[ThrottleRow, ...]
