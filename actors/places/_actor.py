"""The base of all actors: pykka's hooks and names, on a place that outlives the instance."""

from __future__ import annotations

import abc
import functools
import threading
import uuid
import weakref
from collections.abc import Collection, Mapping
from operator import is_
from typing import TYPE_CHECKING, Any, ClassVar, Self, TypeVar, cast

import pykka

from actors._child._instance import initialize
from actors._exceptions import NotDurable
from actors.concurrency._future import Future
from actors.mailboxes._mailbox import DEFAULT_CAPACITY, Mailbox, Overflow
from actors.places._notice import attach
from actors.places._ref import ActorRef
from actors.places._timers import ReceiveTimer, Timer, check_seconds
from actors.places._watch import ActorWatch, Watch
from actors.tokens._properties import INSTEAD, Guard, Properties, checked_properties

if TYPE_CHECKING:
    from actors.mailboxes._signals import Signal
    from actors.places._actor_place import ActorPlace
    from actors.places._drain import Drain
    from actors.places._ports import Journal
    from actors.tokens._token import Token

T = TypeVar("T")


class _PlaceOnDemand:
    """Makes a place for an actor that was made without `start` or `spawn`, at the first access."""

    def __get__(self, actor: BaseActor | None, cls: type[BaseActor]) -> Any:
        if actor is None:
            return self
        actor._place = place = BaseActor._place_by_hand(cls)
        return place


class BaseActor(pykka.Actor):
    """Base of `CpuActor`, `IoActor`, `AsyncioActor` and `ProcessActor`: subclass one of those.

    Override `on_receive` for messages, add methods for calls through a proxy, and use `on_start`, `on_stop` and
    `on_failure` as in pykka. An exception from a method goes to the caller and ends the instance, since its state can
    no longer be trusted. List exceptions in `expected` that are only an answer.
    """

    affinity: ClassVar[str]
    """Where tokens of the actor run: `io` (a trio task), `asyncio`, `cpu` (a thread) or `process` (a child process)."""

    capacity: ClassVar[int] = DEFAULT_CAPACITY
    """Maximum number of tokens in the mailbox."""

    overflow: ClassVar[Overflow] = "wait"
    """What happens to a token when the mailbox is full."""

    throughput: ClassVar[int] = 64
    """Maximum number of steps before other actors get their turn."""

    throughput_deadline: ClassVar[float] = 0.005
    """Seconds after which other actors get their turn, even if it has steps left."""

    expected: ClassVar[tuple[type[BaseException], ...]] = ()
    """Exceptions of its methods that are answers to the caller and no crash."""

    guard: ClassVar[Guard] = "none"
    """What operators need in order to end or pause a token of the actor, or to lower its limits: nothing, `force`, or
    another operator's `approval` (which is asked for as `force` so far). With `never` they can only look at it."""

    show: ClassVar[Collection[str]] = ()
    """Names of parameters of its methods, and of attributes, whose values operators see if they are of built-in types;
    `*` for all. Of others they see types and sizes."""

    idempotent: ClassVar[bool | Collection[str]] = False
    """Whether it does no harm to run a token of the actor twice; or names of methods whose messages are so."""

    durable: ClassVar[bool | Collection[str]] = False
    """Whether its messages survive the process, in a gate with a `Journal`; or names of methods whose messages do."""

    policy: ClassVar[Any] = None
    """The `Policy` that its messages are held to, in a gate."""

    _interruptible: ClassVar[bool] = True  # whether `TokenInterrupt`, a BaseException, may be raised in its code

    serves_operators: ClassVar[bool] = False
    """Whether it is an actor of the runtime: it accepts tokens while its system closes, which does not wait for
    them."""

    # Set by a module of the system, which stands above actors.
    _start_outside: ClassVar[staticmethod[[type[BaseActor], tuple[Any, ...], Mapping[str, Any]], ActorRef[Any]]]
    _place_by_hand: ClassVar[staticmethod[[type[BaseActor]], ActorPlace]]

    _place: ActorPlace = cast("ActorPlace", _PlaceOnDemand())  # a started actor has its own attribute

    @classmethod
    def start(cls, *args: Any, **kwargs: Any) -> ActorRef[Self]:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Start an actor as pykka does: it is in pykka's registry, and is not started again when it ends.

        Within a gate it is a child of the gate's tree. Outside of any gate it is in a system of the process's own, and
        the process does not end before it has ended.

        Raises:
            StartFailed: `__init__` or `on_start` raised.
            AmbiguousGate: several gates are open, and the call is within none of them.
        """
        return cast("ActorRef[Self]", BaseActor._start_outside(cls, args, kwargs))

    @classmethod
    @abc.abstractmethod
    def _make_drain(cls, place: ActorPlace) -> Drain: ...

    @classmethod
    def _make_instance(cls, place: ActorPlace) -> BaseActor:
        """Make the instance for a place."""
        instance = cls.__new__(cls, *place.args, **place.kwargs)
        instance._place = place
        initialize(instance, place.args, place.kwargs)
        return instance

    @classmethod
    def _make_ref(cls, place: ActorPlace) -> ActorRef[Any]:
        return ActorRef(place)

    @classmethod
    def _crashes(cls, _token: Token[Any], error: BaseException) -> bool:
        """Tell whether an exception of a token's code ends the instance that ran it."""
        return not isinstance(error, cls.expected)

    def __init__(self, *_args: Any, **_kwargs: Any) -> None:
        """Accept any arguments, as pykka's actors do; subclasses need not call it."""

    @property
    def actor_urn(self) -> str:  # type: ignore[override]
        return self._place.urn if "_place" in vars(self) else self._urn_without_place

    @property
    def actor_inbox(self) -> Mailbox:  # type: ignore[override]
        return self._place.mailbox

    @property
    def actor_ref(self) -> ActorRef[Self]:  # pyright: ignore[reportIncompatibleMethodOverride]
        """The ref of the actor's place; it exists before `__init__` runs, and stays the same."""
        return cast("ActorRef[Self]", self._place.ref)

    @property
    def actor_stopped(self) -> threading.Event:  # type: ignore[override]
        return self.actor_ref.actor_stopped

    @functools.cached_property
    def _urn_without_place(self) -> str:
        return uuid.uuid4().urn

    def stop(self) -> None:
        """End from inside, after all that is in the mailbox; a permanent child is then restarted."""
        self._place.stop(drain=True, administrative=False)

    def send_after(self, seconds: float, message: Any) -> Timer:
        """Send a message to this actor once, in `seconds` of the system's clock.

        The timer dies with this instance, and so does its message while it is queued. It never waits for room: when the
        mailbox is full, the message is a dead letter.

        Args:
            seconds: at least 0.
            message: what `on_receive` gets.

        Raises:
            ValueError: `seconds` is out of range.
            RuntimeError: this instance does not run: in `__init__`, or after its end.
        """
        timer = Timer(self._place, self, message, None)
        timer.start(self, check_seconds("send_after", self._place.path, seconds))
        return timer

    def send_every(self, seconds: float, message: Any) -> Timer:
        """Send a message to this actor every `seconds`, for the first time after one period.

        Ticks never pile up: a tick is skipped while the previous message is still queued, or when the system was late.
            In all else, and in its errors, it is like `send_after`; `seconds` must be above 0.
        """
        period = check_seconds("send_every", self._place.path, seconds, zero=False)
        timer = Timer(self._place, self, message, period)
        timer.start(self, period)
        return timer

    def receive_timeout(self, seconds: float | None) -> None:
        """Have a `ReceiveTimeout` sent to `on_receive` whenever nothing has come for `seconds`.

        The time runs from the end of the latest message, call or time-out; the setting holds until it is changed.

        Args:
            seconds: above 0; None ends it.

        Raises:
            ValueError: `seconds` is out of range.
            RuntimeError: this instance does not run: in `__init__`, or after its end.
        """
        place = self._place
        timer = None
        if seconds is not None:
            timer = ReceiveTimer(place, self, check_seconds("receive_timeout", place.path, seconds, zero=False))
        if place.receive_timer is not None:
            place.receive_timer.cancel()
        if timer is not None:
            timer.start(self, timer.seconds)
            place.receive_timer = timer

    def watch(self, ref: ActorRef[Any]) -> Watch:
        """Get a `Down` in `on_receive` at each end of an instance of another actor, until its place is closed.

        For a dead actor the `Down` comes at once, with the reason `noproc`. The watch ends with this instance. Watches
        are independent: two watches of one actor get two messages.

        Raises:
            TypeError: `ref` is not an `ActorRef` of this runtime.
            RuntimeError: this instance does not run: in `__init__`, or after its end.
        """
        if not isinstance(ref, ActorRef):
            raise TypeError(f"watch of actor '{self._place.path}' expected an ActorRef of this runtime, got {ref!r}")
        watch = ActorWatch(ref._place, self._place, self)
        attach(self._place, self, watch)
        watch.begin()
        return watch

    def saved(self, default: T, *, type: Any = Any) -> T:
        """Return the state that an actor at this path has saved, in this process or an earlier one.

        Args:
            default: what to return if nothing was saved.
            type: what was saved: JSON becomes a value of this type again, and `save` checks that it does.

        Raises:
            NotDurable: the gate has no journal.
        """
        return cast("T", self._journal.saved(self._place, default, type))

    def save(self, value: Any) -> None:
        """Save the state of the actor, for the next instance at this path, in this process or a later one.

        In a message, the state that was saved last is on disk with the end of the message, in one commit; a message
        that crashes the actor saves nothing. In a hook, it is a commit of its own.

        Raises:
            NotDurable: the gate has no journal; or the value would not come back as it is: give `saved` its type.
            RuntimeError: another instance has taken the place of this one.
        """
        self._journal.save(self, value)

    @property
    def _journal(self) -> Journal:
        journal = self._place.system.journal
        if journal is None:
            raise NotDurable(
                f"actor '{self._place.path}' keeps its state, and gate '{self._place.system.name}' has no journal; "
                "give it one: Gate(plugins=[Journal(directory)])"
            )
        return cast("Journal", journal)

    def _on_signal(self, signal: Signal) -> Any:
        """Handle a signal that the drains do not know."""

    @staticmethod
    def _create_actor_inbox() -> Any:
        raise NotImplementedError("the mailbox belongs to the actor's place")

    @staticmethod
    def _create_future() -> Any:
        return Future()

    def _start_actor_loop(self) -> None:
        raise NotImplementedError("an actor's loop is run by its place's drain")

    def __str__(self) -> str:
        return str(self.actor_ref) if "_place" in vars(self) else f"{type(self).__name__} ({self.actor_urn})"


def checked_class(actor_class: type[BaseActor]) -> Properties:
    """Check the attributes of an actor class, once for each set of them; return the properties that it declares.

    Raises:
        ValueError: an attribute is invalid or outdated; the mailbox checks `capacity` and `overflow`.
    """
    values = (
        actor_class.throughput,
        actor_class.throughput_deadline,
        actor_class.expected,
        actor_class.guard,
        actor_class.show,
        actor_class.idempotent,
        actor_class.durable,
        actor_class._interruptible,
    )
    key = id(actor_class)  # not the class, which its metaclass may have made unhashable
    checked = _checked.get(key)
    if checked is None or not all(map(is_, checked[1], values)):
        check_actor_class(actor_class)
        alive = weakref.ref(actor_class, functools.partial(_checked.pop, key))
        _checked[key] = checked = (alive, values, declared_properties(actor_class))
    return checked[2]


# {id of a class: what removes the entry with the class, the values that were checked, and the properties of the class}.
# No attribute of the class, which may be pickled by value.
_checked: dict[int, tuple[weakref.ref[type[BaseActor]], tuple[object, ...], Properties]] = {}


# Found here in half the time that it takes to find them in the classes.
_INIT, _NEW = BaseActor.__init__, object.__new__
_SETATTR, _GETATTRIBUTE = object.__setattr__, object.__getattribute__


def has_plain_instances(actor_class: type[BaseActor]) -> bool:
    """Return whether no code of the class runs as an instance is made."""
    return (
        actor_class.__init__ is _INIT
        and actor_class.__new__ is _NEW
        and actor_class.__setattr__ is _SETATTR
        and actor_class.__getattribute__ is _GETATTRIBUTE
    )


def declared_properties(actor_class: type[BaseActor]) -> Properties:
    """Return the properties of an actor class; raise `ValueError` for an invalid or outdated one."""
    name = actor_class.__name__
    for outdated, instead in INSTEAD.items():
        if _declared(actor_class, outdated) is not None:
            raise ValueError(f"class {name} has '{outdated}', which is no property of actors; write {instead}")
    properties = checked_properties(
        name,
        *(_declared(actor_class, attribute) for attribute in ("guard", "show", "idempotent", "durable")),
        interruptible=actor_class._interruptible,
    )
    for what, methods in (("idempotent", properties.idempotent_methods), ("durable", properties.durable)):
        for method in () if methods == "*" else methods:
            if not callable(getattr(actor_class, method, None)):
                raise ValueError(f"{what} of {name} names {method!r}, which is no method of it")
    return properties


def _declared(actor_class: type[BaseActor], name: str) -> object:
    """Return a class attribute, or None; a method or property of that name declares nothing, and is left out."""
    value = getattr(actor_class, name, None)
    if not hasattr(value, "__get__"):
        return value
    found = (vars(cls)[name] for cls in actor_class.__mro__ if name in vars(cls))
    return next((value for value in found if not hasattr(value, "__get__")), None)


def check_actor_class(actor_class: type[BaseActor]) -> None:
    """Raise `ValueError` for an invalid class attribute; the mailbox checks `capacity` and `overflow`."""
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
