"""The attributes that few tokens have: a hold, waits, a request to end, further attempts; made when first needed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Sequence

    from actors.tokens._hold import Hold
    from actors.tokens._ports import Awaited, TokenForecast, TokenPolicy


class Extras:
    """The attributes that most tokens do without.

    Attributes:
        hold: made by the first request of an operator.
        waits: what the token's code waits for now; several, if it has several tasks.
        lent: number of reasons to lend its turn: tasks of its code that await other tokens, a pause.
        cancel_requested: the reason of a request to end; empty if there was none.
        attempt: 1 for the first run.
        preempted: whether an attempt was ended for another one, which is done once.
        steered_by: the latest operator or rule that has acted on it; empty: none has.
        policy: what the token is held to, with what it uses of that; None for a token without limits.
        forecast: what is known and expected of it by what the floor above has learned; None without that.
    """

    # Defaults of the class: a token with a policy needs no more than that.
    hold: Hold | None = None
    waits: Sequence[Awaited] = ()
    lent = 0
    cancel_requested = ""
    attempt = 1
    preempted = False
    steered_by = ""
    policy: TokenPolicy | None = None
    forecast: TokenForecast | None = None

    def request_end(self, why: str) -> bool:
        """Note a request to end, unless there is one; return whether it was noted."""
        return self.__dict__.setdefault("cancel_requested", why) is why

    def forget_request(self, why: str) -> None:
        """Forget a request to end, unless there is another one by now."""
        if self.cancel_requested is not why:
            return
        latest = self.__dict__.pop("cancel_requested", why)  # what another thread has noted just now comes back
        if latest is not why:
            self.__dict__.setdefault("cancel_requested", latest)

    def add_wait(self, awaited: Awaited) -> None:
        """Note one more thing that the token's code waits for; several threads may do so at once."""
        waits = self.waits
        if type(waits) is list:
            waits.append(awaited)
        else:
            self.__dict__.setdefault("waits", []).append(awaited)

    def remove_wait(self, awaited: Awaited) -> None:
        """Undo one `add_wait`, if there is one."""
        if self.waits:
            self.__dict__["waits"].remove(awaited)


NO_EXTRAS: Final = Extras()
"""Shared by all tokens without extras of their own; read only."""
