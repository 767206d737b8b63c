"""Reports of supervisors: one frozen class for each decision, for logs, tests and subscribers."""

from __future__ import annotations

import attrs

from actors import ExitReason


@attrs.frozen
class Report:
    """Base of all reports.

    Attributes:
        supervisor: path of the supervisor.
        child: path of the child.
    """

    supervisor: str
    child: str


@attrs.frozen
class ChildStarted(Report):
    """A child's `on_start` has ended; `restart` is 0 for its first start, 1 for the first restart, and so on."""

    restart: int


@attrs.frozen
class ChildDeclined(Report):
    """A child raised `Ignore` when it was started; it has no instance."""


@attrs.frozen
class ChildStartFailed(Report):
    """A child could not be started; `error` names the cause."""

    error: BaseException


@attrs.frozen
class ChildEnded(Report):
    """A child's instance ended, for `reason`."""

    reason: ExitReason


@attrs.frozen
class RestartScheduled(Report):
    """A restart of a child is scheduled, together with those that the strategy adds.

    Attributes:
        reason: why it ended, or why the attempt before failed.
        attempt: 1 for the first; with a backoff it goes on counting until the child has run for long enough.
        delay: seconds before the restart.
    """

    reason: ExitReason
    attempt: int = 1
    delay: float = 0.0


@attrs.frozen
class ChildStopFailed(Report):
    """A child did not stop within its `shutdown` seconds, and was killed (on a thread: sealed)."""

    seconds: float


@attrs.frozen
class GaveUp(Report):
    """A supervisor has given up: it restarts no child any more, and ends.

    Attributes:
        intensity: restarts that were allowed within `period` seconds; `child` needed one more.
        period: seconds.
        abandoned: threads that it left running; more than `max_abandoned` are a reason to give up, too.
    """

    intensity: int
    period: float
    abandoned: int = 0


@attrs.frozen
class AutoShutdown(Report):
    """A supervisor ends in order, since `child`, a significant one, has ended for good."""
