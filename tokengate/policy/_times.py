"""The times of a token: which of its limits is over first, and when."""

from __future__ import annotations

import math
from typing import Literal, NamedTuple, TypeAlias

from tokengate.policy._policy import Policy

Phase: TypeAlias = Literal["queued", "running", "delayed"]
Which: TypeAlias = Literal["queue_timeout", "timeout", "deadline", "inherited"]


class Due(NamedTuple):
    """When a limit is over, in seconds of the clock, which one, and how many seconds the token had."""

    at: float
    which: Which
    seconds: float


def grace(seconds: float) -> float:
    """Return how many seconds code has to end when its time is over, of which it had so many."""
    return min(10.0, max(0.5, seconds / 10))


class Times:
    """The limits of one token. A pause counts, unless the clock is stopped meanwhile.

    Args:
        policy: the three times in it hold for all attempts of the token.
        created_at: when the token was made, in seconds of the clock.
        inherited: the deadline of the code that made it, likewise; a token whose own deadline is inf has none.
    """

    __slots__ = ("_inherited", "_phase", "_policy", "_since", "_start", "_stopped_at")

    def __init__(self, policy: Policy, created_at: float, inherited: float = math.inf) -> None:
        self._policy = policy
        # These three grow by the seconds for which the clock was stopped, or by which the limits were extended.
        self._start = created_at
        self._since = created_at  # when the phase began
        self._inherited = math.inf if policy.deadline == math.inf else inherited
        self._phase: Phase = "queued"
        self._stopped_at: float | None = None

    @property
    def deadline(self) -> float:
        """When the token's time is over for good, in seconds of the clock; its code's calls inherit it. inf: never."""
        return min(self._inherited, self._start + (self._policy.deadline or math.inf))

    def set_policy(self, policy: Policy) -> None:
        """Go by the times of another policy from now on, for the phase that begins."""
        self._policy = policy

    def due(self) -> Due | None:
        """Return which limit is over first, and when; None: none is, or the clock is stopped."""
        first = Due(self._inherited, "inherited", self._inherited - self._start)
        deadline = self._policy.deadline
        if deadline is not None and self._start + deadline <= first.at:
            first = Due(self._start + deadline, "deadline", deadline)
        if self._phase == "queued":
            first = self._earlier(first, "queue_timeout", self._policy.queue_timeout)
        elif self._phase == "running":
            first = self._earlier(first, "timeout", self._policy.timeout)
        return first if first.at < math.inf and self._stopped_at is None else None

    def enter(self, phase: Phase, now: float) -> None:
        """Note that an attempt waits to begin, or runs, or that the next one is delayed."""
        self._phase = phase
        self._since = now if self._stopped_at is None else self._stopped_at

    def stop_clock(self, now: float) -> None:
        """Let no more time pass, until `start_clock`."""
        if self._stopped_at is None:
            self._stopped_at = now

    def start_clock(self, now: float) -> None:
        """Let time pass again."""
        if self._stopped_at is not None:
            self.extend(now - self._stopped_at)
            self._stopped_at = None

    def extend(self, seconds: float) -> None:
        """Have each limit end later; the one of the phase, until the phase ends."""
        self._start += seconds
        self._since += seconds
        self._inherited += seconds

    def inherit(self, deadline: float) -> None:
        """End all no later than at this time, in seconds of the clock."""
        self._inherited = min(self._inherited, deadline)

    def _earlier(self, due: Due, which: Which, seconds: float | None) -> Due:
        return due if seconds is None or due.at <= self._since + seconds else Due(self._since + seconds, which, seconds)
