# The top floor: the gate, and what its users type. It stands on `supervisors` and `actors`. Its rooms:
#
#   cli/         the `tokengate` command
#   demo/        the first example: an indexer as a service hierarchy
#   admin/       the admin daemon: an HTTP API and a page for all gates of a host; a plugin starts it
#   mcp/         a server of the Model Context Protocol, over the control sockets
#   predict/     what tokens will need, and rules that act by that; a plugin
#   history/     what tokens did, on disk; a plugin
#   durable/     tokens and schedules that survive the process; a plugin
#   telemetry/   figures of tokens, and what passes records on; a plugin
#   gate/        `Gate`: open, close, spawn
#   authority/   who may do what, and who has agreed
#   control/     the control actor, and the ways to it
#   audit/       the audit log: what was asked for, and its verification
#   config/      the file `tokengate.toml`
#   operations/  `@token`, the current gate, the executor
#   policy/      what tokens are held to: times, retries, breakers, throttles, budgets, batches
#
#   errors.py, events.py, types.py  public names beyond those of everyday use
#   _exceptions.py                  the errors of the gate
#   _installation.py                finds what TokenGate cannot work with: hidden packages, patched programs
"""TokenGate: an actor runtime in which every call is a token that can be seen and steered while it runs.

The names here are those of everyday use. `tokengate.errors` has the errors, `tokengate.events` what a gate publishes,
`tokengate.types` classes to annotate or to pass, `tokengate.control` what sees and steers.
"""

import importlib
from typing import TYPE_CHECKING

from tokengate import _installation

_installation.end_at_ctrl_c()
_installation.check_packages()
_installation.check_patches()

from actors import (
    ActorRef,
    AsyncioActor,
    CpuActor,
    Down,
    IoActor,
    Limits,
    ProcessActor,
    Secret,
    Token,
    TokenState,
    as_completed,
    checkpoint,
    current_token,
    wait,
)
from supervisors import Backoff, ChildSpec, DynamicSupervisor, Supervisor
from tokengate.gate import _fork_and_exit  # noqa: F401  # it sees to open gates when the process forks or exits
from tokengate.gate._gate import Gate
from tokengate.operations._operation import token
from tokengate.operations._route import Route
from tokengate.policy import Batch, Breaker, Policy, Retry, Throttle, remaining

if TYPE_CHECKING:
    from tokengate import control, errors, events
    from tokengate import types as types

__all__ = [
    "ActorRef",
    "AsyncioActor",
    "Backoff",
    "Batch",
    "Breaker",
    "ChildSpec",
    "CpuActor",
    "Down",
    "DynamicSupervisor",
    "Gate",
    "IoActor",
    "Limits",
    "Policy",
    "ProcessActor",
    "Retry",
    "Route",
    "Secret",
    "Supervisor",
    "Throttle",
    "Token",
    "TokenState",
    "as_completed",
    "checkpoint",
    "control",
    "current_token",
    "errors",
    "events",
    "remaining",
    "token",
    "wait",
]


def __getattr__(name: str) -> object:
    """Load a public module when it is asked for: `tokengate.errors` needs no import of its own."""
    if name in ("control", "errors", "events", "types"):
        return importlib.import_module(f"tokengate.{name}")
    raise AttributeError(f"module 'tokengate' has no attribute '{name}'")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
