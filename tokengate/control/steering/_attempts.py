"""What operators change of the attempts and times of one token that is held to a policy."""

from __future__ import annotations

from typing import Any

from actors import Token
from tokengate._exceptions import BadPolicy
from tokengate.control._exceptions import BadRequest
from tokengate.control._units import in_seconds
from tokengate.control.messages import Outcome
from tokengate.control.steering._outcomes import ended, outcome
from tokengate.policy._governed import Governed
from tokengate.policy._values import period


def seconds_of(given: float | str) -> float:
    """Parse a time.

    Raises:
        BadRequest: it cannot work.
    """
    try:
        return period("extend", "seconds", given)
    except BadPolicy as error:
        raise BadRequest(str(error)) from None


def retry(token: Token[Any], *, stop: bool) -> Outcome:
    """Let the next attempt of a token begin now, or none any more."""
    policy = token._extras.policy
    if not isinstance(policy, Governed) or (policy.policy.retry is None and policy.governor.policy.retry is None):
        return outcome(token, "refused", "it has no policy with a retry")
    if stop:
        waited = policy.stop_retries(token)
        return outcome(token, "not_retried", "it has ended" if waited and token.done() else "")
    if policy.retry_now(token):
        return outcome(token, "retried")
    if token.done():
        return ended(token)
    what = "runs" if token.started_at is not None else "waits for other things than its next attempt's time"
    return outcome(token, "unchanged", f"it {what}")


def extend(token: Token[Any], seconds: float) -> Outcome:
    """Give a token more time."""
    policy = token._extras.policy
    if not isinstance(policy, Governed) or policy.times_of(token) is None:
        return outcome(token, "refused", "it has no limit of time")
    if policy.extend(token, seconds):
        return outcome(token, "extended", f"by {in_seconds(seconds)}")
    return ended(token) if token.done() else outcome(token, "refused", "its time is over, and it is being ended")
