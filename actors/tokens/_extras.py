"""The attributes that few tokens have: a hold, waits, a request to end, further attempts; made when first needed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from actors.tokens._hold import Hold
    from actors.tokens._ports import Awaited, TokenPolicy


class Extras:
    """The attributes that most tokens do without.

    Attributes:
        hold: made by the first request of an operator.
        waits: what the token's code waits for now; several, if it has several tasks.
        lent: number of reasons to lend its turn: tasks of its code that await other tokens, a pause.
        cancel_requested: the reason of a request to end; empty if there was none.
        attempt: 1 for the first run.
        policy: what the token is held to, with what it uses of that; None for a token without limits.
    """

    __slots__ = ("attempt", "cancel_requested", "hold", "lent", "policy", "waits")

    def __init__(self) -> None:
        self.hold: Hold | None = None
        self.waits: list[Awaited] = []
        self.lent = 0
        self.cancel_requested = ""
        self.attempt = 1
        self.policy: TokenPolicy | None = None


NO_EXTRAS: Final = Extras()
"""Shared by all tokens without extras of their own; read only."""
