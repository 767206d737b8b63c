# The middle floor: who starts, restarts and stops whom. It stands on `actors` and knows nothing of the gate.
#
#   what is told    _child_spec.py (a child)
#   what is decided _strategy.py (who is restarted), _intensity.py (when to give up), _backoff.py (how long to wait):
#                   pure functions
#   what is done    _base_supervisor.py (start, restart, stop), _supervisor.py, _dynamic_supervisor.py, _shutdown.py
#                   (stop one child)
#   what is kept    _child.py (a child at run time), _children.py (all of a supervisor's)
#   what is said    _reports.py, _exceptions.py
#   what is tested  testing.py (a public kit)
"""Supervisors: actors that look after other actors."""

from supervisors._backoff import Backoff
from supervisors._child import ChildCounts, ChildInfo, Phase
from supervisors._child_spec import ChildSpec, Shutdown
from supervisors._dynamic_supervisor import DynamicSupervisor
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
    "Shutdown",
    "Strategy",
    "Supervisor",
    "TooManyChildren",
]
