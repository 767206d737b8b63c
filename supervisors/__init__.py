# The middle floor: who starts, restarts and stops whom. It stands on `actors` and knows nothing of the gate.
#
#   what is told    _child_spec.py (a child)
#   what is decided _intensity.py (when to give up), _supervisor.py (restart or not, start, stop)
#   what is done    _shutdown.py (stop one child)
#   what is said    _reports.py, _exceptions.py
"""Supervisors: actors that look after other actors."""

from supervisors._child_spec import ChildSpec, Restart, Shutdown
from supervisors._exceptions import BadSpec, ChildError
from supervisors._reports import (
    ChildEnded,
    ChildRestarting,
    ChildStarted,
    ChildStartFailed,
    GaveUp,
    Report,
    ShutdownError,
)
from supervisors._supervisor import ChildInfo, DynamicSupervisor, Supervisor

__all__ = [
    "BadSpec",
    "ChildEnded",
    "ChildError",
    "ChildInfo",
    "ChildRestarting",
    "ChildSpec",
    "ChildStartFailed",
    "ChildStarted",
    "DynamicSupervisor",
    "GaveUp",
    "Report",
    "Restart",
    "Shutdown",
    "ShutdownError",
    "Supervisor",
]
