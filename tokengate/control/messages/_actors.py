"""Actors and operations: rows and statistics, the verbs for them, and the attributes of their instances."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar, Literal

import attrs

from tokengate.control.messages._bases import ActorOutcome, Message, OnActor


@attrs.frozen
class ActorStatistics:
    """What was counted at one place since its statistics were switched on.

    Attributes:
        seconds: for how long they have been on.
        handled: tokens that have ended after they ran.
        failed: of these, those that failed.
        waited: seconds that a token was queued, on average.
        took: seconds that a token ran, on average.
        longest: seconds that the longest one ran.
        busy_share: the part of the time for which it had a token in hand, from 0 to 1 (above 1 for operations that run
            several at once).
    """

    seconds: float
    handled: int
    failed: int
    waited: float
    took: float
    longest: float
    busy_share: float


@attrs.frozen
class ActorRow:
    """An actor, or an operation, in a list.

    Attributes:
        path: its place in the tree.
        kind: name of its class; `operation` for functions.
        affinity: `io`, `cpu` or `process`.
        status: of the instance (`running`, `starting`, `stopping`, `vacant`); `running` for operations.
        depth: tokens that are queued.
        capacity: how many may be.
        running: ids of the tokens in hand.
        starts: instances so far; the restarts are one less.
        handled: tokens that were taken out of the mailbox so far.
        suspended: whether an operator holds it.
        draining: whether an operator has closed its intake.
        busy_share: the part of the last moment for which it had a token in hand; None if nobody asked.
        statistics: if they are switched on.
        pid: of the child process that is its instance's alone; None if there is none.
    """

    path: str
    kind: str
    affinity: str
    status: str
    depth: int
    capacity: int
    running: tuple[int, ...]
    starts: int
    handled: int
    suspended: bool
    draining: bool
    busy_share: float | None = None
    statistics: ActorStatistics | None = None
    pid: int | None = None


@attrs.frozen
class Actors(Message):
    """List actors and operations.

    Attributes:
        name: a path, the last part of one, or a pattern with `*`; empty for all.
        sample: seconds to watch them for, to learn how busy they are; 0 does not.
    """

    answer: ClassVar[Any] = tuple[ActorRow, ...]
    name: str = ""
    sample: float = 0.0


@attrs.frozen
class Statistics(Message):
    """Count what an actor does, or stop that.

    Attributes:
        name: a path, the last part of one, or a pattern with `*`.
        switch: `on` (counts from nothing), `off`, or `show`.
    """

    answer: ClassVar[Any] = tuple[ActorRow, ...]
    name: str
    switch: Literal["on", "off", "show"] = "show"


@attrs.frozen
class Suspend(OnActor):
    """Let an actor, or an operation, begin no more tokens; its control lane is answered."""


@attrs.frozen
class Unsuspend(OnActor):
    """Undo `suspend`."""


@attrs.frozen
class Drain(OnActor):
    """Close the intake of an actor, or an operation, and let it handle the rest; it is not stopped.

    Attributes:
        wait: seconds to wait until the rest has been handled before answering `pending`.
        reopen: undo it instead.
    """

    wait: float = 5.0
    reopen: bool = False


@attrs.frozen
class Restart(OnActor):
    """Have an actor's supervisor end its instance in order and start another.

    Its queue stays, and it counts for no intensity.
    """


@attrs.frozen
class Stop(OnActor):
    """Stop an actor for good, in order.

    Attributes:
        drain: whether it handles all that it has accepted first.
        wait: seconds to wait for its end before answering `pending`.
    """

    drain: bool = True
    wait: float = 5.0


@attrs.frozen
class Attribute:
    """An attribute of an actor's instance, as the socket shows it: like an argument that may be shown."""

    name: str
    type: str
    size: int | None
    value: str | None
    redacted: bool = False


@attrs.frozen
class ActorState:
    """The attributes of an actor's instance, between two of its steps.

    Attributes:
        actor: its path.
        kind: name of its class.
        attributes: in the order in which they were set.
    """

    actor: str
    kind: str
    attributes: tuple[Attribute, ...]


@attrs.frozen
class GetState(Message):
    """Look at the attributes of an actor's instance between two of its steps, as types, sizes and built-in values.

    Attributes:
        name: the actor's.
        wait: seconds after which a busy actor is given up on (`Busy`).
    """

    answer: ClassVar[Any] = ActorState
    name: str
    wait: float = 5.0


@attrs.frozen
class SetState(Message):
    """Set attributes of an actor's instance, between two of its steps, to values of JSON's types."""

    answer: ClassVar[Any] = ActorOutcome
    name: str
    values: dict[str, Any]
    wait: float = 5.0


@attrs.frozen
class Visit(Message):
    """Call a function with an actor's instance, on its own thread or loop, between two of its steps.

    What it returns is the answer, what it raises is the asker's; it is the base of `get_state` and `replace_state` in
    Python, and cannot come through a socket.

    Attributes:
        name: the actor's.
        function: gets the instance.
        wait: seconds after which a busy actor is given up on (`Busy`).
        in_process: called instead of it where the instance is in a child process, if that needs another function.
    """

    answer: ClassVar[Any] = Any
    local: ClassVar[bool] = True
    name: str
    function: Callable[[Any], Any]
    wait: float = 5.0
    in_process: Callable[[Any], Any] | None = None
