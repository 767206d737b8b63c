"""What becomes at the door of tokens that a throttle does not keep back: `over` of the throttle."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, ClassVar

import attrs

from actors import Token, TokenRejected
from tokengate.policy._events import PolicyEvent
from tokengate.policy._rules import ThrottleRule

if TYPE_CHECKING:
    from actors.lowlevel import Throttles


@attrs.frozen
class ThrottleExceeded(PolicyEvent):
    """A token has begun beyond a throttle that only warns; published once a second for each key.

    Attributes:
        key: whose limit it is; None if the throttle has no keys.
        rate: attempts that may begin in a second; None: any number.
        concurrency: attempts that may run at once, as of now; None: any number.
        running: attempts that do.
    """

    kind: ClassVar[str] = "policy.throttle_exceeded"
    key: str | int | None
    rate: float | None
    concurrency: float | None
    running: int

    @property
    def text(self) -> str:
        key = "" if self.key is None else f" of {self.key!r}"
        return f"a throttle{key} is exceeded by tokens of '{self.place}': {self.running} run"


def take_at_once(
    throttles: Throttles, token: Token[Any], rules: tuple[ThrottleRule, ...], now: float
) -> tuple[TokenRejected | None, list[ThrottleRule]]:
    """Give a token the grants of throttles for which it does not wait; under the lock of the throttles.

    Args:
        throttles: that give the grants.
        token: the token.
        rules: those of them that it does not have yet count.
        now: seconds of the clock.

    Returns:
        why it is refused, and gets none; else None, with the throttles that it exceeds.
    """
    lacking = throttles.lacking(token, rules)
    exceeded = []
    for rule in lacking:
        due = rule.due_at(token, now)
        if due <= now:
            continue
        exceeded.append(rule)
        if rule.over == "reject":
            rule.state.refused += 1
            after = None if due == math.inf else due - now
            until = "" if after is None else f"; its rate lets one begin in {after:.3g} s"
            key = "" if rule.key is None else f" of {rule.key!r}"
            why = f"{token._describe()} was refused: the throttle{key} lets no more begin now{until}"
            return TokenRejected(why, "throttle", after), []
    if lacking:
        throttles.grant(token, lacking, now)
    return None, exceeded


def pass_exceeded(token: Token[Any], place: str, exceeded: list[ThrottleRule], now: float) -> list[ThrottleExceeded]:
    """Do to a token that is about to be sent what the throttles say that it exceeds; return the events to publish."""
    events = []
    for rule in exceeded:
        if rule.over == "lower":
            token.priority -= 1
        elif rule.over == "warn" and rule.is_news(now):
            state, throttle = rule.state, rule.state.throttle
            limit = None if state.limit == math.inf else state.limit
            events.append(ThrottleExceeded(place, rule.key, throttle.rate, limit, state.running))
    return events
