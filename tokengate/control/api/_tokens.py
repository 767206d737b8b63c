"""The verbs for tokens, and for throttles."""

from __future__ import annotations

from collections.abc import Iterable

from tokengate.control import messages as m
from tokengate.control.api._answers import Outcomes
from tokengate.control.messages import Outcome
from tokengate.control.registry._verbs import Asker, asks


def outcomes(_owner: object, answer: Iterable[Outcome]) -> Outcomes:
    """Return outcomes as a sequence whose repr is their table."""
    return Outcomes(tuple(answer))


class TokenVerbs(Asker):
    """The verbs for tokens, and for throttles."""

    describe = asks(m.Describe)
    stack = asks(m.Stack)
    pause = asks(m.Pause, outcomes)
    resume = asks(m.Resume, outcomes)
    step = asks(m.Step, outcomes)
    terminate = asks(m.Terminate, outcomes)
    renice = asks(m.Renice, outcomes)
    retag = asks(m.Retag, outcomes)
    reroute = asks(m.Reroute, outcomes)
    preempt = asks(m.Preempt, outcomes)
    limit = asks(m.Limit, outcomes)
    estimate = asks(m.Estimate, outcomes)
    retry = asks(m.RetryNow, outcomes)
    extend = asks(m.Extend, outcomes)
    compensate = asks(m.Compensate, outcomes)
    throttle = asks(m.SetThrottle)
    lift = asks(m.Lift)
    reset_throttle = asks(m.ResetThrottle)
    throttles = asks(m.Throttles)
