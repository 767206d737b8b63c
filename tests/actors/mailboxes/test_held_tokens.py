"""Tokens beside the lanes of a mailbox: in which order they leave it, and that each is counted once."""

from __future__ import annotations

from typing import Any

from actors.mailboxes._held_tokens import HeldTokens
from actors.mailboxes._lanes import Lanes


def test_a_released_token_is_taken_before_those_in_the_lanes_unless_they_have_a_higher_priority(desk: Any) -> None:
    """It has waited for its turn already, but does not jump over a higher priority."""
    held, lanes = HeldTokens(), Lanes()
    released, urgent, plain = desk.token(), desk.token(1), desk.token()
    held.released.append(released)
    for token in (plain, urgent):
        lanes.append(token)

    assert [held.pop(lanes) for _ in range(4)] == [urgent, released, plain, None]


def test_paused_and_throttled_tokens_are_not_taken(desk: Any) -> None:
    """Only `release` and the throttles bring them back into the queue."""
    held, lanes = HeldTokens(), Lanes()
    paused, throttled = desk.token(5), desk.token(5)
    held.paused[paused] = None
    held.throttled.append(throttled)

    assert held.pop(lanes) is None
    assert len(held) == 2
    assert list(held) == [throttled, paused]


def test_a_token_that_is_removed_counts_no_longer(desk: Any) -> None:
    """Wherever it stood; a paused one is the operator's, and is removed as such."""
    held = HeldTokens()
    paused, throttled, released = desk.token(), desk.token(), desk.token()
    held.paused[paused] = None
    held.throttled.append(throttled)
    held.released.append(released)

    assert [held.remove_unpaused(token) for token in (throttled, released, paused, throttled)] == [
        True,
        True,
        False,
        False,
    ]
    assert list(held) == [paused]
