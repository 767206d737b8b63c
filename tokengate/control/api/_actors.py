"""The verbs for actors and operations, and for the attributes of their instances."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from tokengate.control import messages as m
from tokengate.control._exceptions import NotSteerable
from tokengate.control.api._question import Asker, Question, verb
from tokengate.control.inspection._actor_state import (
    public_attributes,
    received,
    received_after,
    replace_attributes,
    replace_attributes_and_send,
    sent_attributes,
)
from tokengate.control.messages import ActorOutcome

A = TypeVar("A")


class ActorVerbs(Asker):
    """The verbs for actors and operations, and for the attributes of their instances."""

    # --- Actors ---

    @verb
    def suspend(self, name: str) -> Question[ActorOutcome]:
        """Let an actor, or an operation, begin no more tokens; control still reaches it.

        Raises:
            UnknownActor: no actor has this name, or several have.
            NotSteerable: it is the runtime's own.
        """
        return Question(m.Suspend(name))

    @verb
    def unsuspend(self, name: str) -> Question[ActorOutcome]:
        """Undo `suspend`; raises as it does."""
        return Question(m.Unsuspend(name))

    @verb
    def drain(self, name: str, wait: float = 5.0, *, reopen: bool = False) -> Question[ActorOutcome]:
        """Close the intake of an actor, or an operation, and let it handle the rest; it is not stopped.

        Args:
            name: the actor's.
            wait: seconds to wait until the rest has been handled before answering `pending`.
            reopen: undo it instead.

        Raises:
            UnknownActor: no actor has this name, or several have.
            NotSteerable: it is the runtime's own.
        """
        return Question(m.Drain(name, wait, reopen))

    @verb
    def restart(self, name: str) -> Question[ActorOutcome]:
        """Have an actor's supervisor end its instance in order and start another.

        Its queue stays, and it counts for no intensity.

        Raises:
            UnknownActor: no actor has this name, or several have.
            NotSteerable: it is the runtime's own, or an operation.
        """
        return Question(m.Restart(name))

    @verb
    def stop(self, name: str, *, drain: bool = True, wait: float = 5.0) -> Question[ActorOutcome]:
        """Stop an actor for good, in order.

        Args:
            name: the actor's.
            drain: whether it handles all that it has accepted first.
            wait: seconds to wait for its end before answering `pending`.

        Raises:
            UnknownActor: no actor has this name, or several have.
            NotSteerable: it is the runtime's own, or an operation.
        """
        return Question(m.Stop(name, drain, wait))

    # --- The attributes of instances ---

    @verb
    def get_state(self, name: str, wait: float = 5.0) -> Question[dict[str, Any] | Any]:
        """Look at the attributes of an actor's instance, between two of its steps.

        Args:
            name: the actor's.
            wait: seconds after which a busy actor is given up on.

        Returns:
            Within the process {attribute: value}, of the instance's own attributes (its `vars`) but for those whose
            name starts with `_`. The dict is new, the values are the actor's own objects: look, and don't touch. Those
            of an actor in a child process are copies, and a `NotSent` stands for what cannot be pickled.
            Through a socket an `ActorState`: types, sizes, and built-in values in words.

        Raises:
            UnknownActor: no actor has this name, or several have.
            Busy: it was at work for all that time.
            NotSteerable: it is the runtime's own, or an operation.
        """
        if not self._local:
            return Question(m.GetState(name, wait))
        return Question(m.Visit(name, public_attributes, wait, in_process=sent_attributes), received)

    @verb
    def set_state(self, name: str, /, **values: Any) -> Question[ActorOutcome]:
        """Set attributes of an actor's instance, between two of its steps.

        Args:
            name: the actor's.
            values: {attribute: value}, of JSON's types.

        Raises:
            UnknownActor: no actor has this name, or several have.
            BadRequest: no attribute is given, or one that cannot be set.
            Busy: the actor was at work for all of five seconds.
            NotSteerable: it is the runtime's own, or an operation.
        """
        return Question(m.SetState(name, values))

    @verb
    def replace_state(
        self, name: str, function: Callable[[dict[str, Any]], Mapping[str, Any]], wait: float = 5.0
    ) -> Question[dict[str, Any]]:
        """Compute the attributes of an actor's instance from those it has, between two of its steps.

        Args:
            name: the actor's.
            function: gets what `get_state` returns, and returns what there shall be instead; attributes that are
                missing from it are deleted. It runs on the actor's thread or loop, or in its process, where it goes
                pickled. Attributes whose name starts with `_` are neither shown to it nor changed. If it raises, none
                is.
            wait: seconds after which a busy actor is given up on.

        Returns:
            The new attributes, as `get_state` has them.

        Raises:
            UnknownActor: no actor has this name, or several have.
            BadRequest: the function returned something else.
            Busy: the actor was at work for all that time.
            NotSteerable: it is the runtime's own, or an operation; or the gate is in another process.
            Exception: whatever the function raised.
        """
        self._check_local("replace_state", name)
        replace = functools.partial(replace_attributes, function=function)
        replace_and_send = functools.partial(replace_attributes_and_send, function=function)
        return Question(m.Visit(name, replace, wait, in_process=replace_and_send), received_after)

    @verb
    def visit(self, name: str, function: Callable[[Any], A], wait: float = 5.0) -> Question[A]:
        """Call a function with an actor's instance, on its own thread or loop, between two of its steps.

        Args:
            name: the actor's.
            function: gets the instance. To a process actor it goes pickled, and what it returns comes back so.
            wait: seconds after which a busy actor is given up on.

        Returns:
            What the function returned.

        Raises:
            UnknownActor: no actor has this name, or several have.
            Busy: the actor was at work for all that time.
            NotSteerable: it is the runtime's own, or an operation; or the gate is in another process.
            Exception: whatever the function raised.
        """
        self._check_local("visit", name)
        return Question(m.Visit(name, function, wait))

    def _check_local(self, verb: str, name: str) -> None:
        if not self._local:
            raise NotSteerable(
                f"{verb}('{name}', ...) takes a function, and none can go to another process; "
                f"use set_state('{name}', attribute=value) there, or get_state('{name}')"
            )
