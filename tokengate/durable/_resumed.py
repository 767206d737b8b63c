"""Tokens that an earlier process has accepted, or this one has left on disk, as they go on."""

from __future__ import annotations

from typing import Any

from actors import TokenExpired, TokenRejected, TokenState
from actors.lowlevel import DurableToken, place_of, system_of
from tokengate.policy._governed import Governed
from tokengate.policy._policies import policies_of


def resume(
    token: DurableToken[Any], attempts: int, deadline: float | None, wall: float, *, preempted: bool = False
) -> None:
    """Hold the token of a row to the policy of its place, with the attempts and the time that it has had.

    Args:
        token: the token, new and in no mailbox.
        attempts: of the row.
        deadline: of the row, in wall time.
        wall: the wall time.
        preempted: whether one of the attempts was ended for another one.
    """
    place = place_of(token)
    if place.governor is None and attempts < 2 and deadline is None:
        return
    at = None if deadline is None else system_of(place).clock() + deadline - wall
    try:
        policies_of(place).resume(token, max(1, attempts), at)
    except TokenRejected as error:  # a key of it cannot be read
        if place.mailbox.withdraw(token):
            place.reject(token, error)
    if preempted:
        token._own_extras().preempted = True
        if isinstance(token._extras.policy, Governed):
            token._extras.policy.uncounted = 1


def end_if_late(token: DurableToken[Any]) -> bool:
    """End a token, which waits on disk only, if its deadline has passed; return whether it is not to begin."""
    deadline = token.deadline
    if token.record is not None and token.record.is_recording:
        return True
    if deadline is None or deadline > token._place.system.clock():
        return False
    if not place_of(token).mailbox.withdraw(token):
        return True
    why = f"{token._describe()} was ended: its deadline passed before it began"
    return token._finish(TokenState.EXPIRED, error=TokenExpired(why, "deadline"))
