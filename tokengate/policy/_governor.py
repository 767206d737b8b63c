"""The governor of a place: what holds the tokens that are sent there to its rules."""

from __future__ import annotations

from typing import Any, cast

from actors import Token, TokenRejected
from tokengate.policy._governed import Governed
from tokengate.policy._place_rules import PlaceRules


class PlaceGovernor(PlaceRules):
    """The rules of one place, as the place asks for them."""

    def governed(self, token: Token[Any]) -> Governed:
        """Return what a token of the place is held to."""
        extras = token._own_extras()
        if extras.policy is None:
            extras.policy = Governed(token, self)
        return cast("Governed", extras.policy)

    def at_door(self, token: Token[Any]) -> None:
        """Hold a token that is about to be sent to the policy.

        Raises:
            TokenRejected: it is refused.
        """
        governed = self.governed(token)
        if governed.refusal_at_door is not None:
            raise governed.refusal_at_door
        if not governed.passed_door:
            governed.pass_door()

    def may_run_here(self, token: Token[Any]) -> bool:
        """Tell whether a direct call may begin now, on its caller's thread; then it has what it needs for that.

        One with times of its own is queued: code on the thread of its caller could not be ended without that.
        """
        governed = self.governed(token)
        if governed.policy.has_times:
            return False
        try:
            governed.pass_door()
        except TokenRejected as refusal:
            governed.refusal_at_door = refusal
            return False
        governed.runs_here = self.throttles.admit_here(token)
        return governed.runs_here
