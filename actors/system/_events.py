"""Events of the actors floor, for those who subscribe to a system."""

from __future__ import annotations

from typing import Any

import attrs

from actors.tokens._token import Token


@attrs.frozen
class EndedToken:
    """What is remembered of a token that ended otherwise than completed; it holds nothing of the token's.

    Attributes:
        id: of the token.
        operation: what it ran.
        actor: path of the place that had it.
        state: how it ended.
        error: name of its error's class.
        finished_at: when, in seconds of the system's clock.
    """

    id: int
    operation: str
    actor: str
    state: str
    error: str
    finished_at: float


@attrs.frozen
class DeadLetter:
    """A token that nobody handled: refused, dropped, or queued when its actor stopped."""

    token: Token[Any]
    reason: BaseException
