"""Signals: messages of the control lane, which are handled before all user tokens."""

from __future__ import annotations

import contextvars
from collections.abc import Callable
from typing import Any

import attrs

from actors.concurrency._future import Reply


@attrs.frozen(eq=False)
class Signal:
    """Base of all messages that go through the control lane."""


@attrs.frozen(eq=False)
class Start(Signal):
    """Make the actor's instance and run `on_start`.

    Attributes:
        reply: is set to the actor's ref when `on_start` has returned, or to a `StartFailed`.
        context: what `__init__` and `on_start` run in.
        over: called when the start is over, before the reply is set, with the error, or None if the instance runs. The
            instance cannot end before this call has returned.
    """

    reply: Reply[Any]
    context: contextvars.Context
    over: Callable[[BaseException | None], object]


@attrs.frozen(eq=False)
class Stop(Signal):
    """End the instance: now, or with `drain` after all accepted tokens; the reply comes after `on_stop`."""

    drain: bool


@attrs.frozen(eq=False)
class Visit(Signal):
    """Call a function with the instance, between two of its steps.

    Attributes:
        function: the function to call; it runs where the actor's code runs.
        reply: gets its result or exception.
    """

    function: Callable[[Any], Any]
    reply: Reply[Any]
    _ticket: list[None] = attrs.field(factory=lambda: [None], init=False)

    def claim(self) -> bool:
        """Take the right to call the function, or to refuse the call; return whether it was free."""
        try:
            self._ticket.pop()
        except IndexError:
            return False
        return True


@attrs.frozen(eq=False)
class Crash(Signal):
    """End an instance as if its own code had raised `error`.

    Attributes:
        error: the reason.
        instance: the only instance to end; None ends the present one.
    """

    error: BaseException
    instance: object | None = None
