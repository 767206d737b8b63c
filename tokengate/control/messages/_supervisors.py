"""Supervisors: the supervision tree, and the verbs for children."""

from __future__ import annotations

from typing import Any, ClassVar

import attrs

from tokengate.control.messages._bases import ActorOutcome, Message


@attrs.frozen
class TreeRow:
    """A node of the supervision tree; rows are in the order of reading, each after its supervisor.

    Attributes:
        depth: 0 for the root.
        path: its path in the tree.
        id: its id under its supervisor.
        kind: name of its class or function.
        status: its status for its supervisor (`running`, `restarting`, ...).
        restart: `permanent`, `transient` or `temporary`; empty for the root.
        restarts: number of restarts.
        strategy: of a supervisor; empty for workers.
        queued: number of tokens in its mailbox.
        running: ids of the tokens that run.
        suspended: whether an operator has suspended it.
    """

    depth: int
    path: str
    id: str
    kind: str
    status: str
    restart: str
    restarts: int
    strategy: str
    queued: int
    running: tuple[int, ...]
    suspended: bool


@attrs.frozen
class Tree(Message):
    """Show the supervision tree below a path; `system` adds the runtime's own part."""

    answer: ClassVar[Any] = tuple[TreeRow, ...]
    root: str = "/"
    system: bool = False


@attrs.frozen
class ChildRow:
    """A child of a supervisor."""

    id: str
    path: str
    status: str
    restart: str
    restarts: int
    significant: bool
    supervisor: bool


@attrs.frozen
class ChildCountsRow:
    """Numbers of the children of a supervisor; see `supervisors.ChildCounts`."""

    specs: int
    active: int
    restarting: int
    supervisors: int
    workers: int


@attrs.frozen
class OnSupervisor(Message):
    """Base of the verbs for one supervisor."""

    name: str


@attrs.frozen
class WhichChildren(OnSupervisor):
    """List the children of a supervisor, newest first."""

    answer: ClassVar[Any] = tuple[ChildRow, ...]


@attrs.frozen
class CountChildren(OnSupervisor):
    """Count the children of a supervisor."""

    answer: ClassVar[Any] = ChildCountsRow


@attrs.frozen
class TerminateChild(OnSupervisor):
    """Stop a child of a supervisor; it stays stopped, and its spec stays."""

    answer: ClassVar[Any] = ActorOutcome
    id: str


@attrs.frozen
class RestartChild(OnSupervisor):
    """Start a child of a supervisor that has no instance."""

    answer: ClassVar[Any] = ActorOutcome
    id: str


@attrs.frozen
class DeleteChild(OnSupervisor):
    """Remove the spec of a child of a supervisor that has no instance."""

    answer: ClassVar[Any] = ActorOutcome
    id: str
