"""Breakers: whether attempts may begin, by how those before them ended."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Final, Literal, TypeAlias

from tokengate.policy._attempt import End
from tokengate.policy._policy import Breaker, Retry
from tokengate.policy._window import Window

Permit: TypeAlias = tuple[int, float]
"""(changes of the breaker, seconds of the clock), both of when the attempt began."""

PROBES: Final = 3  # so many good ones close a breaker
BUCKETS: Final = 10  # in a window
LONGEST: Final = 8  # times `open_for`
_COMPLETED: Final = End.COMPLETED  # to look it up in the class takes CPython 3.11 as long as all of `is_good`


def is_good(
    breaker: Breaker, retry: Retry | None, end: End, error: BaseException | None, duration: float
) -> bool | None:
    """Return whether the end of an attempt is good; None: it does not count.

    Args:
        breaker: the policy's.
        retry: the policy's; if the breaker names no errors, those of the retry are bad.
        end: how the attempt ended.
        error: what it ended with, if it did not complete.
        duration: seconds that it ran.
    """
    is_slow = breaker.slow is not None and duration > breaker.slow
    if end is _COMPLETED:
        return not is_slow
    if end is End.STOPPED:
        return None
    if is_slow or end in (End.TIMED_OUT, End.EXPIRED, End.LEFT_BEHIND):
        return False
    on = retry.on if breaker.on is None and retry is not None else breaker.on
    return on is not None and not isinstance(error, on)


class BreakerState:
    """The state of a breaker, for one operation and key.

    It is closed; or open, until a time; or half open: three attempts may probe. Attempts that began before its last
    change do not count, and each change clears the counts.

    Args:
        policy: the breaker of the policy.
        key: whose state it is.
        note: called with it after each change of its state; it must be quick.

    Attributes:
        state: as of the last call; time alone may have changed it since (`look`).
        until: when an open one becomes half open, in seconds of the clock; inf: when an operator lets it.
        opened: when an open one became that, in seconds of the clock; None of others, and if an operator did it.
        held: whether an operator holds it open or closed.
        changes: the number of changes.
        running: attempts that have begun and not ended.
    """

    __slots__ = (
        "_good",
        "_note",
        "_probes",
        "_times",
        "_window",
        "changes",
        "held",
        "key",
        "opened",
        "policy",
        "running",
        "state",
        "until",
    )

    def __init__(
        self, policy: Breaker, key: str | int | None = None, note: Callable[[BreakerState], object] | None = None
    ) -> None:
        self.key, self._note = key, note
        self.state: Literal["closed", "open", "half_open"] = "closed"
        self.until = math.inf
        self.opened: float | None = None
        self.held = False
        self.changes = 0
        self.running = 0
        self._times = 0  # `open_for` times this was the time to be open; 0 while it is closed
        self._probes: list[float] = []  # when the probes began that run, oldest first
        self._good = 0  # probes that have ended
        self._window = Window(policy.window, policy.window / BUCKETS)
        self.policy = policy

    def change(self, policy: Breaker, _now: float) -> None:
        """Decide by another policy from now on; state and counts stay."""
        self.policy = policy
        self._window.length = policy.window
        self._window.width = policy.window / BUCKETS

    def refuses(self, now: float) -> bool:
        """Return whether an attempt that began now would be refused."""
        if self.state == "closed":
            return False
        self.look(now)
        return self.state == "open" or len(self._probes) + self._good >= PROBES

    def retry_after(self, now: float) -> float | None:
        """Return the seconds after which a refused attempt may be made again; None: unknown."""
        return max(0.0, self.until - now) if self.until < math.inf else None

    def begin(self, now: float) -> Permit | None:
        """Return a permit, with which `end` must be called once; None: the attempt is refused."""
        if self.state != "closed":
            if self.refuses(now):
                return None
            self._probes.append(now)
        self.running += 1
        return self.changes, now

    def end(self, permit: Permit, good: bool | None, now: float) -> None:
        """Note that an attempt has ended; `good` is by `is_good`, or None if it has not begun after all."""
        self.running -= 1
        if self.state != "closed":
            self.look(now)
        changes, began = permit
        if changes != self.changes:
            return
        if self.state == "half_open":
            self._probes.remove(began)
            self._good += good is True
            if good is False:
                self._open(now)
            elif self._good == PROBES:
                self._set("closed")
        elif good is not None:
            counted = self._window.add(now, not good)
            bad = self._window.bad
            if bad and counted >= self.policy.minimum and bad / counted >= self.policy.failure_rate and not self.held:
                self._open(now)

    def look(self, now: float) -> None:
        """Make the changes that time alone makes: the end of being open, and a probe that runs too long."""
        if self.state == "open" and now >= self.until:
            self._set("half_open")
        elif self.state == "half_open" and self._probes and now > self._probes[0] + self.policy.open_for:
            self._open(self._probes[0] + self.policy.open_for)
            self.look(now)

    def hold(self, state: Literal["open", "closed"]) -> None:
        """Hold it open or closed until `release` or `reset`."""
        self._set(state, held=True)

    def release(self) -> None:
        """Let it change by itself again; one that was held open becomes half open."""
        if self.held:
            self._set("closed" if self.state == "closed" else "half_open")

    def reset(self) -> None:
        """Make it as good as new."""
        self._set("closed")

    def counts(self, now: float) -> tuple[int, int]:
        """Return how many attempts count, and how many of them are bad."""
        return self._window.count(now), self._window.bad

    def is_new(self, now: float) -> bool:
        """Return whether it is as good as new, so that it may be forgotten."""
        return self.state == "closed" and not self.held and not self.running and not self._window.count(now)

    def _open(self, now: float) -> None:
        self._set("open")
        self._times = min(LONGEST, 2 * self._times) or 1
        self.until = now + self._times * self.policy.open_for
        self.opened = now

    def _set(self, state: Literal["closed", "open", "half_open"], *, held: bool = False) -> None:
        self.state = state
        self.until = math.inf
        self.opened = None
        self.held = held
        self.changes += 1
        self._good = 0
        self._probes.clear()
        self._window.clear()
        if state == "closed":
            self._times = 0
        if self._note is not None:
            self._note(self)
