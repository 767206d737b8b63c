"""What a token is held to that is held to throttles with a selector only."""

from __future__ import annotations

from threading import get_ident
from typing import TYPE_CHECKING, Any, cast

from actors import Token, TokenState
from actors.lowlevel import Place, Rule, place_of, system_of
from tokengate.policy._attempt import End
from tokengate.policy._breaker import is_good
from tokengate.policy._consent import WaitingCall
from tokengate.policy._policy import Breaker

if TYPE_CHECKING:
    from tokengate.policy._place_rules import PlaceRules

ENDS = {TokenState.COMPLETED: End.COMPLETED, TokenState.FAILED: End.FAILED}
"""{state: how the attempt has ended}; all others were stopped."""

_BAD_BY_DEFAULT = Breaker()


def selected_rules(token: Token[Any], now: float) -> tuple[Rule, ...]:
    """Return the throttles with a selector for whose grants a token waits where it is now."""
    governor = cast("PlaceRules | None", token._place.governor)
    if governor is None or not governor.shared:
        return ()
    return tuple(rule for rule in governor.shared_rules(token, now) if not rule.at_once)


class Throttled:
    """The `policy` among the extras of such a token."""

    __slots__ = ("_began_at", "_left_by", "call", "good", "reason", "seconds")

    policy: Any = None
    deadline: float | None = None
    due_at: float | None = None
    estimate: float = 0.0
    awaits_attempt: bool = False
    is_between: bool = False
    uid: int = 0
    is_fair: bool = False
    fair_key: str | int | None = None
    run: Token[Any] | None = None

    def __init__(self) -> None:
        self._began_at: float | None = None
        self._left_by = 0  # the thread that is about to leave its code behind
        self.seconds, self.reason = 0.0, ""
        self.good: bool | None = None
        self.call: WaitingCall | None = None  # at the door, for consent

    def inherit(self, token: Token[Any]) -> None:
        """Do nothing: it has no deadline."""

    def outlive_sender(self) -> None:
        """Do nothing: it has no deadline."""

    def follow(self, token: Token[Any], place: Place) -> None:
        """Do nothing: what holds it is found at its turn."""

    def leave(self) -> bool:
        """Take the token from the door, where it waits for consent; return whether it was there."""
        return self.call is not None and self.call.leave()

    def attempts_of(self, _token: Token[Any]) -> tuple[Any, ...]:
        """Return none: attempts are recorded for policies."""
        return ()

    def spend(self, token: Token[Any], cost: float) -> None:
        """Do nothing: it has no budget."""

    def leave_behind(self, _token: Token[Any]) -> None:
        """Note that this thread is about to end the token, and to leave its code behind."""
        self._left_by = get_ident()

    def note_return(self, token: Token[Any], _state: TokenState, _value: Any) -> None:
        """Note that code has returned whose token had ended before: until then it counts."""
        throttles = system_of(place_of(token)).throttles
        with throttles.lock:
            throttles.end_locked(token)
        throttles.let_go()

    def rules(self, token: Token[Any], now: float) -> tuple[Rule, ...]:
        """Return the throttles for whose grants it waits."""
        return selected_rules(token, now)

    def may_begin(self, _token: Token[Any], _now: float) -> bool:
        """Return True: it is refused at the door, if at all."""
        return True

    def is_shed(self, _token: Token[Any], _now: float) -> bool:
        """Return False: it is not refused while it waits."""
        return False

    def unbegun(self, token: Token[Any], now: float) -> None:
        """Do nothing."""

    def refuse(self, token: Token[Any]) -> None:
        """Do nothing."""

    def begin(self, token: Token[Any], now: float) -> None:
        """Note that its code begins."""
        self._began_at = now
        throttles = system_of(place_of(token)).throttles
        with throttles.lock:
            throttles.begin(token, now)

    def end(
        self, token: Token[Any], state: TokenState, value: Any, error: BaseException | None
    ) -> tuple[TokenState, Any, BaseException | None]:
        """Note its end."""
        system, began = system_of(place_of(token)), self._began_at
        throttles = system.throttles
        with throttles.lock:
            if began is None:
                throttles.forget_locked(token)
            else:
                self.seconds = system.clock() - began
                self.good = is_good(_BAD_BY_DEFAULT, None, ENDS.get(state, End.STOPPED), error, self.seconds)
                if self._left_by != get_ident():
                    throttles.end_locked(token)
        throttles.let_go()
        return state, value, error
