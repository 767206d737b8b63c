"""The place of an actor: it outlives the actor's instances, and decides what happens between two of them.

The parts of an instance's life that run user code (`__init__`, `on_start`, `on_stop`, `on_failure`) are written
as generators: they yield the code to run and are sent what it returned and what it raised. So one text serves the
CPU threads, which call it, and the trio tasks, which await it. One that is sealed in between is dropped.
"""

from __future__ import annotations

import contextvars
import enum
import logging
import threading
import uuid
from collections.abc import Callable, Generator, Mapping
from typing import TYPE_CHECKING, Any, TypeAlias

import pykka.messages
from pykka._introspection import get_attr_directly

from actors._exceptions import ActorDead, StartFailed, TokenInterrupt
from actors._exit_reason import KILLED, NORMAL, ExitReason, safe_repr
from actors._lifecycle import TokenState
from actors._mailbox import Drainer
from actors._place import Drain, Place
from actors._ref import ActorRef
from actors._reply import Reply
from actors._signals import Start, Stop
from actors._token import Token

if TYPE_CHECKING:
    from actors._actor import BaseActor
    from actors._system import ActorSystem

_logger = logging.getLogger("tokengate.actors")

# Yields code to run; is sent (its value, None) or (None, its error).
Life: TypeAlias = Generator[Callable[[], Any], tuple[Any, BaseException | None], None]


class Status(enum.StrEnum):
    """What is at an actor's place."""

    VACANT = "vacant"  # no instance: not started yet, or ended and not started again
    STARTING = "starting"
    RUNNING = "running"
    STOPPING = "stopping"
    CLOSED = "closed"  # for good


class ActorPlace(Place):
    """Where an actor class, with its arguments, has its instances one after the other.

    Args:
        system: whose tree it is in.
        path: names from the root down, joined by `/`.
        actor_class: what to make instances of.
        args: positional arguments of its constructor.
        kwargs: keyword arguments of its constructor.
        owner: called with this place, the reason, and whether an administrator asked, when an instance has
            ended; it decides what comes next. Without one, the place is closed.
    """

    __slots__ = (
        "_lock",
        "_start_reply",
        "_stop_replies",
        "_stopped",
        "_urn",
        "actor_class",
        "administrative",
        "args",
        "draining",
        "instance",
        "kwargs",
        "orphaned",
        "owner",
        "ref",
        "running",
        "status",
        "stop_reason",
    )

    def __init__(
        self,
        system: ActorSystem,
        path: str,
        actor_class: type[BaseActor],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
        *,
        owner: Callable[[ActorPlace, ExitReason, bool], None] | None = None,
    ) -> None:
        self.actor_class = actor_class
        self.args = args
        self.kwargs = dict(kwargs or {})
        self.owner = owner
        self.status = Status.VACANT
        self.instance: BaseActor | None = None
        self.running: Token[Any] | None = None  # the token that the instance handles
        self.orphaned = False  # its supervisor has ended and may come back for it
        self.draining = False  # stop once the user lane is empty
        self.administrative = False  # the latest end was asked for through the ref: only a new start undoes that
        self.stop_reason = NORMAL
        # Guards status and instance against being changed by a drainer that is dismissed at the same moment.
        self._lock = threading.Lock()
        self._start_reply: Reply[None] | None = None  # of the latest start
        self._stop_replies: list[Reply[ExitReason]] = []
        self._urn: str | None = None
        self._stopped: threading.Event | None = None  # made when somebody asks for it
        check_actor_class(actor_class)
        super().__init__(
            system,
            path,
            actor_class.affinity,
            capacity=actor_class.capacity,
            overflow=actor_class.overflow,
        )
        self.mailbox.suspend()  # held whenever there is no instance that runs
        self.ref: ActorRef[Any] = ActorRef(self)

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
        with self._lock:
            if self._stopped is None:
                self._stopped = threading.Event()
                if self.closed or (self.status is Status.VACANT and self.mailbox.closed):
                    self._stopped.set()
            return self._stopped

    @property
    def closed(self) -> bool:
        """Whether the place has been given up."""
        return self.status is Status.CLOSED

    # Asking for a start or an end

    def start(self) -> Reply[None]:
        """Have an instance made and started; the reply comes after `on_start`, or raises `StartFailed`."""
        reply: Reply[None] = Reply()
        if self.closed:
            reply._set(error=ActorDead(f"actor '{self.path}' has ended for good"))
            return reply
        self.administrative = self.draining = False
        self.stop_reason = NORMAL
        self.mailbox.reopen()
        self._note_stopped(False)
        self.signal(Start(reply, contextvars.copy_context()))
        if self.system.closed:  # nobody may be left to start it
            reply._set(error=self._too_late())
        return reply

    def stop(self, reason: ExitReason = NORMAL, *, drain: bool, administrative: bool) -> Reply[ExitReason]:
        """Have the instance ended in order: after all that was accepted (`drain`), or after the current step."""
        reply: Reply[ExitReason] = Reply()
        if self.status is Status.CLOSED or (self.status is Status.VACANT and self.mailbox.closed):
            reply._set(reason)
            return reply
        with self._lock:
            self._stop_replies.append(reply)
        if administrative:
            self.administrative = True
        self.stop_reason = reason
        if drain:
            self.mailbox.close(keep=True)
        else:
            token = self.running
            if token is not None:
                token._cancel_requested = "its actor was stopped"  # so that `checkpoint()` lets it end
        self.signal(Stop(drain))
        if self.closed or self.system.closed:  # in between; nobody may be left to do it
            self._answer_stops(reason)
        return reply

    def close(self, reason: ExitReason) -> None:
        """Give the place up, with all below it: end what is queued, forget the name, answer who waits for the end."""
        if self.status is Status.CLOSED:
            return
        self.status = Status.CLOSED
        self.system.close_below(self, reason)
        self.system.forget(self)
        self.terminate_queued("has stopped" if reason.orderly else f"has ended ({reason})")
        self.drain.close()
        self._note_stopped(True)
        self._answer_stops(reason)

    def vacate(self) -> None:
        """Keep the place, and those below it, without an instance: end what is queued and accept no more."""
        self.terminate_queued("has stopped")
        self._note_stopped(True)
        self._answer_stops(NORMAL)
        for place in self.system.below(self):
            place.vacate()

    def _note_stopped(self, stopped: bool) -> None:
        with self._lock:
            if self._stopped is not None:
                (self._stopped.set if stopped else self._stopped.clear)()

    def can_drain(self) -> bool:
        """Tell whether there is an instance to handle what is queued."""
        return self.status is Status.RUNNING

    def terminate_running(self, why: str) -> None:
        with self._lock:
            replies, self._stop_replies = self._stop_replies, []
            token, self.running, self.instance = self.running, None, None
            if self.status is Status.RUNNING:
                self.mailbox.suspend()
            threads = self.drain.seal()
            if not self.closed:
                self.status = Status.VACANT
        if token is not None:
            token._terminate(why)
        if threads:
            self.system.note_abandoned(self.path, threads)
        if self._start_reply is not None:
            self._start_reply._set(error=StartFailed(f"actor '{self.path}' was ended before it had started: {why}"))
        for reply in replies:
            reply._set(KILLED)

    def _reject(self, token: Token[Any], error: BaseException) -> None:
        if isinstance(error, ActorDead) and self.mailbox.closed:
            why = str(error)
            error = ActorDead(f"{self.ref} not found")
            error.add_note(why)
        super()._reject(token, error)

    # The life of an instance, run by a drainer; a drainer that was dismissed meanwhile changes nothing any more

    def starting(self, signal: Start, drainer: Drainer) -> Life:
        """Make an instance and start it."""
        with self._lock:
            status = self.status
            if status is Status.VACANT and not self.system.closed:
                self.status = Status.STARTING
        if self.system.closed:
            signal.reply._set(error=self._too_late())
            return
        if status is not Status.VACANT:
            signal.reply._set(error=StartFailed(f"actor '{self.path}' is {status}; it cannot be started"))
            return
        self._start_reply = signal.reply
        instance, error = yield self._build
        if error is None:
            self.instance = instance
            _, error = yield lambda: instance.on_start()  # noqa: PLW0108  # even the look-up is user code
        failure: BaseException | None = None
        if error is not None:
            cause = str(error) if isinstance(error, StartFailed) else safe_repr(error)
            failure = StartFailed(f"actor '{self.path}' ({self.actor_class.__name__}) did not start: {cause}")
            failure.__cause__ = error
        with self._lock:
            if not drainer.at_work:
                return
            if failure is None:
                self.status = Status.RUNNING
                self.mailbox.resume()
            else:
                self.instance = None
                self.status = Status.VACANT
        signal.reply._set(error=failure)

    def stopping(self, drainer: Drainer) -> Life:
        """End the instance in order."""
        return self._ending(self.stop_reason, drainer)

    def crashing(self, error: BaseException, drainer: Drainer) -> Life:
        """End the instance because its code raised."""
        _logger.error("Unhandled exception in %s:", self.ref, exc_info=error)
        return self._ending(ExitReason("error", error), drainer)

    def _ending(self, reason: ExitReason, drainer: Drainer) -> Life:
        with self._lock:
            if not drainer.at_work:
                return
            instance = self.instance
            was_running = self.status is Status.RUNNING
            if was_running:
                self.status = Status.STOPPING
                self.mailbox.suspend()
        if self.owner is None:  # nobody starts it again, so, as in pykka, it is dead before its last hook runs
            self.mailbox.close(keep=True)
            self.system.leave_pykka_registry(self)
        if instance is not None:
            _, hook_error = yield lambda: _hook(instance, reason.error)
            if hook_error is not None:
                _logger.error("Unhandled exception in %s:", self.ref, exc_info=hook_error)
        with self._lock:
            if not drainer.at_work:
                return
            self.instance = None
            self.draining = False
            if not self.closed:
                self.status = Status.VACANT
        if self.owner is None:
            self.close(reason)
        elif was_running or self.administrative:
            self.owner(self, reason, self.administrative)
        self._answer_stops(reason)

    def _build(self) -> BaseActor:
        cls = self.actor_class
        instance: BaseActor = cls.__new__(cls, *self.args, **self.kwargs)
        instance._place = self
        instance.__init__(*self.args, **self.kwargs)  # type: ignore[misc]
        return instance

    def _too_late(self) -> ActorDead:
        return ActorDead(f"system '{self.system.name}' was closed before actor '{self.path}' started")

    def _answer_stops(self, reason: ExitReason) -> None:
        with self._lock:
            replies, self._stop_replies = self._stop_replies, []
        for reply in replies:
            reply._set(reason)

    # What drains ask

    def resolve(self, token: Token[Any]) -> Callable[..., Any]:
        call = token._call
        if call is None:
            return self.instance.on_receive  # type: ignore[union-attr]
        if type(call) is tuple:
            return get_attr_directly(self.instance, call)  # type: ignore[no-any-return]
        if isinstance(call, pykka.messages.ProxyGetAttr):
            return lambda: get_attr_directly(self.instance, call.attr_path)
        *parents, name = call.attr_path
        return lambda: setattr(get_attr_directly(self.instance, tuple(parents)), name, call.value)

    def steps_of(self, call: Callable[..., Any], result: Any, /) -> bool:
        return result.gi_code is getattr(call, "__code__", None)

    def failed(self, token: Token[Any], error: BaseException) -> BaseException | None:
        if isinstance(error, TokenInterrupt) and token._cancel_requested:
            token._terminate(token._cancel_requested)
            return None
        # A read of an attribute changes nothing, so what it raises is only the reader's.
        harmless = isinstance(token._call, pykka.messages.ProxyGetAttr)
        token._finish(TokenState.FAILED, error=error)
        if not harmless and not isinstance(error, self.actor_class.expected):
            return error
        _logger.info("Exception returned from %s to caller:", self.ref, exc_info=error)
        return None


def check_actor_class(actor_class: type[BaseActor]) -> None:
    """Raise `ValueError` for a class attribute that cannot work; the mailbox checks its own."""
    name = actor_class.__name__
    if not isinstance(actor_class.throughput, int) or actor_class.throughput < 1:
        raise ValueError(f"throughput of {name} is {actor_class.throughput!r}; it must be an int of at least 1")
    seconds = actor_class.throughput_deadline
    if not isinstance(seconds, int | float) or seconds < 0:
        raise ValueError(f"throughput_deadline of {name} is {seconds!r}; it must be a number of seconds")
    expected = actor_class.expected
    if not isinstance(expected, tuple) or not all(
        isinstance(e, type) and issubclass(e, BaseException) for e in expected
    ):
        raise ValueError(f"expected of {name} is {expected!r}; it must be a tuple of exception classes")


def _hook(instance: BaseActor, error: BaseException | None) -> Any:
    """Call the hook that is for the end of an instance."""
    if error is None:
        return instance.on_stop()
    return instance.on_failure(type(error), error, error.__traceback__)
