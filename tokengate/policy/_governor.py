"""The governor of a place: what holds the tokens that are sent there to its rules."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

from actors import Token, TokenRejected
from actors.lowlevel import Place
from tokengate.policy._governed import Governed
from tokengate.policy._joined import Joined, Joints
from tokengate.policy._place_rules import PlaceRules
from tokengate.policy._policy import Policy
from tokengate.policy._ports import GatePolicies


class PlaceGovernor(PlaceRules):
    """The rules of one place, as the place asks for them.

    Args:
        policies: those of the gate.
        place: the place.
        policy: what its tokens are held to.
        called: returns the function or method that a token calls.
    """

    def __init__(
        self,
        policies: GatePolicies,
        place: Place,
        policy: Policy,
        called: Callable[[Token[Any]], Callable[..., object]],
    ) -> None:
        super().__init__(policies, place, policy, called)
        self._joints = Joints(self)

    def governed(self, token: Token[Any]) -> Governed:
        """Return what a token of the place is held to."""
        extras = token._own_extras()
        if extras.policy is None:
            batched = self.policy.batch is not None
            extras.policy = Joined(token, self, self._joints) if batched else Governed(token, self)
        return cast("Governed", extras.policy)

    def identify(self, token: Token[Any], key: str | int) -> None:
        """Have a new token share the run of its key."""
        before = self.governed(token)
        token._own_extras().policy = joined = Joined(token, self, self._joints)
        joined.inherited, joined.policy = before.inherited, before.policy
        joined.key = key

    def at_door(self, token: Token[Any]) -> Token[Any] | None:
        """Hold a token that is about to be sent to the policy.

        Returns:
            the token to put into the mailbox: this one, or one that runs for it; None if one that is sent already
            runs for it.

        Raises:
            TokenRejected: it is refused.
        """
        return self.governed(token).enter()

    def elsewhere(self, token: Token[Any], error: BaseException) -> Place | None:
        """Have a token that was refused at the door belong to its next alternative; return the place of that."""
        policy = token._extras.policy
        return policy.elsewhere(error) if isinstance(policy, Governed) else None

    def may_run_here(self, token: Token[Any]) -> bool:
        """Tell whether a direct call may begin now, on its caller's thread; then it has what it needs for that.

        One with times of its own is queued: code on the thread of its caller could not be ended without that.
        """
        governed = self.governed(token)
        if governed.policy.has_times or isinstance(governed, Joined):
            return False
        try:
            governed.pass_door()
        except TokenRejected as refusal:
            governed.refusal_at_door = refusal
            return False
        governed.runs_here = self.throttles.admit_here(token)
        return governed.runs_here
