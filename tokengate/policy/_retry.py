"""Retries: whether another attempt follows, after which delay, and how many of all attempts may be retries."""

from __future__ import annotations

import math
from typing import Final

from tokengate._exceptions import BadPolicy
from tokengate.policy import _values
from tokengate.policy._attempt import End
from tokengate.policy._policy import Retry
from tokengate.policy._window import Window

PERIOD: Final = 10.0  # seconds in which retries are at most `FREE` and a share of all attempts
BUCKET: Final = 1.0  # seconds
FREE: Final = 10
SHARE: Final = 0.1  # of all attempts, unless another one is set


def why_final(retry: Retry, end: End, error: BaseException | None, idempotent: bool) -> str | None:
    """Return why no other attempt may follow one that ended so; None: it may. Arguments: those of `next_attempt`."""
    if end is End.FAILED:
        return None if isinstance(error, retry.on) else "Retry.on does not name its error"
    if end in (End.LOST, End.TIMED_OUT):
        return None if idempotent else f"{end.value}, so its outcome is unknown, and it is not idempotent"
    return str(end.value)


def next_attempt(
    retry: Retry, attempt: int, end: End, error: BaseException, *,
    idempotent: bool, now: float, deadline: float, draw: float,
) -> float | str:  # fmt: skip
    """Decide whether another attempt follows. If `retry.wait` is a function it is called here, so hold no lock.

    Args:
        retry: the policy's.
        attempt: the number of the attempt that has ended; 1 for the first one.
        end: how it ended.
        error: what it ended with.
        idempotent: whether the operation or the class of the actor is.
        now: seconds of the clock.
        deadline: when the token's time is over for good, in seconds of the clock; inf: never.
        draw: a random number from 0 to 1.

    Returns:
        seconds until the next attempt is due; or a text: why there is none. If that is since the function `wait` has
        raised, or returned neither seconds nor None, the error has the text as a note.
    """
    reason = why_final(retry, end, error, idempotent)
    if reason is not None:
        return reason
    if attempt >= retry.attempts:
        return "it was the last attempt"
    try:
        delay = _delay(retry, attempt, error, draw)
    except BadPolicy as problem:
        BaseException.add_note(error, f"It was not tried again: {problem}")
        return str(problem)
    if delay is None:
        return "Retry.wait returned None"
    delay = max(delay, _retry_after(error))
    # A delay of inf never ends, and `inf * 0` is no number: no comparison holds for it.
    return delay if now + delay <= deadline and delay < math.inf else "the deadline comes before the next attempt"


def _delay(retry: Retry, attempt: int, error: BaseException, draw: float) -> float | None:
    wait = retry.wait
    if not callable(wait):
        return draw * min(retry.max_wait, wait * 2.0 ** min(attempt - 1, 1_000))  # 2.0 ** 1024 is no float
    try:
        seconds = wait(error)
    except (Exception, SystemExit) as raised:  # what comes out would break the thread or the loop of the token
        remedy = f"it raised {type(raised).__name__}; have it return seconds, or None for no retry"
        raise BadPolicy("Retry", "wait", wait, remedy) from raised
    return None if seconds is None else min(retry.max_wait, _values.number("Retry", "wait(error)", seconds, least=0))


def _retry_after(error: BaseException) -> float:
    """Return the seconds that the other side asks for; 0 if the error has no such number."""
    try:
        seconds = getattr(error, "retry_after", None)
        return max(0.0, float(seconds)) if isinstance(seconds, int | float) else 0.0  # 0 for NaN
    except (Exception, SystemExit):  # a property of a foreign class has raised, or it is an int beyond all floats
        return 0.0


class RetryShare:
    """A limit of how many attempts of an operation are retries.

    A retry may begin if, itself included, the retries that began in the last 10 seconds are at most 10 plus a share of
    all attempts that began in these. It is reserved when it is decided, so that what is beyond the limit fails at once,
    and judged again when its delay is over, since the attempts that allowed it may have become too old. The counts are
    in buckets: they see retries up to a second longer than 10, and other attempts up to a second shorter.

    Args:
        share: of all attempts.

    Attributes:
        reserved: retries that are decided and have not begun.
    """

    __slots__ = ("_attempts", "_retries", "reserved", "share")

    def __init__(self, share: float = SHARE) -> None:
        self.share = share
        self.reserved = 0
        self._attempts = Window(PERIOD, BUCKET)
        self._retries = Window(PERIOD + BUCKET, BUCKET)

    def begin(self, now: float) -> None:
        """Note that an attempt begins that is no retry."""
        self._attempts.add(now)

    def reserve(self, now: float) -> bool:
        """Reserve a retry; return False if it is beyond the limit. `begin_retry` or `give_back` ends a reservation."""
        allowed = self._allows(self.reserved + 1, now)
        self.reserved += allowed
        return allowed

    def give_back(self) -> None:
        """End a reservation; the retry will not begin."""
        self.reserved -= 1

    def begin_retry(self, now: float) -> bool:
        """End a reservation, as the retry is about to begin; return False if it is beyond the limit by now."""
        self.reserved -= 1
        allowed = self._allows(1, now)
        if allowed:
            self._attempts.add(now)
            self._retries.add(now)
        return allowed

    def _allows(self, more: int, now: float) -> bool:
        return self._retries.count(now) + more <= FREE + self.share * (self._attempts.count(now) + more)
