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
from tokengate.policy._throttled import Throttled


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
        if extras.policy is None or isinstance(extras.policy, Throttled):
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
        if not self._holds_to_throttles_only(token):
            return self.governed(token).enter()
        self._pass_throttles_only(token)
        return token

    def _holds_to_throttles_only(self, token: Token[Any]) -> bool:
        policy = token._extras.policy
        return self.is_empty and (policy is None or isinstance(policy, Throttled))

    def _pass_throttles_only(self, token: Token[Any]) -> None:
        """Hold a token to the throttles for which it does not wait.

        Raises:
            TokenRejected: one refuses it.
        """
        if not (self.shared and self.policies.has_shared_at_once):
            return
        with self.lock:
            policy = token._extras.policy or self.found(token)
        refusal = None if policy is None else self.pass_throttles(token, (), self.clock())
        if policy is not None and refusal is not None:
            policy.reason = refusal.reason
            raise refusal

    def found(self, token: Token[Any]) -> Throttled | None:
        """Return what a token is held to that is held to nothing but throttles; None if none is for it."""
        return self.throttled(token) if self.shared and self.shared_for(token) else None

    def throttled(self, token: Token[Any]) -> Throttled:
        """Hold a token to throttles."""
        policy = token._own_extras().policy = Throttled(token)
        return policy

    @property
    def is_idle(self) -> bool:
        return super().is_idle and not self._joints

    def elsewhere(self, token: Token[Any], error: BaseException) -> Place | None:
        """Have a token that was refused at the door belong to its next alternative; return the place of that."""
        policy = token._extras.policy
        return policy.elsewhere(error) if isinstance(policy, Governed) else None

    def may_run_here(self, token: Token[Any]) -> bool:
        """Tell whether a direct call may begin now, on its caller's thread; then it has what it needs for that.

        One with times of its own is queued: code on the thread of its caller could not be ended without that.
        """
        if self._holds_to_throttles_only(token):
            try:
                self._pass_throttles_only(token)
            except TokenRejected:
                return False  # it is refused as it is sent
            return self.throttles.admit_here(token)
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
