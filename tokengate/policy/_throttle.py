"""What is used of a throttle by the attempts of one key: a rate, and a number that run, fixed or adaptive."""

from __future__ import annotations

import math
from typing import Final

from tokengate.policy._policy import Throttle
from tokengate.policy._rate import RateLimit

# The adaptive limit: additive increase, multiplicative decrease.
_START: Final = 20.0
_LEAST: Final = 2.0
_MOST: Final = 500.0
_LOWERED_TO: Final = 0.9
_PAUSE: Final = 0.05  # seconds: it is lowered at most once in this time


class ThrottleState:
    """The attempts of one key under one throttle.

    The caller has the lock. For each attempt it calls `due_at`, until that time has come; `grant`; then `begin` as its
    code begins and `end` when the code has ended, or `give_back` if it never began. An attempt that nothing keeps back
    (`over="lower"`, `over="warn"`) gets its grant at once and counts like any other.

    A rate counts attempts as they begin. One that was granted has its place in the burst until then: what begins late
    does not come on top of a burst that has been free again meanwhile.

    Attributes:
        throttle: its limits, those of this key.
        limit: attempts that may run at once; `inf`: any number.
        running: attempts with a grant, except those that wait for another token.
        suspended: attempts with a grant that wait for another token, and do not count.
        refused: tokens that were refused.
    """

    __slots__ = ("_burst", "_lowered_at", "_rate", "_unbegun", "limit", "refused", "running", "suspended", "throttle")

    def __init__(self, throttle: Throttle) -> None:
        self.throttle = throttle
        self.limit = _first_limit(throttle)
        self.running = self.suspended = self.refused = 0
        self._burst = throttle.burst_size
        self._rate = None if throttle.rate is None else RateLimit(throttle.rate, self._burst)
        self._unbegun = 0  # attempts with a grant whose code has not begun
        self._lowered_at = -math.inf

    def due_at(self, now: float, count: int = 1) -> float:
        """Return when one more attempt may begin; `inf` when another one has to end first.

        Args:
            now: the time.
            count: how often the rate counts it, as far as that fits into the burst; a batch counts as its tokens.
        """
        if self.running + 1 > self.limit:
            return math.inf
        if self._rate is None:
            return -math.inf
        return self._rate.due_at(now, self._unbegun + (min(count, self._burst) - 1 if count > 1 else 0))

    def grant(self, count: int = 1) -> None:
        """Let an attempt begin."""
        self.running += 1
        self._unbegun += count

    def count(self) -> None:
        """Count an attempt that had begun before there was a limit."""
        self.running += 1

    def give_back(self, count: int = 1) -> None:
        """Take back the grant of an attempt that never began."""
        self.running -= 1
        self._unbegun -= count

    def begin(self, now: float, granted: int = 1, count: int = 1) -> None:
        """Note that the code of a granted attempt begins.

        Args:
            now: the time.
            granted: how often the rate was to count it.
            count: how often it does.
        """
        self._unbegun -= granted
        if self._rate is not None:
            self._rate.take(now, count)

    def note_wait(self, waits: bool) -> None:
        """Note that a running attempt waits for another token and does not count, or that its wait is over."""
        self.suspended += 1 if waits else -1
        self.running += -1 if waits else 1

    def end(self, seconds: float, good: bool | None, now: float) -> None:
        """Note that the code of an attempt that counts has ended; this may be long after the end of its token.

        Args:
            seconds: how long it ran.
            good: whether it is good, as for a breaker; None: it does not count.
            now: the time.
        """
        slow = self.throttle.slow
        if slow is not None and good is not None and self.running * 2 >= self.limit:
            if good and seconds <= slow:
                self.limit = min(_MOST, self.limit + 1 / self.limit)
            elif now - self._lowered_at >= _PAUSE:
                self.limit, self._lowered_at = max(_LEAST, self.limit * _LOWERED_TO), now
        self.running -= 1

    def change(self, throttle: Throttle, now: float) -> None:
        """Set other limits; what is used of them stays, and what an adaptive one has learned."""
        if not throttle.concurrency == self.throttle.concurrency == "adaptive":
            self.limit = _first_limit(throttle)
        self.throttle, self._burst = throttle, throttle.burst_size
        if throttle.rate is None or self._rate is None:
            self._rate = None if throttle.rate is None else RateLimit(throttle.rate, throttle.burst_size)
        else:
            self._rate.change(throttle.rate, throttle.burst_size, now)

    def reset(self) -> None:
        """Forget what was learned and refused, and when attempts began; those that run count on."""
        self.limit, self.refused = _first_limit(self.throttle), 0
        if self.throttle.rate is not None:
            self._rate = RateLimit(self.throttle.rate, self.throttle.burst_size)

    def is_new(self, now: float) -> bool:
        """Tell whether a new state would decide alike; `refused` does not matter for that."""
        if self.running or self.suspended or self.limit != _first_limit(self.throttle):
            return False
        return self._rate is None or self._rate.is_new(now)


def _first_limit(throttle: Throttle) -> float:
    limit = throttle.concurrency
    return math.inf if limit is None else _START if limit == "adaptive" else limit
