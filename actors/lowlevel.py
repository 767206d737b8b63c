"""Parts of the runtime that the floors above need, and users do not."""

from actors.concurrency._trio_host import TrioHost
from actors.drains._cpu_drain import CpuDrain
from actors.places._notice import attach
from actors.places._place import place_of
from actors.places._ref import OneWay
from actors.processes._limits import UNITS
from actors.processes.pickling._carrier import carried_as, twin_object
from actors.processes.pickling._ports import ProcessSystem
from actors.processes.workers._process_state import cpu_seconds
from actors.processes.workers._worker import Worker
from actors.steps._frames import find_step
from actors.steps._step import InContext
from actors.system._system import system_of

__all__ = [
    "UNITS",
    "CpuDrain",
    "InContext",
    "OneWay",
    "ProcessSystem",
    "TrioHost",
    "Worker",
    "attach",
    "carried_as",
    "cpu_seconds",
    "find_step",
    "place_of",
    "system_of",
    "twin_object",
]
