"""A preemption: an attempt that runs is ended for another one of its token, which is no failure."""

from __future__ import annotations

from typing import Any, Final

from actors import Limits, Reply, Token
from actors.lowlevel import Place, ProcessDrain, place_of


class Why(str):
    """Why an attempt is ended; told from an equal text of another request to end by its identity."""

    __slots__ = ()


class Preemption:
    """The end of an attempt of a token that is to be queued again, until it is over.

    Args:
        token: the token.
        why: the text of the error with which the attempt ends.
        place: where the next attempt is to be; None: where the token is.
        limits: of the next attempt, which is in a child process; None: as they are.

    Attributes:
        why: the request to end that the token has meanwhile.
        reached: set when it is over.
        error: with which the attempt has ended for it; None before, and if it has ended otherwise.
    """

    __slots__ = ("error", "limits", "place", "reached", "why")

    def __init__(self, token: Token[Any], why: str, place: Place | None, limits: Limits | None) -> None:
        self.why: Final = Why(why)
        self.place, self.limits = place, limits
        self.reached: Reply[None] = Reply()
        self.error: BaseException | None = None
        token.add_done_callback(self.end)

    @property
    def is_over(self) -> bool:
        """Whether the attempt has ended, for it or otherwise."""
        return self.reached.done()

    def end(self, _token: object = None) -> None:
        """Note that the attempt has ended: the token is queued again, or has ended."""
        self.reached._set()

    def prepare(self, token: Token[Any]) -> None:
        """Set the limits of the next attempt of a token, which is about to be queued at its place."""
        drain = place_of(token).drain
        if self.limits is not None and isinstance(drain, ProcessDrain):
            drain.limit_next(token, self.limits)
