"""The verbs for actors and operations: suspend, drain, restart and stop them, and read and set attributes."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import trio

from actors import ActorSystem, DeadlockError, Reply, TokenGateError, WorkerError, current_token
from actors.lowlevel import ROOT, SYSTEM, ActorPlace, Place, Visit, system_of
from tokengate.control import messages as m
from tokengate.control._admission import admission
from tokengate.control._exceptions import BadRequest, Busy, ControlError, NotSteerable
from tokengate.control._safe_text import class_name
from tokengate.control.inspection import _queries
from tokengate.control.inspection._actor_state import looked_at
from tokengate.control.steering import _recycle
from tokengate.control.steering._commands import call_command

# Seconds between two looks at the tokens that an actor still has while it is drained.
_LOOK = 0.005


class ActorVerbs:
    """The verbs for the actors and operations of a system.

    Args:
        system: the system.
    """

    def __init__(self, system: ActorSystem) -> None:
        self._system = system
        self._renewals = _recycle.Renewals(system)

    async def suspend(self, message: m.Suspend) -> m.ActorOutcome:
        place = self._holdable(message.name)
        return _done(place, place.suspend(admission().caller.principal), "it was suspended already")

    async def unsuspend(self, message: m.Unsuspend) -> m.ActorOutcome:
        place = self._holdable(message.name)
        return _done(place, place.unsuspend(), "it was not suspended")

    async def drain(self, message: m.Drain) -> m.ActorOutcome:
        place = self._holdable(message.name)
        if message.reopen:
            return _done(place, place.accept_again(), "it was not drained, or has been stopped since")
        if not place.drain_off() and not place.drained:
            return m.ActorOutcome(place.path, "unchanged", "it has stopped, and accepts nothing")
        with trio.move_on_after(message.wait):
            while _left(place):
                await trio.sleep(_LOOK)
        left = _left(place)
        if not left:
            return m.ActorOutcome(
                place.path, "done", "it has handled everything, and accepts nothing; 'reopen' undoes that"
            )
        held = "; it is suspended" if place.suspended else ""
        return m.ActorOutcome(place.path, "pending", f"{left} tokens are left, and nothing new is accepted{held}")

    async def restart(self, message: m.Restart) -> m.ActorOutcome:
        place = self._actor(message.name)
        check_guards(self._system, place)
        above = self._supervisor_of(place)
        _check_from_outside(place, "restarted")
        before = place.starts
        await above.ref.proxy().renew_child(place.ref)
        if place.starts == before:
            return m.ActorOutcome(place.path, "unchanged", "it declined to start")
        return m.ActorOutcome(place.path, "done", f"its instance is number {place.starts}")

    async def recycle(self, message: m.Recycle) -> m.ActorOutcome:
        place = self._holdable(message.name)
        if not isinstance(place, ActorPlace):
            return await _recycle.recycle_workers(self._system, place, message.worker, message.wait)
        check_guards(self._system, place)
        above = self._supervisor_of(place)
        _check_from_outside(place, "recycled")
        return await self._renewals.recycle(place, above, message.worker, message.wait)

    async def stop(self, message: m.Stop) -> m.ActorOutcome:
        place = self._actor(message.name)
        if place.path == ROOT:
            raise NotSteerable("the root of the tree stops with its gate; use gate.request_stop(), or a signal")
        check_guards(self._system, place)
        if place.without_instance() or place.closed:
            return m.ActorOutcome(place.path, "unchanged", "it had stopped before")
        # A supervisor's mailbox has only messages to itself, which are answered at its end.
        stopped = place.stop(drain=message.drain and _queries.supervisor_at(place) is None, administrative=True)
        with trio.move_on_after(message.wait):
            await Reply.wait(stopped)
        if stopped.done():
            return m.ActorOutcome(place.path, "done", f"it has ended: {stopped.result()}")
        held = "; it is suspended" if place.suspended else ""
        return m.ActorOutcome(place.path, "pending", f"it is stopping; {place.mailbox.size} tokens are left{held}")

    # Instances

    async def visit(self, message: m.Visit) -> Any:
        """Answer `Visit`; an error of its function is raised here."""
        place = self._actor(message.name) if message.looks else self._changeable(message.name)
        function = message.function
        if place.affinity == "process" and message.in_process is not None:
            function = message.in_process
        return await self._visited(place, function, message.wait)

    async def get_state(self, message: m.GetState) -> m.ActorState:
        place = self._actor(message.name)
        look = partial(looked_at, show=place.properties.show if admission().shows_place(place) else ())
        attributes = await self._visited_by_us(place, look, message.wait)
        shown = tuple(m.Attribute(*attribute) for attribute in attributes)
        return m.ActorState(place.path, _queries.kind_of(place.actor_class), shown)

    async def call(self, message: m.Call) -> m.Called:
        place = self._changeable(message.name)
        _check_from_outside(place, "called")
        return await call_command(place, message)

    async def set_state(self, message: m.SetState) -> m.ActorOutcome:
        place = self._changeable(message.name)
        values = message.values
        if not values:
            raise BadRequest("set_state needs attributes to set")
        for name in values:
            if name.startswith("_"):
                raise NotSteerable(f"'{name}' is private to '{place.path}'; only its own code may set it")
            if not name.isidentifier():
                raise BadRequest(f"'{name[:40]}' cannot be the name of an attribute")

        def put(instance: Any) -> None:
            for name, value in values.items():
                setattr(instance, name, value)

        await self._visited_by_us(place, put, message.wait)
        return m.ActorOutcome(place.path, "done", ", ".join(sorted(values)))

    async def _visited(self, place: ActorPlace, function: Callable[[Any], Any], wait: float) -> Any:
        """Call a function with an instance; return its result, or raise its error.

        Raises:
            Busy: the call has not ended in time; if it had not begun, it never will.
        """
        _check_from_outside(place, "visited")
        reply: Reply[Any] = Reply()
        visit = Visit(function, reply)
        place.signal(visit)
        try:
            with trio.move_on_after(wait):
                await reply.wait()
        except trio.Cancelled:
            visit.claim()  # its client has disconnected, so it must not begin any more
            raise
        if not reply.done():
            if visit.claim():
                names = ", ".join(f"token {token.id} ({token.operation})" for token in place.drain.running())
                busy = f"it runs {names}" if names else f"it is {place.status}"
                reply._set(error=Busy(f"actor '{place.path}' had no time within {wait:g} s: {busy}"))
            elif not reply.done():  # else it has ended at this moment
                raise Busy(f"the call in actor '{place.path}' has begun, and has not ended after {wait:g} s")
        return reply.result()

    async def _visited_by_us(self, place: ActorPlace, function: Callable[[Any], Any], wait: float) -> Any:
        """Do as `_visited` for a function of control, which may run code of the instance's class."""
        try:
            return await self._visited(place, function, wait)
        except WorkerError as error:  # an error of the instance's code, in its process
            raise ControlError(f"the call in actor '{place.path}' raised {error.type_name}") from None
        except (TokenGateError, trio.Cancelled):
            raise
        except BaseException as error:
            kind = class_name(type(error))
            raise ControlError(f"the call in actor '{place.path}' raised {kind}") from None

    # The target of a message

    def _holdable(self, name: str) -> Place:
        """Return the place of an actor or operation that may be suspended or drained."""
        place = _queries.place_called(self._system, name)
        admission().reach(place)
        if place.properties.guard == "never":
            raise NotSteerable(f"the guard of '{place.path}' is 'never', as that of supervisors: only look at it")
        return place

    @staticmethod
    def _supervisor_of(place: ActorPlace) -> ActorPlace:
        above = system_of(place).above(place)
        if above is None or _queries.supervisor_at(above) is None:
            raise NotSteerable(f"'{place.path}' has no supervisor that could restart it")
        return above

    def _changeable(self, name: str) -> ActorPlace:
        place = self._actor(name)
        check_guard(place)
        return place

    def _actor(self, name: str) -> ActorPlace:
        place = _queries.actor_called(self._system, name)
        admission().reach(place)
        if place.path.startswith(SYSTEM):
            raise NotSteerable(f"'{place.path}' belongs to the runtime")
        return place


def check_guard(place: ActorPlace) -> None:
    """Raise `NotSteerable` if no verb may change an actor; the guard of a supervisor is for its tokens only."""
    if place.properties.guard == "never" and not _queries.is_of_supervisor(place):
        raise NotSteerable(f"the guard of '{place.path}' is 'never': only look at it")


def check_guards(system: ActorSystem, place: ActorPlace) -> None:
    """Raise an error if an actor may not be ended; a supervisor ends all that is below it."""
    admission().reach(place)
    check_guard(place)
    for one in system.below(place):
        check_guards(system, one)


def _check_from_outside(place: ActorPlace, done: str) -> None:
    """Raise `DeadlockError` if a step of this actor has sent the message and waits for the answer."""
    asker = current_token()
    while asker is not None and asker.parent is not None:
        asker = place.system.live.get(asker.parent)
        if asker is not None and asker in place.drain.running():
            raise DeadlockError(
                f"a step of actor '{place.path}', {asker!r}, asks for it to be {done}, which comes after that step; "
                "ask from outside of the actor"
            )


def _left(place: Place) -> int:
    """Return the number of tokens of a place that have not ended; it may be too high for a moment.

    The queue is read first, then the workers, then their tokens: a token passes through them in this order.
    """
    queued, at_work, running = place.mailbox.size, place.mailbox.active, len(place.drain.running())
    return queued + max(at_work, running)


def _done(place: Place, done: bool, otherwise: str) -> m.ActorOutcome:
    return m.ActorOutcome(place.path, "done") if done else m.ActorOutcome(place.path, "unchanged", otherwise)
