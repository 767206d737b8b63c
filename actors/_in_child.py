"""The runtime itself in a child process, where code of the user's imports it, to open a gate of its own.

The names that code there may hold already are those of the child's package. Each of them is one with the runtime's: the
errors are the same classes, a process actor is an actor of both, and a function serves the tokens of both.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from types import ModuleType
from typing import Any, Final

CHILD: Final = "tokengate_worker"  # what the package of the child is called there

child: Final[ModuleType | None] = sys.modules.get(CHILD)
"""That package, in a child process; None elsewhere."""


def unite_errors(names: dict[str, Any], module: str) -> None:
    """Replace the errors of a module by the child's, which get the bases that they lack: pykka's."""
    for name, own in list(names.items()):
        if not isinstance(own, type) or own.__module__ != module:
            continue
        twin = getattr(child, name)
        bases = {base.__name__: base for base in (*own.__bases__, *twin.__bases__)}  # the twin's own of those of a name
        if len(bases) > len(twin.__bases__):
            twin.__bases__ = tuple(bases.values())
        names[name] = twin


def unite(
    names: dict[str, Any], process_actor: type, checkpoint: Callable[[], None], current_token: Callable[[], Any]
) -> None:
    """Let the child's names serve what the runtime does here as well, and be those of a package.

    Args:
        names: of the package.
        process_actor: the runtime's own class.
        checkpoint: its own function.
        current_token: the same.
    """
    assert child is not None
    child.ProcessActor.__bases__ = (process_actor,)
    here = sys.modules[f"{CHILD}._current_worker"].here
    here.own_checkpoint, here.own_token = checkpoint, current_token
    for name in ("ProcessActor", "checkpoint", "current_token"):
        names[name] = getattr(child, name)


def twins_of(same: Mapping[int, str]) -> dict[int, str]:
    """Return the child's names for what it has a twin of: {id of the twin: name}; nothing elsewhere."""
    return {} if child is None else {id(getattr(child, name)): name for name in same.values() if hasattr(child, name)}
