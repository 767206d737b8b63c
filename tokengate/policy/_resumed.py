"""Tokens that are preempted, and what those are held to after that which were held to no policy."""

from __future__ import annotations

from typing import Any

from actors import Limits, Token, TokenState
from actors.lowlevel import Place, Rule, place_of, system_of
from tokengate.policy._governed import Governed
from tokengate.policy._observed import Observed
from tokengate.policy._place_rules import PlaceRules
from tokengate.policy._policies import Policies
from tokengate.policy._preemption import Preemption
from tokengate.policy._throttled import Throttled, selected_rules


class Resumed(Governed):
    """What a token is held to from its preemption on that was held to no policy: throttles with selectors, as before.

    Args:
        token: the token, which runs.
        governor: rules of its place that hold tokens to nothing.
        before: what it is held to; None: nothing.
    """

    def __init__(self, token: Token[Any], governor: PlaceRules, before: Throttled | None) -> None:
        super().__init__(token, governor)
        self._before = before
        self._began_at, self._admitted, self.passed_door = token.started_at, True, True
        if isinstance(before, Observed):
            self.member = before.take_member()

    def rules(self, token: Token[Any], now: float) -> tuple[Rule, ...]:
        rules = super().rules(token, now)
        return rules if self.governor.shared else (*rules, *selected_rules(token, now))

    def end(
        self, token: Token[Any], state: TokenState, value: Any, error: BaseException | None
    ) -> tuple[TokenState, Any, BaseException | None] | None:
        before, self._before = self._before, None
        if before is not None:  # it has counted the attempt
            before.end(token, state, value, error)
        return super().end(token, state, value, error)


def preempt(
    policies: Policies, token: Token[Any], why: str, place: Place | None, limits: Limits | None
) -> Preemption | None:
    """Have the attempt of a token end that runs, and the token be queued again; on the system loop.

    Args:
        policies: of the gate.
        token: the token, which may run twice.
        why: the text of the error with which the attempt ends.
        place: where the next attempt is to be; None: where the token is.
        limits: of the next attempt.

    Returns:
        the preemption, which goes on; None, with no effect, if the attempt is over by now, or was asked to end.
    """
    source, system, attempt = place_of(token), system_of(place_of(token)), token.attempt
    before, extras = token._extras.policy, token._own_extras()
    source.mailbox.set_throttles(system.throttles, token)  # they keep it back until its drain has let go of it
    token.add_done_callback(lambda _: system.later(lambda: source.mailbox.set_throttles(None, token)))
    if isinstance(before, Governed):
        governed = before
    else:
        held = before if isinstance(before, Throttled) else None
        extras.policy = governed = Resumed(token, policies.apart_from(source), held)
    governed.governor.has_grants = True  # that of its delay
    next_place, preemption = governed.next_place, Preemption(token, why, place, limits)
    governed.preemption, governed.next_place = preemption, place or next_place  # before the attempt can end for it
    noted = extras.request_end(preemption.why)
    if preemption.is_over and not token.done():
        return preemption
    if not noted or token.done() or token.attempt != attempt or token.started_at is None:
        governed.next_place = next_place
        governed.give_up_preemption(token)
        return None
    system.reconciler.end_attempt(token, preemption.why)
    return preemption
