"""Actors and operations: rows and statistics, the verbs for them, and the attributes of their instances."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, ClassVar, Literal, TypeAlias

import attrs
from msgspec import Meta

from tokengate.control.messages._bases import ActorOutcome, Change, Message, OnActor, Seconds, Target
from tokengate.control.messages._supervisors import EndRow, WindowRow


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
        affinity: `io`, `asyncio`, `cpu` or `process`.
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


_Pattern: TypeAlias = Annotated[str, Meta(description="A path, the last part of one, or a pattern with `*`.")]


@attrs.frozen
class Actors(Message[tuple[ActorRow, ...]]):
    """List actors and operations.

    Raises:
        UnknownActor: no actor has this name.
        BadRequest: a number is out of its range.
    """

    right: ClassVar = "view"
    name: Annotated[str, Meta(description="A path, the last part of one, or a pattern with `*`; empty for all.")] = ""
    sample: Annotated[
        Seconds, Meta(description="Seconds for which to observe how busy they are; 0 for not at all.")
    ] = attrs.field(default=0.0, kw_only=True)


@attrs.frozen
class CommandRow:
    """A command of an actor, for `call`.

    Attributes:
        name: of the method.
        summary: the first line of its docstring; empty without one.
        parameters: JSON schema of the object of its arguments, by name, as far as its annotations have one. Those with
            `x-tokengate-args` go into `args`: `one` as the next of these, `rest` as all that follow.
        consent: what a call needs: `none`, or the `approval` of another person.
    """

    name: str
    summary: str
    parameters: dict[str, Any]
    consent: str


@attrs.frozen
class ActorDescription:
    """An actor, or an operation, and why it was restarted.

    Attributes:
        row: its row in a list.
        supervisor: path of its supervisor; empty if it has none.
        ends: the latest eight ends of its instances, the oldest first.
        window: what is left of its supervisor's restarts, for callers that may see everything; else None.
        own_window: the same of its own restarts, if it is a supervisor.
        commands: the methods that `call` may have it run, by name.
    """

    row: ActorRow
    supervisor: str = ""
    ends: tuple[EndRow, ...] = ()
    window: WindowRow | None = None
    own_window: WindowRow | None = None
    commands: tuple[CommandRow, ...] = ()


@attrs.frozen
class DescribeActor(Message[ActorDescription]):
    """Describe an actor, with the latest ends of its instances, and what is left of its supervisor's restarts.

    Raises:
        UnknownActor: no actor has this name, or several have.
    """

    right: ClassVar = "view"
    target: ClassVar[Target] = "place"
    name: Annotated[str, Meta(description="The actor's path, or the last part of it; `tokengate actors` lists them.")]


@attrs.frozen
class Statistics(Change[tuple[ActorRow, ...]]):
    """Switch the statistics of actors on or off, or show them.

    Raises:
        UnknownActor: no actor has this name.
        BadRequest: there is no such switch.
    """

    target: ClassVar[Target] = "places"
    name: _Pattern
    switch: Annotated[Literal["on", "off", "show"], Meta(description="`on` (counts from zero), `off`, or `show`.")] = (
        "show"
    )

    @property
    def needed(self) -> str:
        """The right that this very message needs."""
        return self.right if self.changes else "view"

    @property
    def changes(self) -> bool:
        """Whether this very message changes something."""
        return self.switch != "show"


@attrs.frozen
class Suspend(OnActor):
    """Let an actor or operation begin no more tokens.

    Commands such as this one still reach it.
    """

    examples: ClassVar = ("suspend mailer", "unsuspend mailer")


@attrs.frozen
class Unsuspend(OnActor):
    """Undo `suspend`: an actor or operation begins tokens again."""

    examples: ClassVar = ("unsuspend mailer", "unsuspend office/mailer")


@attrs.frozen
class Drain(OnActor):
    """Close an actor's mailbox, and let it handle what is queued.

    The actor, or operation, is not stopped.
    """

    examples: ClassVar = ("drain mailer --wait 60", "drain mailer --reopen")
    wait: Annotated[
        Seconds,
        Meta(description="Seconds to wait until what is queued is handled; after that, the answer is `pending`."),
    ] = 5.0
    reopen: Annotated[bool, Meta(description="Open the mailbox again instead.")] = attrs.field(
        default=False, kw_only=True
    )


@attrs.frozen
class Restart(OnActor):
    """Stop an actor's instance in order, and start another one.

    The queue stays. The restart does not count as a crash.

    Raises:
        UnknownActor: no actor has this name, or several have.
        NotSteerable: it belongs to the runtime, or is an operation.
    """

    right: ClassVar = "terminate"
    examples: ClassVar = ("restart mailer", "restart office/mailer")


@attrs.frozen
class Stop(OnActor):
    """Stop an actor in order; it is not started again.

    Raises:
        UnknownActor: no actor has this name, or several have.
        NotSteerable: it belongs to the runtime, or is an operation.
    """

    right: ClassVar = "terminate"
    drain: Annotated[bool, Meta(description="Handle first what is queued.")] = attrs.field(default=True, kw_only=True)
    wait: Annotated[Seconds, Meta(description="Seconds to wait for its end; after that the answer is `pending`.")] = (
        attrs.field(default=5.0, kw_only=True)
    )


@attrs.frozen
class Attribute:
    """An attribute of an actor's instance, as the socket shows it; see `Argument`."""

    name: str
    type: str
    size: int | None
    value: str | None


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


_Name: TypeAlias = Annotated[
    str, Meta(description="The actor's path, or the last part of it; `tokengate actors` lists them.")
]
_Patience: TypeAlias = Annotated[
    Seconds, Meta(description="Seconds to wait for a busy actor; after that the answer is the error `Busy`.")
]


@attrs.frozen
class GetState(Message[ActorState]):
    """Show the attributes of an actor's instance.

    They are read between two of its steps, and shown as types and sizes, with the values of those that its class names
    in `show`.
    """

    right: ClassVar = "view"
    target: ClassVar[Target] = "place"
    command: ClassVar = "state"
    examples: ClassVar = ("state counter", "state counter --json")
    name: _Name
    wait: _Patience = 5.0


@attrs.frozen
class SetState(Change[ActorOutcome]):
    """Set attributes of an actor's instance, between two of its steps, to values of JSON's types."""

    right: ClassVar = "state"
    target: ClassVar[Target] = "place"
    unrecorded: ClassVar = ("values",)
    name: _Name
    values: Annotated[dict[str, Any], Meta(description="{attribute: value}.")]
    wait: _Patience = 5.0


@attrs.frozen
class Called:
    """What a command did, or how far it is.

    Attributes:
        actor: path of the actor.
        token: id of the token that runs it.
        state: of the token: `completed`, or `queued`, `running` if it has not ended yet.
        type: name of the class of the result; empty without one.
        size: length of the result, if its class is a built-in one that has lengths; else None.
        value: the result as JSON; None if it has no such form, or one of more than 1 MiB.
        error: class and text of the error, if there is one; else empty.
        proposal: number of the proposal of a call that waits until another person approves it; else None.
    """

    actor: str
    token: int
    state: str
    type: str = ""
    size: int | None = None
    value: Any = None
    error: str = ""
    proposal: int | None = None


@attrs.frozen
class Call(Change[Called]):
    """Call a command of an actor: a method that its class marks with `@command`.

    A token of the actor runs it. Its annotations check the arguments.

    Raises:
        UnknownActor: no actor has this name, or several have.
        NotSteerable: it has no such command, or a command that needs consent takes a Secret.
        BadRequest: the arguments do not fit.
    """

    right: ClassVar = "call"
    target: ClassVar[Target] = "place"
    unrecorded: ClassVar = ("args", "kwargs")
    examples: ClassVar = ("call inventory restock tea 5", "call inventory restock tea --set count=5")
    name: _Name
    method: Annotated[str, Meta(description="Name of the command.")]
    args: Annotated[tuple[Any, ...], Meta(description="Its arguments by position: values of JSON's types.")] = ()
    kwargs: Annotated[dict[str, Any], Meta(description="Its arguments by name: {name: value}.")] = attrs.field(
        factory=dict
    )
    wait: Annotated[
        Seconds, Meta(description="Seconds to wait for its end; after that, the answer says how far it is.")
    ] = attrs.field(default=5.0, kw_only=True)
    text: Annotated[
        bool, Meta(description="Read arguments that are text as what the annotations want: `5` as a number.")
    ] = attrs.field(default=False, kw_only=True)


@attrs.frozen
class Visit(Change[Any]):
    """Call a function with an actor's instance, on its thread or loop, between two of its steps.

    The result is the answer; an error is raised at the caller. `get_state` and `replace_state` use it in Python; it
    cannot be sent through a socket.
    """

    right: ClassVar = "state"
    target: ClassVar[Target] = "place"
    local: ClassVar = True
    unrecorded: ClassVar = ("function", "in_process")
    name: _Name
    function: Annotated[Callable[[Any], Any], Meta(description="Takes the instance.")]
    wait: _Patience = 5.0
    in_process: Annotated[
        Callable[[Any], Any] | None,
        Meta(description="Called instead if the instance is in a child process and this needs another function."),
    ] = None
    looks: Annotated[bool, Meta(description="Whether the function only reads attributes.")] = attrs.field(
        default=False, kw_only=True
    )

    @property
    def needed(self) -> str:
        """The right that this very message needs."""
        return "arguments" if self.looks else self.right

    @property
    def changes(self) -> bool:
        """Whether this very message changes something."""
        return not self.looks
