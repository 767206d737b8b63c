"""`Snooze`: what the code of a durable token raises to be called again later."""

from __future__ import annotations

import math


class Snooze(Exception):
    """Raised by the code of a durable operation: its token is queued again, and begins anew after some seconds.

    That is no attempt, and no failure. Until then nothing of the token is in memory, and it survives the process; its
    recorded steps are there when it begins. For a token that is not durable, and for a message of an actor, this is an
    error like any other.

    Args:
        seconds: at least 0.

    Raises:
        ValueError: the seconds are no such number.
    """

    def __init__(self, seconds: float) -> None:
        if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not 0 <= seconds < math.inf:
            raise ValueError(f"a token was to be put off by {seconds!r} seconds; it must be a number, at least 0")
        super().__init__(seconds)
        self.seconds = seconds
