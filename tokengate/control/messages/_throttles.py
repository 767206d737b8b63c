"""Throttles: how fast, and how many at once, tokens may begin."""

from __future__ import annotations

from typing import Any, ClassVar

import attrs

from tokengate.control.messages._bases import Message


@attrs.frozen
class ThrottleRow:
    """A throttle that holds.

    Attributes:
        selector: whose tokens it is for.
        rate: tokens that may begin in a second; None sets no limit.
        concurrency: tokens that may run at once; None sets no limit.
        running: tokens it has let pass that have not ended.
        waiting: tokens that it holds back just now.
    """

    selector: str
    rate: float | None
    concurrency: int | None
    running: int
    waiting: int


@attrs.frozen
class Throttle(Message):
    """Let tokens begin only so fast, or only so many at once, until `lift`.

    A second one for a selector replaces the first.

    Attributes:
        selector: whose tokens; `*` for all.
        rate: tokens that may begin in a second; above 0.
        concurrency: tokens that may run at once; at least 1.
    """

    answer: ClassVar[Any] = ThrottleRow
    selector: str
    rate: float | None = None
    concurrency: int | None = None


@attrs.frozen
class Lift(Message):
    """End throttles: of this selector, or all of them (`*`); the answer has those that were ended."""

    answer: ClassVar[Any] = tuple[ThrottleRow, ...]
    selector: str


@attrs.frozen
class Throttles(Message):
    """List the throttles that hold."""

    answer: ClassVar[Any] = tuple[ThrottleRow, ...]
