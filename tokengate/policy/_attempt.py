"""How an attempt of a token ended, and the record of it."""

from __future__ import annotations

import enum

import attrs


class End(enum.Enum):
    """How an attempt of a token ended."""

    COMPLETED = "it completed"
    FAILED = "it failed"  # the code raised; in an actor, an error that is expected
    CRASHED = "it crashed its actor"  # the code raised another error
    LOST = "its process ended"  # `WorkerDied`, `LimitExceeded`: what the code did is unknown
    TIMED_OUT = "its timeout was over"  # and the code has ended
    EXPIRED = "its deadline was over"  # and the code has ended
    LEFT_BEHIND = "its code was left behind"  # a time was over, and the code runs on
    STOPPED = "it was stopped"  # by a cancel, an operator, or the end of the gate


@attrs.frozen
class Attempt:
    """The record of an attempt that has ended; times are seconds of the gate's clock.

    Attributes:
        number: 1 for the first one.
        queued_at: when it began to wait; None for a direct call.
        started_at: when its code began; None if it did not.
        ended_at: when the code ended, or was left behind.
        error: what it ended with; None if it completed.
        delay: seconds until the next one was due; None if none follows.
        operation: at which it was.
    """

    number: int
    queued_at: float | None
    started_at: float | None
    ended_at: float
    error: BaseException | None = None
    delay: float | None = None
    operation: str = ""
