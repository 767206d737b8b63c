"""The verbs for actors, operations and supervisors, and for the attributes of instances."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from tokengate.control import messages as m
from tokengate.control._exceptions import NotSteerable
from tokengate.control.inspection._actor_state import (
    public_attributes,
    received,
    received_after,
    replace_attributes,
    replace_attributes_and_send,
    sent_attributes,
)
from tokengate.control.messages import ActorOutcome, Called
from tokengate.control.registry._verbs import Asker, as_it_is, asks, by_hand

A = TypeVar("A")


class ActorVerbs(Asker):
    """The verbs for actors, operations and supervisors, and for the attributes of instances."""

    _local: bool  # whether the gate is in this process

    suspend = asks(m.Suspend)
    unsuspend = asks(m.Unsuspend)
    drain = asks(m.Drain)
    restart = asks(m.Restart)
    recycle = asks(m.Recycle)
    stop = asks(m.Stop)
    describe_actor = asks(m.DescribeActor)
    tree = asks(m.Tree)
    which_children = asks(m.WhichChildren)
    count_children = asks(m.CountChildren)
    terminate_child = asks(m.TerminateChild)
    restart_child = asks(m.RestartChild)
    delete_child = asks(m.DeleteChild)

    # The attributes of instances

    @by_hand
    def get_state(self, name: str, wait: float = 5.0) -> dict[str, Any] | Any:
        """Read the attributes of an actor's instance, between two of its steps.

        Args:
            name: of the actor.
            wait: seconds to wait for a busy actor.

        Returns:
            In the gate's process {attribute: value} for the instance's own attributes (its `vars`), without names that
            start with `_`. The dict is new, but the values are the actor's own objects: do not change them. Values of
            an actor in a child process are copies, and a `NotSent` stands for a value that cannot be pickled.
            Through a socket an `ActorState`: types and sizes, and the values that the class shows, as text.

        Raises:
            UnknownActor: no actor has this name, or several have.
            Busy: the actor was busy for all that time.
            NotSteerable: it belongs to the runtime, or is an operation.
        """
        if not self._local:
            return self._put(m.GetState(name, wait), as_it_is)
        return self._put(m.Visit(name, public_attributes, wait, in_process=sent_attributes, looks=True), received)

    @by_hand
    def call(self, name: str, method: str, /, *args: Any, **kwargs: Any) -> Called:
        """Call a command of an actor: a method that its class marks with `@command`.

        Args:
            name: of the actor.
            method: name of the command.
            args: its arguments by position, of JSON's types; the annotations of the method check them.
            kwargs: its arguments by name.

        Returns:
            What it did; or, after five seconds, how far it is.

        Raises:
            UnknownActor: no actor has this name, or several have.
            NotSteerable: it has no such command, or the command needs an approval.
            BadRequest: the arguments do not fit.
        """
        return self._put(m.Call(name, method, args, kwargs), as_it_is)

    @by_hand
    def set_state(self, name: str, /, *, reason: str = "", dry_run: bool = False, **values: Any) -> ActorOutcome:
        """Set attributes of an actor's instance, between two of its steps.

        Args:
            name: of the actor.
            reason: why, for the record.
            dry_run: whether to change nothing, and make a proposal of it.
            values: {attribute: value}, of JSON's types.

        Raises:
            Refused: the caller may not do it.
            UnknownActor: no actor has this name, or several have.
            BadRequest: no attribute is given, or one cannot be set.
            Busy: the actor was busy for five seconds.
            NotSteerable: it belongs to the runtime, or is an operation.
        """
        return self._put(m.SetState(name, values, reason=reason, dry_run=dry_run), as_it_is)

    @by_hand
    def replace_state(
        self,
        name: str,
        function: Callable[[dict[str, Any]], Mapping[str, Any]],
        wait: float = 5.0,
        *,
        reason: str = "",
        dry_run: bool = False,
    ) -> dict[str, Any]:
        """Compute the attributes of an actor's instance from those it has, between two of its steps.

        Args:
            name: of the actor.
            function: takes what `get_state` returns, and returns the new attributes; an attribute that is missing there
                is deleted. It runs on the actor's thread or loop, or, pickled, in its process. Attributes with names
                that start with `_` are neither passed nor changed. If it raises, nothing is changed.
            wait: seconds to wait for a busy actor.
            reason: why, for the record.
            dry_run: whether to change nothing, and make a proposal of it.

        Returns:
            The new attributes, as `get_state` has them.

        Raises:
            Refused: the caller may not do it.
            ProposalMade: it was a dry run.
            UnknownActor: no actor has this name, or several have.
            BadRequest: the function did not return a mapping of attributes.
            Busy: the actor was busy for all that time.
            NotSteerable: it belongs to the runtime, or is an operation; or the gate is in another process.
            Exception: what the function raised.
        """
        self._check_local("replace_state", name)
        replace = functools.partial(replace_attributes, function=function)
        replace_and_send = functools.partial(replace_attributes_and_send, function=function)
        message = m.Visit(name, replace, wait, in_process=replace_and_send, reason=reason, dry_run=dry_run)
        return self._put(message, received_after)

    @by_hand
    def visit(
        self, name: str, function: Callable[[Any], A], wait: float = 5.0, *, reason: str = "", dry_run: bool = False
    ) -> A:
        """Call a function with an actor's instance, on its thread or loop, between two of its steps.

        Args:
            name: of the actor.
            function: takes the instance. For a process actor, it and its result are pickled.
            wait: seconds to wait for a busy actor.
            reason: why, for the record.
            dry_run: whether to change nothing, and make a proposal of it.

        Returns:
            What the function returned.

        Raises:
            Refused: the caller may not do it.
            ProposalMade: it was a dry run.
            UnknownActor: no actor has this name, or several have.
            Busy: the actor was busy for all that time.
            NotSteerable: it belongs to the runtime, or is an operation; or the gate is in another process.
            Exception: what the function raised.
        """
        self._check_local("visit", name)
        result: A = self._put(m.Visit(name, function, wait, reason=reason, dry_run=dry_run), as_it_is)
        return result

    def _check_local(self, verb: str, name: str) -> None:
        if not self._local:
            raise NotSteerable(
                f"{verb}('{name}', ...) takes a function, which cannot be sent to another process; "
                f"use set_state('{name}', attribute=value) there, or get_state('{name}')"
            )
