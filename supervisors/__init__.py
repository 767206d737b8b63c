# The middle floor: supervisors start, restart and stop actors. It stands on `actors` and knows nothing of the gate.
#
#   specification   _child_spec.py (a child)
#   decisions       _strategy.py (what is restarted), _intensity.py (when to give up), _backoff.py (how long to wait):
#                   pure functions
#   actions         _base_supervisor.py (start, restart, stop), _supervisor.py (fixed children),
#                   _dynamic_supervisor.py (children at run time), _shutdown.py (stop one child)
#   state           _child.py (a child at run time), _ends.py (why it has ended), _children.py (all of a supervisor's)
#   reports, errors _reports.py, _exceptions.py
#   testing         testing.py (a public kit for users' tests)
"""Supervisors: actors that look after other actors."""

from supervisors._backoff import Backoff
from supervisors._child import ChildCounts, ChildInfo, Phase, ends_at
from supervisors._child_spec import ChildSpec, Shutdown
from supervisors._dynamic_supervisor import DynamicSupervisor, start_at_once
from supervisors._ends import ChildEnd
from supervisors._exceptions import (
    AlreadyPresent,
    AlreadyRestarting,
    AlreadyStarted,
    BadSpec,
    ChildError,
    ChildIsRunning,
    Ignore,
    NoSuchChild,
    TooManyChildren,
)
from supervisors._intensity import RestartWindow
from supervisors._reports import (
    AutoShutdown,
    ChildDeclined,
    ChildEnded,
    ChildStarted,
    ChildStartFailed,
    ChildStopFailed,
    GaveUp,
    Report,
    RestartScheduled,
)
from supervisors._strategy import Restart, Strategy
from supervisors._supervisor import Supervisor

__all__ = [
    "AlreadyPresent",
    "AlreadyRestarting",
    "AlreadyStarted",
    "AutoShutdown",
    "Backoff",
    "BadSpec",
    "ChildCounts",
    "ChildDeclined",
    "ChildEnd",
    "ChildEnded",
    "ChildError",
    "ChildInfo",
    "ChildIsRunning",
    "ChildSpec",
    "ChildStartFailed",
    "ChildStarted",
    "ChildStopFailed",
    "DynamicSupervisor",
    "GaveUp",
    "Ignore",
    "NoSuchChild",
    "Phase",
    "Report",
    "Restart",
    "RestartScheduled",
    "RestartWindow",
    "Shutdown",
    "Strategy",
    "Supervisor",
    "TooManyChildren",
    "ends_at",
    "start_at_once",
]
