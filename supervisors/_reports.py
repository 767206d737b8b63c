"""What supervisors report: one frozen class for each decision, for tests, logs and whoever subscribes."""

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
    """A child, and with it those that its supervisor's strategy names, is about to be started again.

    Attributes:
        reason: why it ended, or why the attempt before failed.
        attempt: 1 for the first; with a backoff it counts on until the child has been quiet for long enough.
        delay: seconds until then.
    """

    reason: ExitReason
    attempt: int = 1
    delay: float = 0.0


@attrs.frozen
class ChildStopFailed(Report):
    """A child did not stop in the `seconds` it had, and was killed (sealed, if it is a thread)."""

    seconds: float


@attrs.frozen
class GaveUp(Report):
    """A supervisor restarts nothing any more, and ends.

    Attributes:
        intensity: restarts that were allowed within `period` seconds; `child` needed one more.
        period: seconds.
        abandoned: threads that it had to leave behind; more than `max_abandoned` are the reason, too.
    """

    intensity: int
    period: float
    abandoned: int = 0


@attrs.frozen
class AutoShutdown(Report):
    """A supervisor ends in order, since `child`, a significant one, has ended for good."""
