"""The place of an actor: it outlives the actor's instances, and decides what happens between two of them."""

from __future__ import annotations

import contextvars
import enum
import logging
import os
import threading
import uuid
from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

import pykka
import pykka.messages
from pykka._introspection import get_attr_directly

from actors._child._command import command_of
from actors._exceptions import ActorDead, StartFailed, TokenInterrupt
from actors._exit_reason import KILLED, NOPROC, NORMAL, SHUTDOWN, ExitReason
from actors.concurrency._condition import Event
from actors.concurrency._future import Reply
from actors.mailboxes._signals import Signal, Start, Stop
from actors.places._actor import checked_class, has_plain_instances
from actors.places._drain import Drain
from actors.places._notice import Attached, Notice, cancel_all
from actors.places._place import Place
from actors.places._ref import ActorRef, CommandCall, OneWay
from actors.places._watch import Watch, Watches, tell_all
from actors.tokens._token import NO_KWARGS, Token

if TYPE_CHECKING:
    from actors.places._actor import BaseActor
    from actors.places._ports import PlaceSystem
    from actors.places._timers import ReceiveTimer

_logger = logging.getLogger("tokengate.actors")


class Status(enum.StrEnum):
    """What is at an actor's place."""

    VACANT = "vacant"  # no instance: not started yet, or ended and not started again
    STARTING = "starting"
    RUNNING = "running"
    STOPPING = "stopping"
    CLOSED = "closed"  # for good


# To look up a member of an enum takes several times as long as a global.
_CLOSED, _RUNNING, _STARTING = Status.CLOSED, Status.RUNNING, Status.STARTING
_STOPPING, _VACANT = Status.STOPPING, Status.VACANT


class Keeper(Protocol):
    """The owner's record of a place, which decides whether the place outlives its instance."""

    def goes_with(self, reason: ExitReason, /) -> bool:
        """Tell whether the place goes with an instance that ends for a reason; on any thread, under its lock."""
        ...

    def was_at(self, token: Token[Any], /) -> None:
        """Note the token with which an instance ends; on any thread, under the lock of its place."""
        ...


def method_of(call: Any) -> str | None:
    """Return the name of the method that the token of a call calls; None if it is no call of one."""
    if type(call) is OneWay:
        call = call.call
    if call is None:
        return "on_receive"
    if type(call) is CommandCall:
        return call.name
    return call[0] if type(call) is tuple and len(call) == 1 else None


class ActorPlace(Place):
    """Where an actor class, with its arguments, has its instances one after the other.

    Args:
        system: the system of its tree.
        path: names from the root down, joined by `/`.
        actor_class: what to make instances of.
        args: positional arguments of its constructor.
        kwargs: keyword arguments of its constructor.
        owner: called when an instance has ended, with this place, the reason, and whether an administrator asked
            for it; it decides what comes next. Without one, the place is closed.
    """

    exclusive = True

    __slots__ = (
        "_start",
        "_stop_replies",
        "_stopped",
        "_urn",
        "actor_class",
        "administrative",
        "args",
        "attached",
        "draining",
        "ending",
        "instance",
        "keeper",
        "kwargs",
        "lock",
        "orphaned",
        "owner",
        "receive",
        "receive_timer",
        "ref",
        "starts",
        "status",
        "stop_reason",
        "watches",
    )

    def __init__(
        self,
        system: PlaceSystem,
        path: str,
        actor_class: type[BaseActor],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
        *,
        owner: Callable[[ActorPlace, ExitReason, bool], None] | None = None,
    ) -> None:
        self.actor_class = actor_class
        self.args = args
        self.kwargs = dict(kwargs) if kwargs else NO_KWARGS
        self.owner = owner
        self.receive = f"{actor_class.__name__}.on_receive"  # what tokens of plain messages are called
        self.status = _VACANT
        self.starts = 0  # instances that have run here, the present one included
        self.instance: BaseActor | None = None
        self.orphaned = False  # its supervisor has ended and may come back for it
        self.draining = False  # stop once the user lane is empty
        self.administrative = False  # the latest end was asked for through the ref: only a new start undoes that
        self.stop_reason = NORMAL
        self.ending: ExitReason | None = None  # why the latest instance ends, or has ended; None while it may run on
        self.keeper: Keeper | None = None
        # Guards status and instance against a drainer that is dismissed at the same moment, and what goes with them:
        # a watch or a timer that begins is either seen by the instance's end, or sees that end.
        self.lock = threading.Lock()
        self.attached: set[Attached] | None = None  # what ends with the instance
        self.watches: Watches | None = None  # what is called at its end
        self.receive_timer: ReceiveTimer | None = None  # is given each token that is handled
        self._start: Start | None = None  # until it is over
        self._stop_replies: tuple[Reply[ExitReason], ...] = ()
        self._urn: str | None = None
        self._stopped: threading.Event | None = None  # made when it is first asked for
        super().__init__(
            system,
            path,
            actor_class.affinity,
            capacity=actor_class.capacity,
            overflow=actor_class.overflow,
            properties=checked_class(actor_class),
            suspended=True,  # as it is whenever no instance runs
            serves_operators=actor_class.serves_operators,
        )
        self.ref: ActorRef[Any] = actor_class._make_ref(self)
        if system.govern is not None and (actor_class.policy is not None or system.policies is not None):
            system.govern(self)

    def _make_drain(self) -> Drain:
        return self.actor_class._make_drain(self)

    @property
    def urn(self) -> str:
        if self._urn is None:
            self._urn = uuid.uuid4().urn
        return self._urn

    def is_alive(self) -> bool:
        """Tell whether messages are accepted; true between two instances as well."""
        return not self.mailbox.closed

    @property
    def stopped(self) -> threading.Event:
        """Set while no messages are accepted and there is no instance."""
        with self.lock:
            if self._stopped is None:
                self._stopped = Event()
                if self.closed or (self.status is _VACANT and self.mailbox.closed):
                    self._stopped.set()
            return self._stopped

    @property
    def closed(self) -> bool:
        """Whether the place has been given up."""
        return self.status is _CLOSED

    # Asking for a start or an end

    def start(
        self, over: Callable[[BaseException | None], object] = bool, *, here: bool = False
    ) -> Reply[ActorRef[Any]]:
        """Have an instance made and started; the reply, after `on_start`, is the ref, or raises `StartFailed`.

        Args:
            over: as for `Start`; not called if the place is closed, or its instance sealed, before the start is over.
            here: whether the calling thread may run code of the class to make it, as in pykka: done if the class has no
                `on_start` and the drain allows it. An instance that runs no code needs no such permission.
        """
        reply: Reply[ActorRef[Any]] = Reply()
        start = Start(reply, contextvars.copy_context(), over)
        with self.lock:
            closed = self.closed
            if not closed:  # a close that comes from now on closes the mailbox again
                self.administrative = self.draining = False
                self.stop_reason = NORMAL
                self.mailbox.reopen()
                self._start = start
        if closed:
            reply._set(error=ActorDead(f"actor '{self.path}' has ended for good"))
            return reply
        if self.drained:  # an operator has closed the intake, which was not opened since
            self.drain_off()
        self._note_stopped(False)
        self._hand_in(start, "on_start", here, plain=has_plain_instances(self.actor_class))
        if self.system.closed:  # its threads may be gone, so that nothing starts it
            reply._set(error=self._too_late())
        return reply

    def recover_start(self) -> None:
        """Complete a start whose caller was interrupted, or undo it; on the system loop.

        A start that another thread or the loop has taken, or will take from the mailbox, is left alone.
        """
        start = self._start
        lost = self.drain.dismiss_lost()
        if self.starts and start is None:
            return  # it was over
        if self.status is _RUNNING and start is not None:
            start.over(None)
            start.reply._set(self.ref)
            return
        if not lost and (self.mailbox.active or self.mailbox.signals()):
            return
        self.terminate_running("the thread that started it was interrupted")
        self.close(SHUTDOWN)
        self._leave_tree(SHUTDOWN, [])  # its caller may have been interrupted in the close
        if self.owner is not None:
            self.owner(self, KILLED, False)

    def stop(
        self, reason: ExitReason = NORMAL, *, drain: bool, administrative: bool, here: bool = False
    ) -> Reply[ExitReason]:
        """Have the instance ended in order: after all that was accepted (`drain`), or after the current step.

        With `here` the calling thread, if it is not the main one, ends an actor that is idle, if its class has no
        `on_stop` and its drain allows that.
        """
        reply: Reply[ExitReason] = Reply()
        if self.status is _CLOSED or (self.status is _VACANT and self.mailbox.closed):
            reply._set(reason)
            return reply
        with self.lock:
            closed = self.closed
            if not closed:
                self._stop_replies += (reply,)  # a close that comes from now on answers it
        if closed:
            reply._set(reason)
            return reply
        if administrative:
            self.administrative = True
        self.stop_reason = reason
        if drain:
            self.mailbox.close(keep=True)
        else:
            for token in self.drain.running():
                token.ask_to_end("its actor was stopped")
        # A signal handler may raise in the main thread, in the middle of the end, and nothing would go on from there.
        here = here and threading.current_thread() is not threading.main_thread()
        self._hand_in(Stop(drain), "on_stop", here, plain=False)
        if self.system.closed:  # in between; its threads may be gone, so that nothing ends it
            self._answer_stops(reason)
        return reply

    def _hand_in(self, signal: Signal, hook: str, here: bool, *, plain: bool) -> None:
        """Have a signal handled, by the calling thread if no drainer is at work and there is no hook to run."""
        hookless = getattr(self.actor_class, hook) is getattr(pykka.Actor, hook)
        if not (hookless and self.drain.handle_here(signal, here, plain)):
            self.signal(signal)

    def close(self, reason: ExitReason) -> None:
        """Give the place up, with all below it: end what is queued, free the path, answer what waits for the end."""
        with self.lock:
            if self.closed:
                return
            self.status = _CLOSED
            watches = self._watches_to_tell(closed=True)
        self._leave_tree(reason, watches)

    def _leave_tree(self, reason: ExitReason, watches: list[Watch]) -> None:
        """Do what follows a close; recovery repeats it if the closing thread was interrupted."""
        self.system.close_below(self, reason)
        self.system.forget(self)
        self.terminate_queued("has stopped" if reason.orderly else f"has ended ({reason})")
        self.drain.close()
        tell_all(watches, self, reason, closed=True)
        self._note_stopped(True)
        self._answer_stops(reason)

    def vacate(self) -> None:
        """Keep the place, and those below it, without an instance: end what is queued and accept no more."""
        self.terminate_queued("has stopped")
        with self.lock:
            watches = self._watches_to_tell(untold=True)  # of the end of its instance
        tell_all(watches, self, NOPROC, closed=False)
        self._note_stopped(True)
        self._answer_stops(NORMAL)
        for place in self.system.below(self):
            place.vacate()

    def ends_for_good(self, reason: ExitReason) -> bool:
        """Tell whether no instance can follow one that ends for a reason."""
        if self.owner is None or self.system.closed or self.system.is_root(self):
            return True
        return self.keeper is not None and self.keeper.goes_with(reason)

    @property
    def watched(self) -> bool:
        """Whether the instance is watched."""
        return bool(self.watches)

    def without_instance(self) -> bool:
        """Tell whether there is no instance, and none to come before the next `start`."""
        return self.status is _VACANT and self.mailbox.closed

    def _note_stopped(self, stopped: bool) -> None:
        """Set or clear `stopped`, which a change under the lock, just before this, has made true or false."""
        if self._stopped is None:  # one that is made from now on is right from the start
            return
        with self.lock:
            (self._stopped.set if stopped else self._stopped.clear)()

    @property
    def may_run_hook(self) -> bool:
        """Whether a drainer between two tokens may be in a hook; if there is no instance left, it is leaving."""
        return self.status not in (_VACANT, _CLOSED)

    @property
    def in_hook(self) -> bool:
        """Whether its drainer runs a hook of the instance, which begins or ends."""
        return self.status in (_STARTING, _STOPPING)

    def runs(self, instance: object | None) -> bool:
        """Tell whether an instance, or any, is at work here."""
        return self.status is _RUNNING and (instance is None or instance is self.instance)

    def stop_if_drained(self) -> None:
        """End the instance if it was to end after all that was accepted, and that has been handled.

        Each drainer that leaves calls this; of several, the last one finds no other at work.
        """
        if not self.draining:
            return
        with self.lock:
            if not self.draining or self.mailbox.active or self.mailbox.size:
                return
            self.draining = False
        self.signal(Stop(drain=False))

    def can_drain(self) -> bool:
        """Tell whether there is an instance to handle what is queued."""
        return self.status is _RUNNING

    def terminate_running(self, why: str) -> int:
        with self.lock:
            replies, self._stop_replies = self._stop_replies, ()
            start, self._start = self._start, None
            attached = self._release_instance()
            if self.status is _RUNNING:
                self.mailbox.suspend()
            had_run = self.status in (_RUNNING, _STOPPING)
            threads, tokens = self.drain.seal()
            self.note_last(tokens[0] if tokens else None)
            if not self.closed:
                self.status = _VACANT
            for_good = self.ends_for_good(KILLED)
            watches = self._watches_to_tell() if had_run and not for_good else []
        cancel_all(attached)
        self.system.seal(tokens, why)
        if threads:
            self.system.note_abandoned(self.path, threads)
        if had_run:
            self.system.tell(self.system.on_actor_ended, self.ref, KILLED)
        tell_all(watches, self, KILLED, closed=False)
        if for_good:
            self.close(KILLED if had_run else SHUTDOWN)
        if start is not None:
            start.reply._set(error=StartFailed(f"actor '{self.path}' was ended before it had started: {why}"))
        for reply in replies:
            reply._set(KILLED)
        return len(threads)

    def abandon(self, token: Token[Any], why: str) -> list[str] | None:
        """Seal the instance with the token that it runs, since its state can no longer be trusted.

        Its owner is told of an abnormal end, and decides what comes next.
        """
        if not self.drain.has_taken(token) or not self.drain.arrest(token):
            return None
        self.system.seal([token], why)
        with self.lock:
            if self.status is not _RUNNING:
                return []
            self.mailbox.suspend()  # until another instance runs, as after each end
            threads, tokens = self.drain.seal(token)
            if not tokens:  # its code was just over
                self.mailbox.resume()
                return []
            attached = self._release_instance()
            self.status = _VACANT
            self.note_last(token)
            for_good = self.ends_for_good(KILLED)
            watches = [] if for_good else self._watches_to_tell()
        cancel_all(attached)
        if threads:
            self.system.note_abandoned(self.path, threads)
        self.system.tell(self.system.on_actor_ended, self.ref, KILLED)
        tell_all(watches, self, KILLED, closed=False)
        if for_good:
            self.close(KILLED)
        if self.owner is not None:
            self.owner(self, KILLED, self.administrative)
        self._answer_stops(KILLED)
        return threads

    def reject(self, token: Token[Any], error: BaseException) -> None:
        if isinstance(error, ActorDead) and self.mailbox.closed:
            why = str(error)
            error = self.not_found()
            error.add_note(why)
        super().reject(token, error)

    def not_found(self) -> ActorDead:
        """Return the error of an actor that has ended for good, or was left to the process that forked this one."""
        opened_by, why = self.system.opened_by, ""
        if opened_by not in (None, os.getpid()):
            why = f": it is in process {opened_by}, from which this one was forked; start it here, after the fork"
        return ActorDead(f"{self.ref} not found{why}")

    # For the life of an instance

    def _too_late(self) -> ActorDead:
        return ActorDead(f"system '{self.system.name}' was closed before actor '{self.path}' started")

    def note_last(self, token: Token[Any] | None) -> None:
        """Tell the keeper of the token with which the instance ends, if there is one; under the lock."""
        if token is not None and self.keeper is not None:
            self.keeper.was_at(token)

    def _answer_stops(self, reason: ExitReason) -> None:
        with self.lock:
            replies, self._stop_replies = self._stop_replies, ()
        for reply in replies:
            reply._set(reason)

    def _watches_to_tell(self, *, closed: bool = False, untold: bool = False) -> list[Watch]:
        return [] if self.watches is None else self.watches.to_tell(closed=closed, untold=untold)

    def _release_instance(self) -> set[Attached] | None:
        """Forget the instance, under the lock; return what ends with it and is to be cancelled without the lock."""
        attached, self.attached, self.instance = self.attached, None, None
        return attached

    # What drains ask

    def resolve(self, token: Token[Any]) -> Callable[..., Any]:
        if self.receive_timer is not None:
            self.receive_timer.latest = token
        try:
            if token._call is None:
                return self.instance.on_receive  # type: ignore[union-attr]
            return self._resolve_special(token, token._call)
        except AttributeError:
            if self.instance is not None:
                raise
            why = token._own_extras().cancel_requested = "its actor was ended"  # the end of the token follows
            raise TokenInterrupt(why) from None

    def _resolve_special(self, token: Token[Any], call: Any) -> Callable[..., Any]:
        """Do as `resolve` does for all but plain messages; apart, since the closures would slow those down."""
        if type(call) is partial:  # the fallback of its policy
            return call
        if type(call) is tuple:
            return get_attr_directly(self.instance, call)  # type: ignore[no-any-return]
        if type(call) is OneWay:
            return self.instance.on_receive if call.call is None else self._resolve_special(token, call.call)  # type: ignore[union-attr]
        if type(call) is CommandCall:
            return command_of(self.instance, call.name)
        if isinstance(call, pykka.messages.ProxyGetAttr):
            return lambda: get_attr_directly(self.instance, call.attr_path)
        if isinstance(call, Notice):
            if not call.is_for(self.instance):
                token._own_extras().cancel_requested = "its timer or watch has ended"
                raise TokenInterrupt(token._extras.cancel_requested)
            return self.instance.on_receive  # type: ignore[union-attr]
        *parents, name = call.attr_path
        return lambda: setattr(get_attr_directly(self.instance, tuple(parents)), name, call.value)

    def steps_of(self, call: Callable[..., Any], result: Any, /) -> bool:
        return result.gi_code is getattr(call, "__code__", None)

    def is_idempotent(self, call: Any) -> bool:
        return self.properties.idempotent or method_of(call) in self.properties.idempotent_methods

    def crashes(self, token: Token[Any], error: BaseException) -> bool:
        # To read an attribute changes nothing, so its error concerns the reader only.
        harmless = isinstance(token._call, pykka.messages.ProxyGetAttr)
        return not harmless and self.actor_class._crashes(token, error)

    def failed(self, token: Token[Any], error: BaseException) -> BaseException | None:
        if isinstance(error, TokenInterrupt) and token._extras.cancel_requested:
            token._end_by_code(error, token._extras.cancel_requested)
            return None
        crash = self.crashes(token, error)
        token._end_by_code(error)
        if crash:
            return error
        _logger.info("Exception returned from %s to caller:", self.ref, exc_info=error)
        return None
