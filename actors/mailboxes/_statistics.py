"""The figures of a mailbox."""

from __future__ import annotations

import attrs


@attrs.frozen
class MailboxStatistics:
    """A mailbox at one moment.

    Attributes:
        depth: tokens in the user lane, those that are held included.
        capacity: how many it holds at most.
        held: of these, tokens that are paused, or kept back by a throttle.
        control: messages in the control lane.
        active: drainers at work.
        accepted: tokens accepted since the mailbox was made.
        suspended: whether the user lane is held.
        closed: whether new tokens are refused.
        senders_waiting: senders that wait for room.
    """

    depth: int
    capacity: int
    held: int
    control: int
    active: int
    accepted: int
    suspended: bool
    closed: bool
    senders_waiting: int
