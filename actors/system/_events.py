"""Events of the actors floor, for the listeners of a system."""

from __future__ import annotations

from typing import Any

import attrs

from actors.tokens._token import Token


@attrs.frozen
class EndedToken:
    """The record of a token that ended otherwise than completed; it holds no object of the token.

    Attributes:
        id: of the token.
        operation: its name.
        actor: path of its place.
        state: its terminal state.
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
    """A token that was not handled: refused, dropped, or queued when its actor stopped."""

    token: Token[Any]
    reason: BaseException
