"""The runtime in a child process: user code there may import it, to open a gate of its own.

By then, user code may already hold names of the child's package (`_child/`). Each of these names is made to serve both:
the errors become the same classes, a process actor is an actor of both, and a function works for tokens of both.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from types import ModuleType
from typing import Any, Final

CHILD: Final = "tokengate_worker"  # name of the package `_child` in a child process

child: Final[ModuleType | None] = sys.modules.get(CHILD)
"""The package of that name in a child process; None elsewhere."""


def unite_errors(names: dict[str, Any], module: str) -> None:
    """Replace the errors of a module by those of the child's package, and add the bases that these lack: pykka's."""
    for name, own in list(names.items()):
        if not isinstance(own, type) or own.__module__ != module:
            continue
        counterpart = getattr(child, name)
        # Of two bases with the same name, the counterpart keeps its own.
        bases = {base.__name__: base for base in (*own.__bases__, *counterpart.__bases__)}
        if len(bases) > len(counterpart.__bases__):
            counterpart.__bases__ = tuple(bases.values())
        names[name] = counterpart


def unite(
    names: dict[str, Any], process_actor: type, checkpoint: Callable[[], None], current_token: Callable[[], Any]
) -> None:
    """Replace the names of a package that are the child's own by those of the child, and have these serve both.

    Args:
        names: the package's namespace, which is changed.
        process_actor: the runtime's class.
        checkpoint: the runtime's function.
        current_token: the runtime's function.
    """
    assert child is not None
    child.ProcessActor.__bases__ = (process_actor,)
    current_worker = sys.modules[f"{CHILD}._current_worker"].current_worker
    current_worker.own_checkpoint, current_worker.own_token = checkpoint, current_token
    for name in ("ProcessActor", "Secret", "checkpoint", "current_token"):
        names[name] = getattr(child, name)


def counterparts_of(same: Mapping[int, str]) -> dict[int, str]:
    """Return the counterparts in the child's package: {id of the counterpart: name}; empty outside of a child."""
    return {} if child is None else {id(getattr(child, name)): name for name in same.values() if hasattr(child, name)}


def submits_to_gate() -> bool:
    """Tell whether this is a child process that can submit calls to the gate that has made it."""
    return child is not None and sys.modules[f"{CHILD}._current_worker"].current_worker.connection is not None


def ask_gate(*item: Any) -> Any:
    """Make a request of this child process to its gate, and wait for the answer."""
    return sys.modules[f"{CHILD}._current_worker"].current_worker.ask(*item)


def gates_operation(
    key: str, name: str, priority: int, tags: Mapping[str, str], identity: str | int | None = None
) -> Any:
    """Return the counterpart of an operation that the gate of this child process finds by its module and name."""
    assert child is not None
    return child.Operation(key, name, priority, tags, identity)
