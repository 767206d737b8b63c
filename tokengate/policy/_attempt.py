"""How an attempt ended, as far as retries and breakers ask for it."""

from __future__ import annotations

import enum


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
