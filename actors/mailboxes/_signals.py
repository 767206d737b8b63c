"""Messages of the control lane, which no user token is ever ahead of."""

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
    """Make the actor's instance and run `on_start`; the reply comes when it has, or raises `StartFailed`."""

    reply: Reply[None]
    context: contextvars.Context


@attrs.frozen(eq=False)
class Stop(Signal):
    """End the instance: now, or with `drain` after everything accepted; the reply comes after `on_stop`."""

    drain: bool


@attrs.frozen(eq=False)
class Visit(Signal):
    """Call a function with the instance, between two of its steps.

    Attributes:
        function: what to call; it runs where the actor's code runs.
        reply: gets what it returns or raises.
    """

    function: Callable[[Any], Any]
    reply: Reply[Any]
    _ticket: list[None] = attrs.field(factory=lambda: [None], init=False)

    def claim(self) -> bool:
        """Take the right to call the function, or to say that nobody will; tell whether nobody had taken it before."""
        try:
            self._ticket.pop()
        except IndexError:
            return False
        return True


@attrs.frozen(eq=False)
class Crash(Signal):
    """End an instance as if its own code had raised `error`.

    Attributes:
        error: why.
        instance: the one that is meant, unless it is whichever is there.
    """

    error: BaseException
    instance: object | None = None
