"""Actors and operations: rows and statistics, the verbs for them, and the attributes of their instances."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar, Literal

import attrs

from tokengate.control.messages._bases import ActorOutcome, Message, OnActor


@attrs.frozen
class ActorStatistics:
    """What was counted at one actor or operation since its statistics were switched on.

    Attributes:
        seconds: since they were switched on.
        handled: number of tokens that have run and ended.
        failed: how many of these failed.
        waited: seconds that a token was queued, on average.
        took: seconds that a token ran, on average.
        longest: seconds that the slowest token ran.
        busy_share: share of the time in which it ran a token, from 0 to 1 (above 1 for operations that run several at
            once).
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
        path: its path in the tree.
        kind: name of its class; `operation` for functions.
        affinity: `io`, `cpu` or `process`.
        status: of the instance (`running`, `starting`, `stopping`, `vacant`); `running` for operations.
        depth: number of queued tokens.
        capacity: how many tokens may be queued.
        running: ids of the tokens that run.
        starts: number of instances so far; the restarts are one less.
        handled: number of tokens that were taken out of the mailbox so far.
        suspended: whether an operator has suspended it.
        draining: whether an operator has closed its mailbox.
        busy_share: share of the sample in which it ran a token; None without a sample.
        statistics: its statistics, if they are switched on.
        pid: of the child process that belongs to its instance; None if there is none.
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
        sample: seconds for which to observe how busy they are; 0 for not at all.
    """

    answer: ClassVar[Any] = tuple[ActorRow, ...]
    name: str = ""
    sample: float = 0.0


@attrs.frozen
class Statistics(Message):
    """Switch the statistics of actors on or off, or show them.

    Attributes:
        name: a path, the last part of one, or a pattern with `*`.
        switch: `on` (counts from zero), `off`, or `show`.
    """

    answer: ClassVar[Any] = tuple[ActorRow, ...]
    name: str
    switch: Literal["on", "off", "show"] = "show"


@attrs.frozen
class Suspend(OnActor):
    """Let an actor or operation begin no more tokens; control still reaches it."""


@attrs.frozen
class Unsuspend(OnActor):
    """Undo `suspend`."""


@attrs.frozen
class Drain(OnActor):
    """Close the mailbox of an actor or operation, and let it handle what is queued; it is not stopped.

    Attributes:
        wait: seconds to wait until that is handled; after that the answer is `pending`.
        reopen: open the mailbox again instead.
    """

    wait: float = 5.0
    reopen: bool = False


@attrs.frozen
class Restart(OnActor):
    """Restart an actor: its supervisor stops the instance in order, and starts another one.

    The queue stays. The restart does not count for the supervisor's intensity.
    """


@attrs.frozen
class Stop(OnActor):
    """Stop an actor in order; it is not started again.

    Attributes:
        drain: whether it handles first what is queued.
        wait: seconds to wait for its end; after that the answer is `pending`.
    """

    drain: bool = True
    wait: float = 5.0


@attrs.frozen
class Attribute:
    """An attribute of an actor's instance, as the socket shows it; see `Argument`."""

    name: str
    type: str
    size: int | None
    value: str | None
    redacted: bool = False


@attrs.frozen
class ActorState:
    """The attributes of an actor's instance, read between two of its steps.

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
    """Read the attributes of an actor's instance between two of its steps, as types, sizes and built-in values.

    Attributes:
        name: of the actor.
        wait: seconds to wait for a busy actor; after that the answer is the error `Busy`.
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
    """Call a function with an actor's instance, on its thread or loop, between two of its steps.

    The result is the answer; an error is raised at the caller. `get_state` and `replace_state` use it in Python; it
    cannot be sent through a socket.

    Attributes:
        name: of the actor.
        function: takes the instance.
        wait: seconds to wait for a busy actor; after that the answer is the error `Busy`.
        in_process: called instead if the instance is in a child process and this needs another function.
    """

    answer: ClassVar[Any] = Any
    local: ClassVar[bool] = True
    name: str
    function: Callable[[Any], Any]
    wait: float = 5.0
    in_process: Callable[[Any], Any] | None = None
