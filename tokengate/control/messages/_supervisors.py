"""Supervisors: the supervision tree, and the verbs for children."""

from __future__ import annotations

from typing import Any, ClassVar

import attrs

from tokengate.control.messages._bases import ActorOutcome, Message


@attrs.frozen
class TreeRow:
    """A node of the supervision tree; rows come in the order in which one reads a tree, each below its supervisor.

    Attributes:
        depth: 0 for the root.
        path: its place.
        id: its name under its supervisor.
        kind: name of its class or function.
        status: what its supervisor does with it (`running`, `restarting`, ...).
        restart: `permanent`, `transient` or `temporary`; empty for the root.
        restarts: how often it has been started again.
        strategy: of a supervisor; empty for workers.
        queued: tokens in its mailbox.
        running: ids of the tokens in hand.
        suspended: whether an operator holds it.
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
    """Show the supervision tree, from a path down; the runtime's own part of it only if asked for."""

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
    """How many children a supervisor has; see `supervisors.ChildCounts`."""

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
    """List the children of a supervisor, the newest first."""

    answer: ClassVar[Any] = tuple[ChildRow, ...]


@attrs.frozen
class CountChildren(OnSupervisor):
    """Count the children of a supervisor."""

    answer: ClassVar[Any] = ChildCountsRow


@attrs.frozen
class TerminateChild(OnSupervisor):
    """Stop a child of a supervisor, by its id; it stays stopped."""

    answer: ClassVar[Any] = ActorOutcome
    id: str


@attrs.frozen
class RestartChild(OnSupervisor):
    """Start a child of a supervisor that has no instance."""

    answer: ClassVar[Any] = ActorOutcome
    id: str


@attrs.frozen
class DeleteChild(OnSupervisor):
    """Forget a child of a supervisor that has no instance."""

    answer: ClassVar[Any] = ActorOutcome
    id: str
