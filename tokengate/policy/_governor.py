"""The governor of a place: what holds the tokens that are sent there to its rules."""

from __future__ import annotations

from typing import Any, cast

from actors import Token
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
        if not governed.passed_door:
            governed.pass_door()

    def may_run_here(self, _token: Token[Any]) -> bool:
        """Tell whether a direct call may run on its caller's thread."""
        return False
