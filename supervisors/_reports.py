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
class ChildStartFailed(Report):
    """A child could not be started; `error` names the cause."""

    error: BaseException


@attrs.frozen
class ChildEnded(Report):
    """A child's instance ended, for `reason`."""

    reason: ExitReason


@attrs.frozen
class ChildRestarting(Report):
    """A child is about to be started again, because of `reason`."""

    reason: ExitReason


@attrs.frozen
class ShutdownError(Report):
    """A child did not stop in the `seconds` it had, and was killed (sealed, if it is a thread)."""

    seconds: float


@attrs.frozen
class GaveUp(Report):
    """There were more than `intensity` restarts within `period` seconds; `child` needed the last one."""

    intensity: int
    period: float
