"""Supervisors: the supervision tree, and the verbs for children."""

from __future__ import annotations

from typing import Annotated, ClassVar, TypeAlias

import attrs
from msgspec import Meta

from tokengate.control.messages._bases import ActorOutcome, Change, Message, Target


@attrs.frozen
class EndRow:
    """An end of an actor's instance, or an attempt to start it again that failed; see `supervisors.ChildEnd`.

    Attributes:
        at: when, in seconds since the epoch.
        reason: the exit reason as text, as in `events`.
        error: name of the error's class; empty if it was no error.
        token: id of the token that crashed the instance, or with which it was killed; None without one.
        operation: what that token ran; empty without one.
        restarted: whether another instance has started since.
        delay: seconds for which the supervisor has put off the restart; None if it has scheduled none.
    """

    at: float
    reason: str
    error: str = ""
    token: int | None = None
    operation: str = ""
    restarted: bool = False
    delay: float | None = None


@attrs.frozen
class WindowRow:
    """What is left of the restarts that a supervisor allows; see `supervisors.RestartWindow`.

    Attributes:
        used: restarts that count now, with attempts that failed.
        allowed: with one more, the supervisor gives up.
        period: seconds for which a restart counts.
        frees_in: seconds until the oldest one counts no more; None if none counts.
    """

    used: int
    allowed: int
    period: float
    frees_in: float | None = None


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
        last_end: the latest end of an instance; None before the first.
        window: of a supervisor: what is left of its restarts, for callers that may see everything; else None.
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
    last_end: EndRow | None = None
    window: WindowRow | None = None


@attrs.frozen
class Tree(Message[tuple[TreeRow, ...]]):
    """Return the supervision tree, each node after its supervisor.

    Raises:
        UnknownActor: nothing has this path.
    """

    right: ClassVar = "view"
    root: Annotated[str, Meta(description="The path of the topmost node.")] = "/"
    system: Annotated[bool, Meta(description="Add the runtime's own part.")] = attrs.field(default=False, kw_only=True)


@attrs.frozen
class ChildRow:
    """A child of a supervisor; `ends` are its latest eight, the oldest first."""

    id: str
    path: str
    status: str
    restart: str
    restarts: int
    significant: bool
    supervisor: bool
    ends: tuple[EndRow, ...] = ()


@attrs.frozen
class ChildCountsRow:
    """Numbers of the children of a supervisor; see `supervisors.ChildCounts`."""

    specs: int
    active: int
    restarting: int
    supervisors: int
    workers: int


_Supervisor: TypeAlias = Annotated[
    str,
    Meta(
        description="The supervisor's path, or the last part of it; `tokengate tree` shows them.",
        extra={"metavar": "SUPERVISOR"},
    ),
]


@attrs.frozen
class WhichChildren(Message[tuple[ChildRow, ...]]):
    """List the children of a supervisor, newest first.

    Raises:
        UnknownActor: no actor has this name, or several have.
        NotSteerable: it is not a supervisor.
    """

    right: ClassVar = "view"
    target: ClassVar[Target] = "place"
    name: _Supervisor


@attrs.frozen
class CountChildren(Message[ChildCountsRow]):
    """Count the children of a supervisor.

    Raises:
        UnknownActor: no actor has this name, or several have.
        NotSteerable: it is not a supervisor.
    """

    right: ClassVar = "view"
    target: ClassVar[Target] = "place"
    name: _Supervisor


@attrs.frozen
class OnChild(Change[ActorOutcome]):
    """Base of the verbs that change one child of a supervisor.

    Raises:
        UnknownActor: no actor has this name, or several have.
        NotSteerable: it is not a supervisor, or belongs to the runtime.
        NoSuchChild: it has no child with this id.
        ChildIsRunning: the child has an instance, and must have none.
    """

    right: ClassVar[str] = "terminate"
    target: ClassVar[Target] = "place"
    name: _Supervisor
    id: Annotated[str, Meta(description="The child's id in its supervisor.")]


@attrs.frozen
class TerminateChild(OnChild):
    """Stop the child with this id; it stays stopped, and its spec stays.

    Raises:
        UnknownActor: no actor has this name, or several have.
        NotSteerable: it is not a supervisor, or belongs to the runtime.
        NoSuchChild: it has no child with this id.
    """

    examples: ClassVar = ("child stop office mailer",)


@attrs.frozen
class RestartChild(OnChild):
    """Start the child with this id, which must not run."""

    examples: ClassVar = ("child start office mailer",)


@attrs.frozen
class DeleteChild(OnChild):
    """Remove the child with this id, which must not run, and its spec."""

    examples: ClassVar = ("child forget office mailer",)
