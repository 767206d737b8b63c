# The middle floor: who starts, restarts and stops whom. It stands on `actors` and knows nothing of the gate.
#
#   what is told    _child_spec.py (a child)
#   what is decided _strategy.py (who is restarted), _intensity.py (when to give up), _backoff.py (how long to wait):
#                   pure functions
#   what is done    _base_supervisor.py (start, restart, stop), _supervisor.py, _dynamic_supervisor.py, _shutdown.py
#                   (stop one child)
#   what is kept    _child.py (a child at run time)
#   what is said    _reports.py, _exceptions.py
#   what is tested  testing.py (a public kit)
"""Supervisors: actors that look after other actors."""

from supervisors._backoff import Backoff
from supervisors._child import ChildCounts, ChildInfo, Phase
from supervisors._child_spec import ChildSpec, Shutdown
from supervisors._dynamic_supervisor import DynamicSupervisor
from supervisors._exceptions import (
    AlreadyPresent,
    AlreadyStarted,
    BadSpec,
    ChildError,
    ChildIsRestarting,
    ChildIsRunning,
    Ignore,
    NoSuchChild,
    TooManyChildren,
)
from supervisors._reports import (
    AutoShutdown,
    ChildDeclined,
    ChildEnded,
    ChildRestarting,
    ChildStarted,
    ChildStartFailed,
    GaveUp,
    Report,
    ShutdownError,
)
from supervisors._strategy import Restart, Strategy
from supervisors._supervisor import Supervisor

__all__ = [
    "AlreadyPresent",
    "AlreadyStarted",
    "AutoShutdown",
    "Backoff",
    "BadSpec",
    "ChildCounts",
    "ChildDeclined",
    "ChildEnded",
    "ChildError",
    "ChildInfo",
    "ChildIsRestarting",
    "ChildIsRunning",
    "ChildRestarting",
    "ChildSpec",
    "ChildStartFailed",
    "ChildStarted",
    "DynamicSupervisor",
    "GaveUp",
    "Ignore",
    "NoSuchChild",
    "Phase",
    "Report",
    "Restart",
    "Shutdown",
    "ShutdownError",
    "Strategy",
    "Supervisor",
    "TooManyChildren",
]
